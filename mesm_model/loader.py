"""From shards to batches: a memory-mapped copy for random reading, and the plan of which utterances form which batch.

    out/iemocap/.cache/train-3f2a90c1d5e80b77-v2.arrow     one split as Arrow, named by content and schema version
    out/iemocap/.cache/train-3f2a90c1d5e80b77-v2.arrow.sha256

Parquet is for storage and exchange; from Arrow a random utterance is read a hundred times faster. The copy is made when
it is first needed, under a temporary name, from shards whose sha256 is that of the index. Whoever opens it compares its
own sha256 first, and copies the shards again where it has changed.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mesm_data import files
from mesm_data.dataset import reader, schema
from mesm_data.dataset.arrow_files import open_to_map, open_to_write
from mesm_data.errors import DataError, ShardError
from mesm_model.batch import FACE, MEL, Batch, Example, collate, model_input
from mesm_model.features import store
from mesm_model.features.store import Ragged

SHARED_MEMORY = Path("/dev/shm")
QUEUES = 64 * 1024  # bytes of shared memory for the semaphores of a worker process; 44 KB were measured
COLUMNS = ("id", "text", "labels", "faces", "mels")

# Megabytes that FE2E of the paper's sizes keeps for the backward pass in float32, measured.
FACE_MB, CHUNK_MB, TOKEN_MB = 5.0, 8.9, 1.3
# Of the two-phase models: per row in the feed-forward layers of LF-TRANS, per pair of rows in the attention of MulT.
ROW_MB, PAIR_MB = 0.05, 5e-4


@dataclass(frozen=True, eq=False, repr=False)
class SplitData(TorchDataset[Example]):
    """One split of a dataset, utterance by utterance: a map-style `torch.utils.data.Dataset`."""

    name: str
    path: Path  # of the Arrow file
    tokens: Sequence[Sequence[int]]  # of each utterance; empty for models without text
    features: Mapping[str, Ragged] | None = None  # by modality, instead of tokens, faces and mels

    collate = staticmethod(collate)  # examples -> the Batch that models take: a DataLoader's `collate_fn`

    def __repr__(self) -> str:
        return f"SplitData({self.name}, {len(self)} utterances, {self.path})"

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, n: int) -> Example:
        if self.features is not None:
            return self._fixed(n, self.features)
        faces, mels = schema.faces_of(self._table, n), schema.mels_of(self._table, n)
        return model_input(self.ids[n], self.texts[n], self.tokens[n], faces, mels, self.labels[n])

    def _fixed(self, n: int, features: Mapping[str, Ragged]) -> Example:
        """An utterance with features only."""
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
        """Without the table: a worker process opens the file itself."""
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
        """Estimated memory of training on each utterance, float64 [n]."""
        if self.features is not None:
            counts = np.stack([ragged.counts for ragged in self.features.values()])
            return ROW_MB * counts.sum(0) + PAIR_MB * counts.max(0).astype(float) ** 2
        faces, chunks = (_lengths(self._table.column(name)) for name in ("faces", "mels"))
        tokens = np.array([len(row) for row in self.tokens])
        return FACE_MB * faces + CHUNK_MB * chunks + TOKEN_MB * tokens

    @cached_property
    def _table(self) -> pa.Table:
        try:
            return pa.ipc.open_file(open_to_map(self.path)).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(f"{self.path}: not a whole Arrow file ({error}); delete it and it is made again") from None


def open_split(dataset: reader.Dataset, split: str, encoder: Path | None, cache: Path | None = None) -> SplitData:
    """A split of a dataset, with tokens of the text encoder in the folder `encoder`; without tokens for None.

    A dataset with features has these instead. `cache` is the folder of the Arrow copies, `.cache` in the dataset by
    default. Raises DataError for a split that the dataset lacks, ShardError for shards that are not those of the index.
    """
    if split not in dataset.splits:
        raise DataError(f"{dataset.folder}: no split {split!r}, expected one of {', '.join(dataset.splits)}")
    split_data = SplitData(split, arrow_file(dataset, split, cache or dataset.folder / ".cache"), ())
    if store.features_info(dataset):
        return SplitData(split, split_data.path, (), store.open_split(dataset, split))
    if encoder is None:
        return SplitData(split, split_data.path, [()] * len(split_data))
    from mesm_model.models.common.text import tokenize  # transformers takes seconds, which worker processes need not

    return SplitData(split, split_data.path, tokenize(encoder, split_data.texts))


def to_torch(
    dataset: reader.Dataset, text_encoder: str | Path | None = None, cache: str | Path | None = None
) -> SplitData:
    """The only split of a dataset as a map-style dataset; see `Dataset.to_torch`."""
    if len(dataset.splits) != 1:
        raise DataError(
            f"{dataset.folder}: has the splits {', '.join(dataset.splits)}; choose one, as in "
            f"ds.split({dataset.splits[0]!r}).to_torch()"
        )
    return open_split(
        dataset, dataset.splits[0], Path(text_encoder) if text_encoder else None, Path(cache) if cache else None
    )


def arrow_file(dataset: reader.Dataset, split: str, cache: Path) -> Path:
    """The Arrow copy of one split, made where there is none or where it is not what was written; then with one line.

    Memory stays at one row group. Raises ShardError for shards that are not those of the index, DataError for a folder
    that cannot be written.
    """
    path = cache / f"{split}-{dataset.index['content'][:16]}-v{schema.SCHEMA_VERSION}.arrow"
    if _is_whole(path):
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with files.locked(path.with_name(path.name + ".lock")):  # of several processes one copies, the others wait
            if path.is_file() and not _is_whole(path):
                print(f"{path}: not what was written there; copying the dataset again", file=sys.stderr)
            if not _is_whole(path):
                _copy(dataset, split, path)
    except OSError as error:
        raise DataError(f"{cache}: cannot write the copy for training ({error}); give --cache FOLDER") from None
    return path


def _copy(dataset: reader.Dataset, split: str, path: Path) -> None:
    """Write the Arrow copy and its digest; on any failure neither."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        checked = {shard: _check(shard, dataset) for shard in dataset.shard_paths(split)}
        with open_to_write(temporary) as file, pa.ipc.new_file(file, _schema()) as writer:
            for table in dataset.tables(split, COLUMNS):
                writer.write_table(table)
        if changed := [shard for shard, state in checked.items() if _state(shard) != state]:
            raise ShardError(f"{changed[0]}: changed while it was copied; give the command again")
        digest = files.sha256_of(temporary)
        files.commit_file(temporary, path)
        files.write_text(_digest_file(path), digest + "\n")
    finally:
        temporary.unlink(missing_ok=True)  # a full disk should not stay full


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _is_whole(path: Path) -> bool:
    """True for a copy whose bytes have the digest beside it."""
    digest = _digest_file(path)
    if not path.is_file() or not digest.is_file():
        return False
    return _sha256_of(path, _state(path)) == digest.read_text(encoding="ascii", errors="replace").strip()


@lru_cache
def _sha256_of(path: Path, state: tuple[int, ...]) -> str:
    """Of a file in this state: a command opens a split several times."""
    return files.sha256_of(path)


@dataclass(frozen=True)
class Plan:
    """The steps of an epoch: each has `grad_accumulation` batches (the last may have fewer) of utterance numbers."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]

    def utterances(self, step: int) -> int:
        return sum(len(batch) for batch in self.steps[step])


def plan_epoch(
    megabytes: np.ndarray, batch: int, batch_memory_mb: float, grad_accumulation: int, seed: int, epoch: int
) -> Plan:
    """The batches of an epoch: a pure function of its arguments, the same in every process.

    Utterances are shuffled, not sorted by length: frames are packed, so that there is no padding to save, and batches
    of long utterances would need twice the memory. A batch has at most `batch` utterances and `batch_memory_mb`
    megabytes; an utterance that needs more is a batch of its own.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(megabytes))
    batches = list(_batches(order, megabytes, batch, batch_memory_mb))
    return Plan(tuple(tuple(batches[n : n + grad_accumulation]) for n in range(0, len(batches), grad_accumulation)))


def plan_reading(megabytes: np.ndarray, batch: int, batch_memory_mb: float) -> list[tuple[int, ...]]:
    """Batches of all utterances in order, for evaluation."""
    return list(_batches(range(len(megabytes)), megabytes, batch, batch_memory_mb))


def read(
    split_data: SplitData, batches: Sequence[Sequence[int]], workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """The batches with their data, in order; `workers` processes read ahead, `pin` speeds up the copy to a GPU.

    Raises DataError where the processes cannot be started.
    """
    _check_shared_memory(workers)
    return iter(DataLoader(
        split_data,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers if batches else 0,
        pin_memory=pin,
        multiprocessing_context="spawn" if workers and batches else None,  # a fork would inherit threads and a GPU
    ))  # fmt: skip


def _check_shared_memory(workers: int) -> None:
    """Raises DataError where there is no room for the queues of worker processes. Batches do not go through it."""
    if not workers or not SHARED_MEMORY.is_dir():
        return
    free, needed = shutil.disk_usage(SHARED_MEMORY).free, workers * QUEUES
    if free < needed:
        raise DataError(
            f"{SHARED_MEMORY}: {free // 1024} KB are free, {workers} worker processes need {needed // 1024}; free "
            "some, or give --workers 0"
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
    """The state of a shard, whose sha256 must be that of the index. Raises ShardError otherwise."""
    expected = dataset.index["files"][shard.relative_to(dataset.folder).as_posix()]["sha256"]
    if not shard.is_file():
        raise ShardError(f"{shard}: not found, though index.json names it; build the dataset again")
    state, found = _state(shard), files.sha256_of(shard)
    if found != expected:
        raise ShardError(f"{shard}: sha256 {found}, expected {expected}: changed or cut short; build the dataset again")
    return state


def _state(shard: Path) -> tuple[int, ...]:
    """What changes when a file is written."""
    found = shard.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
