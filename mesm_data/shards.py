"""The Parquet shards of a dataset: schema, writing, reading, and `verify`, which accounts for every byte.

out/iemocap/
    index.json                          written last: what the dataset is, and the sha256 of every other file
    issues.jsonl                        every utterance left out or doubted, and why
    utterances.jsonl                    provenance of every utterance kept: files, times, votes
    shards/train-00000-of-00003.parquet, valid-..., test-...
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.clip import Clip
from mesm_data.errors import ShardError
from mesm_data.utterance import Utterance

SCHEMA_VERSION = 1
ROW_GROUP = 8  # rows; random reads are 50 times faster than with 512 and a scan is no slower
FACE_BYTES = 48 * 48 * 3  # uint8 RGB
MEL_BYTES = 128 * 32 * 2  # float16
INDEX = ("corpus", "emotions", "shards", "files", "content", "counts")  # what no index can do without

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("corpus", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.int8())),  # one 0 or 1 for each emotion of the file's metadata, in that order
        ("votes", pa.list_(pa.struct([("rater", pa.string()), ("name", pa.string()), ("value", pa.float32())]))),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("speaker", pa.string()),
        ("group", pa.string()),
        ("faces", pa.list_(pa.binary(FACE_BYTES))),  # V times [48, 48, 3]
        ("face_times", pa.list_(pa.float32())),
        ("face_boxes", pa.list_(pa.list_(pa.float32(), 4))),
        ("face_scores", pa.list_(pa.float32())),
        ("face_landmarks", pa.list_(pa.list_(pa.float32(), 10))),
        ("face_found", pa.list_(pa.bool_())),
        ("mels", pa.list_(pa.binary(MEL_BYTES))),  # A times [128, 32]
        ("sample_rate", pa.int32()),
        ("quality", pa.list_(pa.string())),  # kinds of the doubtful Issues of this utterance
    ]
)


class Row(NamedTuple):
    """One line of a dataset: what was annotated, where it belongs, what was decoded."""

    corpus: str
    split: str
    utterance: Utterance
    clip: Clip


def to_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as one Arrow table of `SCHEMA`, in the order given."""
    u, c = [row.utterance for row in rows], [row.clip for row in rows]
    columns: dict[str, Any] = {
        "id": [x.id for x in u],
        "corpus": [row.corpus for row in rows],
        "split": [row.split for row in rows],
        "text": [x.text for x in u],
        "labels": [list(x.labels) for x in u],
        "votes": [[vote._asdict() for vote in x.votes] for x in u],
        "start": [x.start for x in u],
        "end": [x.end for x in u],
        "speaker": [x.speaker for x in u],
        "group": [x.group for x in u],
        "faces": [[face.tobytes() for face in x.faces] for x in c],
        "face_times": [x.face_times.tolist() for x in c],
        "face_boxes": [x.face_boxes.tolist() for x in c],
        "face_scores": [x.face_scores.tolist() for x in c],
        "face_landmarks": [x.face_landmarks.reshape(-1, 10).tolist() for x in c],
        "face_found": [x.face_found.tolist() for x in c],
        "mels": [[chunk.tobytes() for chunk in x.mels] for x in c],
        "sample_rate": [x.sample_rate for x in c],
        "quality": [list(x.quality) for x in c],
    }
    return pa.table(columns, schema=SCHEMA)


def faces_of(table: pa.Table, row: int) -> np.ndarray:
    """uint8 [V, 48, 48, 3] of one row, without copying."""
    return _stacked(table, "faces", row, FACE_BYTES, np.uint8, (48, 48, 3))


def mels_of(table: pa.Table, row: int) -> np.ndarray:
    """float16 [A, 128, 32] of one row, without copying."""
    return _stacked(table, "mels", row, MEL_BYTES, np.float16, (128, 32))


def content_hashes(table: pa.Table) -> list[str]:
    """sha256 over the values of each row: equal wherever the values are, whatever wrote the file."""
    light = table.drop_columns(["faces", "mels"]).to_pylist()
    hashes = []
    for row, fields in enumerate(light):
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode())
        digest.update(np.ascontiguousarray(faces_of(table, row)).data)
        digest.update(np.ascontiguousarray(mels_of(table, row)).data)
        hashes.append(digest.hexdigest())
    return hashes


def write_table(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """Write a Parquet file under a temporary name, sync it, rename it. `metadata` is stored as JSON under "mesm"."""
    temporary = path.with_name(path.name + ".tmp")
    stored = {"mesm": json.dumps(metadata, sort_keys=True, ensure_ascii=False)}
    pq.write_table(
        table.replace_schema_metadata(stored),
        temporary,
        row_group_size=ROW_GROUP,
        compression="none",  # faces and log-mels do not shrink: zstd saves 8 % and reads three times slower
        use_dictionary=False,
        write_statistics=["id", "split", "start", "end"],
        store_schema=True,
    )
    commit_file(temporary, path)


def gather(slices: Sequence[tuple[Path, int, int]]) -> pa.Table:
    """One table from (file, first row, rows) pieces of Parquet files, in the order given."""
    tables = [pq.read_table(path, memory_map=True).slice(first, rows) for path, first, rows in slices]
    return pa.concat_tables(tables).combine_chunks()


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
            with _open_parquet(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=columns)

    def find(self, ids: Iterable[str]) -> Iterator[pa.Table]:
        """Tables of one row each, in the dataset's order; only the row groups that hold them are read.

        Ids that the dataset does not have are passed over: the caller knows what to say of them.
        """
        wanted = set(ids)
        for path in self.shard_paths():
            with _open_parquet(path) as file:
                for row, name in enumerate(file.read(columns=["id"]).column("id").to_pylist()):
                    if name in wanted:
                        yield file.read_row_group(row // ROW_GROUP).slice(row % ROW_GROUP, 1)

    def rows(self, columns: Sequence[str], split: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as plain dicts; meant for the light columns (everything but faces and mels)."""
        for path in self.shard_paths(split):
            with _open_parquet(path) as file:
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


def verify(folder: Path) -> list[str]:
    """What is wrong with a dataset, one line each; empty when every byte of it is accounted for.

    Checks each file's size and sha256 against the index, that every shard reads and says of itself what the index says,
    that its values hash as recorded, that ids are unique and the counts by part and emotion are those of the index.
    """
    dataset = open_dataset(folder)
    problems: list[str] = []
    for name, expected in dataset.index["files"].items():
        problems += _check_file(folder / name, expected)
    known = {folder / name for name in dataset.index["files"]}
    strays = sorted(path for path in (folder / "shards").glob("*") if path not in known)
    problems += [f"{path}: not in index.json; a file of another build?" for path in strays]
    if not problems:
        problems += _check_values(dataset)
    return problems


def count_rows(rows: Iterable[dict[str, Any]], emotions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Utterances and positives of each emotion, by part: {"train": {"utterances": 5, "anger": 1, ...}, ...}."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        part = counts.setdefault(row["split"], Counter(dict.fromkeys(("utterances", *emotions), 0)))
        part["utterances"] += 1
        part.update({emotion: int(label) for emotion, label in zip(emotions, row["labels"], strict=True)})
    return {split: dict(counts[split]) for split in sorted(counts, key=_split_order)}


def overall_hash(hashes: Iterable[str]) -> str:
    """One hash for a whole dataset from the hashes of its rows, whatever their order or sharding."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _split_order(split: str) -> tuple[int, str]:
    order = ["train", "valid", "test"]
    return (order.index(split) if split in order else len(order), split)


def _stacked(table: pa.Table, column: str, row: int, size: int, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    cell = table.column(column)[row].values  # FixedSizeBinaryArray of this row's faces or chunks
    if len(cell) == 0:
        return np.zeros((0, *shape), dtype)
    data = np.frombuffer(cell.buffers()[1], dtype=np.uint8)
    data = data[cell.offset * size : (cell.offset + len(cell)) * size]
    return data.view(dtype).reshape(len(cell), *shape)


@contextmanager
def _open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open shard; what turns out to be broken while it is open is told as a ShardError too."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise ShardError(f"{path}: not found, though index.json names it; build the dataset again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a whole Parquet file ({error}); build the dataset again") from None


def _check_file(path: Path, expected: dict[str, Any]) -> list[str]:
    if not path.is_file():
        return [f"{path}: missing"]
    size = path.stat().st_size
    if size != expected["bytes"]:
        return [f"{path}: {size} bytes, expected {expected['bytes']}"]
    found = sha256_of(path)
    return [] if found == expected["sha256"] else [f"{path}: sha256 {found}, expected {expected['sha256']}"]


def _check_values(dataset: Dataset) -> list[str]:
    problems, hashes, light = [], [], []
    for shard in dataset.index["shards"]:
        with _open_parquet(dataset.folder / shard["name"]) as file:
            if file.schema_arrow.remove_metadata() != SCHEMA:
                problems.append(f"{shard['name']}: columns differ from schema version {SCHEMA_VERSION}")
                continue
            problems += _check_metadata(shard["name"], file.schema_arrow.metadata, dataset.index)
            rows = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                hashes += content_hashes(table)
                light += table.select(["id", "split", "labels"]).to_pylist()
                rows += table.num_rows
            if rows != shard["rows"]:
                problems.append(f"{shard['name']}: {rows} rows, expected {shard['rows']}")
    twice = [name for name, times in Counter(row["id"] for row in light).items() if times > 1]
    if twice:
        problems.append(f"{len(twice)} ids stand twice: {', '.join(sorted(twice)[:10])}")
    if overall_hash(hashes) != dataset.index["content"]:
        problems.append(f"values hash to {overall_hash(hashes)}, expected {dataset.index['content']}")
    if count_rows(light, dataset.emotions) != dataset.index["counts"]:
        problems.append("counts by part and emotion differ from index.json")
    return problems


def _check_metadata(shard: str, stored: dict[bytes, bytes] | None, index: dict[str, Any]) -> list[str]:
    """A shard says what it is as the index does: recipe, emotions, split, versions."""
    told, expected = json.loads((stored or {}).get(b"mesm", b"{}")), index | {"shard": shard}
    return [
        f"{shard}: {name} in it and in index.json are not the same" for name in told if told[name] != expected.get(name)
    ]
