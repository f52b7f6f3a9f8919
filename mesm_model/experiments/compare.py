"""Runs side by side: scores with intervals, costs, and a paired permutation test for every two.

An entry is a run, or all seeds of one; its scores are means over its seeds. Intervals come from a bootstrap over
utterances, p-values from exchanging the decisions of two entries utterance by utterance: both say what other utterances
of the same kind might have given. The standard deviation over seeds says what another training might have given.

n utterances, E emotions, R draws.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError
from mesm_model.evaluation import metrics, paper
from mesm_model.evaluation.evaluate import RunOnSplit, open_run, probabilities_of
from mesm_model.evaluation.flops import count_split
from mesm_model.evaluation.metrics import NAMES, Scores
from mesm_model.features import store
from mesm_model.models.common.interface import encoder_description
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import features_of, is_finished, read_run, read_scores, seeds_of

DRAWS = 2000  # of the bootstrap and of a test, whose smallest p-value is then 0.0005
TESTED = ("acc", "wacc", "f1")  # AUC has no decisions to exchange


@dataclass(frozen=True, eq=False)
class Entry:
    """One run of a comparison, or all seeds of one; what there is one of per seed is in the order of the seeds."""

    name: str
    model: str
    modalities: str
    inputs: str  # the text encoder or the features, in words
    scores: tuple[Scores, ...]  # one per seed
    decided: np.ndarray  # bool [seeds, n, E]
    intervals: dict[str, tuple[float, float]]  # of the mean over seeds and emotions, 95 %
    gflop: float  # per utterance
    parameters: int  # trained ones
    seconds: float  # per utterance

    def mean(self, kind: str) -> float:
        """Mean over seeds of the mean over emotions."""
        return float(np.mean([one.mean(kind) for one in self.scores]))

    def spread(self, kind: str) -> float | None:
        """Standard deviation over seeds; None for a single seed."""
        values = [one.mean(kind) for one in self.scores]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def of_emotion(self, kind: str, e: int) -> float:
        """Mean over seeds of one emotion."""
        return float(np.mean([getattr(one, kind)[e] for one in self.scores]))


@dataclass(frozen=True)
class Pair:
    """Two entries by name: how much better the first is in each of TESTED, and the p-value of that difference."""

    first: str
    second: str
    seeds: int  # compared of each
    differences: dict[str, float]
    p_values: dict[str, float]
    holm: float  # the p-value for F1, corrected for the number of pairs


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found."""

    dataset: Dataset
    split: str
    utterances: int
    device: str
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    trivial: dict[str, Scores]
    paper: dict[str, Scores]

    @property
    def others(self) -> dict[str, Scores]:
        """The rows that are no run: the trivial baselines and the paper's."""
        return self.trivial | self.paper


def compare(
    runs: Sequence[Path],
    split: str,
    ranks: Distributed,
    data: Path | None = None,
    features_folder: Path | None = None,
    cache: Path | None = None,
) -> Comparison:
    """Score every run on `split` of the dataset that it was trained on, with the thresholds chosen on valid.

    `data` and `features_folder` say where these are now, if they were moved since. Raises DataError for runs of
    different datasets, and for runs that are not finished.
    """
    dataset = load(data or _data_of(runs[0]))
    names = _names(runs)
    entries, labels = [], None
    for run in runs:
        seeds = list(seeds_of(run).values())
        for seed in seeds:
            _check_same(seed, dataset)
        opened = [open_run(seed, _readable(dataset, seed, features_folder), split, ranks, cache) for seed in seeds]
        labels = opened[0].split_data.labels
        entries.append(_entry(names[run], opened, ranks))
    assert labels is not None
    return Comparison(
        dataset,
        split,
        len(labels),
        str(ranks.device),
        tuple(entries),
        tuple(_pairs(entries, labels.astype(bool))),
        metrics.trivial(labels),
        paper.rows(dataset, split),
    )


def find_runs(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The folders that are finished runs, or hold one per seed; and the others."""
    folders = list({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]  # each once
    found = [folder for folder in folders if all(is_finished(one) for one in seeds_of(folder).values())]
    return found, [folder for folder in folders if folder not in found]


def permutation_test(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> tuple[dict[str, float], dict[str, float]]:
    """By how much the first decisions score better in each of TESTED, and the two-sided p-value of that difference.

    Decisions are bool [seeds, n, E], of as many seeds each; labels bool [n, E]. Under the null hypothesis the two are
    exchangeable utterance by utterance: `draws` times all decisions about each utterance are exchanged or not. The
    p-value is (1 + as large a difference) / (1 + draws), as for any Monte Carlo test, and 1 where nothing is defined.
    """
    exchanged = np.random.default_rng(seed).integers(0, 2, (draws, labels.shape[0])).astype(np.float32)
    exchanged = np.concatenate([np.zeros((1, labels.shape[0]), np.float32), exchanged])  # the first: as they are
    found = _difference(first, second, labels, exchanged)
    differences = {kind: float(values[0]) for kind, values in found.items()}
    smaller = {kind: np.abs(values[1:]) < abs(values[0]) - 1e-9 for kind, values in found.items()}  # never with nan
    return differences, {kind: float((1 + (~below).sum()) / (1 + draws)) for kind, below in smaller.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), so that the chance of any false difference stays that of one."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[n]))
        corrected[n] = largest
    return corrected


# ---- runs and their data


def _data_of(run: Path) -> Path:
    """The dataset that a run was scored on."""
    first = next(iter(seeds_of(run).values()))
    scores = read_scores(first)
    folder = Path(next(iter(scores["splits"].values()))["data"])
    if not (folder / "index.json").is_file():
        raise DataError(
            f"{folder}: not found, where {run} was scored; give --data with the place where the dataset is now"
        )
    return folder


def _readable(dataset: Dataset, run: Path, folder: Path | None) -> Dataset:
    """With the features that the run reads, if it reads any."""
    known = features_of(run)
    if known is None:
        return dataset
    if folder is None and not known.is_dir():
        raise DataError(f"{known}: not found, the features of {run}; give --features with the place where they are now")
    return store.attach(dataset, folder or known)


def _names(runs: Sequence[Path]) -> dict[Path, str]:
    """The name of each folder, with as many parent folders as distinguish it from the others."""
    names = {run: run.name for run in runs}
    for depth in range(2, 1 + max(len(run.parts) for run in runs)):
        same = [run for run in runs if list(names.values()).count(names[run]) > 1]
        names |= {run: "/".join(run.parts[-depth:]) for run in same}
    return names


def _check_same(run: Path, dataset: Dataset) -> None:
    trained, here = read_run(run)["data"]["content"], dataset.index["content"]
    if trained != here:
        raise DataError(
            f"{run} was trained on another dataset (content {trained[:12]}) than {dataset.folder} ({here[:12]}); "
            "compare runs on one dataset"
        )


def _entry(name: str, opened: Sequence[RunOnSplit], ranks: Distributed) -> Entry:
    labels = opened[0].split_data.labels
    probability, seconds = [], []
    for one in opened:
        begun = time.perf_counter()
        probability.append(probabilities_of(one, ranks))
        seconds.append(time.perf_counter() - begun)
    thresholds = [np.array(one.checkpoint.thresholds) for one in opened]
    model = opened[0].model
    work = count_split(model, opened[0].split_data, ranks)
    return Entry(
        name=name,
        model=opened[0].checkpoint.model,
        modalities=model.config.modalities,
        inputs=_inputs(opened[0]),
        scores=tuple(metrics.score(p, labels, t) for p, t in zip(probability, thresholds, strict=True)),
        decided=np.stack([p > t for p, t in zip(probability, thresholds, strict=True)]),
        intervals=_intervals(probability, labels, thresholds),
        gflop=2 * work.macs() / work.utterances / 1e9,
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=min(seconds) / len(labels),
    )


def _inputs(opened: RunOnSplit) -> str:
    modalities = opened.model.config.modalities
    found = store.features_info(opened.dataset)
    if found is not None:
        return store.described(found, modalities)
    encoder = encoder_description(opened.model)
    return f"text encoder {encoder}" if encoder else "no text"


def _intervals(
    probability: Sequence[np.ndarray], labels: np.ndarray, thresholds: Sequence[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Of the mean over seeds and emotions; a draw takes the same utterances for every seed."""
    weights = (
        np.random.default_rng(0).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), DRAWS).astype(float)
    )
    drawn = [metrics.weighted(p, labels, t, weights) for p, t in zip(probability, thresholds, strict=True)]
    found = {}
    for kind in NAMES:
        means = np.mean([metrics.nanmean(one[kind]) for one in drawn], axis=0)  # [R]
        low, high = metrics.percentiles(means[:, None])[:, 0]
        found[kind] = (float(low), float(high))
    return found


def _pairs(entries: Sequence[Entry], labels: np.ndarray) -> list[Pair]:
    tests = []
    for first, second in combinations(entries, 2):
        seeds = min(len(first.scores), len(second.scores))
        tests.append(
            (first.name, second.name, seeds, *permutation_test(first.decided[:seeds], second.decided[:seeds], labels))
        )
    corrected = holm([p_values["f1"] for *_, p_values in tests])
    return [Pair(*test, holm=p) for test, p in zip(tests, corrected, strict=True)]


def _difference(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, exchanged: np.ndarray
) -> dict[str, np.ndarray]:
    """First minus second, each a mean over seeds and emotions, for each row of `exchanged` [R, n]: [R]."""
    positives = labels.sum(0, dtype=float)
    negatives = len(labels) - positives
    total = {kind: np.zeros(len(exchanged)) for kind in TESTED}
    for one, other in zip(first, second, strict=True):
        sides = []
        for own, foreign in ((one, other), (other, one)):
            hits, alarms = (
                (own & there).sum(0) + exchanged @ ((foreign & there).astype(np.float32) - (own & there))
                for there in (labels, ~labels)
            )
            sides.append(metrics.from_counts(hits, alarms, positives, negatives))
        for kind in TESTED:
            total[kind] += metrics.nanmean(sides[0][kind] - sides[1][kind]) / len(first)
    return total
