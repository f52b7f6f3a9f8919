"""Folders that one process at a time writes into, and folders that are there whole or not at all."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesm_data.errors import DataError

LOCK = "lock"  # the file, which is there while somebody is at work, or was killed at it
UNFINISHED = ".unfinished"


@contextmanager
def exclusive(folder: Path, does: str) -> Iterator[None]:
    """Hold the folder, which must be there; the lock goes when the process does, however it ends.

    `does` is what the process is at, for the message: "builds". Raises DataError where another one has it.
    """
    path = folder / LOCK
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, does) from None
        if os.fstat(file.fileno()).st_nlink == 0:  # whoever had it has just left, and taken the file along
            raise _taken(folder, does)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def has_other_files(folder: Path, *own: str) -> bool:
    """True where the folder holds anything but the lock and what is named."""
    return folder.is_dir() and any(path.name not in (LOCK, *own) for path in folder.iterdir())


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder inside `out` to write into; what is in it moves up when all of it is written, an index.json last.

    Whatever stops that leaves nothing behind; what a killed process left is cleared away by the next. Raises DataError
    where `out` holds something else.
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


def _taken(folder: Path, does: str) -> DataError:
    return DataError(f"{folder}: another process {does} in this folder; wait for it, or give another --out")


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


def commit_file(temporary: Path, path: Path) -> None:
    """Put a finished file under its name so that it survives a crash of the machine."""
    sync(temporary)
    temporary.replace(path)


def sync(path: Path) -> None:
    """Have a file's bytes on the disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
