"""Writing synthetic datasets: `write_samples`, and the best accuracy that a model can reach on them."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data import files
from mesm_data.clip import Clip, Recipe
from mesm_data.dataset import schema, writer
from mesm_data.files import new_folder
from mesm_data.splits.split import Splits
from mesm_data.utterance import Source, Utterance, write_utterances

MODALITIES = ("TAV", "TA", "TV", "AV", "T", "A", "V")
TRAIN = 2000  # utterances
SHARD_ROWS = 1000

# Settings that suit these pictures: `mesm` takes them where the user says nothing, and says so. The paper's sizes would
# learn the same signal a hundred times slower.
SUGGESTED = {
    "text_encoder": "tiny",
    "width": 8,
    "hidden": 64,
    "embed_dim": 32,
    "layers": 1,
    "feed_forward": 64,
    "dropout": 0.0,
    "lr": 1e-3,
    "text_lr_scale": 1.0,
    "batch": 16,
    "epochs": 8,
    "lr_schedule": "cosine",
    "top_p_anneal": 0.5,
    "grad_clip_norm": 1.0,
}


def sizes(train: int = TRAIN) -> dict[str, int]:
    """Utterances of each part when so many are to train on."""
    return {"train": train, "valid": max(1, train // 4), "test": max(1, train // 2)}


class BayesOptimal(NamedTuple):
    """The best that can be had on average."""

    accuracy: float
    auc: float | None = None  # where it is known


@dataclass(frozen=True)
class Sample:
    """What one utterance shows."""

    labels: tuple[int, ...]
    text: str
    faces: np.ndarray  # uint8 [V, 48, 48, 3]
    mels: np.ndarray  # float16 [A, 128, 32]
    place: dict[str, tuple[int, int, int, int]] | None = None  # "v", "a" -> left, top, right, bottom


EMOTIONS = ("anger", "happiness", "sadness", "surprise")


def describe(bayes_optimal: Mapping[str, BayesOptimal]) -> str:
    """The bayes_optimal as a table, percent."""
    rows = [f"{'best reachable':<16}{'accuracy':>9}{'AUC':>7}"]
    for name, best in bayes_optimal.items():
        auc = "-" if best.auc is None else f"{100 * best.auc:.1f}"
        rows.append(f"{name:<16}{100 * best.accuracy:>9.1f}{auc:>7}")
    return "\n".join(rows)


def write_samples(
    out: Path,
    corpus: str,
    emotions: Sequence[str],
    parts: Mapping[str, int],
    settings: dict[str, Any],
    sample: Callable[[np.random.Generator], Sample],
    bayes_optimal: Mapping[str, BayesOptimal],
    suggested: Mapping[str, Any] = SUGGESTED,
) -> None:
    """Shards, notes and index as `mesm-data build` leaves them, and what is known of the signal.

    Raises DataError where `out` holds something.
    """
    with new_folder(out) as folder:
        (folder / "shards").mkdir()
        recipe = Recipe()
        split = Splits(
            f"made:{settings['seed']}",
            {part: tuple(f"{corpus}-{part}-{n:05d}" for n in range(size)) for part, size in parts.items()},
        )
        metadata = {
            "schema_version": schema.SCHEMA_VERSION,
            "corpus": corpus,
            "emotions": list(emotions),
            "recipe": asdict(recipe) | {"face_thresholds": list(recipe.face_thresholds)},
            "recipe_digest": recipe.digest,
            "reader": settings,
            "raw": None,
            "split": split.scheme,
            "split_digest": split.digest,
            "tools": {name: version(name) for name in ("mesm", "numpy", "pyarrow")},
        }
        listed: list[dict[str, Any]] = []
        hashes, light, utterances, places = [], [], [], []
        for name, rows, samples in _pieces(corpus, split, settings["seed"], sample):
            table = schema.to_table(rows)
            hashes += schema.content_hashes(table)
            light += table.select(["id", "split", "labels"]).to_pylist()
            writer.write_table(folder / name, table, metadata | {"shard": name})
            listed.append({"name": name, "split": rows[0].split, "rows": len(rows)})
            utterances += [row.utterance for row in rows]
            places += [{"id": row.utterance.id} | s.place for row, s in zip(rows, samples, strict=True) if s.place]
        names = [shard["name"] for shard in listed] + ["issues.jsonl", "utterances.jsonl", "bayes_optimal.json"]
        files.write_text(folder / "issues.jsonl", "")
        write_utterances(folder / "utterances.jsonl", utterances)
        files.write_text(folder / "bayes_optimal.json", _json({name: c._asdict() for name, c in bayes_optimal.items()}))
        if places:
            names.append("places.jsonl")
            files.write_text(folder / "places.jsonl", "".join(json.dumps(place) + "\n" for place in places))
        index = metadata | {
            "suggested": dict(suggested),
            "shards": listed,
            "files": {n: {"bytes": (folder / n).stat().st_size, "sha256": files.sha256_of(folder / n)} for n in names},
            "content": schema.overall_hash(hashes),
            "counts": schema.count_rows(light, emotions),
            "issues": {},
            "faces": 0,  # nobody looked for faces here
            "faces_found": 0,
        }
        files.write_text(folder / "index.json", _json(index))


def _pieces(
    corpus: str, split: Splits, seed: int, sample: Callable[[np.random.Generator], Sample]
) -> Iterator[tuple[str, list[schema.Row], list[Sample]]]:
    """Name, rows and samples of each shard."""
    for number, (part, ids) in enumerate(split.ids.items()):
        count = -(-len(ids) // SHARD_ROWS)
        for k in range(count):
            chosen = range(k * SHARD_ROWS, min((k + 1) * SHARD_ROWS, len(ids)))
            samples = [sample(np.random.default_rng([seed, number, n])) for n in chosen]
            rows = [_row(corpus, part, ids[n], s) for n, s in zip(chosen, samples, strict=True)]
            yield f"shards/{part}-{k:05d}-of-{count:05d}.parquet", rows, samples


def _row(corpus: str, part: str, name: str, sample: Sample) -> schema.Row:
    """Faces every 0.5 s and chunks of 0.4 s: n of each fit an utterance of 0.4 n seconds, for the few that are made."""
    count = len(sample.faces)
    recipe = Recipe()
    seconds = len(sample.mels) * recipe.chunk * recipe.hop
    clip = Clip(
        utterance=name,
        faces=sample.faces,
        face_times=(recipe.step * np.arange(count)).astype(np.float32),
        face_boxes=np.zeros((count, 4), np.float32),
        face_scores=np.zeros(count, np.float32),
        face_landmarks=np.zeros((count, 5, 2), np.float32),
        face_found=np.zeros(count, bool),
        mels=sample.mels,
        sample_rate=recipe.sample_rate,
        quality=(),
    )
    utterance = Utterance(name, Source("made up"), 0.0, seconds, sample.text, sample.labels, (), "nobody", name)
    return schema.Row(corpus, part, utterance, clip)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def normal_cdf(x: float) -> float:
    """Distribution function of the standard normal distribution."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def to_pixels(faces: np.ndarray) -> np.ndarray:
    return faces.round().clip(0, 255).astype(np.uint8)


def plain_mels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise that falls towards the high mels, as natural log of power, float64 [A, 128, 32]."""
    return -8 + 3 * np.linspace(1, -1, 128)[:, None] + 2 * rng.standard_normal((count, 128, 32))


def plain_faces(count: int, rng: np.random.Generator) -> np.ndarray:
    """A bright oval in noise, float64 [V, 48, 48, 3], 0..255."""
    y, x = np.linspace(-1, 1, 48)[:, None], np.linspace(-1, 1, 48)[None, :]
    oval = 100 + 50 * rng.uniform(0.6, 1.4) * np.exp(-((y / 0.85) ** 2) - (x / 0.7) ** 2)
    return oval[:, :, None] + 8 * rng.standard_normal((count, 48, 48, 3))
