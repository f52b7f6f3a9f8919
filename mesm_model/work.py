"""What models cost on the utterances of a dataset, in multiply-adds: `count_work`, behind `mesm flops`."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from mesm_data.shards import Dataset
from mesm_model import checkpoint as checkpoints
from mesm_model import flops, text
from mesm_model.checkpoint import TEXT
from mesm_model.evaluate import READING, open_run, text_folder
from mesm_model.features import suited
from mesm_model.loader import Part, open_part, plan_reading, read
from mesm_model.options import Choice
from mesm_model.ranks import Ranks


def count_models(
    dataset: Dataset, part: str, choices: dict[str, Choice], ranks: Ranks, cache: Path | None = None
) -> tuple[dict[str, flops.Count], str]:
    """The work of untrained models on one part, by their names, and the text encoder in words."""
    counts, encoder = {}, ""
    with tempfile.TemporaryDirectory() as folder:
        training = open_part(dataset, "train", None, cache)
        for name, choice in choices.items():
            if checkpoints.reads_text(choice.config):
                text.prepare(
                    choice.config.text_encoder, training.texts, Path(folder) / TEXT, choice.settings.max_tokens
                )
            torch.manual_seed(choice.settings.seed)
            model: Any = checkpoints.make_model(choice.model, choice.config, Path(folder))
            counts[name] = count_model(
                model, suited(dataset, choice.model, choice.config), part, Path(folder), ranks, cache
            )
            encoder = model.text.description if checkpoints.reads_text(choice.config) else encoder
    return counts, encoder


def count_run(run: Path, dataset: Dataset, part: str, ranks: Ranks, cache: Path | None = None) -> flops.Count:
    """The work of a trained run on one part."""
    opened = open_run(run, dataset, part, ranks, cache)
    return count_part(opened.model, opened.part, ranks)


def count_model(
    model: Any, dataset: Dataset, part: str, folder: Path, ranks: Ranks, cache: Path | None = None
) -> flops.Count:
    """The work of a model whose text encoder lies in `folder`."""
    return count_part(model, open_part(dataset, part, text_folder(model, folder), cache), ranks)


def count_part(model: Any, part: Part, ranks: Ranks) -> flops.Count:
    """The work of a model on the utterances of a part."""
    batches = read(part, plan_reading(part.megabytes, READING, float("inf")))
    return flops.count(model.to(ranks.device), (batch.to(ranks.device) for batch in batches))
