"""Where the text makes the model look: the nuclei of each attention layer, as in the paper's Figures 3 and 4.

They come from the `Trace` that the sparsity figures come from too. attention_film.py makes a film of it.
"""

import difflib
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesm_data.clip import Clip
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.schema import faces_of, mels_of
from mesm_data.errors import DataError
from mesm_data.report.sheet import TICKS
from mesm_data.utterance import Utterance, read_utterances
from mesm_model.models.common.attention import TracedLevel
from mesm_model.prediction.overlay import grey_mel, of_modality, saved_share, selected_share, tinted
from mesm_model.prediction.predict import Model, ModelOutput, check_attention, run_model
from mesm_model.runs import checkpoint as checkpoints

ROWS = 4  # moments at which a face and a chunk are shown, over all utterances; at least one of each
CANDIDATES = 30  # utterances of an emotion among which --one-per-emotion chooses
ENLARGED = 8  # times; pixels stay apart, so that nothing is made up between them
FACE_WIDE, MEL_WIDE, GAP = 1.72, 0.92, 0.45  # inches


@dataclass(frozen=True)
class Explained:
    """One utterance of a dataset, and where the model looked in it."""

    utterance: Utterance
    clip: Clip
    output: ModelOutput


def explain(dataset: Dataset, model: Model, ids: Sequence[str]) -> list[Explained]:
    """The utterances in the order of `ids`. Raises DataError for an id that is not there, a model without attention."""
    _check(dataset, model)
    found = {utterance.id: (utterance, clip) for utterance, clip in _read(dataset, ids)}
    for name in ids:
        if name not in found:
            near = difflib.get_close_matches(name, [row["id"] for row in dataset.rows(["id"])], n=3)
            raise DataError(
                f"{dataset.folder}: no utterance {name!r}{'; nearest are ' + ', '.join(near) if near else ''}"
            )
    return [Explained(*found[name], run_model(model, found[name][1], found[name][0].text)) for name in ids]


def explain_each_emotion(dataset: Dataset, model: Model, part: str) -> list[Explained]:
    """For each emotion the utterance that is labelled with it alone and gets the highest probability of it.

    Of the first CANDIDATES of the part, by id, with a face found. An emotion that nobody has alone is left out.
    """
    _check(dataset, model)
    if part not in dataset.splits:
        raise DataError(f"{dataset.folder}: no part {part!r}, expected one of {', '.join(dataset.splits)}")
    rows = sorted(
        dataset.rows(["id", "labels", "face_found"], part), key=lambda row: (not any(row["face_found"]), row["id"])
    )
    chosen = []
    for e in range(len(dataset.emotions)):
        alone = [row["id"] for row in rows if sum(row["labels"]) == row["labels"][e] == 1][:CANDIDATES]
        seen = [Explained(u, clip, run_model(model, clip, u.text)) for u, clip in _read(dataset, alone)]
        chosen += [max(seen, key=partial(_sureness, e))] if seen else []
    return chosen


def _sureness(emotion: int, one: Explained) -> tuple[bool, float]:
    """Utterances with a face come before others."""
    return bool(one.clip.face_found.any()), float(one.output.probability[emotion])


def draw(out: Path, looked: Sequence[Explained], model: Model) -> None:
    """Write a PNG: a row is a moment of an utterance, its face and its mel chunk, plain and with what a layer selected."""
    rows = [(one, moment) for one in looked for moment in _moments(one, model, max(1, ROWS // len(looked)))]
    layers = max(len(of_modality(one.output.levels, letter)) for one in looked for letter in "va")
    heading = _heading(looked, model)
    above, high, left, right = 0.35 + 0.19 * len(heading), 2.75 + 0.17 * (len(looked) > 1), 0.3, 0.2
    wide, tall = left + FACE_WIDE * (layers + 1) + GAP + MEL_WIDE * (layers + 1) + right, above + high * len(rows)
    figure = Figure(figsize=(wide, tall), facecolor="white")
    figure.text(
        left / wide, 1 - 0.15 / tall, "\n".join(heading), va="top", fontsize=10, linespacing=1.4, parse_math=False
    )
    for n, (one, moment) in enumerate(rows):
        bottom = tall - above - high * (n + 1)
        words = _row_words(one, moment, model, len(looked) > 1)
        figure.text(
            left / wide, (bottom + high - 0.13) / tall, words, fontsize=9, va="top", weight="bold", parse_math=False
        )
        for k in range(layers + 1):
            face_place = (left + FACE_WIDE * k, bottom + 0.72, FACE_WIDE - 0.12, FACE_WIDE - 0.12)
            mel_place = (left + FACE_WIDE * (layers + 1) + GAP + MEL_WIDE * k, bottom + 0.72, MEL_WIDE - 0.12, 1.6)
            if moment.face is not None:
                _draw_face(_axes(figure, face_place), one, moment.face, k, model)
            if moment.chunk is not None:
                _draw_chunk(_axes(figure, mel_place), one, moment.chunk, k, model)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawn.getvalue())


def mel_row(hertz: float, sample_rate: int) -> float:
    """The row of 128 at which a frequency lies on the HTK mel scale."""
    return float(128 * np.log10(1 + hertz / 700) / np.log10(1 + sample_rate / 2 / 700))


# ---- what is looked at


class Moment(NamedTuple):
    """A face of an utterance and the mel chunk of its time; None where it has none."""

    face: int | None
    chunk: int | None


def _check(dataset: Dataset, model: Model) -> None:
    checkpoints.check_data(model.checkpoint, dataset, model.run)
    check_attention(model.run, model.checkpoint, model.network)


def _read(dataset: Dataset, ids: Sequence[str]) -> Iterator[tuple[Utterance, Clip]]:
    known = {u.id: u for u in read_utterances(dataset.folder / "utterances.jsonl") if u.id in set(ids)}
    for table in dataset.find(ids):
        row = table.drop_columns(["faces", "mels"]).to_pylist()[0]
        clip = Clip(
            utterance=row["id"],
            faces=faces_of(table, 0),
            face_times=np.array(row["face_times"], np.float32),
            face_boxes=np.array(row["face_boxes"], np.float32),
            face_scores=np.array(row["face_scores"], np.float32),
            face_landmarks=np.array(row["face_landmarks"], np.float32),
            face_found=np.array(row["face_found"], bool),
            mels=mels_of(table, 0),
            sample_rate=row["sample_rate"],
            quality=tuple(row["quality"]),
        )
        yield known[row["id"]], clip


def _moments(one: Explained, model: Model, most: int) -> list[Moment]:
    """At most so many moments, evenly over the utterance; of its faces those that were found, where there are any."""
    clip = one.clip
    found = np.flatnonzero(clip.face_found)
    faces = found if len(found) else np.arange(len(clip.faces))
    if not len(faces):
        return [Moment(None, int(chunk)) for chunk in _evenly(np.arange(len(clip.mels)), most)]
    length, last = model.recipe.chunk * model.recipe.hop, len(clip.mels) - 1
    chosen = [(int(face), float(clip.face_times[face]) - one.utterance.start) for face in _evenly(faces, most)]
    return [Moment(face, min(max(0, int(time / length)), last) if last >= 0 else None) for face, time in chosen]


def _evenly(values: np.ndarray, most: int) -> np.ndarray:
    count = min(most, len(values))
    return values[((np.arange(count) + 0.5) * len(values) / max(1, count)).astype(int)]


# ---- the picture


def _heading(looked: Sequence[Explained], model: Model) -> list[str]:
    lines = [f"{model.run}, p = {model.network.top_p:g}. Red: the places whose attention adds up to p, layer by layer."]
    if len(looked) == 1:
        (one,) = looked
        lines += [one.utterance.id, *textwrap.wrap(f"“{one.utterance.text}”", 120), _decided(one, model)]
        lines += _totals(one, model)
    return lines


def _totals(one: Explained, model: Model) -> list[str]:
    """Kept and spared over all frames of the utterance."""
    told = []
    for letter, name in (("v", "all faces"), ("a", "all mel chunks")):
        levels = [level for level in of_modality(one.output.levels, letter) if len(level.selected)]
        selected = ", ".join(f"{100 * selected_share(level).mean():.0f} %" for level in levels)
        saved = ", ".join(f"{100 * _saved(level, model).mean():.0f} %" for level in levels)
        told += [f"{name}: {selected} of the places selected, {saved} of the multiply-adds spared"] if levels else []
    return told


def _row_words(one: Explained, moment: Moment, model: Model, several: bool) -> str:
    u = one.utterance
    seconds = max(0.0, float(one.clip.face_times[moment.face]) - u.start) if moment.face is not None else 0.0
    if not several:
        return f"at {seconds:.1f} s"
    words = textwrap.shorten(f"{u.id}, at {seconds:.1f} s: “{u.text}”", 110, placeholder=" ...")
    return f"{words}\n{_decided(one, model)}"


def _decided(one: Explained, model: Model) -> str:
    labels = [name for name, label in zip(model.emotions, one.utterance.labels, strict=True) if label]
    found = ", ".join(f"{name} {p:.2f}" for name, p in zip(model.emotions, one.output.probability, strict=True))
    return f"label: {', '.join(labels) or 'none'}; model: {found}"


def _axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    wide, tall = figure.get_size_inches()
    left, bottom, width, height = inches
    return figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))


def _draw_face(axes: Axes, one: Explained, face: int, layer: int, model: Model) -> None:
    levels = of_modality(one.output.levels, "v")
    picture = one.clip.faces[face].repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    if 0 < layer <= len(levels):
        picture = tinted(picture, levels[layer - 1].selected[face].numpy())
    axes.imshow(picture)
    axes.set_xticks([])
    axes.set_yticks([])
    _label(axes, "face" if one.clip.face_found[face] else "no face found", levels, face, layer, model)


def _draw_chunk(axes: Axes, one: Explained, chunk: int, layer: int, model: Model) -> None:
    levels = of_modality(one.output.levels, "a")
    picture = grey_mel(one.clip.mels)[:, chunk * 32 : (chunk + 1) * 32]
    if 0 < layer <= len(levels):
        picture = tinted(picture, levels[layer - 1].selected[chunk].numpy()[::-1])
    recipe = model.recipe
    length, begin = recipe.chunk * recipe.hop, chunk * recipe.chunk * recipe.hop
    axes.imshow(picture, extent=(begin, begin + length, 0, 128), aspect="auto", interpolation="nearest")
    ends = [f"{begin:.1f}", f"{begin + length:.1f} s"] if layer == 0 else ["", ""]
    axes.set_xticks([begin, begin + length], ends, fontsize=7)
    ticks = [tick for tick in TICKS if tick <= one.clip.sample_rate / 2] if layer == 0 else []
    axes.set_yticks([mel_row(tick, one.clip.sample_rate) for tick in ticks], [str(tick) for tick in ticks], fontsize=7)
    if layer == 0:
        axes.set_ylabel("Hz", fontsize=7, labelpad=1)
    _label(axes, "mel chunk", levels, chunk, layer, model)


def _label(axes: Axes, name: str, levels: Sequence[TracedLevel], frame: int, layer: int, model: Model) -> None:
    """The name above; below, what was selected and spared in this frame."""
    axes.set_title(f"layer {layer}" if layer else name, fontsize=8, pad=3)
    if 0 < layer <= len(levels):
        level = levels[layer - 1]
        selected, saved = selected_share(level)[frame], _saved(level, model)[frame]
        axes.set_xlabel(f"selected {100 * selected:.0f} %\nspared {100 * saved:.0f} %", fontsize=7.5, labelpad=2)


def _saved(level: TracedLevel, model: Model) -> np.ndarray:
    return saved_share(level, model.width, model.query_size)
