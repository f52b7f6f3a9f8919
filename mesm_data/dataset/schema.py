"""The Parquet schema of a shard: rows to tables, arrays of a row, content hashes and counts."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mesm_data.clip import Clip
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
