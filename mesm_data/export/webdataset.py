"""WebDataset: tar files of `<id>.json`, `<id>.faces.npy` and `<id>.mels.npy`."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_data.export.samples import Options, Sample, file_names, samples_of
from mesm_data.files import commit_file

TAR_MB = 256


def write_webdataset(dataset: Dataset, out: Path, options: Options) -> dict[str, Any]:
    """Write the tar files of every split. Raises DataError where two ids would share a file."""
    names = file_names([row["id"] for row in dataset.rows(["id"])], dots=False)
    for split in dataset.splits:
        samples = samples_of(dataset, split)
        for count in itertools.count():
            first = next(samples, None)
            if first is None:
                break
            _write_tar(out / f"{split}-{count:06d}.tar", itertools.chain([first], samples), dataset, names)
    return {}


def _write_tar(path: Path, samples: Iterable[Sample], dataset: Dataset, names: dict[str, str]) -> None:
    """Writes samples until the file has TAR_MB megabytes."""
    temporary = path.with_suffix(".tar.tmp")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for row, faces, mels in samples:
            values = row | {
                "emotions": [name for name, label in zip(dataset.emotions, row["labels"], strict=True) if label]
            }
            files = {"json": json.dumps(values, ensure_ascii=False, sort_keys=True).encode()}
            _add(tar, names[row["id"]], files | {"faces.npy": _npy(faces), "mels.npy": _npy(mels)})
            if tar.offset > TAR_MB * 1_000_000:
                break
    commit_file(temporary, path)


def _add(tar: tarfile.TarFile, name: str, files: dict[str, bytes]) -> None:
    for suffix, content in files.items():
        member = tarfile.TarInfo(f"{name}.{suffix}")  # no owner and no date: the same bytes every time
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
