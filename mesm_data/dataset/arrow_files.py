"""Files opened for pyarrow by their names' bytes: it refuses a str that is not UTF-8, which a Linux folder may have."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa


def open_to_read(path: Path) -> Any:
    """A file open for reading; raises FileNotFoundError where it is missing."""
    return pa.OSFile(os.fsencode(path))


def open_to_map(path: Path) -> Any:
    """A file mapped into memory, so that what is read of it is not copied."""
    return pa.memory_map(os.fsencode(path))


def open_to_write(path: Path) -> Any:
    """A new file open for writing."""
    return pa.OSFile(os.fsencode(path), "wb")
