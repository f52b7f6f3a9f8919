"""One utterance as images: faces and mel on one axis of time, for the report and for `mesm-data show`.

Faces are shown in slots of half a second, the rate at which the paper takes them; at a higher rate one face per slot is
shown. Times are seconds since the start of the utterance.
"""

import difflib
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesm_data.dataset.reader import Dataset, load
from mesm_data.dataset.schema import faces_of, mels_of
from mesm_data.errors import ShardError
from mesm_data.report.picture import TICKS, jpeg, mel_image, mel_row, side_by_side, strip
from mesm_data.utterance import Vote
from mesm_data.votes import by_rater, only_named

SLOT = 0.5  # seconds
PIECE = 4  # slots per piece: where a page breaks lines
LINE = 8.0  # seconds in a line of a sheet
SHORTEST = 6.0  # seconds for which a sheet is wide enough, whatever the utterance has
INCHES = 1.2  # a second on a sheet, so a face is 0.6 inches wide


@dataclass(frozen=True)
class Example:
    """One utterance of a dataset with faces and mel. V faces, A mel chunks."""

    id: str
    split: str
    text: str
    emotions: tuple[str, ...]  # those it is labelled with
    votes: tuple[Vote, ...]
    start: float  # seconds of the recording
    end: float
    speaker: str
    group: str
    quality: tuple[str, ...]
    faces: np.ndarray  # uint8 [V, 48, 48, 3]
    face_times: np.ndarray  # [V], seconds since the start of the utterance
    face_scores: np.ndarray  # [V], 0 where no face was found
    face_found: np.ndarray  # bool [V]
    mel: np.ndarray  # float32 [128, frames], without the padding of the last chunk
    hop: float  # seconds per frame
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Piece:
    """Up to `PIECE` slots of an utterance as images for a page."""

    start: float  # seconds since the start of the utterance
    scores: tuple[float | None, ...]  # per slot: probability of its face, 0 where none was found, None without a frame
    faces: bytes  # JPEG, the slots side by side; empty where none has a face
    mel: bytes  # JPEG; empty where there is no audio
    share: float  # of the piece's width that the mel fills


def examples(dataset: Dataset, ids: Iterable[str]) -> Iterator[Example]:
    """The utterances of these ids, in the dataset's order; ids that it does not have are skipped."""
    hop = dataset.index["recipe"]["hop"]
    for table in dataset.find(ids):
        row = table.drop_columns(["faces", "mels"]).to_pylist()[0]
        yield Example(
            id=row["id"],
            split=row["split"],
            text=row["text"],
            emotions=tuple(name for name, label in zip(dataset.emotions, row["labels"], strict=True) if label),
            votes=tuple(Vote(**vote) for vote in row["votes"]),
            start=row["start"],
            end=row["end"],
            speaker=row["speaker"],
            group=row["group"],
            quality=tuple(row["quality"]),
            faces=faces_of(table, 0),
            face_times=np.array(row["face_times"]) - row["start"],
            face_scores=np.array(row["face_scores"]),
            face_found=np.array(row["face_found"], bool),
            mel=_without_padding(mels_of(table, 0), (row["end"] - row["start"]) / hop),
            hop=hop,
            sample_rate=row["sample_rate"],
        )


def pieces(example: Example, seconds: float) -> list[Piece]:
    """The first `seconds` of an utterance in pieces of two seconds, the last one shorter."""
    chosen = face_slots(example)
    slots = max(1, int(np.ceil(min(seconds, example.seconds) / SLOT - 1e-9)))
    image = mel_image(example.mel)
    frames = SLOT / example.hop  # a slot
    return [
        _piece(example, image, chosen, first, min(PIECE, slots - first), frames) for first in range(0, slots, PIECE)
    ]


def face_slots(example: Example) -> dict[int, int]:
    """Slot -> the first of the faces that fall into it."""
    chosen: dict[int, int] = {}
    for face, time in enumerate(example.face_times):
        chosen.setdefault(max(0, round(float(time) / SLOT)), face)
    return chosen


def utterance_sheet(dataset: Path, utterance: str, out: Path) -> None:
    """Draw an utterance, all of it, as one PNG. Raises ShardError for an id that the dataset does not have."""
    opened = load(dataset)
    found = next(examples(opened, [utterance]), None)
    if found is None:
        raise ShardError(_why_absent(opened, utterance))
    named = only_named([Vote(**vote) for vote in row["votes"]] for row in opened.rows(["votes"]))
    drawn = io.BytesIO()
    figure = _draw_sheet(found, opened.corpus, by_rater(found.votes, named))
    figure.savefig(drawn, format="png", dpi=130, metadata={"Software": None})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(drawn.getvalue())


# ---- pieces


def _piece(example: Example, image: np.ndarray, chosen: dict[int, int], first: int, slots: int, frames: float) -> Piece:
    places = [chosen.get(first + slot) for slot in range(slots)]
    scores = [
        None if face is None else float(example.face_scores[face]) if example.face_found[face] else 0.0
        for face in places
    ]
    seen = any(place is not None for place in places)
    faces = jpeg(strip(example.faces, places, empty=128), 90) if seen else b""
    mel = image[:, round(first * frames) : round((first + slots) * frames)]
    share = min(1.0, mel.shape[1] / (slots * frames))
    return Piece(first * SLOT, tuple(scores), faces, jpeg(mel, 80) if mel.size else b"", share)


def _without_padding(chunks: np.ndarray, frames: float) -> np.ndarray:
    """[A, 128, 32] side by side as [128, frames]."""
    return side_by_side(chunks.astype(np.float32))[:, : int(np.ceil(frames))]


def _why_absent(dataset: Dataset, utterance: str) -> str:
    """Why an id is not in the dataset: the Issue that dropped it, or which ids are near."""
    for issue in dataset.issues:
        if issue.utterance == utterance:
            return f"{dataset.folder}: {utterance} was dropped, {issue.kind}: {issue.detail}"
    near = difflib.get_close_matches(utterance, [row["id"] for row in dataset.rows(["id"])], n=3)
    meant = f"; nearest are {', '.join(near)}" if near else ""
    return f"{dataset.folder}: no utterance {utterance!r}{meant}"


# ---- the sheet


def _draw_sheet(example: Example, corpus: str, votes: Sequence[tuple[str, str]]) -> Figure:
    inches = INCHES * min(max(example.seconds, SHORTEST), LINE)
    above, below = _heading(example, corpus, inches), _footing(example, votes, inches)
    lines = max(1, int(np.ceil(example.seconds / LINE - 1e-9)))
    top, line, bottom = 0.35 + 0.21 * len(above), 2.75, 0.35 + 0.21 * len(below)
    width, height = inches + 1.1, top + lines * line + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    place: dict[str, Any] = {"x": 0.75 / width, "va": "top", "linespacing": 1.45, "parse_math": False}
    figure.text(y=1 - 0.2 / height, s=above[0], fontsize=13, weight="bold", **place)
    figure.text(y=1 - 0.5 / height, s="\n".join(above[1:]), fontsize=10, **place)
    figure.text(y=(bottom - 0.1) / height, s="\n".join(below), fontsize=9, **place)
    image, chosen = mel_image(example.mel), face_slots(example)
    for n in range(lines):
        begin, end = n * LINE, min((n + 1) * LINE, max(example.seconds, SLOT))
        span, y = (end - begin) * INCHES / width, height - top - (n + 1) * line
        strip = figure.add_axes((0.75 / width, (y + 1.95) / height, span, 0.6 / height))
        mel = figure.add_axes((0.75 / width, (y + 0.55) / height, span, 1.2 / height))
        _draw_faces(strip, example, chosen, begin, end)
        _draw_mel(mel, example, image, begin, end, last=n == lines - 1)
    return figure


def _heading(example: Example, corpus: str, inches: float) -> list[str]:
    labels = ", ".join(example.emotions) or "no emotion"
    times = f"{example.start:.2f} to {example.end:.2f} s of {example.group}"
    facts = f"{corpus}, {example.split}, {times}, speaker {example.speaker}"
    doubts = [f"doubtful: {', '.join(example.quality)}"] if example.quality else []
    return [example.id, facts, f"label: {labels}", *doubts, *_wrapped(f"“{example.text}”", round(11 * inches))]


def _footing(example: Example, votes: Sequence[tuple[str, str]], inches: float) -> list[str]:
    found, taken = int(example.face_found.sum()), len(example.face_found)
    lines = [line for rater, said in votes for line in _wrapped(f"{rater}: {said}", round(12 * inches))]
    said = ["What the raters said", *lines] if lines else ["No votes."]
    return [f"Face found in {found} of {taken} frames.", "", *said]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width) or [""]


def _draw_faces(axes: Axes, example: Example, chosen: dict[int, int], begin: float, end: float) -> None:
    axes.set_axis_off()
    for slot, face in chosen.items():
        at = slot * SLOT
        if begin <= at < end:
            # the last face of an utterance may reach beyond its end, and so beyond the axes
            axes.imshow(example.faces[face], extent=(at, at + SLOT, 0, 1), aspect="auto", clip_on=False)
            found = bool(example.face_found[face])
            label = f"{example.face_scores[face]:.3f}" if found else "no face"
            axes.text(
                at + SLOT / 2, -0.07, label, ha="center", va="top", fontsize=7.5, color="black" if found else "#b00020"
            )
    axes.set_xlim(begin, end)
    axes.set_ylim(0, 1)


def _draw_mel(axes: Axes, example: Example, image: np.ndarray, begin: float, end: float, last: bool) -> None:
    part = image[:, round(begin / example.hop) : round(end / example.hop)]
    if part.size:
        axes.imshow(part, extent=(begin, begin + part.shape[1] * example.hop, 0, 128), aspect="auto")
    axes.set_xlim(begin, end)
    axes.set_ylim(0, 128)
    ticks = [tick for tick in TICKS if tick <= example.sample_rate / 2]
    axes.set_yticks(
        [mel_row(tick, example.sample_rate) for tick in ticks], [_hertz(tick) for tick in ticks], fontsize=7.5
    )
    axes.set_xticks(np.arange(begin, end + 1e-9, SLOT))
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_ylabel("Hz", fontsize=8)
    if last:
        axes.set_xlabel("seconds since the start of the utterance", fontsize=8, loc="left")


def _hertz(tick: int) -> str:
    return f"{tick // 1000}k" if tick >= 1000 else str(tick)
