"""The corpora: `names`, `load`, `guess`, the interface `Corpus`, and the readers of text files that all of them share.

A corpus is a module in this folder; its file name is its name, and there is nothing to register. A file whose name
begins with _ is part of a corpus. docs/add_a_corpus.md writes a corpus from scratch.
"""

import csv
import importlib
import io
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

from mesm_data.errors import CorpusError, Issue, not_a_file, quoted
from mesm_data.utterance import Utterance

REQUIRED = ("EMOTIONS", "SAMPLE_RATE", "read")
LATEST = 86_400.0  # seconds: no recording lasts a day, a time beyond it is a mistake
UNKNOWN_LICENCE = "unknown: that of the raw corpus"


class Corpus(Protocol):
    """The interface of a corpus. A module defines the first three; `load` fills in what it leaves out."""

    EMOTIONS: tuple[str, ...]  # what the labels stand for, in their order
    SAMPLE_RATE: int  # Hz, of the audio that mels are computed from
    read: Callable[..., Iterator[Utterance | Issue]]  # (root, **options), sorted by id; opens text files alone

    ABOUT: Mapping[str, str]  # title, page, licence, cite, and the language that is spoken, as in "en"
    OPTIONS: Mapping[str, Sequence[str]]  # options of `read`, each with values to suggest
    ONE_EMOTION: bool  # True where every utterance has exactly one emotion
    SPEAKERS_KNOWN: bool  # False where `speaker` is but another name of the recording
    SELF_REPORTS: tuple[str, ...]  # how the names of raters begin who rated themselves
    recognises: Callable[[Path], bool]  # True for a folder that looks like this corpus
    survey: Callable[..., list[str]]  # (root, **options) -> lines that `mesm-data doctor` prints about the folder
    gaps: Callable[[Iterable[Utterance]], list[str]]  # which large pieces of the corpus are not here, in words
    session_of: Callable[[str], int | None]  # group -> the session that `--split session:N` names
    script_of: Callable[[str], str | None]  # group -> the script that it plays, if it plays one
    standard_folds: Callable[[], Mapping[str, frozenset[str]]] | None  # split -> groups, for `--split official`
    paper_drops: Callable[[Iterable[Utterance]], list[Issue]] | None  # the paper's own Issues, for `--split paper`
    read_labels_csv: Callable[[Path], list[Utterance]] | None  # a table of labels, for `verify-splits --labels`


def names() -> list[str]:
    """Every corpus that can be loaded, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> Corpus:
    """A corpus by its name. Raises CorpusError for an unknown name, and for a file that is no corpus."""
    if name not in names():
        raise CorpusError(f"found corpus {name!r}, expected one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    missing = [needed for needed in REQUIRED if not hasattr(module, needed)]
    if missing:
        raise CorpusError(f"{module.__file__}: found no {', '.join(missing)}, expected what docs/add_a_corpus.md lists")
    given = vars(module)
    about = about_unknown(name) | given.get("ABOUT", {})
    return cast(Corpus, SimpleNamespace(**(_defaults(name, given["read"]) | given | {"ABOUT": about})))


def about_unknown(name: str) -> dict[str, str]:
    """What to say of a corpus that says nothing of itself; an empty string is not known."""
    return {"title": name, "page": "", "licence": UNKNOWN_LICENCE, "cite": "", "language": ""}


def about(index: Mapping[str, Any]) -> dict[str, Any]:
    """`ABOUT` and `self_reports` of a dataset from its index, so that the corpus's module need not be there.

    Datasets that were built before the index had them get those of the module; synthetic ones say nothing.
    """
    name = index["corpus"]
    if "about" in index:
        return about_unknown(name) | {"self_reports": []} | index["about"]
    known = load(name) if name in names() else None
    return {
        **(known.ABOUT if known else about_unknown(name)),
        "self_reports": list(known.SELF_REPORTS if known else ()),
    }


def leak_rules(name: str) -> dict[str, Any]:
    """What only a corpus knows of its leaks, as arguments of `splits.leaks.leaks`; empty where it is not here."""
    known = load(name) if name in names() else None
    return {"script_of": known.script_of, "speakers_known": known.SPEAKERS_KNOWN} if known else {}


def guess(root: Path) -> str:
    """The corpus that a folder holds. Raises CorpusError where it looks like none, or like several."""
    found = [name for name in names() if load(name).recognises(root)]
    if len(found) == 1:
        return found[0]
    told = f"looks like {' and '.join(found)}" if found else f"looks like none of {', '.join(names())}"
    raise CorpusError(f"{root}: {told}; name the corpus: mesm-data doctor {(found or names())[0]} --raw {root}")


def by_id(item: Utterance | Issue) -> str:
    """What `read` sorts by: the id of the utterance, or of the one that an Issue is about."""
    return item.id if isinstance(item, Utterance) else item.utterance


def to_number(where: str, text: str) -> float:
    """A number of an annotation, "inf" and 400 digits included. Raises CorpusError for anything else."""
    try:
        return float(text)
    except ValueError:
        raise CorpusError(f"{where}: found {quoted(text)}, expected a number") from None


def with_plausible_times(utterance: Utterance, earliest: float = -LATEST) -> Utterance | Issue:
    """The utterance, or an Issue where it ends before it starts or its times are in no recording."""
    start, end = utterance.start, utterance.end
    if earliest <= start < end <= LATEST:
        return utterance
    return Issue(utterance.id, "bad-times", f"starts at {_seconds(start)} s and ends at {_seconds(end)} s")


def _seconds(time: float) -> str:
    return f"{time:.4f}" if abs(time) < LATEST else f"{time:.3g}"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and the lines without their ends; blank lines are skipped.

    LF, CRLF or CR; UTF-8 with or without a byte order mark, else Windows-1252, which old transcripts use.
    """
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a comma-separated file, by column; empty rows are skipped.

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


def _defaults(name: str, read: Callable[..., Iterator[Utterance | Issue]]) -> dict[str, Any]:
    """What a corpus is that does not say otherwise."""
    return {
        "OPTIONS": {},
        "ONE_EMOTION": False,
        "SPEAKERS_KNOWN": True,
        "SELF_REPORTS": (),
        "recognises": partial(_reads, read),
        "survey": lambda root: [f"corpus: {name}"],
        "gaps": lambda utterances: [],
        "session_of": lambda group: None,
        "script_of": lambda group: None,
        "standard_folds": None,
        "paper_drops": None,
        "read_labels_csv": None,
    }


def _reads(read: Callable[..., Iterator[Utterance | Issue]], root: Path) -> bool:
    try:
        return next(iter(read(root)), None) is not None
    except CorpusError:
        return False


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
    if found := not_a_file(path):
        raise CorpusError(f"{path}: found {found}, expected a file")
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
