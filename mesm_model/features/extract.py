"""Making fixed features: `make_features` computes or imports a set for each modality, shard by shard, and can resume.

Computed here, without another program: `hash` and `glove` of words, `bark_mfcc` of audio, `face_geometry_pca` of faces.
Imported sets are read by external.py. The folder is described in store.py.

S rows (words, steps of audio, faces) of one utterance.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from mesm_data.clip import Clip
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import Plan, claim_folder, commit_file, sha256_of
from mesm_data.state import read_state
from mesm_data.utterance import Utterance
from mesm_model.features import word_vectors
from mesm_model.features.descriptors import (
    BARK_MFCC,
    COMPONENTS,
    FACE_GEOMETRY_PCA,
    PIXELS,
    FaceFit,
    FaceMoments,
    bark_mfcc,
    face_geometry_pca,
)
from mesm_model.features.external import Table, read_disvoice, read_openface, read_opensmile, read_pickled
from mesm_model.features.store import (
    FORMAT,
    INDEX,
    MODALITIES,
    PLAN,
    PLAN_SHAPE,
    check_file,
    features_info,
    place,
    read_index,
    read_light,
    read_rows,
    write_index,
    write_rows,
)

COMPUTED = {"t": ("hash", "glove"), "a": ("bark_mfcc",), "v": ("face_geometry_pca",)}
IMPORTED = {"t": ("pickle",), "a": ("disvoice", "opensmile", "pickle"), "v": ("openface", "pickle")}
DEFAULTS = {"t": "hash", "a": "bark_mfcc", "v": "face_geometry_pca"}


# Columns read of a shard: always, and for what is computed from more than words.
LIGHT = ("id", "text", "start", "end", "group")
NEEDED = {
    "bark_mfcc": ("mels", "sample_rate"),
    "face_geometry_pca": ("faces", "face_boxes", "face_scores", "face_landmarks", "face_found"),
}
BROKEN = (BadZipFile, EOFError, KeyError, OSError, ValueError)  # what numpy raises for a damaged file


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one modality: a name of COMPUTED or IMPORTED and, where they come from a file, its path."""

    name: str
    path: Path | None = None

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name}:{self.path}"


@dataclass(frozen=True)
class Extractor:
    """What makes the rows of one modality, float32 [S, size]; None where an imported set lacks the utterance."""

    name: str
    size: int
    what: str  # in words
    rows: Callable[[Utterance, Clip], np.ndarray | None]
    warnings: tuple[str, ...] = ()


def read_feature_spec(modality: str, text: str) -> FeatureSpec:
    """Parse `bark_mfcc` or `openface:FOLDER`. Raises DataError for an unknown name and a missing file."""
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
    """Write the features of every utterance into `out`, or resume where that was stopped; the content of features.json.

    `wanted` has a FeatureSpec for each of t, a and v. Raises DataError where `out` holds other features, and for
    imported files that do not read.
    """
    with claim_folder(out, _plan(dataset, out, wanted)):
        if not (out / INDEX).is_file():
            _finish(dataset, out, {m: _make_set(dataset, out, m, wanted[m], quiet) for m in MODALITIES})
    return read_index(out)


def extractors(dataset: Dataset, modalities: str = "tav") -> dict[str, Extractor]:
    """What made the attached features, to extract those of other clips. An imported set knows the dataset's clips only.

    Raises DataError where a file that was fitted then has changed since.
    """
    about = features_info(dataset)
    assert about is not None
    folder = Path(about["folder"])
    plan = read_state(folder / PLAN, PLAN_SHAPE, f"delete the folder {folder} and make the features again")
    for name, digest in about["files"].items():
        if not name.endswith(".parquet"):
            check_file(folder / name, digest)
    return {
        modality: _open(dataset, folder, modality, FeatureSpec(one["name"], Path(one["path"]) if one["path"] else None))
        for modality, one in plan["sets"].items()
        if modality in modalities
    }


# ---- making


def _plan(dataset: Dataset, out: Path, wanted: Mapping[str, FeatureSpec]) -> Plan:
    """What plan.json records. A set of which nothing is made yet may be replaced by another."""
    sets = {m: {"name": one.name, "path": str(one.path) if one.path else None} for m, one in wanted.items()}

    def differs(found: Mapping[str, Any], content: Mapping[str, Any]) -> str | None:
        made = {m: one for m, one in found["sets"].items() if _has_files(out / place(m, one["name"]))}
        if made and found["content"] != content["content"]:
            there, here = found["content"][:12], content["content"][:12]
            return f"of another dataset (content {there}, {dataset.folder} has {here})"
        changed = [m for m, one in made.items() if one != sets[m]]
        there, here = (
            ", ".join(f"{MODALITIES[m]} {FeatureSpec(**side[m])}" for m in changed) for side in (found["sets"], sets)
        )
        return f"with {there}, now asked for with {here}" if changed else None

    content = {"format": FORMAT, "content": dataset.index["content"], "sets": sets}
    return Plan(PLAN, content, "set of features", "makes features", PLAN_SHAPE, differs)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix != ".tmp" for path in folder.iterdir())


def _make_set(dataset: Dataset, out: Path, modality: str, wanted: FeatureSpec, quiet: bool) -> dict[str, Any]:
    """Write the rows of one modality for each shard; what features.json says of them."""
    extractor = _open(dataset, out, modality, wanted)
    for warning in extractor.warnings:
        tqdm.write(f"warning: {warning}", file=sys.stderr)
    folder = out / place(modality, extractor.name)
    folder.mkdir(exist_ok=True)
    total = sum(shard["rows"] for shard in dataset.index["shards"])
    name = f"{MODALITIES[modality]} {extractor.name}"
    with tqdm(total=total, desc=name, unit=" utterances", disable=quiet or None, leave=False) as bar:
        for shard in dataset.index["shards"]:
            path = folder / Path(shard["name"]).name
            if not path.is_file():
                _write_shard(path, replace(dataset, index=dataset.index | {"shards": [shard]}), extractor)
            bar.update(shard["rows"])
    if wanted.path and wanted.name != "glove" and not _names_any(folder):
        shutil.rmtree(folder)
        known = next(dataset.rows(["id"]))["id"]
        raise DataError(f"{wanted.path}: has rows of none of the utterances; expected some named such as {known}")
    warnings = list(extractor.warnings)
    return {"name": extractor.name, "size": extractor.size, "what": extractor.what, "warnings": warnings}


def _names_any(folder: Path) -> bool:
    """True where an imported set has an utterance of the dataset."""
    return any(not row["missing"] for path in folder.glob("*.parquet") for row in read_light(path))


def _write_shard(path: Path, shard: Dataset, extractor: Extractor) -> None:
    """`shard` is the dataset with this shard only."""
    ids, rows = [], []
    for utterance, clip in shard.clips(columns=(*LIGHT, *NEEDED.get(extractor.name, ()))):
        ids.append(utterance.id)
        rows.append(extractor.rows(utterance, clip))
    write_rows(path, ids, rows, extractor.size, {"set": extractor.name, "content": shard.index["content"]})


def _finish(dataset: Dataset, out: Path, sets: dict[str, dict[str, Any]]) -> None:
    """Count the rows, compute the statistics of train, and write features.json."""
    digest, files = hashlib.sha256(), {}
    for modality, one in sets.items():
        folder = out / place(modality, one["name"])
        _count(dataset, folder, one, digest)
        for path in sorted(folder.iterdir()):
            if path.suffix != ".tmp":
                files[f"{folder.name}/{path.name}"] = sha256_of(path)
    words = out / place("t", sets["t"]["name"]) / "words.txt"
    emotions = None  # their vectors, where there is a GloVe file
    if words.is_file():
        table, _ = word_vectors.read_table(words)
        sets["t"]["coverage"] = word_vectors.coverage((row["text"] for row in dataset.rows(["text"])), table)
        emotions = _emotion_vectors(dataset, table) if sets["t"]["name"] == "glove" else None
    content = {"format": FORMAT, "content": dataset.index["content"], "digest": digest.hexdigest()}
    write_index(out, content | {"sets": sets, "emotions": emotions, "files": files})


def _count(dataset: Dataset, folder: Path, one: dict[str, Any], digest: "hashlib._Hash") -> None:
    """Add to what features.json says of one set: its statistics and counts; and to the digest of all values."""
    paths = {folder / Path(shard["name"]).name: shard["split"] for shard in dataset.index["shards"]}
    training = read_rows([path for path, split in paths.items() if split == "train"], one["size"])
    one["mean"], one["deviation"] = _statistics(training.rows)
    one["rows"], one["missing"], one["replaced"] = 0, 0, 0
    for path in paths:
        rows, light = read_rows([path], one["size"]), read_light(path)
        one["rows"] += len(rows.rows)
        one["missing"] += sum(row["missing"] for row in light)
        one["replaced"] += sum(row["replaced"] for row in light)
        named = [one["name"], [row["id"] for row in light], rows.starts.tolist()]
        digest.update(json.dumps(named, ensure_ascii=False).encode())
        digest.update(rows.rows.tobytes())


def _statistics(rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column; 1 for a column that never changes."""
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
    """The extractor of a set; writes what it is fitted on or cut down to first, if that is not there yet."""
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
    of_file = f"vectors of {wanted.path.name if wanted.path else 'GloVe'}"
    what = "vectors from the letters of words, no GloVe" if wanted.name == "hash" else of_file
    return Extractor(wanted.name, size, what, lambda utterance, _: word_vectors.rows(utterance.text, table, size))


def _word_table(dataset: Dataset, wanted: FeatureSpec) -> word_vectors.Table:
    vocabulary = word_vectors.vocabulary(row["text"] for row in dataset.rows(["text"]))
    if wanted.path is None:
        table = word_vectors.hashed(vocabulary)
    else:
        table, _ = word_vectors.read_table(wanted.path, {*vocabulary, *dataset.emotions})
    if not table:
        raise DataError(f"{dataset.folder}: {wanted} has a vector for none of its words; take another --text")
    return table


def _sound(dataset: Dataset) -> Extractor:
    recipe = dataset.recipe

    def rows(utterance: Utterance, clip: Clip) -> np.ndarray:
        return bark_mfcc(clip.mels, utterance.end - utterance.start, clip.sample_rate, recipe)

    return Extractor("bark_mfcc", BARK_MFCC, "22 Bark-band energies and 12 MFCC, 20 per second", rows)


def _faces(dataset: Dataset, path: Path) -> Extractor:
    if not path.is_file():
        _write_fit(dataset, path)
    fit = _read_fit(path)

    def rows(_: Utterance, clip: Clip) -> np.ndarray:
        shape = (clip.face_boxes, clip.face_scores, clip.face_landmarks, clip.face_found)
        return face_geometry_pca(clip.faces, *shape, fit)

    what = "5 landmarks, box, confidence and 20 principal components of the 48x48 face"
    return Extractor("face_geometry_pca", FACE_GEOMETRY_PCA, what, rows)


def _read_fit(path: Path) -> FaceFit:
    try:
        with np.load(path) as stored:
            fit = FaceFit(stored["mean"], stored["components"])
        shapes = [(array.dtype, array.shape) for array in (fit.mean, fit.components)]
        expected = [(np.dtype(np.float32), (PIXELS,)), (np.dtype(np.float32), (COMPONENTS, PIXELS))]
        if shapes != expected or not (np.isfinite(fit.mean).all() and np.isfinite(fit.components).all()):
            raise ValueError("other arrays than those of a fit")
    except BROKEN as error:
        raise DataError(
            f"{path}: damaged ({error}); delete the folder {path.parent} and run the same `mesm features` again"
        ) from None
    return fit


def _write_fit(dataset: Dataset, path: Path) -> None:
    """Fit on the faces of train that were found; on all its frames where none was."""
    found, every = FaceMoments(), FaceMoments()
    for _, clip in dataset.clips("train", ("faces", "face_found")):
        found.add(clip.faces[clip.face_found])
        if not found.count:
            every.add(clip.faces)
    fit = (found if found.count else every).fit()
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, mean=fit.mean, components=fit.components)
    commit_file(temporary, path)
