"""Features that `mesm features` made of a dataset, by modality and utterance. Their folder is described in
mesm_model/features/store.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mesm_data.dataset.arrow_files import open_to_read
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import sha256_of
from mesm_data.state import read_state

SHAPE = {"content": str, "digest": str, "sets": {str: {"name": str, "size": int}}, "files": {str: str}}
FOLDERS = {"t": "text", "a": "audio", "v": "vision"}  # modality -> the first part of its folder's name


def read_index(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """What features.json says. Raises DataError unless the features were made of this dataset."""
    again = f"run `mesm features {dataset.folder} --out FOLDER`"
    index: dict[str, Any] = read_state(folder / "features.json", SHAPE, again)
    if index["content"] != dataset.index["content"]:
        raise DataError(f"{folder}: features of another dataset than {dataset.folder}; {again}")
    return index


def read_features(folder: Path, index: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Modality ("t", "a", "v") -> id -> float32 [S, size]; all in memory. Raises DataError for changed files."""
    found: dict[str, dict[str, np.ndarray]] = {modality: {} for modality in index["sets"]}
    places = {f"{FOLDERS[m]}-{one['name']}": m for m, one in index["sets"].items()}
    for name, digest in index["files"].items():
        path, modality = folder / name, places[name.split("/")[0]]
        if not path.is_file() or sha256_of(path) != digest:
            raise DataError(f"{path}: missing or changed; delete {folder} and make the features again")
        if path.suffix != ".parquet":  # what was fitted first
            continue
        size = index["sets"][modality]["size"]
        with open_to_read(path) as file:
            table = pq.read_table(file, columns=["id", "rows"])
        for row in table.to_pylist():
            found[modality][row["id"]] = np.frombuffer(b"".join(row["rows"]), "<f4").reshape(-1, size)
    return found
