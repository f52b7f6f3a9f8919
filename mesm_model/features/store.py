"""Fixed features of the two-phase models: how they are stored beside the shards and read for training.

features/
    plan.json                   which features of which dataset: written first; another plan for the folder is refused
    text-hash/words.txt         the vectors of the dataset's words, in the format of GloVe's files
    vision-face_geometry_pca/faces.npz     the average face of train and the principal components
    audio-bark_mfcc/train-00000-of-00001.parquet     id and rows (bytes of float32), a file per shard
    features.json               written last: what is here, sizes, statistics of train, sha256 of every file and its own

The names of the sets stand in every table: scores with substitutes are not the paper's. `attach` gives a dataset that
is read as features. How they are made is in extract.py.

S rows (words, steps of audio, faces) of one utterance.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.dataset.arrow_files import open_to_read
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.writer import write_table
from mesm_data.errors import DataError
from mesm_data.files import sha256_of, write_json
from mesm_data.state import read_state
from mesm_model.models.common.two_phase import SIZES, is_two_phase

MODALITIES = {"t": "text", "a": "audio", "v": "vision"}
PAPER = ("glove", "disvoice", "openface")  # the kinds of features that the paper's baselines read
INDEX, PLAN = "features.json", "plan.json"
FORMAT = 2  # 1: rows as list<fixed_size_binary>, which pandas does not read

# The shapes of both files, for read_state.
PLAN_SHAPE = {
    "format": int,
    "content": str,
    "sets": {modality: {"name": str, "path": (str, None)} for modality in MODALITIES},
}
_SET = {
    "name": str, "size": int, "what": str, "warnings": [str], "mean": [float], "deviation": [float], "rows": int,
    "missing": int, "replaced": int, "coverage?": float,
}  # fmt: skip
INDEX_SHAPE = {
    "format": int, "content": str, "digest": str, "sets": dict.fromkeys(MODALITIES, _SET),
    "emotions": ([[float]], None), "files": {str: str}, "check": str,
}  # fmt: skip


@dataclass(frozen=True)
class Ragged:
    """The rows of every utterance of a split, concatenated."""

    rows: np.ndarray  # float32 [all rows, size]
    starts: np.ndarray  # int64 [n + 1]

    def of(self, n: int) -> np.ndarray:
        """Rows [S, size] of utterance number n."""
        return self.rows[self.starts[n] : self.starts[n + 1]]

    @property
    def counts(self) -> np.ndarray:
        """S of each utterance, int64 [n]."""
        return np.diff(self.starts)


def attach(dataset: Dataset, folder: Path) -> Dataset:
    """The same dataset, read as the features in `folder`. Raises DataError unless they were made from this dataset."""
    path = folder / INDEX
    if not path.is_file():
        begun = "; it was interrupted here: run it again to finish" if (folder / PLAN).is_file() else ""
        raise DataError(f"{path}: not found, expected a folder made by `mesm features`{begun}")
    about = read_index(folder)
    if about["content"] != dataset.index["content"]:
        raise DataError(
            f"{folder}: features of another dataset (content {about['content'][:12]}, {dataset.folder} has "
            f"{dataset.index['content'][:12]}); run `mesm features {dataset.folder} --out FOLDER`"
        )
    lacking = sorted(
        {Path(shard["name"]).name for shard in dataset.index["shards"]} - {Path(f).name for f in about["files"]}
    )
    if lacking:  # the same utterances, built with another --shard-mb
        raise DataError(
            f"{folder}: features of other shards, there are none for {lacking[0]}; run "
            f"`mesm features {dataset.folder} --out FOLDER`"
        )
    return replace(dataset, index=dataset.index | {"features": about | {"folder": str(folder)}})


def features_info(dataset: Dataset) -> dict[str, Any] | None:
    """The content of features.json of the features attached to a dataset, and their "folder"; None without features."""
    return dataset.index.get("features")


def as_model_input(dataset: Dataset, model: str, config: Any) -> Dataset:
    """The dataset as a model reads it: as features, or as tokens, faces and mel chunks.

    `config` is the model's Config or its class. Raises DataError for a two-phase model without features.
    """
    if not is_two_phase(config):
        return replace(dataset, index={name: value for name, value in dataset.index.items() if name != "features"})
    if features_info(dataset) is None:
        raise DataError(
            f"{model} takes fixed features; make them with `mesm features {dataset.folder} --out FEATURES`, "
            "then give --features FEATURES"
        )
    return dataset


def sizes_for(dataset: Dataset, config: type) -> dict[str, Any]:
    """The settings of a two-phase model that follow from the features; empty for other models."""
    about = features_info(dataset)
    if not is_two_phase(config) or about is None:
        return {}
    sizes = {field: about["sets"][modality]["size"] for modality, field in SIZES.items()}
    learned = {"learned_emotions": about["emotions"] is None} if "learned_emotions" in config.__annotations__ else {}
    return sizes | learned


def named(about: Mapping[str, Any], modalities: str = "tav") -> str:
    """The names of the sets, for tables: "hash, bark_mfcc, face_geometry_pca"."""
    return ", ".join(one["name"] for modality, one in about["sets"].items() if modality in modalities)


def substitutes(about: Mapping[str, Any], modalities: str = "tav") -> str:
    """The names of the sets that are not of the paper's kinds; empty where all are."""
    kinds = (one["name"] for modality, one in about["sets"].items() if modality in modalities)
    return ", ".join(name for name in kinds if name not in PAPER)


def described(about: Mapping[str, Any], modalities: str = "tav") -> str:
    """The names of the sets, and which of them are not the paper's."""
    names, replaced = named(about, modalities), substitutes(about, modalities)
    remark = "" if not replaced else ", not the paper's" if replaced == names else f"; not the paper's: {replaced}"
    return f"features {names}{remark}"


def to_text(about: Mapping[str, Any]) -> str:
    """The content of features.json: a line per set, remarks on it below."""
    lines = []
    for modality, one in about["sets"].items():
        size = f"{one['rows']:,} rows of {one['size']}"
        lines.append(f"{MODALITIES[modality]:<8}{one['name']:<19}{size:<23}{one['what']}")
        if one["missing"]:
            lines.append(f"{'':8}{one['missing']} utterances have none: the file does not name them")
        if one["replaced"]:
            lines.append(f"{'':8}numbers that were nan or infinite, read as 0: {one['replaced']}")
        if "coverage" in one:
            lines.append(f"{'':8}{100 * one['coverage']:.1f} % of all words have a vector")
        lines += [f"{'':8}warning: {warning}" for warning in one["warnings"]]
    if about["emotions"] is None:
        lines.append(f"{'':8}no vectors of the emotions' names: EmoEmbs learns its own")
    return "\n".join(lines)


def place(modality: str, name: str) -> str:
    """The folder of a set."""
    return f"{MODALITIES[modality]}-{name}"


def open_split(dataset: Dataset, split: str) -> dict[str, Ragged]:
    """The features of one split, by modality, in the order of its shards; all in memory.

    The largest corpus of the paper, CMU-MOSEI, takes 0.7 GB. Raises DataError for a file that has changed.
    """
    about = features_info(dataset)
    assert about is not None
    names = [shard["name"] for shard in dataset.index["shards"] if shard["split"] == split]
    found = {}
    for modality, one in about["sets"].items():
        paths = [Path(about["folder"], place(modality, one["name"]), Path(name).name) for name in names]
        for path in paths:
            check_file(path, about["files"][f"{path.parent.name}/{path.name}"])
        found[modality] = read_rows(paths, one["size"])
    return found


def read_rows(paths: Sequence[Path], size: int) -> Ragged:
    """The rows in these files, of `size` numbers each. Raises DataError for a file that does not read."""
    columns = [chunk for path in paths for chunk in _read_parquet(path, ["rows"]).column("rows").chunks]
    counts = [np.diff(column.offsets.to_numpy()) for column in columns]
    values = [_values(column, size) for column in columns]
    return Ragged(np.concatenate([np.zeros((0, size), np.float32), *values]), np.concatenate([[0], *counts]).cumsum())


def read_light(path: Path) -> list[dict[str, Any]]:
    """For each utterance of a file: its id, whether an imported set lacks it, how many numbers were replaced by 0."""
    return _read_parquet(path, ["id", "missing", "replaced"]).to_pylist()


def write_rows(
    path: Path, ids: Sequence[str], rows: Sequence[np.ndarray | None], size: int, metadata: dict[str, Any]
) -> None:
    """Write the rows [S, size] of each utterance, the file whole or not at all; None: the utterance is missing.

    Infinite numbers and nan become 0 and are counted.
    """
    found = [np.zeros((0, size), "<f4") if own is None else own.astype("<f4") for own in rows]
    finite = [np.nan_to_num(own, nan=0, posinf=0, neginf=0) for own in found]
    columns = {
        "id": pa.array(ids, pa.string()),
        "rows": pa.array([[row.tobytes() for row in own] for own in finite], pa.list_(pa.binary())),
        "missing": pa.array([own is None for own in rows], pa.bool_()),
        "replaced": pa.array([int((~np.isfinite(own)).sum()) for own in found], pa.int64()),
    }
    write_table(path, pa.table(columns), metadata | {"arrays": {"rows": {"dtype": "float32", "shape": [size]}}})


def read_index(folder: Path) -> dict[str, Any]:
    """features.json of a folder. Raises DataError for one that is damaged or was changed."""
    path, mend = folder / INDEX, f"delete the folder {folder} and make the features again"
    found = read_state(path, {"format?": int}, mend).get("format", 1)
    if found != FORMAT:
        raise DataError(f"{path}: has format {found}, this version of mesm reads {FORMAT}; {mend}")
    index = read_state(path, INDEX_SHAPE, mend)
    if _check_sum(index) != index["check"]:
        raise DataError(f"{path}: changed since it was written; {mend}")
    return index


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write features.json, which says that the features are complete."""
    write_json(folder / INDEX, index | {"check": _check_sum(index)})


def check_file(path: Path, expected: str) -> None:
    """Raises DataError unless the file of a set has the sha256 `expected`."""
    if not path.is_file() or sha256_of(path) != expected:
        what = "changed or cut short" if path.is_file() else "not found"
        raise DataError(f"{path}: {what}; delete the folder {path.parents[1]} and make the features again")


def _check_sum(index: Mapping[str, Any]) -> str:
    """sha256 of everything in an index but its check sum."""
    rest = {name: value for name, value in index.items() if name != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        with open_to_read(path) as file:
            return pq.read_table(file, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: {error}; delete the file and run the same `mesm features` again") from None


def _values(column: pa.ListArray, size: int) -> np.ndarray:
    """The cells of a column of lists, without a copy: float32 [cells, size], little-endian."""
    cells = column.flatten()
    if not len(cells):
        return np.zeros((0, size), np.float32)
    _, offsets, data = cells.buffers()
    ends = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1]
    return np.frombuffer(data, "<f4")[ends[0] // 4 : ends[-1] // 4].reshape(len(cells), size)
