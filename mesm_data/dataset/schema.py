"""The Parquet schema of a shard: rows to tables, arrays of a row, content hashes and counts."""

import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mesm_data.clip import Clip, Recipe
from mesm_data.errors import ShardError
from mesm_data.utterance import Utterance

SCHEMA_VERSION = 2  # 1: faces and mels as list<fixed_size_binary>, which neither pandas nor `datasets` reads
ROW_GROUP = 8  # rows; random reads are 50 times faster than with 512 and a scan is no slower

# Column -> what the bytes of one of its cells are: one face, one mel chunk. Stored in every shard and in index.json.
ARRAYS: dict[str, dict[str, Any]] = {
    "faces": {"dtype": "uint8", "shape": [48, 48, 3]},
    "mels": {"dtype": "float16", "shape": [128, 32]},
}

# Shape of index.json, for `read_state`. COUNTED follows from rows and files; every shard states the rest too.
INDEX: dict[str, Any] = {
    "schema_version": int,
    "corpus": str,
    "emotions": [str],
    "arrays": {str: {"dtype": str, "shape": [int]}},
    "recipe": {field.name: [float] if field.name == "face_thresholds" else float for field in fields(Recipe)},
    "recipe_digest": str,
    "reader": {str: object},
    "raw": (str, None),
    "split": str,
    "split_digest": str,
    "tools": {str: str},
    "about?": {str: object},  # of a corpus that says something of itself
    "suggested?": {str: object},  # of synthetic data: settings that suit it
    "shards": [{"name": str, "split": str, "rows": int}],
    "files": {str: {"bytes": int, "sha256": str}},
    "content": str,
    "counts": {str: {str: int}},
    "faces": int,
    "faces_found": int,
    "issues": {str: int},
}
COUNTED = ("shards", "files", "content", "counts", "faces", "faces_found", "issues")

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
        ("faces", pa.list_(pa.binary())),  # V times the bytes of uint8 [48, 48, 3]
        ("face_times", pa.list_(pa.float32())),
        ("face_boxes", pa.list_(pa.list_(pa.float32(), 4))),
        ("face_scores", pa.list_(pa.float32())),
        ("face_landmarks", pa.list_(pa.list_(pa.float32(), 10))),
        ("face_found", pa.list_(pa.bool_())),
        ("mels", pa.list_(pa.binary())),  # A times the bytes of float16 [128, 32], little-endian
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
    """uint8 [V, 48, 48, 3] of one row, without copying. Raises ShardError for cells of another size."""
    return _stacked(table, "faces", row)


def mels_of(table: pa.Table, row: int) -> np.ndarray:
    """float16 [A, 128, 32] of one row, without copying. Raises ShardError for cells of another size."""
    return _stacked(table, "mels", row)


def content_hashes(table: pa.Table) -> list[str]:
    """sha256 over the values of each row: equal wherever the values are, whatever wrote the file."""
    for column in ARRAYS:
        _check_cells(table, column)
    light = table.drop_columns(list(ARRAYS)).to_pylist()
    hashes = []
    for row, values in enumerate(light):
        digest = hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode())
        digest.update(np.ascontiguousarray(faces_of(table, row)).data)
        digest.update(np.ascontiguousarray(mels_of(table, row)).data)
        hashes.append(digest.hexdigest())
    return hashes


class Tally:
    """Counts and hashes of the rows that are added: what index.json says of a dataset, for the writer and `verify`."""

    def __init__(self, emotions: Sequence[str]) -> None:
        self.emotions = tuple(emotions)
        self.ids: list[str] = []
        self._hashes: list[str] = []
        self._counts: dict[str, Counter[str]] = {}
        self._faces, self._faces_found = 0, 0

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table of `SCHEMA`."""
        self._hashes += content_hashes(table)
        for row in table.select(["id", "split", "labels", "face_found"]).to_pylist():
            self.ids.append(row["id"])
            counts = self._counts.setdefault(row["split"], Counter(dict.fromkeys(("utterances", *self.emotions), 0)))
            counts["utterances"] += 1
            counts.update(dict(zip(self.emotions, map(int, row["labels"]), strict=True)))
            self._faces += len(row["face_found"])
            self._faces_found += sum(row["face_found"])

    def facts(self) -> dict[str, Any]:
        """`content`, the hash of all values; `counts` by split; `faces` and `faces_found`."""
        return {
            "content": overall_hash(self._hashes),
            "counts": {split: dict(self._counts[split]) for split in sorted(self._counts, key=split_order)},
            "faces": self._faces,
            "faces_found": self._faces_found,
        }


def overall_hash(hashes: Iterable[str]) -> str:
    """One hash for a whole dataset from the hashes of its rows, whatever their order or sharding."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def split_order(split: str) -> tuple[int, str]:
    """Sorts train, valid and test before other splits."""
    order = ["train", "valid", "test"]
    return (order.index(split) if split in order else len(order), split)


def _stacked(table: pa.Table, column: str, row: int) -> np.ndarray:
    """The cells of one row as one array: they lie one after the other in Arrow's buffer."""
    dtype, shape, size = _CELLS[column]
    cells = table.column(column)[row].values  # BinaryArray of this row's faces or chunks
    if cells is None or len(cells) == 0:
        return np.zeros((0, *shape), dtype)
    _, offsets, data = cells.buffers()
    first, end = (_INT32.unpack_from(offsets, 4 * (cells.offset + n))[0] for n in (0, len(cells)))
    if end - first != size * len(cells):  # of each cell it is checked by `content_hashes`
        raise _wrong_size(table, column, row)
    array = np.ndarray((len(cells), *shape), dtype, data, first)
    array.flags.writeable = False
    return array


def _check_cells(table: pa.Table, column: str) -> None:
    """Raises ShardError unless every cell of every row has the bytes of one face, or of one chunk."""
    for row, cells in enumerate(table.column(column)):
        sizes = pc.binary_length(cells.values) if cells.is_valid else pa.array([], pa.int32())
        if sizes.null_count or (sizes.to_numpy() != _CELLS[column][2]).any():
            raise _wrong_size(table, column, row)


def _wrong_size(table: pa.Table, column: str, row: int) -> ShardError:
    size = _CELLS[column][2]
    return ShardError(f"{column} of {table.column('id')[row]}: not {size} bytes each; build the dataset again")


_INT32 = struct.Struct("=i")
# Of ARRAYS: dtype, shape and bytes of a cell.
_CELLS = {
    name: (np.dtype(one["dtype"]), tuple(one["shape"]), np.dtype(one["dtype"]).itemsize * math.prod(one["shape"]))
    for name, one in ARRAYS.items()
}
