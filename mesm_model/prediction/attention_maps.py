"""The places that the text-guided attention of each layer selects, drawn as in the paper's Figures 3 and 4.

They come from the same `Trace` as the sparsity figures. attention_video.py makes a video of them.
"""

import difflib
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesm_data.clip import Clip
from mesm_data.dataset.reader import Dataset, clips_of
from mesm_data.errors import DataError
from mesm_data.report.picture import DARK, PALE, TICKS, enlarged, faded, mel_image, mel_row, side_by_side
from mesm_data.utterance import Utterance, read_utterances
from mesm_model.models.common.attention import TracedLevel
from mesm_model.prediction.overlay import of_modality, saved_share, selected_share
from mesm_model.prediction.predict import Model, ModelOutput, check_attention, run_model
from mesm_model.runs import checkpoint as checkpoints

ROWS = 4  # moments at which a face and a chunk are shown, over all utterances; at least one of each
CANDIDATES = 30  # utterances per emotion among which --one-per-emotion chooses
ENLARGED = 8  # times, without interpolation between pixels
GREEN, RED = "#1b6e3c", "#b00020"  # every decision right, one of them wrong
FACE_WIDE, MEL_WIDE, GAP, HIGH, LEFT, RIGHT = 1.72, 0.92, 0.45, 2.75, 0.3, 0.2  # inches


@dataclass(frozen=True)
class Explained:
    """One utterance of a dataset with the model's output and attention."""

    utterance: Utterance
    clip: Clip
    output: ModelOutput


def explain(dataset: Dataset, model: Model, ids: Sequence[str]) -> list[Explained]:
    """The utterances in the order of `ids`.

    Raises DataError for an id that the dataset does not have, and for a model without attention.
    """
    _check(dataset, model)
    found = {utterance.id: (utterance, clip) for utterance, clip in _read(dataset, ids)}
    for name in ids:
        if name not in found:
            near = difflib.get_close_matches(name, [row["id"] for row in dataset.rows(["id"])], n=3)
            raise DataError(
                f"{dataset.folder}: no utterance {name!r}{'; nearest are ' + ', '.join(near) if near else ''}"
            )
    return [Explained(*found[name], run_model(model, found[name][1], found[name][0].text)) for name in ids]


def explain_each_emotion(dataset: Dataset, model: Model, split: str) -> list[Explained]:
    """For each emotion the utterance with this label alone whose probability of it is highest.

    Chosen among the first CANDIDATES of the split by id, those with a face first. An emotion without such an utterance
    is left out.
    """
    _check(dataset, model)
    if split not in dataset.splits:
        raise DataError(f"{dataset.folder}: no split {split!r}, expected one of {', '.join(dataset.splits)}")
    rows = sorted(
        dataset.rows(["id", "labels", "face_found"], split), key=lambda row: (not any(row["face_found"]), row["id"])
    )
    chosen = []
    for e in range(len(dataset.emotions)):
        only_this = [row["id"] for row in rows if sum(row["labels"]) == row["labels"][e] == 1][:CANDIDATES]
        found = [Explained(u, clip, run_model(model, clip, u.text)) for u, clip in _read(dataset, only_this)]
        chosen += [max(found, key=partial(_sureness, e))] if found else []
    return chosen


def _sureness(emotion: int, one: Explained) -> tuple[bool, float]:
    """Sorts utterances with a face before others, then by the probability of the emotion."""
    return bool(one.clip.face_found.any()), float(one.output.probability[emotion])


def draw(out: Path, explained: Sequence[Explained], model: Model) -> None:
    """Write a PNG with a row per moment: a face and its mel chunk, whole and with what each layer dropped faded."""
    rows = [(one, moment) for one in explained for moment in _moments(one, model, max(1, ROWS // len(explained)))]
    layers = max(len(of_modality(one.output.levels, letter)) for one in explained for letter in "va")
    several, heading = len(explained) > 1, _heading(explained, model)
    above = 0.35 + 0.19 * (len(heading) + (not several))
    row = HIGH + 0.18 * several
    wide = LEFT + (FACE_WIDE + MEL_WIDE) * (layers + 1) + GAP + RIGHT
    figure = Figure(figsize=(wide, above + row * len(rows)), facecolor="white")
    _write(figure, above + row * len(rows) - 0.15, "\n".join(heading), fontsize=10, linespacing=1.4)
    if not several:
        _write_verdict(figure, row * len(rows) + 0.25, explained[0], model, fontsize=10)
    for n, (one, moment) in enumerate(reversed(rows)):
        _write(figure, row * (n + 1) - 0.13, _row_words(one, moment, several), fontsize=9, weight="bold")
        if several:
            _write_verdict(figure, row * (n + 1) - 0.31, one, model, fontsize=9)
        _draw_row(figure, row * n, one, moment, layers, model)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawn.getvalue())


# ---- utterances and moments


class Moment(NamedTuple):
    """A face of an utterance and the mel chunk of its time; None where it has none."""

    face: int | None
    chunk: int | None


def _check(dataset: Dataset, model: Model) -> None:
    checkpoints.check_data(model.checkpoint, dataset, model.run)
    check_attention(model.run, model.checkpoint, model.network)


def _read(dataset: Dataset, ids: Sequence[str]) -> Iterator[tuple[Utterance, Clip]]:
    """Utterances, with the raw files that they are from, and their clips."""
    known = {u.id: u for u in read_utterances(dataset.folder / "utterances.jsonl") if u.id in set(ids)}
    for table in dataset.find(ids):
        for utterance, clip in clips_of(table):
            yield known[utterance.id], clip


def _moments(one: Explained, model: Model, most: int) -> list[Moment]:
    """At most `most` moments at even distances, with the faces that were found, where there are any."""
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


# ---- the figure


def _heading(explained: Sequence[Explained], model: Model) -> list[str]:
    lines = [
        f"{model.run}, p = {model.network.top_p:g}. Dark in faces and pale in mels: what a layer dropped; the places "
        "that it selected add up to p of its attention."
    ]
    if len(explained) == 1:
        (one,) = explained
        lines += [one.utterance.id, *textwrap.wrap(f"“{one.utterance.text}”", 120)]
        lines += _totals(one, model)
    return lines


def _totals(one: Explained, model: Model) -> list[str]:
    """Selected and saved over all frames of the utterance."""
    sentences = []
    for letter, name in (("v", "all faces"), ("a", "all mel chunks")):
        levels = [level for level in of_modality(one.output.levels, letter) if len(level.selected)]
        selected = ", ".join(f"{100 * selected_share(level).mean():.0f} %" for level in levels)
        saved = ", ".join(f"{100 * _saved(level, model).mean():.0f} %" for level in levels)
        sentences += (
            [f"{name}: {selected} of the places selected, {saved} of the multiply-adds saved"] if levels else []
        )
    return sentences


def _row_words(one: Explained, moment: Moment, several: bool) -> str:
    u = one.utterance
    seconds = max(0.0, float(one.clip.face_times[moment.face]) - u.start) if moment.face is not None else 0.0
    if not several:
        return f"at {seconds:.1f} s"
    return textwrap.shorten(f"{u.id}, at {seconds:.1f} s: “{u.text}”", 110, placeholder=" ...")


def _write(figure: Figure, y: float, words: str, **look: Any) -> None:
    """Text at the left edge, its top `y` inches above the lower edge of the figure."""
    wide, tall = figure.get_size_inches()
    figure.text(LEFT / wide, y / tall, words, va="top", parse_math=False, **look)


def _write_verdict(figure: Figure, y: float, one: Explained, model: Model, fontsize: int) -> None:
    words, is_right = _verdict(one, model)
    _write(figure, y, words, fontsize=fontsize, color=GREEN if is_right else RED)


def _verdict(one: Explained, model: Model) -> tuple[str, bool]:
    """Labels, and each decision of the model marked as right or wrong; True when all of them are right."""
    probability, labels = one.output.probability, np.array(one.utterance.labels, bool)
    decided = probability > model.thresholds
    marked = [
        f"{name} {value:.2f} {'✓' if right else '✗'}"
        for name, value, right in zip(model.emotions, probability, decided == labels, strict=True)
    ]
    named = ", ".join(name for name, label in zip(model.emotions, labels, strict=True) if label) or "none"
    groups = [", ".join(np.array(marked)[which]) or "nothing" for which in (decided, ~decided)]
    return f"label: {named}; decided: {groups[0]}; not decided: {groups[1]}", bool((decided == labels).all())


def _draw_row(figure: Figure, bottom: float, one: Explained, moment: Moment, layers: int, model: Model) -> None:
    """A face and a mel chunk, first as they are, then with what each layer dropped faded."""
    mels = LEFT + FACE_WIDE * (layers + 1) + GAP
    for layer in range(layers + 1):
        if moment.face is not None:
            place = (LEFT + FACE_WIDE * layer, bottom + 0.72, FACE_WIDE - 0.12, FACE_WIDE - 0.12)
            _draw_face(_axes(figure, place), one, moment.face, layer, model)
        if moment.chunk is not None:
            place = (mels + MEL_WIDE * layer, bottom + 0.72, MEL_WIDE - 0.12, 1.6)
            _draw_chunk(_axes(figure, place), one, moment.chunk, layer, model)


def _axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    wide, tall = figure.get_size_inches()
    left, bottom, width, height = inches
    return figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))


def _draw_face(axes: Axes, one: Explained, face: int, layer: int, model: Model) -> None:
    levels = of_modality(one.output.levels, "v")
    size = (ENLARGED * one.clip.faces.shape[1], ENLARGED * one.clip.faces.shape[2])
    image = enlarged(one.clip.faces[face], size)
    if 0 < layer <= len(levels):
        image = faded(image, levels[layer - 1].selected[face].numpy(), DARK)
    axes.imshow(image)
    axes.set_xticks([])
    axes.set_yticks([])
    _label(axes, "face" if one.clip.face_found[face] else "no face found", levels, face, layer, model)


def _draw_chunk(axes: Axes, one: Explained, chunk: int, layer: int, model: Model) -> None:
    levels = of_modality(one.output.levels, "a")
    image = mel_image(side_by_side(one.clip.mels))[:, chunk * 32 : (chunk + 1) * 32]
    if 0 < layer <= len(levels):
        image = faded(image, levels[layer - 1].selected[chunk].numpy()[::-1], PALE)
    recipe = model.recipe
    length, begin = recipe.chunk * recipe.hop, chunk * recipe.chunk * recipe.hop
    axes.imshow(image, extent=(begin, begin + length, 0, 128), aspect="auto", interpolation="nearest")
    ends = [f"{begin:.1f}", f"{begin + length:.1f} s"] if layer == 0 else ["", ""]
    axes.set_xticks([begin, begin + length], ends, fontsize=7)
    ticks = [tick for tick in TICKS if tick <= one.clip.sample_rate / 2] if layer == 0 else []
    axes.set_yticks([mel_row(tick, one.clip.sample_rate) for tick in ticks], [str(tick) for tick in ticks], fontsize=7)
    if layer == 0:
        axes.set_ylabel("Hz", fontsize=7, labelpad=1)
    _label(axes, "mel chunk", levels, chunk, layer, model)


def _label(axes: Axes, name: str, levels: Sequence[TracedLevel], frame: int, layer: int, model: Model) -> None:
    """The name above; below, the shares selected and saved in this frame."""
    axes.set_title(f"layer {layer}" if layer else name, fontsize=8, pad=3)
    if 0 < layer <= len(levels):
        level = levels[layer - 1]
        selected, saved = selected_share(level)[frame], _saved(level, model)[frame]
        axes.set_xlabel(f"selected {100 * selected:.0f} %\nsaved {100 * saved:.0f} %", fontsize=7.5, labelpad=2)


def _saved(level: TracedLevel, model: Model) -> np.ndarray:
    return saved_share(level, model.width, model.query_size)
