"""Drawn splits have the shares asked for, never tear a group, and depend on ids, labels, groups and seed alone."""

import pytest

from mesm_data.corpora.iemocap import session_of
from mesm_data.errors import SplitError
from mesm_data.splits import draw
from mesm_data.utterance import Utterance
from tests.data.annotated import iemocap_turn, mosei_clip, small_iemocap


def ids_in(splits: dict[str, tuple[str, ...]]) -> list[str]:
    return sorted(name for ids in splits.values() for name in ids)


def groups_of(utterances: list[Utterance], ids: tuple[str, ...]) -> set[str]:
    return {u.group for u in utterances if u.id in ids}


def many_videos() -> list[Utterance]:
    """100 videos of 1 to 19 clips; fear only in every tenth video, all of its clips."""
    return [
        mosei_clip(f"v{video}", clip, (clip % 2, 0, int(video % 10 == 0), 1, 0, 0))
        for video in range(100)
        for clip in range(1 + video * 7 % 19)
    ]


def test_random_parts_are_seventy_ten_twenty_of_the_utterances() -> None:
    splits = draw.by_utterance(small_iemocap(), seed=0)
    assert {split: len(ids) for split, ids in splits.items()} == {"train": 168, "valid": 24, "test": 48}
    assert ids_in(splits) == sorted(u.id for u in small_iemocap())


@pytest.mark.parametrize("number", [3, 4, 5, 7])
def test_few_utterances_still_fill_every_part(number: int) -> None:
    splits = draw.by_utterance(small_iemocap()[:number], seed=1)
    assert all(splits.values())
    assert len(ids_in(splits)) == number


@pytest.mark.parametrize("way", [draw.by_utterance, draw.by_group])
def test_the_order_of_the_utterances_does_not_matter_and_the_seed_does(way) -> None:  # type: ignore[no-untyped-def]
    utterances = many_videos()
    assert way(utterances, 0) == way(utterances[::-1], 0)
    assert way(utterances, 0) != way(utterances, 1)


def test_a_seed_draws_the_same_today_as_when_this_was_written() -> None:
    turns = [iemocap_turn(f"Ses01F_impro01_F{n:03d}") for n in range(10)]
    assert draw.by_utterance(turns, seed=0)["test"] == ("Ses01F_impro01_F000", "Ses01F_impro01_F005")
    assert draw.by_group(many_videos(), seed=0)["valid"][:3] == ("v18_0", "v18_1", "v18_10")


@pytest.mark.parametrize("seed", range(5))
def test_grouped_parts_cut_utterances_and_every_emotion_alike_and_tear_no_group(seed: int) -> None:
    utterances = many_videos()
    splits = draw.by_group(utterances, seed)
    assert ids_in(splits) == sorted(u.id for u in utterances)
    groups = [groups_of(utterances, ids) for ids in splits.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 100
    for column in (None, 0, 2, 3):  # all utterances, anger, fear, happiness
        carriers = {u.id for u in utterances if column is None or u.labels[column]}
        for split, share in draw.SHARES.items():
            assert len(carriers & set(splits[split])) / len(carriers) == pytest.approx(share, abs=0.01)


def test_three_groups_make_three_parts_and_two_cannot() -> None:
    utterances = [mosei_clip(f"v{video}", clip) for video in range(3) for clip in range(4)]
    assert sorted(len(ids) for ids in draw.by_group(utterances, seed=0).values()) == [4, 4, 4]
    with pytest.raises(SplitError, match="2 dialogues or videos cannot fill the splits train, valid, test"):
        draw.by_group(utterances[:8], seed=0)


def test_a_session_split_tests_on_one_session_and_validates_on_whole_dialogues_of_the_others() -> None:
    utterances = small_iemocap()
    splits = draw.by_session(utterances, 3, session_of, seed=0)
    assert {name[:5] for name in splits["test"]} == {"Ses03"}
    assert len(splits["test"]) == 48
    train, valid = groups_of(utterances, splits["train"]), groups_of(utterances, splits["valid"])
    assert not train & valid
    assert len(valid) == 2  # a tenth of sixteen dialogues
    assert ids_in(splits) == sorted(u.id for u in utterances)


def test_a_session_that_is_not_in_this_copy_is_told_with_those_that_are() -> None:
    turns = [u for u in small_iemocap() if u.id[:5] in ("Ses01", "Ses02")]
    with pytest.raises(SplitError, match=r"session:4 has no dialogue here; found session:1, session:2"):
        draw.by_session(turns, 4, session_of, seed=0)
