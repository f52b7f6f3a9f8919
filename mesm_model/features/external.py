"""Features that users already have: csv of OpenFace, openSMILE and DisVoice, and the pickles of MulT and MMSA.

A table is a folder of files, each named after an utterance (`Ses01F_impro01_F000.csv`) or after its dialogue or video
(`Ses01F_impro01.csv`, cut by time), or one file with a column that names the utterance of each row. Utterances that are
not in it are counted as missing; nan and infinite numbers are read as 0 and counted.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from mesm_data.errors import DataError
from mesm_data.pickles import read_pickle
from mesm_data.state import excerpt, regular_file
from mesm_data.utterance import Utterance

# OpenFace: 17 intensities and 18 presences of action units.
OPENFACE = re.compile(r"AU\d\d_[rc]")
OPENFACE_COLUMNS = 35


# DisVoice has 763 numbers per step; the paper takes the first 34 (Bark bands and MFCC) and the 108 phonological ones.
DISVOICE, DISVOICE_OF_PAPER = 763, (*range(34), *range(655, 763))


# iMotions FACET 4.2, as the CMU SDK and the pickles of MulT and MMSA have it for CMU-MOSEI.
FACET = 35
FACET_EMOTIONS = (
    "Anger", "Contempt", "Disgust", "Joy", "Fear", "Baseline", "Sadness", "Surprise", "Confusion", "Frustration",
)  # fmt: skip

NAMES = ("name", "file", "id", "filename")  # columns with the utterance of a row
TIMES = ("timestamp", "frameTime", "start", "time")  # columns with the time of a row
OTHERS = ("end", "frameIndex", "frame", "face_id", "confidence", "success", "class")
SAME_TIME = 0.1  # seconds by which an utterance and its row in a pickle may differ
HELD = 8  # files in memory: the utterances of one video follow one another
SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".mp4", ".avi", ".mkv", ".mov", ".webm", ".csv", ".txt")
OPEN_END = ("", "NaT", "nan")  # of a row to the end of its file
MICROSOFT = re.compile(r"|[-+]?(nan|inf)(\(\w*\))?|[-+]?1\.#(ind|qnan|snan|inf)0*", re.IGNORECASE)  # "-nan(ind)"
DURATION = re.compile(r"(?:(\d+) days ?)?(?:(\d+):(\d\d):)?(\d+(?:\.\d*)?(?:e[-+]?\d+)?)?")

Find = Callable[[Utterance], np.ndarray | None]  # the rows of an utterance, float32 [S, size]; None: it is not there


@dataclass(frozen=True)
class Table:
    """Imported features of one modality."""

    size: int
    what: str  # in words
    find: Find
    warnings: tuple[str, ...] = ()


def read_openface(path: Path) -> Table:
    """OpenFace's csv: of each frame the face with the highest confidence; frames without a face have no row."""
    files = _Files(path, _openface_columns)
    return Table(files.size, "OpenFace action units, 17 intensities and 18 presences", files.find)


def read_opensmile(path: Path) -> Table:
    """openSMILE's csv, of its program or its Python package, one row per step or per utterance."""
    files = _Files(path, _all_numbers)
    return Table(files.size, f"openSMILE, {files.size} columns", files.find)


def read_disvoice(path: Path) -> Table:
    """DisVoice's csv; of all 763 columns, the 142 of the paper."""
    files = _Files(path, _disvoice_columns)
    return Table(files.size, f"DisVoice, {files.size} columns", files.find)


def read_pickled(path: Path, modality: str) -> Table:
    """The pickles of MulT and MMSA: {"train": {"id": ..., "text": [N, L, size], "audio": ..., "vision": ...}, ...}."""
    name = {"t": "text", "a": "audio", "v": "vision"}[modality]
    if found := regular_file(path):
        raise DataError(f"{path}: found {found}, expected a pickle")
    content = read_pickle(path, arrays=True)
    parts = [part for part in content.values() if isinstance(part, dict)] if isinstance(content, dict) else []
    if not parts or not all(name in part for part in parts):
        raise DataError(
            f"{path}: found no {name} in its parts, expected train, valid and test, each with id and {name}"
        )
    if not all("id" in part for part in parts):
        raise DataError(
            f"{path}: its rows have no id, so they belong to no known utterance (MulT's IEMOCAP is such); expected "
            "ids as CMU-MOSEI's pickles have them"
        )
    rows: dict[str, np.ndarray] = {}
    timed: dict[str, list[tuple[float, np.ndarray]]] = {}
    sizes = set()
    for part in parts:
        ids, values = _numbers_of(path, part, name)
        sizes.add(values.shape[2])
        for name_of_row, row in zip(ids, values, strict=True):
            whose, start = _whose(path, name_of_row)
            if start is not None:
                timed.setdefault(whose, []).append((start, _without_padding(row)))
            elif whose in rows:
                raise DataError(f"{path}: names {whose} twice; expected each utterance once")
            else:
                rows[whose] = _without_padding(row)
    if len(sizes) > 1:
        raise DataError(
            f"{path}: found {name} of {' and '.join(map(str, sorted(sizes)))} columns, expected as many in each part"
        )
    size = sizes.pop()
    facet = (
        f"{path}: 35 columns of vision are FACET's, and its columns {', '.join(FACET_EMOTIONS)} are predicted "
        "emotions: a model that reads them reads another model's answer"
    )

    def find(utterance: Utterance) -> np.ndarray | None:
        near = [row for start, row in timed.get(utterance.group, []) if abs(start - utterance.start) < SAME_TIME]
        return near[0] if near else rows.get(utterance.id)

    return Table(size, f"{name} of {path.name}", find, (facet,) if (modality, size) == ("v", FACET) else ())


# ---- csv


class _Sheet(NamedTuple):
    """A file as numbers: values [S, size]; name and time in seconds of each row, where the file has them."""

    values: np.ndarray
    names: list[str] | None
    times: np.ndarray | None


Columns = Callable[[Path, Sequence[str]], list[int]]  # which columns of a heading are features


@dataclass(frozen=True)
class _Files:
    """A table on disk; `choose` picks its columns."""

    path: Path
    choose: Columns

    def find(self, utterance: Utterance) -> np.ndarray | None:
        if self.path.is_file():
            rows = self._by_name.get(utterance.id)
            return None if rows is None else self._checked(self.path, rows)
        for name, cut in ((utterance.id, False), (utterance.group, True)):
            path = self._paths.get(name)
            if path is not None:
                sheet = _read_sheet(path, self.choose)
                return self._checked(path, _cut(path, sheet, utterance) if cut else sheet.values)
        return None

    @cached_property
    def size(self) -> int:
        """The number of columns; reads the first file."""
        if self.path.is_dir() and not self._paths:
            raise DataError(f"{self.path}: found no csv file, expected one per utterance, named by its id")
        return _read_sheet(next(iter(self._paths.values()), self.path), self.choose).values.shape[1]

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The csv files below a folder, by what they are named after; macOS puts others there, named ._NAME."""
        found: dict[str, Path] = {}
        for path in sorted(self.path.rglob("*")):
            if path.suffix.lower() != ".csv" or path.name.startswith("._") or path.is_dir():
                continue
            if path.stem in found:
                raise DataError(f"{path}: named as {found[path.stem]}; expected one file of each name")
            found[path.stem] = path
        return found

    @cached_property
    def _by_name(self) -> dict[str, np.ndarray]:
        sheet = _read_sheet(self.path, self.choose)
        if sheet.names is None:
            raise DataError(
                f"{self.path}: found no column {' or '.join(NAMES)} that says whose a row is; expected one, or a "
                "folder of files named by utterances"
            )
        order: dict[str, list[int]] = {}
        for row, name in enumerate(sheet.names):
            order.setdefault(_id_of(name), []).append(row)
        return {name: sheet.values[rows] for name, rows in order.items()}

    def _checked(self, path: Path, values: np.ndarray) -> np.ndarray:
        if values.shape[1] != self.size:
            raise DataError(
                f"{path}: found {values.shape[1]} columns of features, expected {self.size} as in the others"
            )
        return values


def _id_of(name: str) -> str:
    """The utterance that a cell names: an id, or a file of it with slashes or backslashes, in quotes or not."""
    path = PureWindowsPath(name.strip().strip("'\""))  # divides at both
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


@lru_cache(maxsize=HELD)
def _read_sheet(path: Path, choose: Columns) -> _Sheet:
    if found := regular_file(path):
        raise DataError(f"{path}: found {found}, expected a file")
    try:
        return _read_csv(path, choose)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}; expected a csv file in UTF-8") from None


def _read_csv(path: Path, choose: Columns) -> _Sheet:
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        lines = csv.reader(file, delimiter=next((mark for mark in ";\t" if mark in first), ","))
        file.seek(0)
        heading = [name.strip() for name in next(lines, [])]
        chosen = choose(path, heading)
        if not chosen:
            raise DataError(
                f"{path}:1: found columns {excerpt(', '.join(heading[:6]))}; expected a heading with names of features"
            )
        rows = list(_rows_of_one_face(path, lines, heading))
    values = [[_number(f"{path}:{number}", row[column]) for column in chosen] for number, row in rows]
    named, timed = (next((heading.index(name) for name in known if name in heading), None) for known in (NAMES, TIMES))
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is counted as such
        numbers = np.array(values, np.float32).reshape(len(rows), len(chosen))
    return _Sheet(
        numbers,
        None if named is None else [row[named] for _, row in rows],
        None if timed is None else _times(path, rows, heading, timed),
    )


def _rows_of_one_face(
    path: Path, lines: Iterable[list[str]], heading: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and rows. Where OpenFace has several faces at one time, the one with the highest confidence; none
    where it failed.
    """
    best: dict[float, tuple[float, int, list[str]]] = {}
    known = ("timestamp", "confidence", "success")
    several = [heading.index(name) for name in known] if set(known) <= set(heading) else None
    for number, row in enumerate(lines, start=2):
        if not row:
            continue
        if len(row) != len(heading):
            raise DataError(f"{path}:{number}: found {len(row)} columns, expected {len(heading)} as in the heading")
        if several is None:
            yield number, row
            continue
        time = _seconds(f"{path}:{number}", row[several[0]])
        confidence, success = (_number(f"{path}:{number}", row[column]) for column in several[1:])
        if success > 0 and confidence > best.get(time, (-1.0, 0, row))[0]:
            best[time] = (confidence, number, row)
    yield from ((number, row) for _, number, row in best.values())


def _cut(path: Path, sheet: _Sheet, utterance: Utterance) -> np.ndarray:
    if sheet.times is None:
        raise DataError(
            f"{path}: named by a dialogue or video, but without a column {', '.join(TIMES)} with the time of a row; "
            "expected one, or files named by utterances"
        )
    return sheet.values[(sheet.times >= utterance.start) & (sheet.times < utterance.end)]


def _times(path: Path, rows: Sequence[tuple[int, list[str]]], heading: Sequence[str], timed: int) -> np.ndarray:
    """When each row is, in seconds. Raises DataError for a row that ends before it starts."""
    starts = [_seconds(f"{path}:{number}", row[timed]) for number, row in rows]
    if heading[timed] == "start" and "end" in heading:
        for start, (number, row) in zip(starts, rows, strict=True):
            text = row[heading.index("end")].strip()
            if text not in OPEN_END and _seconds(f"{path}:{number}", text) < start:
                raise DataError(f"{path}:{number}: ends at {excerpt(text)}, before it starts at {start:g} s")
    return np.array(starts)


def _number(where: str, text: str) -> float:
    """A number; nan for an empty cell, as pandas writes it, and for the nan and infinity of Microsoft's C library."""
    try:
        return float(text)
    except ValueError:
        if MICROSOFT.fullmatch(text.strip()):
            return math.nan
        raise DataError(f"{where}: found {excerpt(text)}, expected a number in each column of features") from None


def _seconds(where: str, text: str) -> float:
    """`12.5`, or `0 days 00:00:12.500000` and `0 days` as openSMILE's Python package writes it."""
    match = DURATION.fullmatch(text.strip()) if len(text) < 80 else None
    parts = [float(part or 0) for part in match.groups()] if match and text.strip() else [math.inf]
    seconds = float(np.dot(parts, [86400, 3600, 60, 1][-len(parts) :]))
    if not math.isfinite(seconds):
        raise DataError(f"{where}: found time {excerpt(text)}, expected seconds")
    return seconds


def _openface_columns(path: Path, heading: Sequence[str]) -> list[int]:
    chosen = [column for column, name in enumerate(heading) if OPENFACE.fullmatch(name)]
    if len(chosen) != OPENFACE_COLUMNS:
        raise DataError(
            f"{path}:1: found {len(chosen)} columns of action units, expected 35, AU01_r ... AU45_c, as "
            "OpenFace's FeatureExtraction writes them with -aus"
        )
    return chosen


def _all_numbers(path: Path, heading: Sequence[str]) -> list[int]:
    return [column for column, name in enumerate(heading) if name and name not in (*NAMES, *TIMES, *OTHERS)]


def _disvoice_columns(path: Path, heading: Sequence[str]) -> list[int]:
    chosen = _all_numbers(path, heading)
    return [chosen[column] for column in DISVOICE_OF_PAPER] if len(chosen) == DISVOICE else chosen


# ---- pickles


def _whose(path: Path, name: Any) -> tuple[str, float | None]:
    """The utterance that `video$_$clip` names, or the video and the start in seconds that [video, start, end] has."""
    try:
        match name.tolist() if isinstance(name, np.ndarray) else name:
            case str() if "$_$" in name:
                video, _, clip = name.partition("$_$")
                return f"{video}_{clip}", None
            case str():
                return name, None
            case [video, start, end] if 0 <= float(start) <= float(end) < math.inf:
                return _decoded(video), float(start)
    except (TypeError, ValueError):  # of float
        pass
    raise DataError(f"{path}: found id {str(name)[:60]!r}, expected video$_$clip, or video, start and end in order")


def _numbers_of(path: Path, part: dict[str, Any], name: str) -> tuple[list[Any], np.ndarray]:
    """The ids of a part, and its rows as float32 [utterances, steps, columns]."""
    try:
        with np.errstate(over="ignore"):
            ids, values = list(part["id"]), np.asarray(part[name], np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {name}: {error}; expected numbers, and an id of each utterance") from None
    if values.ndim != 3 or not values.shape[2]:
        raise DataError(f"{path}: found {name} of shape {list(values.shape)}, expected utterances, steps, columns")
    if len(ids) != len(values):
        raise DataError(f"{path}: found {len(ids)} ids and {name} of {len(values)}, expected an id of each utterance")
    return ids, values


def _decoded(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _without_padding(rows: np.ndarray) -> np.ndarray:
    """Without the rows of zeros at both ends; MulT pads at the front, MMSA at the end."""
    some = np.flatnonzero((rows != 0).any(1))
    return rows[some[0] : some[-1] + 1] if len(some) else rows[:0]
