"""Listing folders for all corpora: links are followed once, suffixes may be capitals, of two files one is chosen."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.errors import CorpusError, Issue

HIDDEN = (".", "__MACOSX")  # hidden files, and what macOS adds to archives
SAME_REACH = 0.5  # seconds by which two files of one recording may differ and count as equally long


class Listing(NamedTuple):
    """The names in a folder, sorted, without hidden ones."""

    files: list[str]
    folders: list[str]


def list_folder(folder: Path) -> Listing:
    """Names in a folder. A link that leads nowhere or back to itself counts as a file. Raises CorpusError."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(HIDDEN))
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be listed: {error.strerror}") from error
    return Listing([name for name, is_dir in seen if not is_dir], [name for name, is_dir in seen if is_dir])


def walk(
    root: Path, deep: int, worth: Callable[[list[str]], list[str]] = lambda folders: folders
) -> dict[Path, Listing]:
    """Folders up to `deep` levels below `root`, the root first, with their names; links are followed, none twice.

    `worth` chooses which of the folders of one folder are entered.
    """
    listings: dict[Path, Listing] = {}
    level, known = [root], set[tuple[int, int]]()
    for _ in range(deep + 1):
        below = []
        for folder in level:
            if (place := _place(folder)) not in known:
                known.add(place)
                listings[folder] = list_folder(folder)
                below += [folder / name for name in worth(listings[folder].folders)]
        level = below
    return listings


def with_suffix(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of these suffixes, in any case, sorted; empty where there is no such folder."""
    names = list_folder(folder).files if folder.is_dir() else []
    return [folder / name for name in names if name.lower().endswith(suffixes)]


def one_of_each(
    root: Path, paths: Iterable[Path], key: Callable[[Path], str], preferred: Callable[[Path], Any]
) -> tuple[dict[str, Path], list[Issue]]:
    """Key -> its file. Of several files with one key the one that reaches furthest, and a note that there were several.

    `preferred` orders files that reach equally far. Only where there are several is any file opened.
    """
    together: dict[str, list[Path]] = {}
    for path in sorted(paths):
        together.setdefault(key(path), []).append(path)
    chosen = {name: files[0] for name, files in together.items()}
    notes = []
    for name, files in together.items():
        if len(files) > 1:
            chosen[name], detail = _furthest(root, files, preferred)
            notes.append(Issue(name, "two-files", detail))
    return chosen, notes


def _furthest(root: Path, files: Sequence[Path], preferred: Callable[[Path], Any]) -> tuple[Path, str]:
    """The file to use, and the sentence that says so."""
    from mesm_data.media.probe import reach

    ends = {path: reach(path) for path in files}
    chosen = min((p for p in files if ends[p] >= max(ends.values()) - SAME_REACH), key=preferred)
    told = (f"{p.relative_to(root).as_posix()} ({f'{ends[p]:.1f} s' if ends[p] else 'unreadable'})" for p in files)
    return chosen, f"found {' and '.join(told)}; {chosen.relative_to(root).as_posix()} is used"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _place(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be listed: {error.strerror}") from error
    return status.st_dev, status.st_ino
