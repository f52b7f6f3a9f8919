"""Features that users already hold: OpenFace csv, openSMILE csv, DisVoice tables, and the pickles of MulT and MMSA.

A table is a folder of files, each named by an utterance (`Ses01F_impro01_F000.csv`) or by its dialogue or video
(`Ses01F_impro01.csv`, cut by time), or one file whose rows name theirs. What is not in it is missing, and counted.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data.errors import DataError
from mesm_data.pickles import read_pickle
from mesm_data.utterance import Utterance

# OpenFace: 17 intensities and 18 presences of action units.
OPENFACE = re.compile(r"AU\d\d_[rc]")
OPENFACE_COLUMNS = 35


# DisVoice has 763 numbers a step; the paper takes the first 34 (Bark bands and MFCC) and the 108 phonological ones.
DISVOICE, DISVOICE_OF_PAPER = 763, (*range(34), *range(655, 763))


# iMotions FACET 4.2, as the CMU SDK and the pickles of MulT and MMSA have it for CMU-MOSEI.
FACET = 35
FACET_EMOTIONS = (
    "Anger", "Contempt", "Disgust", "Joy", "Fear", "Baseline", "Sadness", "Surprise", "Confusion", "Frustration",
)  # fmt: skip

NAMES = ("name", "file", "id", "filename")  # columns that say whose a row is
TIMES = ("timestamp", "frameTime", "start", "time")  # columns that say when
OTHERS = ("end", "frameIndex", "frame", "face_id", "confidence", "success", "class")
SAME_TIME = 0.1  # seconds by which an utterance and its row in a pickle may differ
HELD = 8  # files in memory: utterances of one video come one after the other

Find = Callable[[Utterance], np.ndarray | None]  # an utterance's rows, float32 [S, size]; None where there are none


@dataclass(frozen=True)
class Table:
    """Somebody's features of one modality."""

    size: int
    what: str  # in words
    find: Find
    warnings: tuple[str, ...] = ()


def read_openface(path: Path) -> Table:
    """OpenFace's csv: of each picture the face it is surest of; pictures without one are left out."""
    files = _Files(path, _openface_columns)
    return Table(files.size, "OpenFace action units, 17 intensities and 18 presences", files.find)


def read_opensmile(path: Path) -> Table:
    """openSMILE's csv, of its program or its Python package, one row a step or one an utterance."""
    files = _Files(path, _all_numbers)
    return Table(files.size, f"openSMILE, {files.size} columns", files.find)


def read_disvoice(path: Path) -> Table:
    """DisVoice's csv; of all 763 columns, the 142 of the paper."""
    files = _Files(path, _disvoice_columns)
    return Table(files.size, f"DisVoice, {files.size} columns", files.find)


def read_pickled(path: Path, modality: str) -> Table:
    """The pickles of MulT and MMSA: {"train": {"id": ..., "text": [N, L, size], "audio": ..., "vision": ...}, ...}."""
    name = {"t": "text", "a": "audio", "v": "vision"}[modality]
    content = read_pickle(path, arrays=True)
    parts = [part for part in content.values() if isinstance(part, dict)] if isinstance(content, dict) else []
    if not parts or not all(name in part for part in parts):
        raise DataError(
            f"{path}: found no {name} in its parts, expected train, valid and test, each with id and {name}"
        )
    if not all("id" in part for part in parts):
        raise DataError(
            f"{path}: its rows have no id, so nobody can tell whose they are (MulT's IEMOCAP is such a file); expected "
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
    """A file as numbers: values [S, size], and for each row whose it is and when, where the file says so."""

    values: np.ndarray
    names: list[str] | None
    times: np.ndarray | None


Chosen = Callable[[Path, Sequence[str]], list[int]]  # which columns of a heading are features


@dataclass(frozen=True)
class _Files:
    """A table on disk; `choose` picks its columns."""

    path: Path
    choose: Chosen

    def find(self, utterance: Utterance) -> np.ndarray | None:
        if self.path.is_file():
            whole = self._by_name.get(utterance.id)
            return None if whole is None else self._checked(self.path, whole)
        for name, cut in ((utterance.id, False), (utterance.group, True)):
            path = self._paths.get(name)
            if path is not None:
                sheet = _read_sheet(path, self.choose)
                return self._checked(path, _cut(path, sheet, utterance) if cut else sheet.values)
        return None

    @cached_property
    def size(self) -> int:
        if self.path.is_file():
            return _read_sheet(self.path, self.choose).values.shape[1]
        if not self._paths:
            raise DataError(f"{self.path}: found no csv file, expected one for each utterance, named by its id")
        return _read_sheet(next(iter(self._paths.values())), self.choose).values.shape[1]

    @cached_property
    def _paths(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in sorted(path for path in self.path.rglob("*.csv") if path.is_file()):
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
            order.setdefault(Path(name.strip("'\"")).stem, []).append(row)
        return {name: sheet.values[rows] for name, rows in order.items()}

    def _checked(self, path: Path, values: np.ndarray) -> np.ndarray:
        if values.shape[1] != self.size:
            raise DataError(
                f"{path}: found {values.shape[1]} columns of features, expected {self.size} as in the others"
            )
        return values


@lru_cache(maxsize=HELD)
def _read_sheet(path: Path, choose: Chosen) -> _Sheet:
    try:
        return _read_csv(path, choose)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}; expected a csv file") from None


def _read_csv(path: Path, choose: Chosen) -> _Sheet:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, delimiter=";" if ";" in file.readline() else ",")
        file.seek(0)
        heading = [name.strip() for name in next(lines, [])]
        chosen = choose(path, heading)
        if not chosen:
            raise DataError(
                f"{path}:1: found columns {', '.join(heading[:6])}; expected a heading with names of features"
            )
        rows = list(_told_apart(path, lines, heading))
    values = [_numbers(f"{path}:{number}", row, chosen) for number, row in rows]
    named, timed = (next((heading.index(name) for name in known if name in heading), None) for known in (NAMES, TIMES))
    return _Sheet(
        np.array(values, np.float32).reshape(len(rows), len(chosen)),
        None if named is None else [row[named] for _, row in rows],
        None if timed is None else np.array([_seconds(f"{path}:{number}", row[timed]) for number, row in rows]),
    )


def _told_apart(path: Path, lines: Iterable[list[str]], heading: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and rows; of OpenFace's several faces at one time the surest, and none where it failed."""
    surest: dict[float, tuple[float, int, list[str]]] = {}
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
        time, confidence, success = _numbers(f"{path}:{number}", row, several)
        if success > 0 and confidence > surest.get(time, (-1.0, 0, row))[0]:
            surest[time] = (confidence, number, row)
    yield from ((number, row) for _, number, row in surest.values())


def _cut(path: Path, sheet: _Sheet, utterance: Utterance) -> np.ndarray:
    if sheet.times is None:
        raise DataError(
            f"{path}: named by a dialogue or video, but without a column {', '.join(TIMES)} that says when; expected "
            "one, or files named by utterances"
        )
    return sheet.values[(sheet.times >= utterance.start) & (sheet.times < utterance.end)]


def _numbers(where: str, row: Sequence[str], chosen: Sequence[int]) -> list[float]:
    try:
        return [float(row[column]) for column in chosen]
    except ValueError as error:
        raise DataError(f"{where}: {error}; expected a number in each column of features") from None


def _seconds(where: str, text: str) -> float:
    """`12.5`, or `0 days 00:00:12.500000` as openSMILE's Python package writes it."""
    match = re.fullmatch(r"(?:(\d+) days )?(?:(\d+):(\d\d):)?(\d+(?:\.\d*)?(?:e[-+]?\d+)?)", text.strip())
    if not match:
        raise DataError(f"{where}: found time {text!r}, expected seconds")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds


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
    """The utterance that `video$_$clip` names, or the video and the second that [video, start, end] does."""
    try:
        match name.tolist() if isinstance(name, np.ndarray) else name:
            case str() if "$_$" in name:
                video, _, clip = name.partition("$_$")
                return f"{video}_{clip}", None
            case str():
                return name, None
            case [video, start, _]:
                return _decoded(video), float(start)
    except (TypeError, ValueError):  # of float
        pass
    raise DataError(f"{path}: found id {str(name)[:60]!r}, expected video$_$clip, or video, start and end")


def _numbers_of(path: Path, part: dict[str, Any], name: str) -> tuple[list[Any], np.ndarray]:
    """The ids of a part, and its rows as float32 [utterances, steps, columns]."""
    try:
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
    """Without the rows of zeros at both ends; MulT pads in front, MMSA behind."""
    some = np.flatnonzero((rows != 0).any(1))
    return rows[some[0] : some[-1] + 1] if len(some) else rows[:0]
