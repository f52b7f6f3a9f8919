"""A video of one utterance: face and mel with what the attention dropped faded, words, probabilities, the speaker.

Home of moviepy. Places are x, y, width and height in pixels.
"""

import tempfile
import textwrap
from pathlib import Path
from typing import Any

import moviepy
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesm_data.errors import DataError
from mesm_data.media.encode import write_videos
from mesm_data.report.picture import DARK, PALE, TICKS, enlarged, faded, mel_image, mel_row, side_by_side
from mesm_model.prediction.attention_maps import Explained
from mesm_model.prediction.overlay import of_modality, selected_by_layers
from mesm_model.prediction.predict import Model

BOARD = (1280, 720)
SPEAKER = (32, 110, 480, 384)
FACE = (544, 110, 384, 384)
BARS = (1060, 110, 190, 384)
MEL = (90, 530, 1160, 110)
RATE = 25  # frames per second
CURSOR = (0, 190, 255)  # in neither a mel nor what is faded of it

# Font size, letters per line, lines: the largest font with which the words fit above the images.
SIZES = ((17, 86, 2), (12, 122, 3), (9, 165, 4))
BACKGROUND, LIGHT, SOFT, FAINT, BRIGHT = "#15161a", "#e9e9ee", "#a6a7b2", "#5b5c66", "#f0b45a"


def write_video(out: Path, one: Explained, model: Model, raw: Path | None) -> None:
    """Write an mp4 of one utterance: faces and mel, faded where nothing was selected, a cursor, words, probabilities.

    With the `raw` corpus it also shows the speaker and has audio. Raises DataError where the raw files are missing.
    """
    seconds = one.utterance.end - one.utterance.start
    with tempfile.TemporaryDirectory() as folder:
        speaker = _speaker(one, raw, Path(folder)) if raw else None
        board = _board(one, model, silent=speaker is None)
        layers = [moviepy.ImageClip(board).with_duration(seconds), *_face_clips(one, seconds), _cursor(seconds)]
        if speaker:
            x, y, width, height = SPEAKER
            middle = x + (width - speaker.w) // 2, y + (height - speaker.h) // 2
            layers.append(speaker.with_position(middle).with_duration(seconds))
        composed = moviepy.CompositeVideoClip(layers, size=BOARD).with_duration(seconds)
        out.parent.mkdir(parents=True, exist_ok=True)
        composed.write_videofile(
            str(out), fps=RATE, codec="libx264", audio_codec="aac", preset="veryfast", logger=None,
            temp_audiofile=str(Path(folder) / "sound.m4a"),
        )  # fmt: skip
        if speaker:
            speaker.close()


def _board(one: Explained, model: Model, silent: bool) -> np.ndarray:
    """Everything that does not move, uint8 [H, W, 3]: words, bars, the mel."""
    figure = Figure(figsize=(BOARD[0] / 100, BOARD[1] / 100), dpi=100, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    about = (
        f"{one.utterance.id}, p = {model.network.top_p:g}; dark in the face, pale in the mel: dropped by attention, "
        "in all layers where darkest and palest"
    )
    lines, size = _fitted(f"“{one.utterance.text}”")
    _write(figure, 32, 25, "\n".join(lines), size)
    _write(figure, 32, 698, about, 11)
    if silent:
        _write(figure, SPEAKER[0], 290, "no video and no audio here:\nthey are in the raw corpus, --raw", 12, SOFT)
    _draw_bars(_axes(figure, BARS), one, model)
    _draw_mel(_axes(figure, MEL), one, model)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _fitted(words: str) -> tuple[list[str], int]:
    """The lines of a text and their font size; only what does not fit in the smallest is cut off."""
    for size, wide, most in SIZES:
        lines = textwrap.wrap(words, wide)
        if len(lines) <= most:
            return lines, size
    return textwrap.wrap(words, wide, max_lines=most, placeholder=" ..."), size


def _write(figure: Figure, x: int, y: int, words: str, size: int, colour: str = LIGHT) -> None:
    place = (x / BOARD[0], 1 - y / BOARD[1])
    figure.text(*place, words, fontsize=size, color=colour, va="top", linespacing=1.35, parse_math=False)


def _draw_bars(axes: Axes, one: Explained, model: Model) -> None:
    names, rows = model.emotions, np.arange(len(model.emotions))
    colours = [BRIGHT if p > t else FAINT for p, t in zip(one.output.probability, model.thresholds, strict=True)]
    axes.barh(rows, one.output.probability, 0.62, color=colours)
    for row, threshold in zip(rows, model.thresholds, strict=True):
        axes.plot([threshold, threshold], [row - 0.4, row + 0.4], color=LIGHT, linewidth=1.5)
    axes.set_yticks(rows, names, fontsize=13, color=LIGHT)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.invert_yaxis()


def _draw_mel(axes: Axes, one: Explained, model: Model) -> None:
    seconds = one.utterance.end - one.utterance.start
    levels = of_modality(one.output.levels, "a")
    if len(one.clip.mels):
        image = mel_image(side_by_side(one.clip.mels))
        if levels:
            image = faded(image, side_by_side(selected_by_layers(levels))[::-1], PALE)
        length = len(one.clip.mels) * model.recipe.chunk * model.recipe.hop
        axes.imshow(image, extent=(0, length, 0, 128), aspect="auto", interpolation="nearest")
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, 128)
    ticks = [tick for tick in TICKS[::2] if tick <= one.clip.sample_rate / 2]
    axes.set_yticks([mel_row(tick, one.clip.sample_rate) for tick in ticks], [f"{tick} Hz" for tick in ticks])
    axes.set_xlabel("seconds", color=LIGHT, fontsize=11)


def _axes(figure: Figure, box: tuple[int, int, int, int]) -> Axes:
    x, y, width, height = box
    axes = figure.add_axes((x / BOARD[0], 1 - (y + height) / BOARD[1], width / BOARD[0], height / BOARD[1]))
    axes.set_facecolor(BACKGROUND)
    axes.tick_params(colors=LIGHT, labelsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _face_clips(one: Explained, seconds: float) -> list[Any]:
    """Each face, faded where nothing was selected, from its time to the next one's."""
    levels = of_modality(one.output.levels, "v")
    share = selected_by_layers(levels) if levels else None
    times = [max(0.0, float(time) - one.utterance.start) for time in one.clip.face_times]
    if not times:
        return []
    ends = [*times[1:], seconds]
    clips = []
    for n, (begin, end) in enumerate(zip([0.0, *times[1:]], ends, strict=True)):
        if begin < end:
            image = enlarged(one.clip.faces[n], FACE[2:])
            image = image if share is None else faded(image, share[n], DARK)
            clips.append(moviepy.ImageClip(image).with_start(begin).with_duration(end - begin).with_position(FACE[:2]))
    return clips


def _cursor(seconds: float) -> Any:
    x, y, width, height = MEL
    line = moviepy.ColorClip((3, height), CURSOR).with_duration(seconds)
    return line.with_position(lambda t: (x + round(width * t / seconds), y))


def _speaker(one: Explained, raw: Path, folder: Path) -> Any:
    """The video of the speaker with audio, as large as its box."""
    source = one.utterance.source
    for name in (source.video, source.audio):
        if name and not (raw / name).exists():
            raise DataError(f"{raw}: {name} is not there; expected the raw corpus that the dataset was built from")
    write_videos(raw, [one.utterance], [folder / "speaker.mp4"])
    clip = moviepy.VideoFileClip(str(folder / "speaker.mp4"))
    return clip.resized(min(SPEAKER[2] / clip.w, SPEAKER[3] / clip.h))
