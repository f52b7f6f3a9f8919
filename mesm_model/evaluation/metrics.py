"""Scores: accuracy, weighted accuracy, F1 and AUC per emotion and on average; thresholds; trivial rows; intervals.

n utterances, E emotions. An emotion is decided present where its probability is above its threshold. A score that is
not defined (an emotion without a positive, or without a negative) is nan, printed "-", and left out of the average.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mesm_data.errors import DataError

GRID = np.round(np.arange(1, 20) * 0.05, 2)  # the paper's thresholds, 0.05 ... 0.95
NAMES = {"acc": "Acc", "wacc": "WAcc", "f1": "F1", "auc": "AUC"}


class Diverged(DataError):
    """Probabilities that are no numbers."""


@dataclass(frozen=True)
class Scores:
    """Shares of 1, float64 [E] each.

    `wacc` is the paper's (TP * N / P + TN) / (2 N) with P positives and N negatives: the mean of the true positive and
    the true negative rate, that is balanced accuracy. `f1` is of the positives.
    """

    positives: np.ndarray  # how many utterances have the emotion
    acc: np.ndarray
    wacc: np.ndarray
    f1: np.ndarray
    auc: np.ndarray

    def mean(self, name: str) -> float:
        """The average of one score over the emotions where it is defined; nan where it never is."""
        values = getattr(self, name)
        return float(values[~np.isnan(values)].mean()) if self.averaged(name) else math.nan

    def averaged(self, name: str) -> int:
        """How many emotions that average counts."""
        return int((~np.isnan(getattr(self, name))).sum())

    def to_json(self) -> dict[str, list[float | None]]:
        """Lists over the emotions, None for nan, which is no JSON."""
        rows = {name: getattr(self, name).tolist() for name in NAMES}
        return {name: [None if math.isnan(value) else value for value in row] for name, row in rows.items()}


def score(probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> Scores:
    """The scores of `probability` [n, E] against `labels` [n, E] of 0 and 1. Raises DataError for what is no number."""
    drawn = weighted(_checked(probability), labels, thresholds, np.ones((1, len(labels))))
    return Scores(positives=labels.sum(0), **{name: values[0] for name, values in drawn.items()})


def choose_thresholds(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each emotion the first value of GRID with the best F1, [E]; 0.5 where there is nothing to choose by.

    Call it with the validation part only.
    """
    decided = _checked(probability)[:, :, None] > GRID  # [n, E, 19]
    present = labels.astype(bool)[:, :, None]
    hits, alarms = (decided & present).sum(0), decided.sum(0)  # [E, 19]
    positives = labels.sum(0)
    f1 = 2 * hits / np.maximum(alarms + positives[:, None], 1)
    return np.where(positives > 0, GRID[f1.argmax(1)], 0.5)


def trivial(labels: np.ndarray, training_labels: np.ndarray) -> dict[str, Scores]:
    """What can be had without a model: deciding for no emotion, and for those that most training utterances have."""
    rows = {"predict nothing": np.zeros(labels.shape[1]), "majority": training_labels.mean(0) > 0.5}
    half = np.full(labels.shape[1], 0.5)
    return {name: score(np.broadcast_to(row, labels.shape), labels, half) for name, row in rows.items()}


def intervals(
    probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """95 % bootstrap intervals over utterances: for each score [2, E + 1], low and high, the average last."""
    weights = np.random.default_rng(seed).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)
    drawn = weighted(_checked(probability), labels, thresholds, weights.astype(float))
    return {name: percentiles(np.column_stack([values, nanmean(values)])) for name, values in drawn.items()}


def weighted(
    probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Each score [R, E] for R ways of counting the utterances, `weights` [R, n]."""
    decided, present = probability > thresholds, labels.astype(bool)
    hits, alarms = weights @ (decided & present), weights @ (decided & ~present)
    positives = weights @ present
    negatives = weights.sum(1, keepdims=True) - positives
    auc = np.column_stack([_auc(p, y, weights) for p, y in zip(probability.T, present.T, strict=True)])
    return from_counts(hits, alarms, positives, negatives) | {"auc": auc}


def from_counts(
    hits: np.ndarray, alarms: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> dict[str, np.ndarray]:
    """Acc, WAcc and F1 from how many positives and how many negatives were decided present."""
    f1 = _ratio(2 * hits, hits + alarms + positives)
    return {
        "acc": (hits + negatives - alarms) / (positives + negatives),
        "wacc": (_ratio(hits, positives) + _ratio(negatives - alarms, negatives)) / 2,
        "f1": np.where(positives > 0, f1, np.nan),
    }


def nanmean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, nan where all are, without numpy's warning."""
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1).astype(float))


def percentiles(values: np.ndarray) -> np.ndarray:
    """The 2.5 and 97.5 percentiles of each column, [2, columns]; nan for a column without a number."""
    bounds = np.full((2, values.shape[1]), np.nan)
    some = ~np.isnan(values).all(0)
    bounds[:, some] = np.nanpercentile(values[:, some], [2.5, 97.5], axis=0)
    return bounds


def table(scores: Scores, others: Mapping[str, Scores], emotions: Sequence[str]) -> str:
    """Every emotion, the averages and of how many, and below them the averages of the `others`; percent."""
    averaged = [scores.averaged(name) for name in NAMES]
    alike = len(set(averaged)) == 1
    rows = [
        [emotion, str(int(scores.positives[e])), *(_percent(getattr(scores, name)[e]) for name in NAMES)]
        for e, emotion in enumerate(emotions)
    ]
    rows.append(_means(f"mean of {averaged[0]}" if alike else "mean", scores))
    if not alike:
        rows.append(["of so many", "", *map(str, averaged)])
    rows += [_means(row, other) for row, other in others.items()]
    wide = max(len(row[0]) for row in rows)
    header = ["", "present", *NAMES.values()]
    return "\n".join(f"{row[0]:<{wide}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in [header, *rows])


def _means(row: str, scores: Scores) -> list[str]:
    return [row, "", *(_percent(scores.mean(name)) for name in NAMES)]


def _auc(probability: np.ndarray, present: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of (positive, negative) pairs in the right order, equal ones half: [R] for `weights` [R, n]."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))  # of each run of equal probabilities
    positive = np.add.reduceat(weights[:, order] * present[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~present[order], starts, axis=1)
    below = negative.cumsum(1) - negative / 2
    return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """nan where `below` is 0."""
    return np.divide(above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _checked(probability: np.ndarray) -> np.ndarray:
    wrong = int((~np.isfinite(probability)).sum())
    if wrong:
        raise Diverged(
            f"scores: {wrong} of {probability.size} probabilities are not a number, so the model has diverged; "
            "train with a lower --lr, or without half precision"
        )
    return probability.astype(np.float64)
