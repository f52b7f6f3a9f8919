"""Votes in words by rater, and the agreement of raters: Krippendorff's alpha."""

import pytest

from mesm_data.utterance import Vote
from mesm_data.votes import agreement, by_rater, only_named


def named(*said: str) -> list[Vote]:
    """Raters C-E1, C-E2, ... each naming one thing."""
    return [Vote(f"C-E{n}", name, 1.0) for n, name in enumerate(said, start=1)]


def given(*values: float) -> list[Vote]:
    return [Vote(f"A-E{n}", "valence", value) for n, value in enumerate(values, start=1)]


def test_raters_who_always_agree_have_alpha_1() -> None:
    found = agreement([named("Anger", "Anger"), named("Sadness", "Sadness")])
    assert [(one.name, one.level, one.alpha, one.utterances) for one in found] == [
        ("Anger", "nominal", 1.0, 2),
        ("Sadness", "nominal", 1.0, 2),
    ]


def test_alpha_of_numbers_is_the_one_in_krippendorffs_textbook() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": interval alpha of this table is 0.849
    missing = 0
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, missing, missing, missing],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, missing, 3],
        [missing, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, missing],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, missing],
    ]
    votes = [
        [Vote(f"A-E{rater}", "valence", float(row[unit])) for rater, row in enumerate(table) if row[unit] != missing]
        for unit in range(12)
    ]
    (found,) = agreement(votes)
    assert found.alpha == pytest.approx(0.849, abs=0.0005)
    assert found.utterances == 11, "the unit that one rater saw cannot tell of agreement"


def test_a_rater_who_names_others_has_left_a_name_out() -> None:
    found = {
        one.name: one.alpha
        for one in agreement([named("Anger", "Fear"), named("Anger", "Anger"), named("Fear", "Fear")])
    }
    # Anger as 1 and 0: units (1, 0), (1, 1), (0, 0): two of six pairs in disagreement, 18 of 30 expected
    assert found["Anger"] == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_self_reports_do_not_count() -> None:
    votes = [[*named("Anger", "Anger"), Vote("C-F1", "Sadness", 1.0)], named("Fear", "Fear")]
    assert {one.name for one in agreement(votes, ("C-F",))} == {"Anger", "Fear"}


@pytest.mark.parametrize(
    "votes",
    [
        pytest.param([], id="no utterance"),
        pytest.param([[]], id="no vote"),
        pytest.param([given(1), given(3)], id="one rater each"),
        pytest.param([given(2, 2), given(2, 2)], id="nobody ever differs"),
        pytest.param([[Vote("mean", "fear", 0.33)], [Vote("mean", "fear", 0.0)]], id="means, not raters"),
    ],
)
def test_there_is_no_alpha_where_it_cannot_be_told(votes: list[list[Vote]]) -> None:
    assert agreement(votes) == []


def test_a_name_with_other_values_than_1_is_not_only_named() -> None:
    assert only_named([named("Anger"), given(1.0, 2.0)]) == {"Anger"}


def test_votes_are_listed_by_rater() -> None:
    votes = [*given(1.0), Vote("C-E2", "Anger", 1.0), Vote("C-E2", "Fear", 1.0), Vote("A-E1", "dominance", 2.5)]
    assert by_rater(votes, {"Anger", "Fear"}) == [("A-E1", "valence 1, dominance 2.5"), ("C-E2", "Anger, Fear")]


def test_a_rater_who_gave_nothing_but_zeros_said_nothing() -> None:
    assert by_rater([Vote("W0", "fear", 0.0), Vote("W0", "anger", 0.0)], set()) == [("W0", "nothing")]
