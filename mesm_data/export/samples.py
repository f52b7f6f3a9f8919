"""Samples of a dataset as plain arrays, and the file names of utterances: what all export formats share."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.schema import faces_of, mels_of
from mesm_data.errors import DataError

Sample = tuple[dict[str, Any], np.ndarray, np.ndarray]  # light columns, faces [V, 48, 48, 3], mels [A, 128, 32]


def samples_of(dataset: Dataset, part: str) -> Iterator[Sample]:
    for table in dataset.tables(part):
        light = table.drop_columns(["faces", "mels"]).to_pylist()
        for n, row in enumerate(light):
            yield row, faces_of(table, n), mels_of(table, n)


def file_names(ids: Sequence[str], dots: bool = True) -> dict[str, str]:
    """Id -> name of its file; a slash, and without `dots` a dot, becomes _. Raises DataError where two become one."""
    names = {one: one.replace("/", "_") if dots else one.replace("/", "_").replace(".", "_") for one in ids}
    if len(set(names.values())) < len(names):
        twice = sorted(one for one in ids if list(names.values()).count(names[one]) > 1)
        raise DataError(f"ids {', '.join(twice[:10])} would have files of one name")
    return names
