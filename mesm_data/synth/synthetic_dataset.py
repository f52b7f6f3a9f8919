"""`write_samples`: a synthetic dataset with a known signal, and the best accuracy that any model can reach on it."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data import files
from mesm_data.clip import Clip, Recipe
from mesm_data.dataset import schema, writer
from mesm_data.files import new_folder
from mesm_data.splits.split import Splits
from mesm_data.utterance import Source, Utterance

BAYES, PLACES = "bayes_optimal.json", "places.jsonl"
MODALITIES = ("TAV", "TA", "TV", "AV", "T", "A", "V")
TRAIN = 2000  # utterances
SHARD_ROWS = 1000

# Settings that suit this data: `mesm` uses them unless the user gives others, and reports it. A model of the paper's
# sizes would learn the same signal a hundred times slower.
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


def default_sizes(train: int = TRAIN) -> dict[str, int]:
    """Utterances of each split for a training split of this size: a quarter as many in valid, half as many in test."""
    return {"train": train, "valid": max(1, train // 4), "test": max(1, train // 2)}


class BayesOptimal(NamedTuple):
    """The expected accuracy and AUC of the best possible decision, both in 0..1."""

    accuracy: float
    auc: float | None = None  # where it is known


@dataclass(frozen=True)
class Sample:
    """One utterance as it is drawn."""

    labels: tuple[int, ...]
    text: str
    faces: np.ndarray  # uint8 [V, 48, 48, 3]
    mels: np.ndarray  # float16 [A, 128, 32]
    place: dict[str, tuple[int, int, int, int]] | None = None  # "v", "a" -> left, top, right, bottom


EMOTIONS = ("anger", "happiness", "sadness", "surprise")


def describe(bayes_optimal: Mapping[str, BayesOptimal]) -> str:
    """Bayes-optimal accuracy and AUC by set of modalities, as a table in percent."""
    rows = [f"{'best reachable':<16}{'accuracy':>9}{'AUC':>7}"]
    for name, best in bayes_optimal.items():
        auc = "-" if best.auc is None else f"{100 * best.auc:.1f}"
        rows.append(f"{name:<16}{100 * best.accuracy:>9.1f}{auc:>7}")
    return "\n".join(rows)


def write_samples(
    out: Path,
    corpus: str,
    emotions: Sequence[str],
    sizes: Mapping[str, int],
    settings: Mapping[str, Any],
    sample: Callable[[np.random.Generator], Sample],
    bayes_optimal: Mapping[str, BayesOptimal],
    suggested: Mapping[str, Any] = SUGGESTED,
) -> None:
    """Write a dataset as `mesm-data build` does, and beside it what is known of its signal.

    `sizes` are the utterances of each split; `settings`, with a "seed", are recorded in index.json; `sample` draws one
    utterance, `bayes_optimal` is known of it, and `suggested` are settings that suit it. Raises DataError where `out`
    holds something.
    """
    ids = {split: tuple(f"{corpus}-{split}-{n:05d}" for n in range(size)) for split, size in sizes.items()}
    splits = Splits(f"synthetic:{settings['seed']}", ids)
    metadata = writer.describe(
        corpus,
        emotions,
        Recipe(),
        scheme=splits.scheme,
        split_digest=splits.digest,
        reader=settings,
        raw=None,
        tools=("mesm", "numpy", "pyarrow"),
        suggested=dict(suggested),
    )
    with new_folder(out) as folder:
        files.write_json(folder / BAYES, {name: best._asdict() for name, best in bayes_optimal.items()})
        drawn = _Drawn([], [], [BAYES])
        shards = _shards(folder, splits, settings["seed"], sample, corpus, drawn)
        writer.write_dataset(folder, metadata, shards, drawn.utterances, [], drawn.files)


class _Drawn(NamedTuple):
    """What is known once all shards are written."""

    utterances: list[Utterance]
    places: list[dict[str, Any]]
    files: list[str]


def _shards(
    folder: Path,
    splits: Splits,
    seed: int,
    sample: Callable[[np.random.Generator], Sample],
    corpus: str,
    drawn: _Drawn,
) -> Iterator[tuple[str, Any]]:
    """Name and rows of each shard; fills `drawn`, and writes places.jsonl at the end where there are places."""
    for number, (split, ids) in enumerate(splits.ids.items()):
        count = -(-len(ids) // SHARD_ROWS)
        for k in range(count):
            chosen = range(k * SHARD_ROWS, min((k + 1) * SHARD_ROWS, len(ids)))
            samples = [sample(np.random.default_rng([seed, number, n])) for n in chosen]
            rows = [_row(corpus, split, ids[n], s) for n, s in zip(chosen, samples, strict=True)]
            drawn.utterances.extend(row.utterance for row in rows)
            drawn.places.extend({"id": ids[n]} | s.place for n, s in zip(chosen, samples, strict=True) if s.place)
            yield writer.shard_name(split, k, count), schema.to_table(rows)
    if drawn.places:
        files.write_text(folder / PLACES, "".join(json.dumps(place) + "\n" for place in drawn.places))
        drawn.files.append(PLACES)


def _row(corpus: str, split: str, name: str, sample: Sample) -> schema.Row:
    """One row of a shard. Faces every 0.5 s and chunks of 0.4 s: one or two of each fit an utterance of 0.4 s each."""
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
    utterance = Utterance(name, Source("synthetic"), 0.0, seconds, sample.text, sample.labels, (), "nobody", name)
    return schema.Row(corpus, split, utterance, clip)


def normal_cdf(x: float) -> float:
    """Distribution function of the standard normal distribution."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def to_pixels(faces: np.ndarray) -> np.ndarray:
    """Rounded and clipped to uint8."""
    return faces.round().clip(0, 255).astype(np.uint8)


def plain_mels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise that falls off towards high frequencies, as natural log of power: float64 [A, 128, 32]."""
    return -8 + 3 * np.linspace(1, -1, 128)[:, None] + 2 * rng.standard_normal((count, 128, 32))


def plain_faces(count: int, rng: np.random.Generator) -> np.ndarray:
    """A bright oval in noise: float64 [V, 48, 48, 3], 0..255."""
    y, x = np.linspace(-1, 1, 48)[:, None], np.linspace(-1, 1, 48)[None, :]
    oval = 100 + 50 * rng.uniform(0.6, 1.4) * np.exp(-((y / 0.85) ** 2) - (x / 0.7) ** 2)
    return oval[:, :, None] + 8 * rng.standard_normal((count, 48, 48, 3))
