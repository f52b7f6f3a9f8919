"""How well a trained model does: its probabilities on a part of a dataset, and the scores by thresholds frozen before.

n utterances, E emotions.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mesm_data.shards import Dataset, write_text
from mesm_model import checkpoint as checkpoints
from mesm_model import metrics, paper
from mesm_model.attention import Trace
from mesm_model.batch import Batch
from mesm_model.checkpoint import Checkpoint
from mesm_model.features import attached, described, suited
from mesm_model.loader import Part, open_part, plan_reading, read
from mesm_model.ranks import Ranks
from mesm_model.report import Pointing, Report

READING = 32  # utterances a batch; without gradients more would not be faster
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Opened:
    """The best checkpoint of a run, ready to be tried on a part of a dataset."""

    checkpoint: Checkpoint
    model: Any
    dataset: Dataset  # as the model reads it
    part: Part


def open_run(run: Path, dataset: Dataset, part: str, ranks: Ranks, cache: Path | None = None) -> Opened:
    """Raises CheckpointError for data of another recipe, other emotions or other features."""
    checkpoint = checkpoints.load(run)
    folder = run if run.is_dir() else run.parent
    model: Any = checkpoints.build_model(checkpoint, folder).to(ranks.device)
    dataset = suited(dataset, checkpoint.model, model.config)
    checkpoints.check_data(checkpoint, dataset, run)
    return Opened(checkpoint, model, dataset, open_part(dataset, part, text_folder(model, folder), cache))


def evaluate(
    run: Path, dataset: Dataset, part: str, ranks: Ranks, cache: Path | None = None, workers: int = 0
) -> tuple[Report, Part, np.ndarray]:
    """The report of a run's best checkpoint, with the part and the probabilities [n, E] that it is made from.

    Thresholds are the checkpoint's. Raises CheckpointError as `open_run` does.
    """
    opened = open_run(run, dataset, part, ranks, cache)
    probability = probabilities_of(opened, ranks, workers)
    return report_of(run, opened, probability, ranks), opened.part, probability


def probabilities_of(opened: Opened, ranks: Ranks, workers: int = 0) -> np.ndarray:
    """float32 [n, E], computed as in training."""
    settings = opened.checkpoint.settings
    return probabilities(opened.model, opened.part, ranks, settings["precision"], settings["budget"], workers)


def report_of(run: Path, opened: Opened, probability: np.ndarray, ranks: Ranks) -> Report:
    """The report on these probabilities."""
    training = np.array([row["labels"] for row in opened.dataset.rows(["labels"], "train")])
    thresholds = opened.checkpoint.thresholds
    return make_report(run, opened.model, thresholds, opened.dataset, opened.part, probability, training, ranks)


def make_report(
    run: Path,
    model: Any,
    thresholds: Sequence[float],
    dataset: Dataset,
    part: Part,
    probability: np.ndarray,
    training: np.ndarray,
    ranks: Ranks,
) -> Report:
    """`training` are the labels of the training part, [n', E]: they say what the majority is."""
    frozen = np.array(thresholds)
    return Report(
        run=str(run),
        data=str(dataset.folder),
        part=part.name,
        emotions=dataset.emotions,
        thresholds=tuple(thresholds),
        utterances=len(part),
        scores=metrics.score(probability, part.labels, frozen),
        trivial=metrics.trivial(part.labels, training),
        intervals=metrics.intervals(probability, part.labels, frozen),
        encoder=model.text.description if checkpoints.reads_text(model.config) else None,
        features=_of_features(dataset, model),
        paper=paper.rows(dataset, part.name),
        ceiling=_ceiling(dataset, model.config.modalities),
        pointing=pointing(model, part, dataset, ranks),
    )


@torch.no_grad()
def probabilities(
    model: nn.Module, part: Part, ranks: Ranks, precision: str = "fp32", budget: float = np.inf, workers: int = 0
) -> np.ndarray:
    """float32 [n, E], in the order of the part, the same in every process and for any number of them."""
    model.eval()
    batches = plan_reading(part.megabytes, READING, budget)
    mine = batches[ranks.rank :: ranks.world]
    found = []
    for batch in read(part, mine, workers, ranks.device.type == "cuda"):
        found.append(forward(model, batch.to(ranks.device), precision).sigmoid().cpu().numpy())
    shared = ranks.gather(found)
    in_order = [shared[n % ranks.world][n // ranks.world] for n in range(len(batches))]
    return np.concatenate(in_order) if in_order else np.zeros((0, part.labels.shape[1]), np.float32)


def forward(model: Any, batch: Batch, precision: str) -> torch.Tensor:
    """Logits float32 [B, E], computed in `precision`, a key of PRECISIONS."""
    dtype = PRECISIONS[precision]
    with torch.autocast(batch.faces.device.type, dtype, enabled=dtype is not None):
        return model(batch).float()


def write_predictions(path: Path, report: Report, part: Part, probability: np.ndarray) -> None:
    """A CSV file of id, then for each emotion its probability, the decision and the label."""
    decided = probability > np.array(report.thresholds)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *(f"{e} {what}" for e in report.emotions for what in ("probability", "decided", "label"))])
    for n, name in enumerate(part.ids):
        cells = zip(probability[n], decided[n], part.labels[n], strict=True)
        writer.writerow([name, *(cell for p, d, y in cells for cell in (f"{p:.6f}", int(d), int(y)))])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def seeds_of(run: Path) -> dict[str, Path]:
    """The runs below the folder of `mesm train --seeds N`, by name; a single run is its own only member."""
    below = sorted(path.parent for path in run.glob("seed-*/run.json")) if run.is_dir() else []
    return {path.name: path for path in below} or {run.name: run}


def text_folder(model: nn.Module, folder: Path) -> Path | None:
    """Where the tokenizer of a run's model lies; None for a model without text."""
    return folder / checkpoints.TEXT if checkpoints.reads_text(model.config) else None


@torch.no_grad()
def pointing(model: Any, part: Part, dataset: Dataset, ranks: Ranks) -> dict[str, Pointing]:
    """Nucleus against truth, by modality and level; empty without places.jsonl, and for models without nuclei."""
    path = dataset.folder / "places.jsonl"
    if not path.is_file() or not hasattr(model, "top_p") or not ranks.first:
        return {}
    places = {place["id"]: place for place in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    counts: dict[str, np.ndarray] = {}
    for batch in read(part, plan_reading(part.megabytes, READING, np.inf)):
        trace = Trace()
        model.eval()(batch.to(ranks.device), trace)
        for level in trace.levels:
            true = _true_sites(batch, level.modality, places, level.kept.shape, 2**level.level)
            figures = np.array([int(x.sum()) for x in (level.kept & true, level.kept, true)] + [true.numel()])
            name = f"{level.modality} level {level.level}"
            counts[name] = counts.get(name, np.zeros(4)) + figures
    return {
        name: Pointing(inside=float(both / kept), chance=float(true / sites), covered=float(both / true))
        for name, (both, kept, true, sites) in sorted(counts.items())
    }


def _of_features(dataset: Dataset, model: Any) -> dict[str, str] | None:
    found = attached(dataset)
    return found and {"words": described(found, model.config.modalities), "folder": found["folder"]}


def _ceiling(dataset: Dataset, modalities: str) -> dict[str, float | None] | None:
    """What ceilings.json of a made-up dataset says of these modalities; None for any other dataset."""
    path = dataset.folder / "ceilings.json"
    if not path.is_file():
        return None
    ceilings = json.loads(path.read_text(encoding="utf-8"))
    return ceilings.get("".join(letter for letter in "TAV" if letter.lower() in modalities))


def _true_sites(
    batch: Batch, modality: str, places: Mapping[str, Any], shape: Sequence[int], scale: int
) -> torch.Tensor:
    """bool [F, H, W], the sites whose middle lies in the place that the text of their utterance names."""
    counts = batch.frames(modality)[1].tolist()
    _, height, width = shape
    x, y = (torch.arange(width) + 0.5) * scale, (torch.arange(height) + 0.5) * scale
    frames = []
    for name, count in zip(batch.ids, counts, strict=True):
        left, top, right, bottom = places[name][modality]
        place = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None, :]
        frames.append(place.expand(count, -1, -1))
    return torch.cat(frames)
