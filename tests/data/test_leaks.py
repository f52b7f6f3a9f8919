"""What splits share is counted; what cannot be told is not called nothing."""

import time
from pathlib import Path

from mesm_data.corpora import mosei
from mesm_data.corpora.iemocap import script_of
from mesm_data.splits.expected import read_expected
from mesm_data.splits.leaks import Leak, leaks
from mesm_data.splits.split import Member, make_splits, members, splits_of_lists


def turn(name: str, split: str, text: str | None = None) -> Member:
    return Member(name, split, text, speaker=name[:5] + name[-4], group=name.rpartition("_")[0])


def test_the_published_split_of_iemocap_leaks_as_the_ids_alone_tell(shared: Path) -> None:
    split = splits_of_lists("iemocap", shared / "published" / "iemocap")
    found = leaks(members(split, expected=read_expected("iemocap")))
    assert (found.speakers, found.groups, found.utterances["test"]) == (10, 151, 1481)
    assert found.pairs[1] == Leak("train", "test", speakers=10, groups=151, adjacent=1150, lines=None)


def test_the_papers_split_of_mosei_keeps_videos_apart_and_cannot_tell_speakers(shared: Path) -> None:
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    split, _ = make_splits("paper", "mosei", utterances)
    found = leaks(members(split, utterances), speakers_known=False)
    assert found.speakers is None
    assert not found.found
    assert not mosei.SPEAKERS_KNOWN


def test_speakers_are_counted_where_each_is_a_group_of_its_own() -> None:
    ann, ben = (Member(f"{name}_1", split, speaker=name, group=name) for name, split in (("a", "train"), ("b", "test")))
    found = leaks([ann, ben])
    assert (found.speakers, found.pairs[0].speakers) == (2, 0)


def test_ids_and_lines_of_a_hundred_thousand_letters_take_no_time() -> None:
    begun = time.perf_counter()
    long = [
        Member(head * 50_000 + "x", split, "[" * 100_000, group="Ses01F_script01_1")
        for head, split in (("1", "train"), ("_1", "test"))
    ]
    assert leaks(long, script_of=script_of).pairs[0].lines is None
    assert time.perf_counter() - begun < 1


def test_adjacent_turns_are_the_next_numbers_of_the_same_speaker_in_the_same_dialogue() -> None:
    train = [turn("Ses01F_impro01_F003", "train"), turn("Ses01F_impro01_F009", "train")]
    test = [
        turn("Ses01F_impro01_F002", "test"),
        turn("Ses01F_impro01_F004", "test"),
        turn("Ses01F_impro01_F010", "test"),
        turn("Ses01F_impro01_F005", "test"),  # two on
        turn("Ses01F_impro01_M004", "test"),  # the other speaker
        turn("Ses01F_impro02_F004", "test"),  # another dialogue
    ]
    (pair,) = leaks([*train, *test], script_of=script_of).pairs
    assert pair == Leak("train", "test", speakers=1, groups=1, adjacent=3, lines=None)


def test_a_scripted_line_is_the_same_whatever_the_session_the_case_and_the_marks() -> None:
    train = [
        turn("Ses01F_script01_1_F000", "train", "Why don't you TELL me that before?"),
        turn("Ses01F_script01_1_F001", "train", "Oh, come on."),
        turn("Ses01F_script02_1_F000", "train", "That is what I said."),
        turn("Ses01F_impro01_F000", "train", "I really do not know."),
    ]
    test = [
        turn("Ses05M_script01_1b_M007", "test", "why don't you tell me that before [LAUGHTER]"),
        turn("Ses05M_script01_1b_M008", "test", "Oh, come on."),  # three words
        turn("Ses05M_script01_1b_M009", "test", "That is what I said."),  # another script
        turn("Ses05M_impro01_M000", "test", "I really do not know."),  # nobody wrote it
    ]
    (pair,) = leaks([*train, *test], script_of=script_of).pairs
    assert pair == Leak("train", "test", speakers=0, groups=0, adjacent=0, lines=1)
    assert pair.found


def test_every_pair_of_parts_is_looked_at() -> None:
    found = leaks([turn(f"Ses01F_impro01_F{n:03d}", split) for n, split in enumerate(("train", "valid", "test"))])
    assert [(pair.first, pair.second, pair.adjacent) for pair in found.pairs] == [
        ("train", "valid", 1),
        ("train", "test", 0),
        ("valid", "test", 1),
    ]


def test_a_part_alone_leaks_nothing() -> None:
    assert leaks([turn("Ses01F_impro01_F000", "train")]).pairs == ()
    assert not leaks([]).found
