"""A prediction as a table, as JSON, and as a page with the video, a timeline to click on, faces and audio."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.files import write_text
from mesm_data.media.encode import VideoStyle, write_videos
from mesm_data.report.picture import DARK, PALE, data_uri, fading, side_by_side, strip
from mesm_data.report.render import render
from mesm_data.report.sheet import SLOT, Example, face_slots, pieces
from mesm_data.utterance import Source, Utterance
from mesm_model.evaluation import scores
from mesm_model.evaluation.metrics import NAMES, Scores
from mesm_model.models import MODALITIES
from mesm_model.prediction.overlay import of_modality, saved_share, selected_by_layers, selected_share
from mesm_model.prediction.predict import Model, Prediction, Result, top_emotion, top_modality
from mesm_model.runs.folder import is_finished, read_scores

SECONDS = 12.0  # of each utterance whose faces and audio are shown
PICTURED = 150  # utterances with images; more make the page slow
VIDEO_MB = 24.0  # of the video on the page, about
VIDEO = VideoStyle(height=360, max_rate=15.0, crf=30, preset="superfast", audio_kbps=48)
TICKS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)  # seconds between two marks of the timeline


def to_json(result: Result) -> dict[str, Any]:
    """The result as plain values; seconds are those of the video."""
    model = result.model
    return {
        "video": result.video.name,
        "run": str(model.run),
        "model": model.checkpoint.model,
        "modalities": [MODALITIES[letter] for letter in model.modalities],
        "emotions": list(model.emotions),
        "thresholds": dict(zip(model.emotions, _plain(model.thresholds), strict=True)),
        "seconds": round(result.seconds, 3),
        "people": result.people,
        "face": result.face if result.people else None,
        "missing": list(result.missing),
        "assumed": list(result.assumed),
        "utterances": [_utterance_to_json(model, prediction) for prediction in result.predictions],
    }


def to_text(result: Result) -> str:
    """A line per utterance: time, probabilities, top modality, text; then thresholds and notes."""
    model = result.model
    lines = [f"{'time':<17}" + "".join(f"{emotion[:11]:>12}" for emotion in model.emotions)]
    for one in result.predictions:
        u, probability = one.utterance, one.output.probability
        marked = [f"{p:.2f}{'*' if p > t else ' '}" for p, t in zip(probability, model.thresholds, strict=True)]
        moved = MODALITIES[top_modality(model, one)]
        words = f"  {u.text}" if u.text else ""
        times = f"{clock(u.start):>7} - {clock(u.end):>7}"
        lines.append(times + "".join(f"{cell:>12}" for cell in marked) + f"  {moved}{words}")
    thresholds = ", ".join(f"{e} {t:.2f}" for e, t in zip(model.emotions, model.thresholds, strict=True))
    lines.append(
        f"* above the threshold chosen in training: {thresholds}. "
        "Last: the modality without which the emotion that is highest above its threshold would change most."
    )
    return "\n".join([*lines, *notes(result)])


def notes(result: Result) -> list[str]:
    """Sentences on who was in view, what could not be used, and what was assumed."""
    found = sum(int(one.clip.face_found.sum()) for one in result.predictions)
    taken = sum(len(one.clip.face_found) for one in result.predictions)
    seen = f"{result.people} {'person' if result.people == 1 else 'people'} in view"
    followed = f", face {result.face} followed" if result.people > 1 else ""
    faces = [f"{seen}{followed}: a face in {found} of {taken} frames."]
    if not found:
        faces = [f"No face found in any of {taken} frames; the model was given the middle of each."]
    doubts = {
        "silent": "the audio is silent",
        "clipped": "the audio is clipped",
        "decode-errors": "frames are damaged",
        "no-face": "no face was found",
    }
    doubtful = [
        f"In {count} of {len(result.predictions)} utterances {words}."
        for kind, words in doubts.items()
        if (count := sum(kind in one.clip.quality for one in result.predictions)) and (found or kind != "no-face")
    ]
    return [*faces, *result.missing, *result.assumed, *doubtful]


def scores_on_test(model: Model) -> str:
    """What the model scored on the test split of the data that it was trained on, beside the best constant decision."""
    folder = model.run if model.run.is_dir() else model.run.parent
    stored = read_scores(folder)["splits"].get("test") if is_finished(folder) else None
    if stored is None:
        return "What this model scores on a test split is not known: its run has no such scores."
    report = scores.from_json(stored)
    name, constant = max(report.trivial.items(), key=lambda row: row[1].mean("f1"))
    return (
        f"On the test split of {report.data} ({report.utterances:,} utterances) this model scores "
        f"{_means(report.scores)}; to {name} scores {_means(constant)}."
    )


def clock(seconds: float) -> str:
    """`1:02.5`: minutes and seconds, to a tenth."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def write_page(out: Path, result: Result) -> None:
    """Write the page to `out`, with a small copy of the video in it."""
    model = result.model
    pictured = {n * len(result.predictions) // PICTURED for n in range(PICTURED)}
    lanes = lanes_of([(one.utterance.start, one.utterance.end) for one in result.predictions])
    cards = [
        _card(model, one, lane, n in pictured or len(result.predictions) <= PICTURED)
        for n, (one, lane) in enumerate(zip(result.predictions, lanes, strict=True))
    ]
    page = render(
        "timeline.html",
        {"clock": clock, "points": _points},
        "mesm_model",
        result=result,
        model=model,
        letters=MODALITIES,
        version=version("mesm"),
        notes=notes(result),
        test_scores=scores_on_test(model),
        cards=cards,
        lanes=1 + max(lanes),
        slot=SLOT,
        shown_seconds=SECONDS,
        ticks=_ticks(result.seconds),
        video=base64.b64encode(_small_video(result)).decode(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)


# ---- plain values


def _utterance_to_json(model: Model, one: Prediction) -> dict[str, Any]:
    u, output = one.utterance, one.output
    decided = output.probability > model.thresholds
    return {
        "start": round(u.start, 3),
        "end": round(u.end, 3),
        "text": u.text,
        "probabilities": _by_emotion(model, output.probability),
        "decisions": [emotion for emotion, yes in zip(model.emotions, decided, strict=True) if yes],
        "leave_one_out": {
            MODALITIES[letter]: _by_emotion(model, output.probability - without)
            for letter, without in one.without.items()
        },
        "top_emotion": model.emotions[top_emotion(model, one)],
        "top_modality": MODALITIES[top_modality(model, one)],
        "faces": {"taken": len(one.clip.face_found), "found": int(one.clip.face_found.sum())},
        "doubts": list(one.clip.quality),
    }


def _by_emotion(model: Model, values: np.ndarray) -> dict[str, float]:
    return dict(zip(model.emotions, _plain(values), strict=True))


def _plain(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


# ---- the page


@dataclass(frozen=True)
class _Piece:
    """Two seconds of an utterance as images, and PNGs that fade them where the attention selected nothing."""

    start: float  # seconds of the video
    scores: tuple[float | None, ...]  # per slot of half a second
    times: tuple[str, ...]  # of each slot, by the clock of the video
    faces: str
    mel: str
    share: float  # of the piece's width that the mel fills
    fading_faces: str
    fading_mel: str


@dataclass(frozen=True)
class _Card:
    """An utterance on the page."""

    prediction: Prediction
    top: str  # the one emotion that is highest above its threshold
    top_probability: float
    is_decided: bool  # above its threshold
    moved: str  # which modality changes it most
    decided: list[str]  # every emotion above its threshold
    lane: int  # 0 unless it overlaps with another utterance
    pieces: list[_Piece]
    attention: list[str]  # sentences


def _card(model: Model, one: Prediction, lane: int, pictured: bool) -> _Card:
    top, decided = top_emotion(model, one), one.output.probability > model.thresholds
    return _Card(
        prediction=one,
        top=model.emotions[top],
        top_probability=float(one.output.probability[top]),
        is_decided=bool(decided[top]),
        moved=_moved(model, one),
        decided=[emotion for emotion, yes in zip(model.emotions, decided, strict=True) if yes],
        lane=lane,
        pieces=_pieces(model, one) if pictured else [],
        attention=_attention(model, one),
    )


def lanes_of(times: Sequence[tuple[float, float]]) -> list[int]:
    """For each utterance, start and end in order of time, the first lane in which nothing else lies at its time."""
    ends: list[float] = []
    lanes = []
    for start, end in times:
        lane = next((n for n, taken in enumerate(ends) if taken <= start + 1e-6), len(ends))
        ends[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _moved(model: Model, one: Prediction) -> str:
    emotion, letter = top_emotion(model, one), top_modality(model, one)
    change = float(one.output.probability[emotion] - one.without[letter][emotion])
    if abs(change) < 0.005:
        return "no modality changes it on its own"
    return f"{MODALITIES[letter]} {'raises' if change > 0 else 'lowers'} it most"


def _means(of: Scores) -> str:
    return ", ".join(f"{title} {100 * of.mean(name):.1f}" for name, title in NAMES.items() if of.averaged(name))


def _attention(model: Model, one: Prediction) -> list[str]:
    """What was selected and saved, by modality."""
    sentences = []
    for letter, name in (("v", "faces"), ("a", "audio")):
        levels = of_modality(one.output.levels, letter)
        if levels and len(levels[0].selected):
            selected = ", ".join(f"{100 * selected_share(level).mean():.0f}" for level in levels)
            saved = np.mean([saved_share(level, model.width, model.query_size) for level in levels])
            sentences.append(
                f"{name}: {selected} % of the places selected, {100 * saved:.0f} % of the multiply-adds saved"
            )
    return sentences


def _pieces(model: Model, one: Prediction) -> list[_Piece]:
    example = _example(model, one)
    slots, per_slot = face_slots(example), SLOT / model.recipe.hop
    faces, mels = (_selected(one, letter) for letter in "va")
    found = []
    for piece in pieces(example, SECONDS):
        first, count = round(piece.start / SLOT), len(piece.scores)
        begin, end = round(first * per_slot), min(round((first + count) * per_slot), example.mel.shape[1])
        start = one.utterance.start + piece.start
        found.append(
            _Piece(
                start=start,
                scores=piece.scores,
                times=tuple(clock(start + SLOT * n) for n in range(count)),
                faces=data_uri(piece.faces) if piece.faces else "",
                mel=data_uri(piece.mel) if piece.mel else "",
                share=piece.share,
                fading_faces=_fading_faces(faces, [slots.get(first + n) for n in range(count)]) if piece.faces else "",
                fading_mel=_fading_mel(mels, begin, end, example.mel.shape[0]) if piece.mel else "",
            )
        )
    return found


def _selected(one: Prediction, letter: str) -> np.ndarray | None:
    """The share of the layers that selected each site, float [F, H, W]; None without attention or frames."""
    levels = of_modality(one.output.levels, letter)
    return selected_by_layers(levels) if levels and len(levels[0].selected) else None


def _fading_faces(selected: np.ndarray | None, places: list[int | None]) -> str:
    return data_uri(fading(strip(selected, places, empty=1), DARK)) if selected is not None else ""


def _fading_mel(selected: np.ndarray | None, begin: int, end: int, mels: int) -> str:
    """For the mel frames from `begin` to `end`, on the coarser grid of the masks."""
    if selected is None:
        return ""
    scale = mels // selected.shape[1]
    return data_uri(fading(side_by_side(selected)[::-1, begin // scale : -(-end // scale)], PALE))


def _example(model: Model, one: Prediction) -> Example:
    u, clip = one.utterance, one.clip
    frames = int(np.ceil((u.end - u.start) / model.recipe.hop))
    return Example(
        id=u.id,
        split="",
        text=u.text,
        emotions=(),
        votes=(),
        start=u.start,
        end=u.end,
        speaker=u.speaker,
        group=u.group,
        quality=clip.quality,
        faces=clip.faces,
        face_times=clip.face_times - u.start,
        face_scores=clip.face_scores,
        face_found=clip.face_found,
        mel=side_by_side(clip.mels.astype(np.float32))[:, :frames],
        hop=model.recipe.hop,
        sample_rate=clip.sample_rate,
    )


def _small_video(result: Result) -> bytes:
    """A small copy of the video, as far as it can be read."""
    kbps = min(400.0, VIDEO_MB * 8000 / result.seconds - VIDEO.audio_kbps)
    look = replace(VIDEO, max_kbps=max(20, round(kbps)))
    whole = Utterance("video", Source(result.video.name), 0.0, result.seconds, "", (), (), "", "")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "video.mp4"
        write_videos(result.video.parent, [whole], [out], look)
        return out.read_bytes()


def _ticks(seconds: float) -> list[float]:
    step = next((step for step in TICKS if seconds / step <= max(8.0, seconds / 8)), TICKS[-1])
    return [float(tick) for tick in np.arange(0, 0.9 * seconds, step)]  # a label later than that would not fit


def _points(difference: float) -> str:
    """Of 100, with its sign."""
    points = round(100 * float(difference))
    return f"{points:+d}".replace("-", "−") if points else "0"
