"""Vectors of words: a GloVe file read and cut down, and hashed ones, which need no file."""

import os
from pathlib import Path

import numpy as np
import pytest

from mesm_data.errors import DataError
from mesm_model.features import word_vectors

GLOVE = "the 0.1 0.2 0.3\nHappy 1 0 0\nhappy 0.9 0 0.1\n. . . 0.4 0.5 0.6\nangry -1 0.5 2e-3\n"


def glove(folder: Path, text: str = GLOVE) -> Path:
    path = folder / "glove.txt"
    path.write_text(text, encoding="utf-8")
    return path


def alike(table: word_vectors.Table, one: str, other: str) -> float:
    """The cosine between two words."""
    a, b = table[one], table[other]
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---- files


def test_only_wanted_words_are_read_of_a_glove_file(tmp_path: Path) -> None:
    table, size = word_vectors.read_table(glove(tmp_path), {"happy", "angry", ".", "nowhere"})
    assert size == 3
    assert {word: row.tolist() for word, row in table.items()} == {
        "happy": pytest.approx([0.9, 0, 0.1]),
        "angry": pytest.approx([-1, 0.5, 0.002]),
    }


def test_words_with_spaces_and_a_heading_are_read_too(tmp_path: Path) -> None:
    table, size = word_vectors.read_table(glove(tmp_path, "5 3\n" + GLOVE))
    assert size == 3
    assert list(table) == ["the", "Happy", "happy", ". . .", "angry"]


def test_a_table_that_was_written_reads_the_same(tmp_path: Path) -> None:
    table = word_vectors.hashed(["some", "words", "naïve"], size=20)
    word_vectors.write_table(tmp_path / "words.txt", table)
    again, size = word_vectors.read_table(tmp_path / "words.txt")
    assert size == 20
    assert all(np.allclose(again[word], table[word], atol=1e-4) for word in table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "glove.txt: empty, expected a word and its numbers on each line"),
        ("9" * 5000 + " 3\n", r"glove.txt:1: found b'9{60}', expected a word"),
        ("PK\x03\x04 zipped", r"glove.txt:1: found b'PK.*', expected a word and its numbers.*a zip must be unpacked"),
        ("the 0.1 0.2 0.3\nhappy 0.1 0.2\n", "glove.txt:2: found . fields after the word, expected 3 numbers"),
        ("the 0.1 0.2 0.3\nhappy 0.1 nan 0.3\n", "glove.txt:2: found 3 fields after the word, expected 3 numbers"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        word_vectors.read_table(glove(tmp_path, content))


def test_a_byte_order_mark_does_not_belong_to_the_first_word(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"\xef\xbb\xbfthe 0.1 0.2\nangry 1 0\n")
    for wanted in ({"the"}, None):
        table, size = word_vectors.read_table(path, wanted)
        assert (next(iter(table)), size) == ("the", 2)


def test_a_word_that_is_not_utf_8_is_passed_over_where_it_is_not_wanted_and_named_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"the 0.1 0.2\ncaf\xe9 1 0\nangry 1 0\n")
    table, _ = word_vectors.read_table(path, {"the", "angry", "caf\u00e9"})
    assert list(table) == ["the", "angry"]
    with pytest.raises(DataError, match=r"glove.txt:2: found the word b'caf.xe9', expected UTF-8"):
        word_vectors.read_table(path)


def test_a_pipe_is_no_glove_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "glove.txt")
    with pytest.raises(DataError, match=r"glove.txt: found a pipe, expected a file"):
        word_vectors.read_table(tmp_path / "glove.txt")


# ---- rows of a text


def test_a_text_has_a_row_a_word_in_the_spelling_that_is_known(tmp_path: Path) -> None:
    table, size = word_vectors.read_table(glove(tmp_path))
    rows = word_vectors.rows("Happy, THE zebra", table, size)
    assert rows.tolist() == [
        [1, 0, 0],  # as it is written
        [0, 0, 0],  # the comma
        pytest.approx([0.1, 0.2, 0.3]),  # in small letters
        [0, 0, 0],
    ]
    assert word_vectors.rows("", table, size).shape == (0, 3)
    assert word_vectors.coverage(["Happy, THE zebra", "happy"], table) == 3 / 5


def test_every_spelling_that_is_looked_for_is_in_the_vocabulary() -> None:
    assert word_vectors.vocabulary(["Oh no.", "no!"]) == ["!", ".", "Oh", "no", "oh"]


# ---- without a file


def test_hashed_words_with_common_letters_are_nearer_than_others() -> None:
    table = word_vectors.hashed(["Happy", "happily", "angry"])
    assert alike(table, "happy", "happily") > 0.15 > abs(alike(table, "happy", "angry")) + 0.02
    assert table["happy"].dtype == np.float32
    assert np.std(table["happy"]) == pytest.approx(1, abs=0.15)


def test_a_hashed_word_is_the_same_everywhere() -> None:
    first = [1.115355, 0.707107, 0.298858]  # if these change, features made before are useless
    assert word_vectors.hashed(["happy"])["happy"][:3].tolist() == pytest.approx(first, abs=1e-5)
    assert np.array_equal(word_vectors.hashed(["a", "happy"])["happy"], word_vectors.hashed(["happy"])["happy"])
