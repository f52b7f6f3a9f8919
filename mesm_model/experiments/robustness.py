"""Scores of a trained run on damaged input: faces blacked out, noise, words dropped, a whole modality missing.

    runs/mesm/robustness.csv    a line per seed and damage
    runs/mesm/robustness.svg    mean F1 and AUC against each damage

The thresholds stay those that were chosen on valid. What is damaged is drawn from the id of the utterance, and a
stronger damage contains the weaker one. For a two-phase model the features are computed again from the damaged clip;
imported features cannot be.
"""

import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from mesm_data.clip import Clip, Recipe
from mesm_data.dataset.reader import Dataset
from mesm_data.files import commit_file, csv_text, write_text
from mesm_data.media.mel import mel_filters
from mesm_data.report import charts
from mesm_data.utterance import Source, Utterance
from mesm_model.batch import Example
from mesm_model.evaluation import metrics
from mesm_model.evaluation.evaluate import RunOnSplit, open_run, probabilities_of
from mesm_model.evaluation.metrics import BEST_CONSTANT, NAMES, Scores
from mesm_model.evaluation.tables import aligned, percent
from mesm_model.features import store
from mesm_model.features.extract import COMPUTED, LIGHT, NEEDED, extractors
from mesm_model.features.store import Ragged
from mesm_model.models.common.text import tokenize
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import seeds_of, text_folder

LEVELS: dict[str, tuple[str, tuple[float, ...]]] = {  # kind -> the modality that is damaged, and how much
    "faces blacked out": ("v", (0.25, 0.5, 0.75, 1.0)),  # share of the frames
    "noise": ("a", (20.0, 10.0, 0.0)),  # signal-to-noise ratio in decibels
    "words dropped": ("t", (0.25, 0.5, 0.75)),  # share of the words
    "missing": ("", ()),  # each modality
}
FACE_ARRAYS = ("faces", "face_boxes", "face_scores", "face_landmarks", "face_found")  # of a Clip, one row per face


@dataclass(frozen=True)
class Damage:
    """One kind of damage and its level, which "missing" has not."""

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
    """Scores of one seed of a run under one damage."""

    seed: str
    damage: Damage
    scores: Scores
    constant: dict[str, float]  # what the best constant decision scores on the same utterances


def robustness(
    run: Path, dataset: Dataset, split: str, ranks: Distributed, cache: Path | None = None
) -> tuple[list[Row], list[Damage]]:
    """The scores of every seed of a run, undamaged first; and the damages that imported features do not allow."""
    rows: list[Row] = []
    skipped: list[Damage] = []
    for seed, folder in seeds_of(run).items():
        loaded = open_run(folder, dataset, split, ranks, cache)
        baseline = metrics.trivial(loaded.split_data.labels)[BEST_CONSTANT]
        constant = {kind: baseline.mean(kind) for kind in NAMES}
        possible = damages(loaded.model.config.modalities)
        skipped = [damage for damage in possible if not _allows(loaded, damage)]
        for damage in (CLEAN, *possible):
            if damage not in skipped:
                tried = loaded if damage == CLEAN else replace(loaded, split_data=damaged_split(loaded, folder, damage))
                probability, thresholds = probabilities_of(tried, ranks), np.array(loaded.checkpoint.thresholds)
                rows.append(
                    Row(seed, damage, metrics.score(probability, loaded.split_data.labels, thresholds), constant)
                )
    return rows, skipped


def damages(modalities: str) -> list[Damage]:
    """All damages to the input of a model of these modalities."""
    found = [
        Damage(kind, modality, level)
        for kind, (modality, levels) in LEVELS.items()
        for level in levels
        if modality in modalities
    ]
    several = len(modalities) > 1  # of a single one nothing would be left
    return found + [Damage("missing", modality) for modality in "tav" if modality in modalities and several]


def black_out(frames: int, share: float, name: str) -> np.ndarray:
    """Which frames of an utterance are blacked out, bool [V]."""
    chosen = np.zeros(frames, bool)
    chosen[_draw(name).permutation(frames)[: round(share * frames)]] = True
    return chosen


def drop_words(text: str, share: float, name: str) -> str:
    """The text without that share of its words, those between spaces."""
    words = text.split()
    dropped = black_out(len(words), share, name)
    return " ".join(word for word, gone in zip(words, dropped, strict=True) if not gone)


def add_noise(mels: np.ndarray, decibels: float, name: str, sample_rate: int, recipe: Recipe) -> np.ndarray:
    """Log-mel chunks [A, mels, columns] with white noise at this signal-to-noise ratio.

    Powers are added, as those of independent signals are on average. The padding after the audio stays as it is.
    """
    power = (np.exp(mels.astype(np.float64)) - recipe.log_floor).clip(min=0)
    audible = power.mean(1, keepdims=True) > recipe.log_floor / 20  # [A, 1, columns]; float16 rounds the floor by 1/300
    white = mel_filters(recipe, sample_rate).sum(1, dtype=np.float64)[:, None]  # [mels, 1]: white noise in each band
    bins = np.maximum(white, 1)  # independent values in a band
    noise = white * _draw(name).gamma(np.broadcast_to(bins, power.shape)) / bins * audible
    gain = power.sum() / max(noise.sum(), 1e-12) / 10 ** (decibels / 10)
    return np.where(audible, np.log(power + gain * noise + recipe.log_floor), mels).astype(mels.dtype)


# ---- damaged input


def damage_clip(utterance: Utterance, clip: Clip, damage: Damage, recipe: Recipe) -> tuple[Utterance, Clip]:
    """The utterance and its clip with one modality damaged; the same every time."""
    share = 1.0 if damage.kind == "missing" else damage.level
    if damage.modality == "t":
        return replace(utterance, text=drop_words(utterance.text, share, utterance.id)), clip
    if damage.kind == "missing":
        empty = {"v": FACE_ARRAYS, "a": ("mels",)}[damage.modality]
        return utterance, replace(clip, **{name: getattr(clip, name)[:0] for name in empty})
    if damage.modality == "a":
        return utterance, replace(clip, mels=add_noise(clip.mels, share, utterance.id, clip.sample_rate, recipe))
    seen = ~black_out(len(clip.faces), share, utterance.id)
    arrays = {name: getattr(clip, name) for name in FACE_ARRAYS if len(getattr(clip, name))}
    return utterance, replace(clip, **{name: (array.T * seen).T.astype(array.dtype) for name, array in arrays.items()})


def damaged_split(loaded: RunOnSplit, folder: Path, damage: Damage) -> Any:
    """The split that a model is tried on, damaged; `folder` is the run's."""
    if loaded.split_data.features is None:
        return _DamagedPart(loaded, text_folder(loaded.model, folder), damage)
    rows = {damage.modality: _damaged_features(loaded, damage)}
    return replace(loaded.split_data, features={**loaded.split_data.features, **rows})


class _DamagedPart:
    """A split for an end-to-end model, damaged as it is read."""

    def __init__(self, loaded: RunOnSplit, encoder: Path | None, damage: Damage) -> None:
        self.split_data, self.encoder, self.damage = loaded.split_data, encoder, damage
        self.recipe = loaded.dataset.recipe
        rates = loaded.dataset.rows(["id", "sample_rate"], self.split_data.name)
        self.rates = {row["id"]: row["sample_rate"] for row in rates}
        self.megabytes, self.labels, self.ids = self.split_data.megabytes, self.split_data.labels, self.split_data.ids

    def __len__(self) -> int:
        return len(self.split_data)

    def __getitem__(self, n: int) -> Example:
        example = self.split_data[n]
        utterance, clip = damage_clip(*_as_clip(example, self.rates[example.id]), self.damage, self.recipe)
        tokens = example.tokens
        if self.damage.modality == "t" and self.encoder:
            tokens = torch.tensor(tokenize(self.encoder, [utterance.text])[0], dtype=torch.int64)
        faces, mels = clip.faces.transpose(0, 3, 1, 2), clip.mels[:, None]
        return replace(example, tokens=tokens, faces=torch.tensor(faces), mels=torch.tensor(mels))


def _as_clip(example: Example, sample_rate: int) -> tuple[Utterance, Clip]:
    """What a model reads of an utterance, as damage is done to it: text, faces and mels."""
    nothing = np.zeros(0, np.float32)
    return (
        Utterance(example.id, Source(""), 0.0, 0.0, example.text, (), (), "", ""),
        Clip(
            utterance=example.id,
            faces=example.faces.numpy().transpose(0, 2, 3, 1),
            face_times=nothing,
            face_boxes=nothing,
            face_scores=nothing,
            face_landmarks=nothing,
            face_found=nothing,
            mels=example.mels.numpy()[:, 0],
            sample_rate=sample_rate,
            quality=(),
        ),
    )


def _damaged_features(loaded: RunOnSplit, damage: Damage) -> Ragged:
    """The features of one modality, computed again from damaged clips; no rows for a missing modality."""
    assert loaded.split_data.features is not None
    if damage.kind == "missing":
        size = loaded.split_data.features[damage.modality].rows.shape[1]
        return Ragged(np.zeros((0, size), np.float32), np.zeros(len(loaded.split_data) + 1, np.int64))
    extractor = extractors(loaded.dataset, damage.modality)[damage.modality]
    rows, columns = [], (*LIGHT, *NEEDED.get(extractor.name, ()))
    for utterance, clip in loaded.dataset.clips(loaded.split_data.name, columns):
        found = extractor.rows(*damage_clip(utterance, clip, damage, loaded.dataset.recipe))
        assert found is not None  # of a computed set, see _allows
        rows.append(found)
    return Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def _allows(loaded: RunOnSplit, damage: Damage) -> bool:
    """False for imported features: they cannot be computed again."""
    found = store.features_info(loaded.dataset)
    if found is None or damage.kind == "missing":
        return True
    return found["sets"][damage.modality]["name"] in COMPUTED[damage.modality]


def _draw(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# ---- table and picture


def to_text(rows: Sequence[Row]) -> str:
    """Means over emotions and seeds, per cent; the row of the best constant decision is the floor to read them by."""
    lines = [["", *NAMES.values()]]
    for damage in dict.fromkeys(row.damage for row in rows):
        name = "undamaged" if damage == CLEAN else str(damage)
        lines.append([name, *(percent(_mean(rows, damage, kind)) for kind in NAMES)])
    lines.append([BEST_CONSTANT, *(percent(_constant(rows, kind)) for kind in NAMES)])
    return aligned(lines)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """A line per seed and damage, shares of 1; the last is the best constant decision."""
    lines = [["seed", "damage", "modality", "level", *NAMES]]
    for row in rows:
        damage = row.damage
        means = [f"{row.scores.mean(kind):.6f}" for kind in NAMES]
        lines.append([str(row.seed), damage.kind, damage.modality, f"{damage.level:g}", *means])
    lines.append(["", BEST_CONSTANT, "", "", *(f"{_constant(rows, kind):.6f}" for kind in NAMES)])
    write_text(path, csv_text(lines))


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """A panel per kind of damage, its levels from left to right, each modality for "missing"; svg or png."""
    kinds = [kind for kind in LEVELS if any(row.damage.kind == kind for row in rows)]
    figure = Figure(figsize=(2.6 * len(kinds) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, kind in zip(panels, kinds, strict=True):
        of_kind = list(dict.fromkeys(row.damage for row in rows if row.damage.kind == kind))
        names = ["none", *(_tick(damage) for damage in of_kind)]
        for score, colour, marker in (("f1", "#d98b1f", "o"), ("auc", "#2f6f9f", "s")):
            values = [100 * _mean(rows, damage, score) for damage in (CLEAN, *of_kind)]
            line = "" if kind == "missing" else "-"
            panel.plot(names, values, color=colour, marker=marker, linestyle=line, label=NAMES[score])
            panel.axhline(100 * _constant(rows, score), color=colour, linestyle=":", linewidth=1)
        panel.set_title(kind, fontsize=10)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, 100)
    panels[0].set_ylabel("per cent, mean over emotions")
    panels[0].legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    if path.suffix == ".svg":
        return charts.save_svg(figure, path)
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    commit_file(temporary, path)


def _tick(damage: Damage) -> str:
    if damage.kind == "missing":
        return store.MODALITIES[damage.modality]
    return f"{damage.level:g} dB" if damage.kind == "noise" else f"{100 * damage.level:g} %"


def _mean(rows: Sequence[Row], damage: Damage, kind: str) -> float:
    """Over seeds, of the mean over emotions."""
    return statistics.fmean(row.scores.mean(kind) for row in rows if row.damage == damage)


def _constant(rows: Sequence[Row], kind: str) -> float:
    """What the best constant decision scores: damage can bring a model down to it, or below."""
    return rows[0].constant[kind]
