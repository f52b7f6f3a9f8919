"""The corpora, `names()` and `load(name)`, and how all of them open their text files.

A corpus is a module in this folder; its file name is its name, and there is nothing to register. It has

    EMOTIONS: tuple[str, ...]     what the labels are about, in their order
    SAMPLE_RATE: int              Hz, of the sound that mels are made of
    read(root) -> Iterator[Utterance | Issue]      sorted by id; from text files and the names of files alone

and, where the corpus has it,

    ABOUT: dict[str, str]         title, page, licence and cite, for the dataset card
    survey(root) -> list[str]     lines that `mesm-data doctor` prints about the folder
    standard_folds()              part -> the groups in it, for `--split official`
    paper_drops(utterances)       the paper's own Issues, for `--split paper`

A file whose name begins with _ is a part of a corpus. docs/add_a_corpus.md writes a corpus from nothing.
"""

import csv
import importlib
import io
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mesm_data.errors import CorpusError, Issue
from mesm_data.utterance import Utterance


def names() -> list[str]:
    """Every corpus that can be loaded, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of a corpus. Raises CorpusError for a name that no file has, and for a file that is no corpus."""
    if name not in names():
        raise CorpusError(f"found corpus {name!r}, expected one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    missing = [needed for needed in ("EMOTIONS", "SAMPLE_RATE", "read") if not hasattr(module, needed)]
    if missing:
        raise CorpusError(f"{module.__file__}: found no {', '.join(missing)}, expected what docs/add_a_corpus.md lists")
    return module


def by_id(item: Utterance | Issue) -> str:
    """What `read` sorts by: the id of the utterance, or of the one that an Issue is about."""
    return item.id if isinstance(item, Utterance) else item.utterance


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and the lines without their ends; blank lines are passed over.

    LF, CRLF or CR; UTF-8 with or without a mark at its start, else Windows-1252, which old transcripts are in.
    """
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a comma-separated file, by column; rows with nothing in them are passed over.

    Raises CorpusError where one of `columns` is missing or a row is longer or shorter than the header.
    """
    rows = _rows(path)
    _, header = next(rows, (1, []))
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(header)[:200] or "none"
        raise CorpusError(f"{path}:1: found columns {found}, expected also {', '.join(missing)}")
    for number, row in rows:
        if len(row) != len(header):
            raise CorpusError(f"{path}:{number}: found {len(row)} fields, expected {len(header)}")
        if any(row):
            yield number, dict(zip(header, row, strict=True))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins (a quoted field may hold line ends), and its fields, stripped."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(f"{path}:{number}: found {error}, expected comma-separated values") from error
        if row:
            yield number, [field.strip() for field in row]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise CorpusError(f"{path}: found zero bytes, expected a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
