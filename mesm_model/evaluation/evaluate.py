"""Scores of a trained run on one split of a dataset, with the thresholds that were chosen on valid in training.

n utterances, E emotions.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.files import write_text
from mesm_data.state import read_state
from mesm_model.evaluation import metrics, paper
from mesm_model.evaluation.inference import probabilities
from mesm_model.evaluation.pointing import pointing
from mesm_model.evaluation.scores import Planted, Report
from mesm_model.features.store import as_model_input, described, features_info
from mesm_model.loader import SplitData, open_split
from mesm_model.models.common.interface import Model, encoder_description
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import text_folder

_BAYES_SHAPE = {str: {"accuracy": float, "auc": (float, None)}}  # of bayes_optimal.json, by set of modalities


@dataclass(frozen=True, eq=False)
class RunOnSplit:
    """The best checkpoint of a run and the split of a dataset that it is evaluated on."""

    checkpoint: Checkpoint
    model: Model
    dataset: Dataset  # as the model reads it
    split_data: SplitData


def open_run(run: Path, dataset: Dataset, split: str, ranks: Distributed, cache: Path | None = None) -> RunOnSplit:
    """Load a run's best checkpoint, its model on the device of `ranks`, and open `split` of the dataset.

    Raises CheckpointError for data of another recipe, with other emotions or other features; DataError for a split that
    the dataset lacks.
    """
    checkpoint = checkpoints.load(run)
    folder = run if run.is_dir() else run.parent
    model = checkpoints.build_model(checkpoint, folder).to(ranks.device)
    dataset = as_model_input(dataset, checkpoint.model, model.config)
    checkpoints.check_data(checkpoint, dataset, run)
    return RunOnSplit(checkpoint, model, dataset, open_split(dataset, split, text_folder(model, folder), cache))


def evaluate(
    run: Path, dataset: Dataset, split: str, ranks: Distributed, cache: Path | None = None, workers: int = 0
) -> tuple[Report, SplitData, np.ndarray]:
    """The report of a run's best checkpoint, the split, and the probabilities float32 [n, E] behind the report.

    Thresholds are the checkpoint's. Raises what `open_run` raises, and Diverged for probabilities that are no numbers.
    """
    loaded = open_run(run, dataset, split, ranks, cache)
    probability = probabilities_of(loaded, ranks, workers)
    thresholds = loaded.checkpoint.thresholds
    report = make_report(run, loaded.model, thresholds, loaded.dataset, loaded.split_data, probability, ranks)
    return report, loaded.split_data, probability


def probabilities_of(loaded: RunOnSplit, ranks: Distributed, workers: int = 0) -> np.ndarray:
    """float32 [n, E], computed with the precision and batch memory of the training."""
    settings = loaded.checkpoint.settings
    return probabilities(
        loaded.model, loaded.split_data, ranks, settings["precision"], settings["batch_memory_mb"], workers
    )


def make_report(
    run: Path,
    model: Model,
    thresholds: Sequence[float],
    dataset: Dataset,
    split_data: SplitData,
    probability: np.ndarray,
    ranks: Distributed,
) -> Report:
    """The report on `probability` [n, E] of the utterances of `split_data`."""
    chosen = np.array(thresholds)
    return Report(
        run=str(run),
        data=str(dataset.folder),
        split=split_data.name,
        emotions=dataset.emotions,
        thresholds=tuple(thresholds),
        utterances=len(split_data),
        scores=metrics.score(probability, split_data.labels, chosen),
        trivial=metrics.trivial(split_data.labels),
        intervals=metrics.intervals(probability, split_data.labels, chosen),
        encoder=encoder_description(model),
        features=_features_of(dataset, model),
        paper=paper.rows(dataset, split_data.name),
        planted=_planted(model, split_data, dataset, ranks),
    )


def write_predictions(path: Path, report: Report, split_data: SplitData, probability: np.ndarray) -> None:
    """A CSV file: id, then for each emotion its probability, the decision and the label."""
    decided = probability > np.array(report.thresholds)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # ids stay as they are: programs join by them
    writer.writerow(["id", *(f"{e} {what}" for e in report.emotions for what in ("probability", "decided", "label"))])
    for n, name in enumerate(split_data.ids):
        cells = zip(probability[n], decided[n], split_data.labels[n], strict=True)
        writer.writerow([name, *(cell for p, d, y in cells for cell in (f"{p:.6f}", int(d), int(y)))])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _features_of(dataset: Dataset, model: Model) -> dict[str, str] | None:
    found = features_info(dataset)
    return found and {"words": described(found, model.config.modalities), "folder": found["folder"]}


def _planted(model: Model, split_data: SplitData, dataset: Dataset, ranks: Distributed) -> Planted | None:
    """What is known of a synthetic dataset with planted signal; None for any other dataset."""
    path = dataset.folder / "bayes_optimal.json"
    if not path.is_file():
        return None
    by_modalities = read_state(path, _BAYES_SHAPE, f"delete {dataset.folder} and make it again with `mesm-data synth`")
    reachable = by_modalities.get("".join(letter for letter in "TAV" if letter.lower() in model.config.modalities))
    return Planted(reachable=reachable, pointing=pointing(model, split_data, dataset, ranks))
