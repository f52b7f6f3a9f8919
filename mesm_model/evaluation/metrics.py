"""Scores per emotion and on average: accuracy, weighted accuracy, F1, AUC; thresholds; trivial baselines; intervals.

n utterances, E emotions. An emotion is decided present where its probability is above its threshold. A score that is
not defined (an emotion without a positive, or without a negative) is nan, printed "-", and not averaged.

For datasets where every utterance has exactly one of C classes: `confusion_matrix` of the most probable classes, and
`single_label_scores` of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mesm_data.errors import DataError

GRID = np.round(np.arange(1, 20) * 0.05, 2)  # the paper's thresholds, 0.05 ... 0.95
NAMES = {"acc": "Acc", "wacc": "WAcc", "f1": "F1", "auc": "AUC"}
BEST_CONSTANT = "best constant"
CONSTANT_AUC = 0.5  # of every decision that ignores the utterance


class Diverged(DataError):
    """Probabilities that are nan or infinite."""


@dataclass(frozen=True)
class Scores:
    """Shares of 1, float64 [E] each.

    `wacc` is the paper's (TP * N / P + TN) / (2 N) with P positives and N negatives: the mean of the true positive and
    the true negative rate, that is, balanced accuracy. `f1` is that of the positives.
    """

    positives: np.ndarray  # number of utterances that have the emotion
    acc: np.ndarray
    wacc: np.ndarray
    f1: np.ndarray
    auc: np.ndarray

    def mean(self, name: str) -> float:
        """The average of one score over the emotions where it is defined; nan where it never is."""
        values = getattr(self, name)
        return float(values[~np.isnan(values)].mean()) if self.averaged(name) else math.nan

    def averaged(self, name: str) -> int:
        """The number of emotions in that average."""
        return int((~np.isnan(getattr(self, name))).sum())

    def to_json(self) -> dict[str, list[float | None]]:
        """Lists over the emotions, None for nan, which is no JSON."""
        rows = {name: getattr(self, name).tolist() for name in NAMES}
        return {name: [None if math.isnan(value) else value for value in row] for name, row in rows.items()}


def score(probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> Scores:
    """The scores of `probability` [n, E] against `labels` [n, E] of 0 and 1, with `thresholds` [E].

    Raises Diverged for probabilities that are nan or infinite, DataError where there is no utterance.
    """
    drawn = weighted(_checked(probability), labels, thresholds, np.ones((1, len(labels))))
    return Scores(positives=labels.sum(0), **{name: values[0] for name, values in drawn.items()})


def choose_thresholds(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each emotion the first value of GRID with the best F1, [E]; 0.5 for an emotion without a positive.

    Call it on valid only. F1 rewards saying yes: for a model that learned nothing it chooses thresholds below all its
    probabilities, so read scores beside `trivial`, and `at_end_of_grid` says which thresholds may be such.
    """
    decided = _checked(probability)[:, :, None] > GRID  # [n, E, 19]
    present = labels.astype(bool)[:, :, None]
    hits, alarms = (decided & present).sum(0), decided.sum(0)  # [E, 19]
    positives = labels.sum(0)
    f1 = 2 * hits / np.maximum(alarms + positives[:, None], 1)
    return np.where(positives > 0, GRID[f1.argmax(1)], 0.5)


def at_end_of_grid(thresholds: Sequence[float]) -> list[int]:
    """The emotions, by number, whose threshold is the lowest or highest of GRID: the best one may lie beyond it."""
    return [e for e, threshold in enumerate(thresholds) if not GRID[0] < threshold < GRID[-1]]


def trivial(labels: np.ndarray) -> dict[str, Scores]:
    """Scores without a model on `labels` [n, E]: each emotion denied to all utterances, or given to all.

    The row "best constant" has, for each score and emotion, the better of the two. A model that learned nothing can
    reach every number in it, so only what is above it counts.
    """
    half = np.full(labels.shape[1], 0.5)
    nothing, everything = (score(np.full(labels.shape, value), labels, half) for value in (0.0, 1.0))
    best = {name: np.maximum(getattr(nothing, name), getattr(everything, name)) for name in NAMES}
    constant = Scores(positives=nothing.positives, **best)
    return {"predict nothing": nothing, "predict everything": everything, BEST_CONSTANT: constant}


def beats_constant(auc: float | None) -> bool:
    """Whether an AUC is above that of every constant decision; true where it is not defined (None, nan)."""
    return auc is None or math.isnan(auc) or auc > CONSTANT_AUC


def intervals(
    probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """95 % bootstrap intervals over utterances: for each score [2, E + 1], low and high; the average comes last."""
    weights = np.random.default_rng(seed).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)
    drawn = weighted(_checked(probability), labels, thresholds, weights.astype(float))
    return {name: percentiles(np.column_stack([values, nanmean(values)])) for name, values in drawn.items()}


def weighted(
    probability: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Each score [R, E] for R weightings of the utterances, `weights` [R, n]: how often each counts."""
    decided, present = probability > thresholds, labels.astype(bool)
    hits, alarms = weights @ (decided & present), weights @ (decided & ~present)
    positives = weights @ present
    negatives = weights.sum(1, keepdims=True) - positives
    auc = np.column_stack([_auc(p, y, weights) for p, y in zip(probability.T, present.T, strict=True)])
    return from_counts(hits, alarms, positives, negatives) | {"auc": auc}


def from_counts(
    hits: np.ndarray, alarms: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> dict[str, np.ndarray]:
    """Acc, WAcc and F1 from `hits`, positives decided present, and `alarms`, negatives decided present."""
    f1 = _ratio(2 * hits, hits + alarms + positives)
    return {
        "acc": (hits + negatives - alarms) / (positives + negatives),
        "wacc": (_ratio(hits, positives) + _ratio(negatives - alarms, negatives)) / 2,
        "f1": np.where(positives > 0, f1, np.nan),
    }


def nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, nan where all values are nan; numpy's own warns there."""
    return _ratio(np.nansum(values, -1), (~np.isnan(values)).sum(-1).astype(float))


def percentiles(values: np.ndarray) -> np.ndarray:
    """The 2.5 and 97.5 percentiles of each column, [2, columns]; nan for a column of nan only."""
    bounds = np.full((2, values.shape[1]), np.nan)
    some = ~np.isnan(values).all(0)
    bounds[:, some] = np.nanpercentile(values[:, some], [2.5, 97.5], axis=0)
    return bounds


# ---- one class per utterance


def confusion_matrix(probability: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """int64 [C, C], rows: the class of an utterance, columns: its most probable class, the first of equal ones.

    `probability` is [n, C] (logits do as well), `classes` int [n]. Raises Diverged for nan or infinite ones.
    """
    count = probability.shape[1]
    decided = _checked(probability).argmax(1)
    return np.bincount(classes.astype(np.int64) * count + decided, minlength=count**2).reshape(count, count)


def single_label_scores(confusion: np.ndarray) -> dict[str, float]:
    """Scores of a confusion matrix [C, C] as emotion recognition reports them, shares of 1.

    `wa`, weighted accuracy: the share of utterances decided right. `ua`, unweighted accuracy, also called UAR: the mean
    recall of the classes that occur. `weighted_f1` and `macro_f1`: the mean F1 over classes, weighted by how often each
    occurs, or unweighted over the classes that occur or are decided, as in scikit-learn. (The paper's WAcc is another
    score: that of one emotion against its absence, see `Scores`.)
    """
    right, occurring, decided = np.diag(confusion).astype(float), confusion.sum(1), confusion.sum(0)
    if not occurring.sum():
        raise DataError("scores: found no utterance; expected at least one")
    f1 = _ratio(2 * right, occurring + decided)  # nan for a class that neither occurs nor is decided
    return {
        "wa": float(right.sum() / occurring.sum()),
        "ua": float(nanmean(_ratio(right, occurring))),
        "weighted_f1": float(np.nansum(f1 * occurring) / occurring.sum()),
        "macro_f1": float(nanmean(f1)),
    }


def _auc(probability: np.ndarray, present: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of (positive, negative) pairs in the right order, equal ones half: [R] for `weights` [R, n]."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))  # of each run of equal probabilities
    positive = np.add.reduceat(weights[:, order] * present[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~present[order], starts, axis=1)
    below = negative.cumsum(1) - negative / 2
    return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above / below`, nan where `below` is 0."""
    return np.divide(above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0)


def _checked(probability: np.ndarray) -> np.ndarray:
    """float64. Raises Diverged for nan and infinite ones, DataError where there is no utterance."""
    if not len(probability):
        raise DataError("scores: found no utterance; expected at least one")
    wrong = int((~np.isfinite(probability)).sum())
    if wrong:
        raise Diverged(
            f"scores: {wrong} of {probability.size} probabilities are nan or infinite, so the model has diverged; "
            "train with a lower --lr, or without half precision"
        )
    return probability.astype(np.float64)
