"""Scores compared with scikit-learn, thresholds with a loop; scores that are not defined; trivial baselines."""

import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from mesm_data.errors import DataError
from mesm_model.evaluation.metrics import (
    BEST_CONSTANT,
    GRID,
    at_end_of_grid,
    beats_constant,
    choose_thresholds,
    confusion_matrix,
    intervals,
    score,
    single_label_scores,
    trivial,
)

NAMES = ("acc", "wacc", "f1", "auc")


def drawn(seed: int, n: int = 60, emotions: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties, labels with both kinds in every emotion, thresholds."""
    random = np.random.default_rng(seed)
    labels = (random.random((n, emotions)) < 0.3).astype(int)
    labels[0], labels[1] = 0, 1
    probability = np.round(np.clip(labels * 0.2 + random.random((n, emotions)) * 0.8, 0, 1), 2)
    return probability, labels, random.choice(GRID, emotions)


@pytest.mark.parametrize("seed", range(20))
def test_all_scores_equal_scikit_learns(seed: int) -> None:
    probability, labels, thresholds = drawn(seed)
    decided = probability > thresholds
    found = score(probability, labels, thresholds)
    for e in range(labels.shape[1]):
        assert found.acc[e] == pytest.approx(oracle.accuracy_score(labels[:, e], decided[:, e]))
        assert found.wacc[e] == pytest.approx(oracle.balanced_accuracy_score(labels[:, e], decided[:, e]))
        assert found.f1[e] == pytest.approx(oracle.f1_score(labels[:, e], decided[:, e], zero_division=0))
        assert found.auc[e] == pytest.approx(oracle.roc_auc_score(labels[:, e], probability[:, e]))


def test_weighted_accuracy_is_the_papers_formula() -> None:
    probability, labels, thresholds = drawn(0)
    decided, present = probability > thresholds, labels == 1
    hits, right_noes = (decided & present).sum(0), (~decided & ~present).sum(0)
    positives, negatives = present.sum(0), (~present).sum(0)
    by_paper = (hits * negatives / positives + right_noes) / (2 * negatives)
    np.testing.assert_allclose(score(probability, labels, thresholds).wacc, by_paper)


def test_a_probability_at_its_threshold_is_a_no() -> None:
    found = score(np.array([[0.5], [0.5], [0.6]]), np.array([[0], [0], [1]]), np.array([0.5]))
    assert found.acc.tolist() == [1.0]


def test_an_emotion_without_positives_is_nan_and_not_averaged() -> None:
    probability, labels, thresholds = drawn(1)
    labels[:, 2] = 0
    found = score(probability, labels, thresholds)
    for name in ("wacc", "f1", "auc"):
        assert math.isnan(getattr(found, name)[2])
        assert found.averaged(name) == 3
        assert found.mean(name) == pytest.approx(np.delete(getattr(found, name), 2).mean())
    assert found.averaged("acc") == 4
    assert found.to_json()["f1"][2] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_an_emotion_without_negatives_has_an_f1_but_no_wacc_and_no_auc() -> None:
    found = score(np.array([[0.9], [0.1]]), np.array([[1], [1]]), np.array([0.5]))
    assert found.f1.tolist() == [pytest.approx(2 / 3)]
    assert math.isnan(found.wacc[0])
    assert math.isnan(found.mean("auc"))


def test_an_emotion_that_is_never_decided_has_an_f1_of_0() -> None:
    assert score(np.array([[0.1], [0.2]]), np.array([[1], [0]]), np.array([0.5])).f1.tolist() == [0.0]


@pytest.mark.parametrize("seed", range(10))
def test_thresholds_are_the_first_of_the_grid_with_the_best_f1(seed: int) -> None:
    probability, labels, _ = drawn(seed)
    for e, chosen in enumerate(choose_thresholds(probability, labels)):
        f1 = [oracle.f1_score(labels[:, e], probability[:, e] > t, zero_division=0) for t in GRID]
        assert chosen == GRID[int(np.argmax(f1))]


def test_without_a_positive_in_the_validation_part_the_threshold_is_a_half() -> None:
    assert choose_thresholds(np.array([[0.2], [0.9]]), np.array([[0], [0]])).tolist() == [0.5]


def test_the_grid_is_the_papers() -> None:
    assert GRID.tolist() == [i / 100 for i in range(5, 100, 5)]


def test_predicting_nothing_scores_five_sixths_where_each_utterance_has_one_of_six_emotions() -> None:
    nothing = trivial(np.eye(6).repeat(5, 0))["predict nothing"]
    assert nothing.mean("acc") == pytest.approx(0.8333, abs=1e-4)
    assert (nothing.mean("wacc"), nothing.mean("f1"), nothing.mean("auc")) == (0.5, 0.0, 0.5)


def test_predicting_everything_has_the_f1_that_a_model_without_knowledge_is_given_by_its_thresholds() -> None:
    """Thresholds chosen by F1 make a model of noise say yes to nearly everything."""
    random = np.random.default_rng(0)
    labels = (random.random((2000, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(int)
    probability = 0.3 + 0.4 * random.random((2000, 4))
    noise = score(probability, labels, choose_thresholds(probability, labels))
    everything = trivial(labels)["predict everything"]
    assert noise.mean("f1") == pytest.approx(everything.mean("f1"), abs=0.01)
    shares = labels.mean(0)
    np.testing.assert_allclose(everything.f1, 2 * shares / (1 + shares))
    assert not beats_constant(everything.mean("auc"))


def test_the_best_constant_is_the_better_of_yes_and_no_for_each_score_and_emotion() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    best = trivial(labels)[BEST_CONSTANT]
    assert best.acc.tolist() == [0.75, 0.75]
    assert best.f1.tolist() == [pytest.approx(6 / 7), pytest.approx(0.4)]
    assert (best.wacc.tolist(), best.auc.tolist()) == ([0.5, 0.5], [0.5, 0.5])


def test_the_trivial_scores_of_an_emotion_that_nobody_or_everybody_has_are_not_defined() -> None:
    rows = trivial(np.array([[1, 0], [1, 0]]))
    for found in rows.values():
        assert np.isnan(found.wacc).all()
        assert math.isnan(found.f1[1])
    assert rows[BEST_CONSTANT].acc.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("auc", "beats"), [(0.51, True), (0.5, False), (0.3, False), (math.nan, True), (None, True)])
def test_an_auc_of_a_half_or_less_does_not_beat_a_constant(auc: float | None, beats: bool) -> None:
    assert beats_constant(auc) is beats


def test_thresholds_at_either_end_of_the_grid_are_found() -> None:
    assert at_end_of_grid([0.05, 0.1, 0.5, 0.9, 0.95]) == [0, 4]


def test_intervals_are_those_of_a_loop_over_the_same_draws() -> None:
    probability, labels, thresholds = drawn(3, n=25, emotions=2)
    found = intervals(probability, labels, thresholds, draws=200, seed=7)
    weights = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=200)
    loop = []
    for row in weights:
        again = np.repeat(np.arange(25), row)
        one = score(probability[again], labels[again], thresholds)
        loop.append({name: [*getattr(one, name), one.mean(name)] for name in NAMES})
    for name in NAMES:
        expected = np.nanpercentile([draw[name] for draw in loop], [2.5, 97.5], axis=0)
        np.testing.assert_allclose(found[name], expected, err_msg=name)


def test_intervals_cover_the_true_score_about_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(100):
        labels = random.random((150, 1)) < 0.5
        probability = np.where(random.random((150, 1)) < 0.8, labels, ~labels).astype(float)
        low, high = intervals(probability, labels, np.array([0.5]), draws=200)["acc"][:, -1]
        covered += low <= 0.8 <= high
    assert 88 <= covered <= 100


def test_intervals_of_an_emotion_without_positives_are_nan_without_a_warning() -> None:
    probability, labels, thresholds = drawn(1)
    labels[:, 2] = 0
    found = intervals(probability, labels, thresholds, draws=50)
    assert np.isnan(found["f1"][:, 2]).all()
    assert np.isfinite(found["f1"][:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_has_diverged_is_reported_not_scored(value: float) -> None:
    probability, labels = np.array([[value], [0.5]]), np.array([[0], [1]])
    for call in (
        lambda: score(probability, labels, np.array([0.5])),
        lambda: choose_thresholds(probability, labels),
        lambda: intervals(probability, labels, np.array([0.5])),
        lambda: confusion_matrix(probability, np.array([0, 0])),
    ):
        with pytest.raises(DataError, match="1 of 2 probabilities are nan or infinite, so the model has diverged"):
            call()


def test_without_an_utterance_there_is_nothing_to_score() -> None:
    with pytest.raises(DataError, match="found no utterance; expected at least one"):
        score(np.zeros((0, 2)), np.zeros((0, 2)), np.array([0.5, 0.5]))
    with pytest.raises(DataError, match="found no utterance; expected at least one"):
        single_label_scores(np.zeros((3, 3), int))


# ---- one class per utterance


@pytest.mark.parametrize("seed", range(20))
def test_single_label_scores_equal_scikit_learns(seed: int) -> None:
    """Of seven classes as in MELD, some of which nobody has or no model decides for."""
    random = np.random.default_rng(seed)
    classes = random.choice([0, 1, 2, 3, 5], 40)
    probability = np.round(random.random((40, 7)) + 0.5 * np.eye(7)[classes], 2) - 0.6 * (np.arange(7) == 6)
    decided = probability.argmax(1)
    confusion = confusion_matrix(probability, classes)
    assert confusion.tolist() == oracle.confusion_matrix(classes, decided, labels=range(7)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are decided and occur nowhere
        assert single_label_scores(confusion) == {
            "wa": pytest.approx(oracle.accuracy_score(classes, decided)),
            "ua": pytest.approx(oracle.balanced_accuracy_score(classes, decided)),
            "weighted_f1": pytest.approx(oracle.f1_score(classes, decided, average="weighted")),
            "macro_f1": pytest.approx(oracle.f1_score(classes, decided, average="macro")),
        }


def test_of_equally_probable_classes_the_first_is_decided() -> None:
    assert confusion_matrix(np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([1, 1])).tolist() == [[0, 0], [1, 1]]
