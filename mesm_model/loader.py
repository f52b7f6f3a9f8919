"""Shards to batches: a memory-mapped copy for random reading, and which utterances go together in which step.

    out/iemocap/.cache/train-3f2a90c1d5e80b77.arrow     one part of the dataset as Arrow, named by the dataset's content

Parquet is for keeping and passing on; from Arrow a random utterance is read a hundred times faster. The copy is made
when it is first needed, under a temporary name, from shards whose sha256 is that of the index.
"""

import fcntl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mesm_data import files
from mesm_data.dataset import reader, schema
from mesm_data.errors import DataError, ShardError
from mesm_model.batch import FACE, MEL, Batch, Example, collate, model_input
from mesm_model.features import store
from mesm_model.features.store import Ragged
from mesm_model.models.common.text import tokenize

COLUMNS = ("id", "text", "labels", "faces", "mels")

# Megabytes that FE2E of the paper's sizes keeps for the backward pass, measured in float32.
FACE_MB, CHUNK_MB, TOKEN_MB = 5.0, 8.9, 1.3
# Of the two-phase models: LF-TRANS's feed-forward layers keep so much a row, MulT's attention a pair of rows.
ROW_MB, PAIR_MB = 0.05, 5e-4


@dataclass(frozen=True, eq=False, repr=False)
class Part(TorchDataset[Example]):
    """One split of a dataset, utterance by utterance: a map-style `torch.utils.data.Dataset`."""

    name: str
    path: Path  # of the Arrow file
    tokens: Sequence[Sequence[int]]  # of each utterance; empty for models without text
    features: Mapping[str, Ragged] | None = None  # by modality; they take the place of tokens, faces and mels

    collate = staticmethod(collate)  # examples -> the Batch that models take: a DataLoader's `collate_fn`

    def __repr__(self) -> str:
        return f"Part({self.name}, {len(self)} utterances, {self.path})"

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, n: int) -> Example:
        if self.features is not None:
            return self._fixed(n, self.features)
        faces, mels = schema.faces_of(self._table, n), schema.mels_of(self._table, n)
        return model_input(self.ids[n], self.texts[n], self.tokens[n], faces, mels, self.labels[n])

    def _fixed(self, n: int, features: Mapping[str, Ragged]) -> Example:
        """An utterance of features only."""
        return Example(
            id=self.ids[n],
            text=self.texts[n],
            tokens=torch.zeros(0, dtype=torch.int64),
            faces=torch.zeros(0, *FACE, dtype=torch.uint8),
            mels=torch.zeros(0, *MEL, dtype=torch.float16),
            labels=torch.from_numpy(self.labels[n]),
            features={modality: torch.from_numpy(ragged.of(n)) for modality, ragged in features.items()},
        )

    def __getstate__(self) -> dict[str, object]:
        """A worker process opens the file itself."""
        return {"name": self.name, "path": self.path, "tokens": self.tokens, "features": self.features}

    @cached_property
    def ids(self) -> list[str]:
        return self._table.column("id").to_pylist()

    @cached_property
    def texts(self) -> list[str]:
        return self._table.column("text").to_pylist()

    @cached_property
    def labels(self) -> np.ndarray:
        """float32 [n, E], 0 or 1."""
        return np.array(self._table.column("labels").to_pylist(), np.float32)

    @cached_property
    def megabytes(self) -> np.ndarray:
        """What training on each utterance costs in memory, float64 [n]."""
        if self.features is not None:
            counts = np.stack([ragged.counts for ragged in self.features.values()])
            return ROW_MB * counts.sum(0) + PAIR_MB * counts.max(0).astype(float) ** 2
        faces, chunks = (_lengths(self._table.column(name)) for name in ("faces", "mels"))
        tokens = np.array([len(row) for row in self.tokens])
        return FACE_MB * faces + CHUNK_MB * chunks + TOKEN_MB * tokens

    @cached_property
    def _table(self) -> pa.Table:
        try:
            return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(f"{self.path}: not a whole Arrow file ({error}); delete it and it is made again") from None


def open_part(dataset: reader.Dataset, name: str, encoder: Path | None, cache: Path | None = None) -> Part:
    """The part `name` of a dataset, tokens by the text encoder in the folder `encoder`; None: no tokens.

    A dataset with features features_info is read as these. `cache` is where the Arrow copy goes, `.cache` in the dataset's
    folder by default. Raises DataError for a part that the dataset lacks, ShardError for shards that are not those of
    the index.
    """
    if name not in dataset.splits:
        raise DataError(f"{dataset.folder}: no part {name!r}, expected one of {', '.join(dataset.splits)}")
    part = Part(name, arrow_file(dataset, name, cache or dataset.folder / ".cache"), ())
    if store.features_info(dataset):
        return Part(name, part.path, (), store.open_part(dataset, name))
    tokens = tokenize(encoder, part.texts) if encoder else [()] * len(part)
    return Part(name, part.path, tokens)


def to_torch(dataset: reader.Dataset, text_encoder: str | Path | None = None, cache: str | Path | None = None) -> Part:
    """The only split of a dataset as a map-style dataset; see `Dataset.to_torch`."""
    if len(dataset.splits) != 1:
        raise DataError(
            f"{dataset.folder}: has the splits {', '.join(dataset.splits)}; choose one, as in "
            f"ds.split({dataset.splits[0]!r}).to_torch()"
        )
    return open_part(
        dataset, dataset.splits[0], Path(text_encoder) if text_encoder else None, Path(cache) if cache else None
    )


def arrow_file(dataset: reader.Dataset, name: str, cache: Path) -> Path:
    """The Arrow copy of one part, made now if there is none; memory stays at one row group."""
    path = cache / f"{name}-{dataset.index['content'][:16]}.arrow"
    if path.is_file():
        return path
    temporary = path.with_name(path.name + ".tmp")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes that begin together one copies, the others wait
            if not path.is_file():
                checked = {shard: _check(shard, dataset) for shard in dataset.shard_paths(name)}
                with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, _schema()) as writer:
                    for table in dataset.tables(name, COLUMNS):
                        writer.write_table(table)
                if changed := [shard for shard, state in checked.items() if _state(shard) != state]:
                    temporary.unlink()
                    raise ShardError(f"{changed[0]}: changed while it was copied; give the command again")
                files.commit_file(temporary, path)
    except OSError as error:
        if temporary.is_file():  # a full disk should not stay full
            temporary.unlink()
        raise DataError(f"{cache}: cannot write the copy for training ({error}); give --cache FOLDER") from None
    return path


@dataclass(frozen=True)
class Plan:
    """The steps of an epoch: each is `grad_accumulation` batches (the last may have fewer), each of utterance numbers."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]

    def utterances(self, step: int) -> int:
        return sum(len(batch) for batch in self.steps[step])


def plan_epoch(
    megabytes: np.ndarray, batch: int, batch_memory_mb: float, grad_accumulation: int, seed: int, epoch: int
) -> Plan:
    """What is trained on together in an epoch: a pure function of its arguments, whoever asks, and in which process.

    Utterances come in random order, not sorted by length: frames are packed, so there is no padding to save, and
    batches of long utterances only would need twice the memory. A batch is closed before it exceeds `batch` utterances
    or `batch_memory_mb` megabytes; an utterance above the batch_memory_mb goes alone.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(megabytes))
    batches = list(_batches(order, megabytes, batch, batch_memory_mb))
    return Plan(tuple(tuple(batches[n : n + grad_accumulation]) for n in range(0, len(batches), grad_accumulation)))


def plan_reading(megabytes: np.ndarray, batch: int, batch_memory_mb: float) -> list[tuple[int, ...]]:
    """Batches of all utterances in their order, for evaluation."""
    return list(_batches(range(len(megabytes)), megabytes, batch, batch_memory_mb))


def read(part: Part, batches: Sequence[Sequence[int]], workers: int = 0, pin: bool = False) -> Iterable[Batch]:
    """The batches with their data, in order; `workers` processes read ahead, `pin` speeds the copy to a GPU."""
    return DataLoader(
        part,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers if batches else 0,
        pin_memory=pin,
        multiprocessing_context="spawn" if workers and batches else None,  # a fork would inherit threads and a GPU
    )


def _batches(
    order: Iterable[int], megabytes: np.ndarray, most: int, batch_memory_mb: float
) -> Iterator[tuple[int, ...]]:
    batch: list[int] = []
    used = 0.0
    for n in order:
        if batch and (len(batch) == most or used + megabytes[n] > batch_memory_mb):
            yield tuple(batch)
            batch, used = [], 0.0
        batch.append(int(n))
        used += megabytes[n]
    if batch:
        yield tuple(batch)


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks])


def _schema() -> pa.Schema:
    return pa.schema([schema.SCHEMA.field(name) for name in COLUMNS])


def _check(shard: Path, dataset: reader.Dataset) -> tuple[int, ...]:
    """The state of a shard that is the one of the index. Raises ShardError for another one."""
    expected = dataset.index["files"][shard.relative_to(dataset.folder).as_posix()]["sha256"]
    if not shard.is_file():
        raise ShardError(f"{shard}: not found, though index.json names it; build the dataset again")
    state, found = _state(shard), files.sha256_of(shard)
    if found != expected:
        raise ShardError(f"{shard}: sha256 {found}, expected {expected}: changed or cut short; build the dataset again")
    return state


def _state(shard: Path) -> tuple[int, ...]:
    """What becomes another one when the file does."""
    found = shard.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
