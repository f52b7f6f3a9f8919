"""The Parquet shards of a dataset: schema, writing, reading, and `verify`, which accounts for every byte.

out/iemocap/
    index.json                          written last: what the dataset is, and the sha256 of every other file
    issues.jsonl                        every utterance left out or doubted, and why
    utterances.jsonl                    provenance of every utterance kept: files, times, votes
    shards/train-00000-of-00003.parquet, valid-..., test-...
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.dataset.schema import INDEX, ROW_GROUP, SCHEMA_VERSION
from mesm_data.errors import ShardError


@dataclass(frozen=True)
class Dataset:
    """A finished dataset folder and its index."""

    folder: Path
    index: dict[str, Any]

    @property
    def corpus(self) -> str:
        return self.index["corpus"]

    @property
    def emotions(self) -> tuple[str, ...]:
        return tuple(self.index["emotions"])

    @cached_property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(shard["split"] for shard in self.index["shards"]))

    def shard_paths(self, split: str | None = None) -> list[Path]:
        """The shard files of one part, or of all, in order."""
        return [self.folder / s["name"] for s in self.index["shards"] if split is None or s["split"] == split]

    def tables(self, split: str | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Tables of up to `ROW_GROUP` rows, in order; memory stays at one of them."""
        for path in self.shard_paths(split):
            with open_parquet(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=columns)

    def find(self, ids: Iterable[str]) -> Iterator[pa.Table]:
        """Tables of one row each, in the dataset's order; only the row groups that hold them are read.

        Ids that the dataset does not have are passed over: the caller knows what to say of them.
        """
        wanted = set(ids)
        for path in self.shard_paths():
            with open_parquet(path) as file:
                for row, name in enumerate(file.read(columns=["id"]).column("id").to_pylist()):
                    if name in wanted:
                        yield file.read_row_group(row // ROW_GROUP).slice(row % ROW_GROUP, 1)

    def rows(self, columns: Sequence[str], split: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as plain dicts; meant for the light columns (everything but faces and mels)."""
        for path in self.shard_paths(split):
            with open_parquet(path) as file:
                yield from file.read(columns=list(columns)).to_pylist()


def open_dataset(folder: Path) -> Dataset:
    """The dataset of a folder that a build has finished. Raises ShardError where there is none."""
    path = folder / "index.json"
    if not path.is_file():
        begun = (folder / "build.json").is_file()
        way_out = (
            "a build was begun here: run it again to finish it"
            if begun
            else "expected a folder made by `mesm-data build`"
        )
        raise ShardError(f"{path}: not found; {way_out}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["schema_version"]
        missing = [name for name in INDEX if name not in index]
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path}: not an index of a dataset ({error}); build the dataset again") from None
    if missing:
        raise ShardError(f"{path}: lacks {', '.join(missing)}; build the dataset again")
    if version != SCHEMA_VERSION:
        raise ShardError(f"{path}: schema version {version}, this mesm reads {SCHEMA_VERSION}; build the dataset again")
    return Dataset(folder, index)


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open shard; what turns out to be broken while it is open is told as a ShardError too."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise ShardError(f"{path}: not found, though index.json names it; build the dataset again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a whole Parquet file ({error}); build the dataset again") from None
