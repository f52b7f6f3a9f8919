"""Words and seconds are counted as the paper counts them."""

from pathlib import Path

import pytest

from mesm_data.corpora import iemocap, mosei
from mesm_data.splits.expected import read_expected
from mesm_data.splits.split import Member, make_splits, members
from mesm_data.splits.stats import Counts, count, word_count

EMOTIONS = ("anger", "sadness")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Excuse me.", 3),  # the full stop counts
        ("[LAUGHTER]", 3),
        ("I don't know. You can't!", 9),  # do n't, ca n't
        ("Mr. Smith said so. He did.", 9),  # untrained: "Mr." ends a sentence, so its stop stands alone
        ("", 0),
    ],
)
def test_words_are_nltk_tokens_of_sentences(text: str, words: int) -> None:
    assert word_count(text) == words


def test_averages_run_over_all_parts_and_counts_by_part() -> None:
    given = [
        Member("a_0", "train", "one two", (1, 0), 1.0),
        Member("a_1", "valid", "one two three", (1, 1), 2.0),
        Member("a_2", "test", "one", (0, 1), 4.0),
        Member("a_3", "test", "one", (0, 0), 9.0),
    ]
    assert count(given, EMOTIONS) == Counts(
        {
            "anger": {"words": 2.5, "seconds": 1.5, "train": 1, "valid": 1, "test": 0},
            "sadness": {"words": 2.0, "seconds": 3.0, "train": 0, "valid": 1, "test": 1},
        },
        {"train": 1, "valid": 1, "test": 2},
        {"text": 0, "labels": 0, "seconds": 0},
    )


def test_what_was_not_given_is_none_and_counted() -> None:
    given = [Member("a_0", "train", None, (1, 0), 1.0), Member("a_1", "test", None, None, None)]
    counts = count(given, EMOTIONS)
    assert counts.table["anger"] == {"words": None, "seconds": 1.0, "train": 1, "valid": 0, "test": 0}
    assert counts.table["sadness"] == {"words": None, "seconds": None, "train": 0, "valid": 0, "test": 0}
    assert counts.without == {"text": 2, "labels": 1, "seconds": 1}


def test_without_any_labels_only_the_parts_are_counted() -> None:
    counts = count([Member("a_0", "train", "one")], EMOTIONS)
    assert set(counts.table["anger"].values()) == {None}
    assert counts.utterances == {"train": 1, "valid": 0, "test": 0}


def test_nothing_counts_as_nothing() -> None:
    assert count([], iemocap.EMOTIONS).utterances == {"train": 0, "valid": 0, "test": 0}


def test_table_2_comes_out_of_the_public_labels_in_every_cell_but_the_words(shared: Path) -> None:
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    split, _ = make_splits("paper", "mosei", utterances)
    table = count(members(split, utterances), mosei.EMOTIONS).table
    for emotion, row in read_expected("mosei").table.items():
        assert table[emotion]["words"] is None
        assert table[emotion]["seconds"] == pytest.approx(row["seconds"], abs=0.01)
        assert [table[emotion][name] for name in split.ids] == [row[name] for name in split.ids]
