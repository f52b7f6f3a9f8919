"""What the export formats share: options, samples as plain arrays, file names of utterances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.schema import faces_of, mels_of
from mesm_data.errors import DataError

Sample = tuple[dict[str, Any], np.ndarray, np.ndarray]  # light columns, faces [V, 48, 48, 3], mels [A, 128, 32]


@dataclass(frozen=True)
class Options:
    """What some formats take beside the dataset."""

    raw: Path | None = None  # clips: the raw corpus that the dataset was built from
    features: Path | None = None  # mmsa: a folder made by `mesm features`
    workers: int = 1  # clips: processes


def samples_of(dataset: Dataset, split: str) -> Iterator[Sample]:
    """Every utterance of a split, in order."""
    for table in dataset.tables(split):
        light = table.drop_columns(["faces", "mels"]).to_pylist()
        for n, row in enumerate(light):
            yield row, faces_of(table, n), mels_of(table, n)


def file_names(ids: Sequence[str], dots: bool = True) -> dict[str, str]:
    """Id -> name of its file: a slash, and without `dots` a dot, becomes _.

    Raises DataError where two ids would share a file.
    """
    names = {one: one.replace("/", "_") if dots else one.replace("/", "_").replace(".", "_") for one in ids}
    if len(set(names.values())) < len(names):
        values = list(names.values())
        twice = sorted(one for one in ids if values.count(names[one]) > 1)
        raise DataError(f"ids {', '.join(twice[:10])} would have files of one name")
    return names
