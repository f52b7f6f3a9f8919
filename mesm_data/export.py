"""A finished dataset in the forms that other tools read: films, WebDataset, Hugging Face, the pickle of MMSA.

    clips/          <id>.mp4 for every utterance, cut from the raw files; metadata.csv
    webdataset/     train-000000.tar ...: <id>.json, <id>.faces.npy, <id>.mels.npy
    hf/             data/train-00000-of-00001.parquet ...: what datasets.load_dataset reads
    mmsa/           features.pkl, see mmsa.py

Each has README.md, its card, written last, and export.json, which says of which dataset it is. A dataset has the same
bytes every time it is exported.
"""

import csv
import io
import itertools
import json
import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from tqdm import tqdm

from mesm_data import corpora
from mesm_data.encode import write_films
from mesm_data.errors import DataError
from mesm_data.folders import alone, holds_others
from mesm_data.mmsa import PARTS as MMSA_PARTS
from mesm_data.mmsa import mmsa_part
from mesm_data.pool import Died, run_jobs
from mesm_data.report.card import CITATION, UNKNOWN
from mesm_data.shards import Dataset, commit_file, faces_of, mels_of, open_dataset, write_text
from mesm_data.utterance import Utterance, read_utterances

PLAN = "export.json"
TAR_MB = 256
PATIENCE = 6 * 3600.0  # seconds that the films of one recording may take


Sample = tuple[dict[str, Any], np.ndarray, np.ndarray]  # light columns, faces [V, 48, 48, 3], mels [A, 128, 32]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    utterances: int
    files: int
    size: int  # bytes


def export(
    folder: Path, to: str, out: Path, raw: Path | None = None, holds_licence: bool = False, workers: int = 1
) -> Exported:
    """Write the dataset of `folder` into `out` as `to`, a key of FORMATS; `clips` go on where they were stopped.

    `raw` is the corpus that the dataset was built from; only `clips` need it. Raises DataError where `out` holds
    something else, where raw files are missing, and for a corpus with a licence without `holds_licence`.
    """
    dataset = open_dataset(folder)
    about = _about(dataset)
    if about and not holds_licence:
        raise DataError(
            f"{folder}: {about['title']} is licensed ({about['licence']}), and an export holds its faces and voices; "
            "give --i-hold-the-licence if you hold it"
        )
    if to == "clips":
        _check_raw(dataset, raw)
    plan = {"to": to, "corpus": dataset.corpus, "content": dataset.index["content"]}
    _check_folder(out, plan)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out, "exports"):
        _check_folder(out, plan)  # again, since another export may have begun and ended meanwhile
        write_text(out / PLAN, json.dumps(plan, indent=1) + "\n")
        remarks = FORMATS[to](dataset, out, raw, workers)
        write_text(out / "README.md", _card(dataset, to, about, remarks))
    files = [path for path in out.rglob("*") if path.is_file()]
    utterances = sum(part["utterances"] for part in dataset.index["counts"].values())
    return Exported(utterances, len(files), sum(path.stat().st_size for path in files))


# ---- films


@dataclass(frozen=True)
class _Job:
    """The films of one recording that are still to be cut."""

    raw: Path
    utterances: tuple[Utterance, ...]
    outs: tuple[Path, ...]


def write_job(job: _Job) -> None:
    """Runs in a worker."""
    write_films(job.raw, job.utterances, job.outs)


def _write_clips(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    assert raw is not None
    utterances = list(read_utterances(dataset.folder / "utterances.jsonl"))
    names = _file_names([u.id for u in utterances])
    recordings: dict[tuple[str, float], list[Utterance]] = {}
    for u in utterances:
        if not (out / f"{names[u.id]}.mp4").is_file():
            recordings.setdefault((u.source.video, u.source.offset), []).append(u)
    jobs = [_Job(raw, tuple(group), tuple(out / f"{names[u.id]}.mp4" for u in group)) for group in recordings.values()]
    left = sum(len(job.utterances) for job in jobs)
    with (
        tqdm(total=len(utterances), initial=len(utterances) - left, unit=" films", disable=None) as bar,
        closing(run_jobs(write_job, jobs, workers, PATIENCE)) as results,
    ):
        for job, result in results:
            if isinstance(result, Died):
                raise DataError(f"{job.utterances[0].source.video}: {result.reason}")
            bar.update(len(job.utterances))
    write_text(out / "metadata.csv", _metadata(dataset, names))
    return {}


def _metadata(dataset: Dataset, names: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    light = ("id", "split", "start", "end", "speaker", "group", "text")
    writer.writerow(["file_name", *light, *dataset.emotions])
    for row in dataset.rows([*light, "labels"]):
        writer.writerow([f"{names[row['id']]}.mp4", *(row[name] for name in light), *row["labels"]])
    return text.getvalue()


def _check_raw(dataset: Dataset, raw: Path | None) -> None:
    if raw is None:
        raise DataError("clips are cut from the raw recordings; give --raw FOLDER, the corpus that was built")
    sources = {
        n for u in read_utterances(dataset.folder / "utterances.jsonl") for n in (u.source.video, u.source.audio)
    }
    missing = sorted(name for name in sources if name and not (raw / name).exists())
    if missing:
        raise DataError(
            f"{raw}: {len(missing)} of {len(sources - {None})} files are not there, as {missing[0]}; expected the "
            f"folder that {dataset.folder} was built from"
        )


# ---- WebDataset


def _write_webdataset(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    names = _file_names([row["id"] for row in dataset.rows(["id"])], dots=False)
    for part in dataset.splits:
        samples = _samples(dataset, part)
        for count in itertools.count():
            first = next(samples, None)
            if first is None:
                break
            _write_tar(out / f"{part}-{count:06d}.tar", itertools.chain([first], samples), dataset, names)
    return {}


def _write_tar(path: Path, samples: Iterable[Sample], dataset: Dataset, names: dict[str, str]) -> None:
    """Takes samples until the file has TAR_MB."""
    temporary = path.with_suffix(".tar.tmp")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for row, faces, mels in samples:
            told = row | {
                "emotions": [name for name, label in zip(dataset.emotions, row["labels"], strict=True) if label]
            }
            files = {"json": json.dumps(told, ensure_ascii=False, sort_keys=True).encode()}
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


# ---- Hugging Face


def _write_hf(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    (out / "data").mkdir(exist_ok=True)
    for shard in dataset.index["shards"]:
        one = Dataset(dataset.folder, dataset.index | {"shards": [shard]})
        path = out / "data" / Path(shard["name"]).name
        temporary = path.with_name(path.name + ".tmp")
        writer = None
        for table in one.tables():
            table = _for_hf(table)
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()
            commit_file(temporary, path)
    return {}


def _for_hf(table: pa.Table) -> pa.Table:
    """Faces as pictures, mels as numbers; both are bytes in the shards."""
    faces = [[{"bytes": _png(face), "path": None} for face in faces_of(table, n)] for n in range(table.num_rows)]
    mels = [mels_of(table, n) for n in range(table.num_rows)]
    values = np.concatenate(mels) if mels else np.zeros((0, 128, 32), np.float16)
    chunks = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        chunks = pa.FixedSizeListArray.from_arrays(chunks, size)
    ends = np.cumsum([0, *(len(mel) for mel in mels)], dtype=np.int32)
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {name: table.column(name) for name in table.column_names} | {
        "faces": pa.array(faces, pa.list_(picture)),
        "mels": pa.ListArray.from_arrays(ends, chunks),
    }
    done = pa.table(columns)
    features = {field.name: _feature(field.type) for field in done.schema}
    features["faces"] = {"feature": {"_type": "Image"}, "_type": "Sequence"}
    return done.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """What datasets calls a type of Arrow."""
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


# ---- MMSA


def _write_mmsa(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    absent = [part for part in MMSA_PARTS if part not in dataset.splits]
    if absent:
        raise DataError(f"{dataset.folder}: has no part {', '.join(absent)}; MMSA reads {', '.join(MMSA_PARTS)}")
    parts = {part: mmsa_part(_samples(dataset, part), dataset.emotions) for part in MMSA_PARTS}
    temporary = out / "features.pkl.tmp"
    with temporary.open("wb") as file:
        pickle.dump({part: made.content for part, made in parts.items()}, file, protocol=4)
    commit_file(temporary, out / "features.pkl")
    made = parts.values()
    return {"cut": sum(part.cut for part in made), "unrated": sum(part.unrated for part in made)}


FORMATS: dict[str, Callable[[Dataset, Path, Path | None, int], dict[str, Any]]] = {
    "clips": _write_clips,
    "webdataset": _write_webdataset,
    "hf": _write_hf,
    "mmsa": _write_mmsa,
}

# ---- all of them


def _check_folder(out: Path, plan: dict[str, str]) -> None:
    """Raises DataError where the folder holds something else than this export."""
    path = out / PLAN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != plan:
            there = f"{found['to']} of {found['corpus']} (content {found['content'][:12]})"
            raise DataError(f"{path}: this folder holds an export to {there}; give another --out")
    elif holds_others(out, f"{PLAN}.tmp"):
        raise DataError(f"{out}: not empty and no export of this program; give another --out")


def _samples(dataset: Dataset, part: str) -> Iterator[Sample]:
    for table in dataset.tables(part):
        light = table.drop_columns(["faces", "mels"]).to_pylist()
        for n, row in enumerate(light):
            yield row, faces_of(table, n), mels_of(table, n)


def _file_names(ids: Sequence[str], dots: bool = True) -> dict[str, str]:
    """Id -> name of its file; a slash, and without `dots` a dot, becomes _. Raises DataError where two become one."""
    names = {one: one.replace("/", "_") if dots else one.replace("/", "_").replace(".", "_") for one in ids}
    if len(set(names.values())) < len(names):
        twice = sorted(one for one in ids if list(names.values()).count(names[one]) > 1)
        raise DataError(f"ids {', '.join(twice[:10])} would have files of one name")
    return names


def _about(dataset: Dataset) -> dict[str, str]:
    """Title, page, licence and cite of the corpus; empty for data that was made up, which has no corpus."""
    if dataset.corpus not in corpora.names():
        return {}
    return UNKNOWN | {"title": dataset.corpus} | getattr(corpora.load(dataset.corpus), "ABOUT", {})


def _card(dataset: Dataset, to: str, about: dict[str, str], remarks: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("mesm_data.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("export.md").render(
        dataset=dataset, to=to, about=about, title=about.get("title", dataset.corpus), paper=CITATION, **remarks
    )
