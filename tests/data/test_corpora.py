"""A corpus is found by its file name, and text files of every age and system are read alike."""

import subprocess
import sys
from pathlib import Path

import pytest

from mesm_data import corpora
from mesm_data.corpora import read_lines, read_table
from mesm_data.errors import CorpusError


def test_the_paper_has_two_corpora() -> None:
    assert corpora.names() == ["iemocap", "mosei"]


@pytest.mark.parametrize(
    ("name", "emotions", "rate"),
    [
        ("iemocap", ("anger", "excited", "frustrated", "happiness", "neutral", "sadness"), 16_000),
        ("mosei", ("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 44_100),
    ],
)
def test_a_corpus_tells_its_emotions_in_the_order_of_the_papers_tables_and_its_rate(
    name: str, emotions: tuple[str, ...], rate: int
) -> None:
    corpus = corpora.load(name)
    assert (emotions, rate) == (corpus.EMOTIONS, corpus.SAMPLE_RATE)


@pytest.mark.parametrize("name", ["moesi", "", "_mosei_tree", "../errors", "MOSEI"])
def test_an_unknown_corpus_is_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(CorpusError, match="expected one of iemocap, mosei"):
        corpora.load(name)


def test_a_file_that_lacks_something_is_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_corpus.py").write_text("EMOTIONS = ('joy',)\n")
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path)])
    with pytest.raises(CorpusError, match=r"half_a_corpus\.py: found no SAMPLE_RATE, read, expected"):
        corpora.load("half_a_corpus")


def test_loading_every_corpus_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mesm_data import corpora; [corpora.load(name) for name in corpora.names()]; "
        "print(*sorted({'av', 'h5py', 'mmsdk', 'numpy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n \r\n", []),
        (b"one\ntwo", [(1, "one"), (2, "two")]),
        (b"one\r\n\r\ntwo\r\n", [(1, "one"), (3, "two")]),
        (b"one\rtwo\r", [(1, "one"), (2, "two")]),
        (b"\xef\xbb\xbfone\n", [(1, "one")]),
        ("caf\u00e9 \u2028 \u0085 bar\n".encode(), [(1, "caf\u00e9 \u2028 \u0085 bar")]),
        (b"caf\xe9 \x93so\x94 \x85 \x81\n", [(1, "caf\u00e9 \u201cso\u201d \u2026 \ufffd")]),
    ],
)
def test_lines_are_read_whatever_their_ends_and_letters(
    tmp_path: Path, data: bytes, lines: list[tuple[int, str]]
) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(data)
    assert list(read_lines(path)) == lines


def test_a_binary_file_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "film.txt"
    path.write_bytes(b"RIFF\0\0")
    with pytest.raises(CorpusError, match=r"film\.txt: found zero bytes, expected a text file"):
        list(read_lines(path))


def test_a_folder_in_the_place_of_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="found a folder, expected a file"):
        list(read_lines(tmp_path))


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, newline="")
    return path


def test_a_table_gives_its_rows_by_column_and_line(tmp_path: Path) -> None:
    path = _table(tmp_path, '\ufeffid , words,more\r\na,"one, ""two""\r\nthree",1\r\n,,\r\n\r\nb,,2\r\n')
    assert list(read_table(path, ("words", "id"))) == [
        (2, {"id": "a", "words": 'one, "two"\nthree', "more": "1"}),
        (6, {"id": "b", "words": "", "more": "2"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: found columns none, expected also id, words"),
        ("id;words\na;b\n", ":1: found columns id;words, expected also id, words"),
        ("id,text\na,b\n", ":1: found columns id, text, expected also words"),
        ("id,words\na,b\nc\n", ":3: found 1 fields, expected 2"),
        ("id,words\na,b,c\n", ":2: found 3 fields, expected 2"),
        ('id,words\na,"b\nc,d\n', ":2: found unexpected end of data, expected comma-separated values"),
    ],
)
def test_a_table_that_does_not_read_is_told_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = _table(tmp_path, text)
    with pytest.raises(CorpusError) as told:
        list(read_table(path, ("id", "words")))
    assert str(told.value) == f"{path}{message}"
