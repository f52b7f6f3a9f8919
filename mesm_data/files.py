"""Files written whole or not at all, and folders that one command, and one process at a time, writes into."""

import csv
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from mesm_data.errors import DataError
from mesm_data.state import excerpt, read_state, to_json

DEPTH = 3  # folders below the one given in which datasets are looked for
LOCK = "lock"  # the file that is there while a process is at work in a folder, or was killed at it
UNFINISHED = ".unfinished"
NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what NFS, Lustre and network drives answer


def datasets_below(folder: Path, depth: int = DEPTH) -> list[Path]:
    """The finished datasets at or below a folder, sorted; a dataset's own folders are not searched."""
    if (folder / "index.json").is_file():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [dataset for path in below for dataset in datasets_below(path, depth - 1)]


# ---- whole files


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; a link, a device or a pipe is written into as it is."""
    temporary = path.with_name(path.name + ".tmp")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        temporary = path
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if temporary != path:
            commit_file(temporary, path)
    except OSError as error:
        error.filename = str(path)  # that is the name the user gave
        raise


def write_json(path: Path, content: object) -> None:
    """Write a small JSON file whole or not at all, indented, keys in their order."""
    write_text(path, to_json(content, indent=1) + "\n")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """The rows as lines of CSV, every cell made harmless for spreadsheets by `plain`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([plain(cell) for cell in row] for row in rows)
    return text.getvalue()


def plain(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe before it.

    The rule of OWASP's page on CSV injection; numbers stay as they are.
    """
    begins = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{cell}" if begins and not _is_number(cell) else cell


def commit_file(temporary: Path, path: Path) -> None:
    """Give a finished file its name, after its bytes are on the disk: it survives a crash of the machine."""
    sync(temporary)
    temporary.replace(path)


def sync(path: Path) -> None:
    """Return when the bytes of a file are on the disk."""
    with path.open("rb+") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """sha256 of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- folders that a command works in


@dataclass(frozen=True)
class Plan:
    """What a command is about to make in a folder, as the file `name` in it records."""

    name: str  # "build.json"
    content: Mapping[str, Any]  # plain JSON
    noun: str  # "build": what the folder holds
    does: str  # "builds": what the process that holds the lock does
    shape: Any = object  # of the file, for `read_state`
    differs: Callable[[Any, Any], str | None] | None = None  # (found, content) -> why they do not go together, in words
    clear: Callable[[Any], None] | None = None  # deletes what was made by a compatible plan before it is replaced


@contextmanager
def claim_folder(out: Path, plan: Plan) -> Iterator[Any]:
    """Hold `out` for a command; yields the plan that was found in it, None where there was none.

    A folder is taken when it is new, empty, or holds the same plan, or one that `plan.differs` calls compatible, which
    is then replaced. Otherwise, or where another process is at work in it, DataError is raised and nothing is touched.
    Of two processes that begin together one gets the folder: it is looked at again after it is locked.
    """
    check_folder(out, plan)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, plan.does):
        found = check_folder(out, plan)
        if found != _plain(plan.content):
            if found is not None and plan.clear:
                plan.clear(found)
            write_json(out / plan.name, plan.content)
        yield found


def check_folder(out: Path, plan: Plan) -> Any:
    """The plan that `out` holds, None for a new or an empty folder. Raises DataError where it holds something else."""
    path = out / plan.name
    if not path.exists():
        if out.exists() and not out.is_dir():
            raise DataError(f"{out}: is a file, expected a folder; give another --out")
        if has_other_files(out, f"{plan.name}.tmp"):
            raise DataError(f"{out}: not empty and no {plan.noun} of this program (no {plan.name}); give another --out")
        return None
    read_state(path, object, f"give another --out, or delete {out} to start over")
    found = read_state(path, plan.shape, f"no plan of {_a(plan.noun)}; give another --out")
    if difference := (plan.differs or first_difference)(found, _plain(plan.content)):
        raise DataError(
            f"{path}: this folder holds {_a(plan.noun)} {difference}; give another --out, or delete {out} to start over"
        )
    return found


def first_difference(found: Any, wanted: Any) -> str | None:
    """The first value that two plans do not share, as in "with seed 0, now asked for with 1"; None where they agree."""
    for name, there, here in _differences(found, wanted):
        return f"with {name} {excerpt(there)}, now asked for with {excerpt(here)}"
    return None


@contextmanager
def exclusive(folder: Path, does: str) -> Iterator[None]:
    """Hold a folder, which must exist; the lock goes when the process does, however it ends.

    `does` says what the process does, for the message: "builds". Raises DataError where another process has it.
    """
    path = folder / LOCK
    try:
        with locked(path, wait=False):
            yield
    except Timeout:
        raise DataError(
            f"{folder}: another process {does} in this folder; wait for it, or give another --out"
        ) from None


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file at `path`, one process at a time; raises filelock.Timeout at once unless `wait`.

    Where the disk has no flock (NFS, Lustre, network drives) the existence of the file is the lock, which one line on
    stderr says; one that a killed process of this machine left is taken over.
    """
    has_flock = _has_flock(path)
    lock = (FileLock if has_flock else SoftFileLock)(path, timeout=-1 if wait else 0)
    if not has_flock:
        remark = f"{path}: this disk has no file locks; if no process is at work there and it stays locked, delete it"
        print(remark, file=sys.stderr)
    with lock:
        try:
            yield
        finally:
            if has_flock:  # while it is held, so that whoever waits for this file sees that it is gone
                with suppress(OSError):  # Windows deletes no open file
                    path.unlink()


def has_other_files(folder: Path, *own: str) -> bool:
    """True where the folder holds anything but the lock and what is named."""
    return folder.is_dir() and any(
        path.name not in (LOCK, *own) and not path.name.startswith(f"{LOCK}.") for path in folder.iterdir()
    )


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder inside `out` to write into; its content moves up when all of it is written, an index.json last.

    Whatever stops that leaves nothing; what a killed process left is deleted by the next. Raises DataError where `out`
    holds something else.
    """
    if out.exists() and (not out.is_dir() or any(there.name != UNFINISHED for there in out.iterdir())):
        raise DataError(f"{out}: not empty; give another --out, or delete it")
    made, unfinished = not out.exists(), out / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "index.json"):
            path.rename(out / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if made:
            with suppress(OSError):  # not empty, as it should be
                out.rmdir()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plain(content: Any) -> Any:
    """What is read back of something that is written as JSON: lists for tuples."""
    return json.loads(json.dumps(content))


def _differences(found: Any, wanted: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, there, here of everything that two plans do not share."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*wanted, *found]):
            yield from _differences(found.get(name), wanted.get(name), f"{where}.{name}" if where else name)
    elif found != wanted:
        yield where or "content", found, wanted


def _has_flock(path: Path) -> bool:
    """Whether the disk of a lock file has locks: tried on a file beside it, since a failed try leaves that file."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with FileLock(probe, fallback_to_soft=False):
            return True
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
