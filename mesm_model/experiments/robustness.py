"""How a trained model takes damage: faces blacked out, noise, words dropped, a whole modality missing.

    runs/mesm/robustness.csv    a line a seed and damage
    runs/mesm/robustness.svg    mean F1 and AUC against each damage

The thresholds are the frozen ones. What is damaged follows from the utterance's id, and a stronger damage contains the
weaker one. A two-phase model gets features that are made anew of the damaged clip; imported ones cannot be.
"""

import csv
import io
import statistics
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from mesm_data.clip import Clip, Recipe
from mesm_data.dataset.reader import Dataset
from mesm_data.files import commit_file, write_text
from mesm_data.utterance import Utterance
from mesm_model.batch import Example
from mesm_model.evaluation import metrics
from mesm_model.evaluation.evaluate import LoadedRun, open_run, probabilities_of
from mesm_model.evaluation.metrics import NAMES, Scores
from mesm_model.features import store
from mesm_model.features.descriptors import mel_filters
from mesm_model.features.extract import LIGHT, NEEDED, Extractor, extractors
from mesm_model.features.store import Ragged
from mesm_model.loader import Part
from mesm_model.models.common.text import tokenize
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import seeds_of, text_folder

LEVELS: dict[str, tuple[str, tuple[float, ...]]] = {  # kind -> the modality that it is done to, how much of it
    "faces blacked out": ("v", (0.25, 0.5, 0.75, 1.0)),  # share of the frames
    "noise": ("a", (20.0, 10.0, 0.0)),  # decibels by which the sound is louder
    "words dropped": ("t", (0.25, 0.5, 0.75)),  # share of the words
    "missing": ("", ()),  # each modality
}


@dataclass(frozen=True)
class Damage:
    """One kind and how much of it; for "missing" the modality says it all."""

    kind: str
    modality: str
    level: float = 0.0

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"no {store.MODALITIES[self.modality]}"
        return f"{self.kind}, {self.level:g} dB" if self.kind == "noise" else f"{self.kind}, {100 * self.level:g} %"


CLEAN = Damage("none", "")


@dataclass(frozen=True)
class Row:
    """What one seed of a run scores under one damage."""

    seed: str
    damage: Damage
    scores: Scores


def robustness(
    run: Path, dataset: Dataset, part: str, ranks: Distributed, cache: Path | None = None
) -> tuple[list[Row], list[Damage]]:
    """The scores of every seed of a run, undamaged first; and the damages that cannot be done to imported features."""
    rows: list[Row] = []
    skipped: list[Damage] = []
    for seed, folder in seeds_of(run).items():
        opened = open_run(folder, dataset, part, ranks, cache)
        skipped = [damage for damage in damages(opened.model.config.modalities) if not _can_do(opened, damage)]
        for damage in (CLEAN, *damages(opened.model.config.modalities)):
            if damage not in skipped:
                tried = opened if damage == CLEAN else replace(opened, part=damaged_part(opened, folder, damage))
                scores = metrics.score(
                    probabilities_of(tried, ranks), opened.part.labels, np.array(opened.checkpoint.thresholds)
                )
                rows.append(Row(seed, damage, scores))
    return rows, skipped


def damages(modalities: str) -> list[Damage]:
    """All that can be done to a model of these modalities."""
    found = [
        Damage(kind, modality, level)
        for kind, (modality, levels) in LEVELS.items()
        for level in levels
        if modality in modalities
    ]
    alone = len(modalities) == 1  # nothing would be left
    return found + [Damage("missing", modality) for modality in "tav" if modality in modalities and not alone]


def black_out(frames: int, share: float, name: str) -> np.ndarray:
    """Which frames of an utterance are blacked out, bool [V]."""
    chosen = np.zeros(frames, bool)
    chosen[_draw(name).permutation(frames)[: round(share * frames)]] = True
    return chosen


def drop_words(text: str, share: float, name: str) -> str:
    """The text without so many of its words, as they stand between spaces."""
    words = text.split()
    dropped = black_out(len(words), share, name)
    return " ".join(word for word, gone in zip(words, dropped, strict=True) if not gone)


def add_noise(mels: np.ndarray, decibels: float, name: str, sample_rate: int, recipe: Recipe) -> np.ndarray:
    """Log-mel chunks [A, mels, columns] of the same sound with white noise, so many decibels softer than it.

    Powers are added, as they are on average. The padding behind the sound stays as it is.
    """
    power = (np.exp(mels.astype(np.float64)) - recipe.log_floor).clip(min=0)
    heard = power.mean(1, keepdims=True) > recipe.log_floor / 20  # [A, 1, columns]; float16 rounds the floor by 1/300
    filters, _ = mel_filters(recipe, sample_rate)
    white = filters.sum(1)[:, None]  # [mels, 1]: what a band hears of it
    bins = np.maximum(white, 1)  # independent values in a band
    noise = white * _draw(name).gamma(np.broadcast_to(bins, power.shape)) / bins * heard
    louder = power.sum() / max(noise.sum(), 1e-12) / 10 ** (decibels / 10)
    return np.where(heard, np.log(power + louder * noise + recipe.log_floor), mels).astype(mels.dtype)


# ---- a damaged part


def damaged_part(opened: LoadedRun, folder: Path, damage: Damage) -> Any:
    """The part that the model is tried on, damaged."""
    part = opened.part
    if part.features is not None:
        rows = {damage.modality: _damaged_rows(opened, damage)}
        return replace(part, features={**part.features, **rows})
    if damage.modality == "t":
        texts = ["" if damage.kind == "missing" else _damaged_text(part, n, damage) for n in range(len(part))]
        return replace(part, tokens=tokenize(text_folder(opened.model, folder) or folder, texts))
    return _DamagedFrames(part, damage, _rates(opened.dataset, part.name), opened.dataset.recipe)


class _DamagedFrames:
    """A part whose faces or mel chunks are damaged as they are read."""

    def __init__(self, part: Part, damage: Damage, rates: Mapping[str, int], recipe: Recipe) -> None:
        self.part, self.damage, self.rates, self.recipe = part, damage, rates, recipe
        self.megabytes, self.labels, self.ids = part.megabytes, part.labels, part.ids

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, n: int) -> Example:
        example, damage = self.part[n], self.damage
        if damage.kind == "missing":
            name = {"v": "faces", "a": "mels"}[damage.modality]
            return replace(example, **{name: getattr(example, name)[:0]})
        if damage.modality == "v":
            faces = example.faces.clone()
            faces[torch.from_numpy(black_out(len(faces), damage.level, example.id))] = 0
            return replace(example, faces=faces)
        mels = example.mels.numpy()[:, 0]
        noisy = add_noise(mels, damage.level, example.id, self.rates[example.id], self.recipe)
        return replace(example, mels=torch.from_numpy(noisy[:, None]))


def _damaged_rows(opened: LoadedRun, damage: Damage) -> Ragged:
    """The features of one modality, made anew."""
    assert opened.part.features is not None
    if damage.kind == "missing":
        size = opened.part.features[damage.modality].rows.shape[1]
        return Ragged(np.zeros((0, size), np.float32), np.zeros(len(opened.part) + 1, np.int64))
    maker = extractors(opened.dataset, damage.modality)[damage.modality]
    rows = list(_made_anew(opened, maker, damage))
    return Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def _made_anew(opened: LoadedRun, maker: Extractor, damage: Damage) -> Iterator[np.ndarray]:
    recipe = opened.dataset.recipe
    for utterance, clip in opened.dataset.clips(opened.part.name, (*LIGHT, *NEEDED.get(maker.name, ()))):
        found = maker.rows(*_damaged_clip(utterance, clip, damage, recipe))
        assert found is not None
        yield found


def _damaged_clip(utterance: Utterance, clip: Clip, damage: Damage, recipe: Recipe) -> tuple[Utterance, Clip]:
    if damage.modality == "t":
        return replace(utterance, text=drop_words(utterance.text, damage.level, utterance.id)), clip
    if damage.modality == "a":
        noisy = add_noise(clip.mels, damage.level, utterance.id, clip.sample_rate, recipe)
        return utterance, replace(clip, mels=noisy)
    seen = ~black_out(len(clip.faces), damage.level, utterance.id)
    return utterance, replace(
        clip,
        faces=clip.faces * seen[:, None, None, None],
        face_boxes=clip.face_boxes * seen[:, None],
        face_scores=clip.face_scores * seen,
        face_landmarks=clip.face_landmarks * seen[:, None, None],
        face_found=clip.face_found & seen,
    )


def _damaged_text(part: Part, n: int, damage: Damage) -> str:
    return drop_words(part.texts[n], damage.level, part.ids[n])


def _can_do(opened: LoadedRun, damage: Damage) -> bool:
    found = store.features_info(opened.dataset)
    if found is None or damage.kind == "missing":
        return True
    name = found["sets"][damage.modality]["name"]
    return name in NEEDED or name in ("hash", "svd", "glove")


def _rates(dataset: Dataset, part: str) -> dict[str, int]:
    return {row["id"]: row["sample_rate"] for row in dataset.rows(["id", "sample_rate"], part)}


def _draw(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# ---- table and picture


def to_text(rows: Sequence[Row]) -> str:
    """Means over seeds, per cent."""
    header = f"{'':<26}" + "".join(f"{title:>8}" for title in NAMES.values())
    lines = [header]
    for damage in dict.fromkeys(row.damage for row in rows):
        cells = "".join(f"{_mean(rows, damage, kind):>8.1f}" for kind in NAMES)
        lines.append(f"{'undamaged' if damage == CLEAN else str(damage):<26}{cells}")
    return "\n".join(lines)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """A line a seed and damage, shares of 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", "damage", "modality", "level", *NAMES])
    for row in rows:
        damage = row.damage
        means = [f"{row.scores.mean(kind):.6f}" for kind in NAMES]
        writer.writerow([row.seed, damage.kind, damage.modality, f"{damage.level:g}", *means])
    write_text(path, text.getvalue())


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """A curve for each damage that comes in levels, and bars for what happens without a modality; svg or png."""
    kinds = [kind for kind in LEVELS if any(row.damage.kind == kind for row in rows)]
    figure = Figure(figsize=(2.6 * len(kinds) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, kind in zip(panels, kinds, strict=True):
        of_kind = list(dict.fromkeys(row.damage for row in rows if row.damage.kind == kind))
        names = ["none", *(_tick(damage) for damage in of_kind)]
        for score, colour, marker in (("f1", "#d98b1f", "o"), ("auc", "#2f6f9f", "s")):
            values = [_mean(rows, damage, score) for damage in (CLEAN, *of_kind)]
            line = "" if kind == "missing" else "-"
            panel.plot(names, values, color=colour, marker=marker, linestyle=line, label=NAMES[score])
        panel.set_title(kind, fontsize=10)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 100)
    panels[0].set_ylabel("per cent, mean over emotions")
    panels[0].legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    temporary = path.with_name(path.name + ".tmp")
    svg = path.suffix == ".svg"
    figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata={"Date": None} if svg else None)
    commit_file(temporary, path)


def _tick(damage: Damage) -> str:
    if damage.kind == "missing":
        return store.MODALITIES[damage.modality]
    return f"{damage.level:g} dB" if damage.kind == "noise" else f"{100 * damage.level:g} %"


def _mean(rows: Sequence[Row], damage: Damage, kind: str) -> float:
    return 100 * statistics.fmean(row.scores.mean(kind) for row in rows if row.damage == damage)
