"""How well a trained model does: its probabilities on a part of a dataset, and the scores by thresholds frozen before.

n utterances, E emotions.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.files import write_text
from mesm_model.evaluation import metrics, paper
from mesm_model.evaluation.inference import probabilities
from mesm_model.evaluation.pointing import pointing
from mesm_model.evaluation.scores import Report
from mesm_model.features.store import as_model_input, described, features_info
from mesm_model.loader import Part, open_part
from mesm_model.models.common.interface import Model, encoder_description
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import text_folder


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """The best checkpoint of a run, ready to be tried on a part of a dataset."""

    checkpoint: Checkpoint
    model: Model
    dataset: Dataset  # as the model reads it
    part: Part


def open_run(run: Path, dataset: Dataset, part: str, ranks: Distributed, cache: Path | None = None) -> LoadedRun:
    """Raises CheckpointError for data of another recipe, other emotions or other features."""
    checkpoint = checkpoints.load(run)
    folder = run if run.is_dir() else run.parent
    model = checkpoints.build_model(checkpoint, folder).to(ranks.device)
    dataset = as_model_input(dataset, checkpoint.model, model.config)
    checkpoints.check_data(checkpoint, dataset, run)
    return LoadedRun(checkpoint, model, dataset, open_part(dataset, part, text_folder(model, folder), cache))


def evaluate(
    run: Path, dataset: Dataset, part: str, ranks: Distributed, cache: Path | None = None, workers: int = 0
) -> tuple[Report, Part, np.ndarray]:
    """The report of a run's best checkpoint, with the part and the probabilities [n, E] that it is made from.

    Thresholds are the checkpoint's. Raises CheckpointError as `open_run` does.
    """
    opened = open_run(run, dataset, part, ranks, cache)
    probability = probabilities_of(opened, ranks, workers)
    return report_of(run, opened, probability, ranks), opened.part, probability


def probabilities_of(opened: LoadedRun, ranks: Distributed, workers: int = 0) -> np.ndarray:
    """float32 [n, E], computed as in training."""
    settings = opened.checkpoint.settings
    return probabilities(opened.model, opened.part, ranks, settings["precision"], settings["batch_memory_mb"], workers)


def report_of(run: Path, opened: LoadedRun, probability: np.ndarray, ranks: Distributed) -> Report:
    """The report on these probabilities."""
    training = np.array([row["labels"] for row in opened.dataset.rows(["labels"], "train")])
    thresholds = opened.checkpoint.thresholds
    return make_report(run, opened.model, thresholds, opened.dataset, opened.part, probability, training, ranks)


def make_report(
    run: Path,
    model: Model,
    thresholds: Sequence[float],
    dataset: Dataset,
    part: Part,
    probability: np.ndarray,
    training: np.ndarray,
    ranks: Distributed,
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
        encoder=encoder_description(model),
        features=_of_features(dataset, model),
        paper=paper.rows(dataset, part.name),
        bayes_optimal=_bayes_optimal(dataset, model.config.modalities),
        pointing=pointing(model, part, dataset, ranks),
    )


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


def _of_features(dataset: Dataset, model: Model) -> dict[str, str] | None:
    found = features_info(dataset)
    return found and {"words": described(found, model.config.modalities), "folder": found["folder"]}


def _bayes_optimal(dataset: Dataset, modalities: str) -> dict[str, float | None] | None:
    """What bayes_optimal.json of a made-up dataset says of these modalities; None for any other dataset."""
    path = dataset.folder / "bayes_optimal.json"
    if not path.is_file():
        return None
    bayes_optimal = json.loads(path.read_text(encoding="utf-8"))
    return bayes_optimal.get("".join(letter for letter in "TAV" if letter.lower() in modalities))
