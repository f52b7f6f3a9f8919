"""What models cost on the utterances of a dataset, in multiply-adds: behind `mesm flops` and `mesm sweep`."""

import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from mesm_data.shards import Dataset
from mesm_model import checkpoint as checkpoints
from mesm_model import flops, models, text
from mesm_model.checkpoint import TEXT
from mesm_model.evaluate import READING, open_run, text_folder
from mesm_model.features import suited
from mesm_model.loader import Part, open_part, plan_reading, read
from mesm_model.options import Choice
from mesm_model.ranks import Ranks


def count_models(
    dataset: Dataset, part: str, choices: dict[str, Choice], ranks: Ranks, cache: Path | None = None
) -> dict[str, flops.Count]:
    """The work of untrained models on one part, by their names."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        training = open_part(dataset, "train", None, cache)
        for name, choice in choices.items():
            if checkpoints.reads_text(choice.config):
                text.prepare(
                    choice.config.text_encoder, training.texts, Path(folder) / TEXT, choice.settings.max_tokens
                )
            torch.manual_seed(choice.settings.seed)
            model: Any = checkpoints.make_model(choice.model, choice.config, Path(folder))
            suiting = suited(dataset, choice.model, choice.config)
            opened = open_part(suiting, part, text_folder(model, Path(folder)), cache)
            counts[name] = _beside_dense(model, opened, Path(folder), ranks)
    return counts


def count_run(run: Path, dataset: Dataset, part: str, ranks: Ranks, cache: Path | None = None) -> flops.Count:
    """The work of a trained run on one part."""
    opened = open_run(run, dataset, part, ranks, cache)
    return _beside_dense(opened.model, opened.part, run if run.is_dir() else run.parent, ranks)


def count_part(model: Any, part: Part, ranks: Ranks) -> flops.Count:
    """The work of a model on the utterances of a part."""
    batches = read(part, plan_reading(part.megabytes, READING, float("inf")))
    return flops.count(model.to(ranks.device), (batch.to(ranks.device) for batch in batches))


def _beside_dense(model: Any, part: Part, folder: Path, ranks: Ranks) -> flops.Count:
    """The work of a model whose text encoder lies in `folder`; of a sparse one with that of FE2E of its sizes."""
    counted = count_part(model, part, ranks)
    if not hasattr(model, "top_p"):
        return counted
    kind = models.load("fe2e").Config
    twin = kind(**{field.name: getattr(model.config, field.name) for field in fields(kind)})
    return replace(counted, dense=count_part(checkpoints.make_model("fe2e", twin, folder), part, ranks))
