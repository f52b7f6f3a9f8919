"""Scores held against scikit-learn, thresholds against a loop, and what is said where a score is not defined."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from mesm_data.errors import DataError
from mesm_model.evaluation.metrics import GRID, choose_thresholds, intervals, score, table, trivial

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


def test_an_emotion_without_positives_is_nan_and_left_out_of_the_average() -> None:
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
    rows = trivial(np.eye(6).repeat(5, 0), np.eye(6))
    for found in rows.values():
        assert found.mean("acc") == pytest.approx(0.8333, abs=1e-4)
        assert (found.mean("wacc"), found.mean("f1"), found.mean("auc")) == (0.5, 0.0, 0.5)


def test_the_majority_is_that_of_the_training_part() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    found = trivial(labels, training_labels=np.array([[1, 0], [1, 0], [0, 1]]))["majority"]
    assert found.acc.tolist() == [0.75, 0.75]
    assert found.f1.tolist() == [pytest.approx(6 / 7), 0.0]


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


def test_the_table_shows_every_emotion_the_average_and_the_trivial_rows() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    found = score(np.array([[0.9, 0.1], [0.2, 0.1], [0.3, 0.1], [0.1, 0.2]]), labels, np.array([0.5, 0.5]))
    assert table(found, trivial(labels, labels), ["anger", "fear"]).splitlines() == [
        "                 present      Acc     WAcc       F1      AUC",
        "anger                  2     75.0     75.0     66.7    100.0",
        "fear                   0    100.0        -        -        -",
        "mean                         87.5     75.0     66.7    100.0",
        "of so many                      2        1        1        1",
        "predict nothing              75.0     50.0      0.0     50.0",
        "majority                     75.0     50.0      0.0     50.0",
    ]


def test_when_all_averages_count_the_same_emotions_the_table_says_so_in_one_line() -> None:
    labels = np.array([[1, 0], [0, 1]])
    found = score(np.array([[0.9, 0.1], [0.2, 0.9]]), labels, np.array([0.5, 0.5]))
    rows = [line.split("  ")[0] for line in table(found, trivial(labels, labels), ["anger", "fear"]).splitlines()]
    assert rows[1:] == ["anger", "fear", "mean of 2", "predict nothing", "majority"]


def test_a_model_that_has_diverged_is_told_not_scored() -> None:
    with pytest.raises(DataError, match=r"1 of 2 probabilities are not a number, so the model has diverged"):
        score(np.array([[np.nan], [0.5]]), np.array([[0], [1]]), np.array([0.5]))
