"""Making fixed features: `make_features` computes or imports a set for each modality, shard by shard, and can go on.

What is computed needs no other program: `hash`, `svd` and `glove` of words, `bark_mfcc` of sound, `face_geometry_pca` of faces. What
is imported is somebody else's (feature_tables.py). The folder is described in features.py.

S rows (words, steps of sound, faces) of one utterance.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mesm_data import files as files_module
from mesm_data.clip import Clip
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import exclusive, has_other_files
from mesm_data.utterance import Utterance
from mesm_model.features import word_vectors
from mesm_model.features.descriptors import (
    BARK_MFCC,
    FACE_GEOMETRY_PCA,
    FaceFit,
    FaceMoments,
    bark_mfcc,
    face_geometry_pca,
)
from mesm_model.features.external import Table, read_disvoice, read_openface, read_opensmile, read_pickled
from mesm_model.features.store import INDEX, MODALITIES, PLAN, features_info, place, read_light, read_rows, write_rows

COMPUTED = {"t": ("hash", "svd", "glove"), "a": ("bark_mfcc",), "v": ("face_geometry_pca",)}
IMPORTED = {"t": ("pickle",), "a": ("disvoice", "opensmile", "pickle"), "v": ("openface", "pickle")}
DEFAULTS = {"t": "hash", "a": "bark_mfcc", "v": "face_geometry_pca"}


# What is read of a shard: always, and for the sets that are computed from more than words.
LIGHT = ("id", "text", "start", "end", "group")
NEEDED = {
    "bark_mfcc": ("mels", "sample_rate"),
    "face_geometry_pca": ("faces", "face_boxes", "face_scores", "face_landmarks", "face_found"),
}


@dataclass(frozen=True)
class FeatureSpec:
    """What to take for one modality: a name of COMPUTED or IMPORTED and, where it comes from a file, its path."""

    name: str
    path: Path | None = None

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name}:{self.path}"


@dataclass(frozen=True)
class Extractor:
    """How the rows of one modality come about: float32 [S, size]; None where an imported set lacks the utterance."""

    name: str
    size: int
    what: str  # in words
    rows: Callable[[Utterance, Clip], np.ndarray | None]
    warnings: tuple[str, ...] = ()


def read_feature_spec(modality: str, text: str) -> FeatureSpec:
    """`bark_mfcc`, or `openface:FOLDER`. Raises DataError for what there is not."""
    name, _, path = text.partition(":")
    known = (*COMPUTED[modality], *IMPORTED[modality])
    takes_file = name == "glove" or name in IMPORTED[modality]
    where = f"{MODALITIES[modality]} {text!r}"
    if name not in known:
        raise DataError(f"{where}: expected one of {', '.join(known)}")
    if takes_file != bool(path):
        raise DataError(
            f"{where}: expected {name}:PATH" if takes_file else f"{where}: {name} is computed, from no file"
        )
    if path and not Path(path).exists():
        raise DataError(f"{where}: {path} not found")
    return FeatureSpec(name, Path(path).resolve() if path else None)


def make_features(
    dataset: Dataset, out: Path, wanted: Mapping[str, FeatureSpec], quiet: bool = False
) -> dict[str, Any]:
    """Write the features of every utterance into `out`, or go on where that was stopped; what features.json says.

    Raises DataError where `out` holds other features, and for imported files that do not read.
    """
    _begun(out)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, "makes features"):
        _begin(dataset, out, wanted)
        if not (out / INDEX).is_file():
            _finish(dataset, out, {m: _make_set(dataset, out, m, wanted[m], quiet) for m in MODALITIES})
    return json.loads((out / INDEX).read_text(encoding="utf-8"))


def extractors(dataset: Dataset, modalities: str = "tav") -> dict[str, Extractor]:
    """What the features_info features were made by, to make those of other clips; imported sets know the dataset's only."""
    about = features_info(dataset)
    assert about is not None
    folder = Path(about["folder"])
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    return {
        modality: _open(dataset, folder, modality, FeatureSpec(one["name"], Path(one["path"]) if one["path"] else None))
        for modality, one in plan["sets"].items()
        if modality in modalities
    }


# ---- making


def _begun(out: Path) -> dict[str, Any] | None:
    """The plan of the features in a folder, None for an empty one. Raises DataError for a folder of something else."""
    path = out / PLAN
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        found = {}
    if has_other_files(out, f"{PLAN}.tmp") and (found is None or set(found) != {"content", "sets"}):
        raise DataError(f"{out}: not empty and no features of this program; give another --out")
    return found


def _begin(dataset: Dataset, out: Path, wanted: Mapping[str, FeatureSpec]) -> None:
    """Write plan.json, or hold it against what is there. Sets of which nothing is made yet give way."""
    sets = {m: {"name": one.name, "path": str(one.path) if one.path else None} for m, one in wanted.items()}
    plan, found = {"content": dataset.index["content"], "sets": sets}, _begun(out)
    if found == plan:
        return
    if found is not None:
        other = found["content"] != plan["content"]
        changed = [out / place(m, one["name"]) for m, one in found["sets"].items() if other or one != sets[m]]
        made = {m: one for m, one in found["sets"].items() if any((out / place(m, one["name"])).glob("*.parquet"))}
        if any(out / place(m, one["name"]) in changed for m, one in made.items()):
            found["sets"], plan["sets"] = made, {m: sets[m] for m in made}
            raise DataError(f"{out / PLAN}: {_difference(found, plan, dataset)}; give another --out, or delete {out}")
        for folder in changed:
            shutil.rmtree(folder, ignore_errors=True)
    files_module.write_text(out / PLAN, _json(plan))


def _difference(found: Mapping[str, Any], plan: Mapping[str, Any], dataset: Dataset) -> str:
    if found["content"] != plan["content"]:
        there, here = found["content"][:12], plan["content"][:12]
        return f"features of another dataset (content {there}, {dataset.folder} has {here})"
    there, here = (
        ", ".join(f"{MODALITIES[m]} {FeatureSpec(**one)}" for m, one in x["sets"].items() if one != other["sets"][m])
        for x, other in ((found, plan), (plan, found))
    )
    return f"the folder has {there}, now asked for {here}"


def _make_set(dataset: Dataset, out: Path, modality: str, wanted: FeatureSpec, quiet: bool) -> dict[str, Any]:
    """Write the rows of one modality for each shard; what features.json tells of them."""
    maker = _open(dataset, out, modality, wanted)
    for warning in maker.warnings:
        tqdm.write(f"warning: {warning}", file=sys.stderr)
    folder = out / place(modality, maker.name)
    folder.mkdir(exist_ok=True)
    total = sum(shard["rows"] for shard in dataset.index["shards"])
    name = f"{MODALITIES[modality]} {maker.name}"
    with tqdm(total=total, desc=name, unit=" utterances", disable=quiet or None, leave=False) as bar:
        for shard in dataset.index["shards"]:
            path = folder / Path(shard["name"]).name
            if not path.is_file():
                _write_shard(path, replace(dataset, index=dataset.index | {"shards": [shard]}), maker)
            bar.update(shard["rows"])
    if wanted.path and wanted.name != "glove" and not _names_any(folder):
        shutil.rmtree(folder)
        known = next(dataset.rows(["id"]))["id"]
        raise DataError(f"{wanted.path}: has rows of none of the utterances; expected some named such as {known}")
    return {"name": maker.name, "size": maker.size, "what": maker.what, "warnings": list(maker.warnings)}


def _names_any(folder: Path) -> bool:
    """True where an imported set has an utterance of the dataset."""
    return any(not row["missing"] for path in folder.glob("*.parquet") for row in read_light(path))


def _write_shard(path: Path, shard: Dataset, maker: Extractor) -> None:
    """`shard` is the dataset with this shard only."""
    ids, rows = [], []
    for utterance, clip in shard.clips(columns=(*LIGHT, *NEEDED.get(maker.name, ()))):
        ids.append(utterance.id)
        rows.append(maker.rows(utterance, clip))
    write_rows(path, ids, rows, maker.size, {"set": maker.name, "content": shard.index["content"]})


def _finish(dataset: Dataset, out: Path, sets: dict[str, dict[str, Any]]) -> None:
    """Count, take the statistics of the training part, and write features.json."""
    digest, files = hashlib.sha256(), {}
    for modality, one in sets.items():
        folder = out / place(modality, one["name"])
        paths = {folder / Path(shard["name"]).name: shard["split"] for shard in dataset.index["shards"]}
        training = read_rows([path for path, part in paths.items() if part == "train"], one["size"])
        one["mean"], one["deviation"] = _statistics(training.rows)
        one["rows"], one["missing"], one["replaced"] = 0, 0, 0
        for path in paths:
            rows, light = read_rows([path], one["size"]), read_light(path)
            one["rows"] += len(rows.rows)
            one["missing"] += sum(row["missing"] for row in light)
            one["replaced"] += sum(row["replaced"] for row in light)
            digest.update(_json([one["name"], [row["id"] for row in light], rows.starts.tolist()]).encode())
            digest.update(rows.rows.tobytes())
            files[f"{folder.name}/{path.name}"] = files_module.sha256_of(path)
    index = {
        "content": dataset.index["content"],
        "digest": digest.hexdigest(),
        "sets": sets,
        "emotions": None,  # their vectors, where there is a GloVe file
        "files": files,
    }
    words = out / place("t", sets["t"]["name"]) / "words.txt"
    if words.is_file():
        table, _ = word_vectors.read_table(words)
        sets["t"]["coverage"] = word_vectors.coverage((row["text"] for row in dataset.rows(["text"])), table)
        if sets["t"]["name"] == "glove":
            index["emotions"] = _emotion_vectors(dataset, table)
    files_module.write_text(out / INDEX, _json(index))


def _statistics(rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and deviation of each column; a column that never changes has a deviation of 1."""
    if not len(rows):
        return [0.0] * rows.shape[1], [1.0] * rows.shape[1]
    mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    return mean.tolist(), np.where(deviation > 1e-6, deviation, 1.0).tolist()


def _emotion_vectors(dataset: Dataset, table: word_vectors.Table) -> list[list[float]] | None:
    """The vector of each emotion's name; None where one has none."""
    missing = [emotion for emotion in dataset.emotions if emotion not in table]
    return None if missing else [table[emotion].tolist() for emotion in dataset.emotions]


# ---- extractors


def _open(dataset: Dataset, out: Path, modality: str, wanted: FeatureSpec) -> Extractor:
    """Fits or cuts down first what is not there yet."""
    if wanted.name in IMPORTED[modality]:
        return _imported(modality, wanted)
    folder = out / place(modality, wanted.name)
    folder.mkdir(exist_ok=True)
    if modality == "t":
        return _words(dataset, folder / "words.txt", wanted)
    return _sound(dataset) if modality == "a" else _faces(dataset, folder / "faces.npz")


def _imported(modality: str, wanted: FeatureSpec) -> Extractor:
    assert wanted.path is not None
    readers: dict[str, Callable[[Path], Table]] = {
        "openface": read_openface,
        "opensmile": read_opensmile,
        "disvoice": read_disvoice,
        "pickle": lambda path: read_pickled(path, modality),
    }
    table = readers[wanted.name](wanted.path)
    return Extractor(wanted.name, table.size, table.what, lambda utterance, _: table.find(utterance), table.warnings)


def _words(dataset: Dataset, path: Path, wanted: FeatureSpec) -> Extractor:
    if not path.is_file():
        word_vectors.write_table(path, _word_table(dataset, wanted))
    table, size = word_vectors.read_table(path)
    what = {
        "hash": "vectors that follow from a word's letters, no GloVe",
        "svd": "vectors from the company that words keep in the training part, no GloVe",
        "glove": f"vectors of {wanted.path.name if wanted.path else 'GloVe'}",
    }[wanted.name]
    return Extractor(wanted.name, size, what, lambda utterance, _: word_vectors.rows(utterance.text, table, size))


def _word_table(dataset: Dataset, wanted: FeatureSpec) -> word_vectors.Table:
    part = "train" if wanted.name == "svd" else None
    texts = [row["text"] for row in dataset.rows(["text"], part)]
    if wanted.name == "svd":
        table = word_vectors.factorised(texts)
    elif wanted.name == "hash":
        table = word_vectors.hashed(word_vectors.vocabulary(texts))
    else:
        assert wanted.path is not None
        table, _ = word_vectors.read_table(wanted.path, {*word_vectors.vocabulary(texts), *dataset.emotions})
    if not table:
        raise DataError(f"{dataset.folder}: {wanted} has a vector for none of its words; take another --text")
    return table


def _sound(dataset: Dataset) -> Extractor:
    recipe = dataset.recipe

    def rows(utterance: Utterance, clip: Clip) -> np.ndarray:
        return bark_mfcc(clip.mels, utterance.end - utterance.start, clip.sample_rate, recipe)

    return Extractor("bark_mfcc", BARK_MFCC, "22 Bark-band energies and 12 MFCC, 20 a second", rows)


def _faces(dataset: Dataset, path: Path) -> Extractor:
    if not path.is_file():
        _write_fit(dataset, path)
    with np.load(path) as stored:
        fit = FaceFit(stored["mean"], stored["components"])

    def rows(_: Utterance, clip: Clip) -> np.ndarray:
        shape = (clip.face_boxes, clip.face_scores, clip.face_landmarks, clip.face_found)
        return face_geometry_pca(clip.faces, *shape, fit)

    return Extractor(
        "face_geometry_pca", FACE_GEOMETRY_PCA, "5 landmarks, box, confidence and 20 components of the 48x48 face", rows
    )


def _write_fit(dataset: Dataset, path: Path) -> None:
    """Fit on the faces of the training part that were found; on all its pictures where none was."""
    found, every = FaceMoments(), FaceMoments()
    for _, clip in dataset.clips("train", ("faces", "face_found")):
        found.add(clip.faces[clip.face_found])
        if not found.count:
            every.add(clip.faces)
    fit = (found if found.count else every).fit()
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, mean=fit.mean, components=fit.components)
    files_module.commit_file(temporary, path)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
