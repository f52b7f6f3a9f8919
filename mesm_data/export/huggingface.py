"""Hugging Face: Parquet files that `datasets.load_dataset` reads, faces as images and mels as numbers."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mesm_data.dataset.arrow_files import open_to_write
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.schema import faces_of, mels_of
from mesm_data.export.samples import Options
from mesm_data.files import commit_file


def write_huggingface(dataset: Dataset, out: Path, options: Options) -> dict[str, Any]:
    """Write a file for each shard, row group by row group."""
    (out / "data").mkdir(exist_ok=True)
    for shard in dataset.index["shards"]:
        one = Dataset(dataset.folder, dataset.index | {"shards": [shard]})
        path = out / "data" / Path(shard["name"]).name
        temporary = path.with_name(path.name + ".tmp")
        tables = map(_for_hf, one.tables())
        first = next(tables)
        with open_to_write(temporary) as file, pq.ParquetWriter(file, first.schema) as writer:
            for table in itertools.chain([first], tables):
                writer.write_table(table)
        commit_file(temporary, path)
    return {}


def _for_hf(table: pa.Table) -> pa.Table:
    """Faces as images, mels as numbers; both are bytes in the shards."""
    faces = [[{"bytes": _png(face), "path": None} for face in faces_of(table, n)] for n in range(table.num_rows)]
    mels = [mels_of(table, n) for n in range(table.num_rows)]
    values = np.concatenate(mels) if mels else np.zeros((0, 128, 32), np.float16)
    chunks = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        chunks = pa.FixedSizeListArray.from_arrays(chunks, size)
    ends = np.cumsum([0, *(len(mel) for mel in mels)], dtype=np.int32)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {name: table.column(name) for name in table.column_names} | {
        "faces": pa.array(faces, pa.list_(image)),
        "mels": pa.ListArray.from_arrays(ends, chunks),
    }
    done = pa.table(columns)
    features = {field.name: _feature(field.type) for field in done.schema}
    features["faces"] = {"feature": {"_type": "Image"}, "_type": "Sequence"}
    return done.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """The name of an Arrow type in `datasets`."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _feature(kind.value_type)
        if pa.types.is_struct(kind.value_type):
            return [inner]
        length = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
        return {"feature": inner, "length": length, "_type": "Sequence"}
    names = {"float": "float32", "double": "float64", "halffloat": "float16"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


def _png(face: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "PNG")
    return file.getvalue()
