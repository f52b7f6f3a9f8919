"""What is told of a predicted video: a table, JSON, and one page with the film, a timeline to click, faces, sound."""

import base64
import io
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from mesm_data.files import write_text
from mesm_data.media.encode import Look, write_videos
from mesm_data.report.sheet import SLOT, Example, face_slots, pieces
from mesm_data.utterance import Source, Utterance
from mesm_model.models import MODALITIES
from mesm_model.prediction.overlay import RED, depth, grey_mel, of_modality, saved_share, selected_share, side_by_side
from mesm_model.prediction.predict import Model, Prediction, Result, top_emotion, top_modality

SECONDS = 12.0  # of an utterance whose faces and sound are shown
PICTURED = 150  # utterances with pictures; more make the page slow
FILM_MB = 24.0  # of the film on the page, about
FILM = Look(height=360, most_rate=15.0, crf=30, preset="superfast", sound_kbps=48)
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
    """A line an utterance: when, the probabilities, what moved them, the words; then who was seen, what is missing."""
    model = result.model
    lines = [f"{'seconds':<15}" + "".join(f"{emotion[:11]:>12}" for emotion in model.emotions)]
    for one in result.predictions:
        u, probability = one.utterance, one.output.probability
        marked = [f"{p:.2f}{'*' if p > t else ' '}" for p, t in zip(probability, model.thresholds, strict=True)]
        moved = MODALITIES[top_modality(model, one)]
        words = f"  {u.text}" if u.text else ""
        lines.append(f"{u.start:6.2f} - {u.end:6.2f}" + "".join(f"{cell:>12}" for cell in marked) + f"  {moved}{words}")
    thresholds = ", ".join(f"{e} {t:.2f}" for e, t in zip(model.emotions, model.thresholds, strict=True))
    lines.append(
        f"* above the threshold chosen in training: {thresholds}. "
        "Behind: the modality that moved most the emotion which is likeliest by its threshold."
    )
    return "\n".join([*lines, *notes(result)])


def notes(result: Result) -> list[str]:
    """Sentences on who was in view, and on what could not be used."""
    found = sum(int(one.clip.face_found.sum()) for one in result.predictions)
    taken = sum(len(one.clip.face_found) for one in result.predictions)
    seen = f"{result.people} {'person' if result.people == 1 else 'people'} in view"
    followed = f", face {result.face} followed" if result.people > 1 else ""
    faces = [f"{seen}{followed}: a face in {found} of {taken} pictures."]
    if not found:
        faces = [f"No face found in any of {taken} pictures; the model saw the middle of each."]
    doubts = {
        "silent": "nothing can be heard",
        "clipped": "the sound is clipped",
        "decode-errors": "pictures are damaged",
        "no-face": "no face was found",
    }
    told = [
        f"In {count} of {len(result.predictions)} utterances {words}."
        for kind, words in doubts.items()
        if (count := sum(kind in one.clip.quality for one in result.predictions)) and (found or kind != "no-face")
    ]
    return [*faces, *result.missing, *result.assumed, *told]


def _moved_words(model: Model, one: Prediction) -> str:
    """Which emotion top_modality is about, and what it is."""
    emotion, letter = top_emotion(model, one), top_modality(model, one)
    change = float(one.output.probability[emotion] - one.without[letter][emotion])
    name = model.emotions[emotion]
    if abs(change) < 0.005:
        return f"{name}: no modality alone moved it"
    return f"{name} moved most by {MODALITIES[letter]}"


def write_page(out: Path, result: Result) -> None:
    """Write the page to `out`; the film on it is small, so that the page stays so."""
    model = result.model
    pictured = {n * len(result.predictions) // PICTURED for n in range(PICTURED)}
    cards = [
        _card(model, one, n in pictured or len(result.predictions) <= PICTURED)
        for n, one in enumerate(result.predictions)
    ]
    template = _environment().get_template("timeline.html")
    page = template.render(
        result=result,
        model=model,
        letters=MODALITIES,
        version=version("mesm"),
        notes=notes(result),
        cards=cards,
        slot=SLOT,
        shown_seconds=SECONDS,
        ticks=_ticks(result.seconds),
        film=base64.b64encode(_film(result)).decode(),
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
    """Two seconds of an utterance as pictures, and red for what attention selected, as PNG without a background."""

    start: float  # seconds since the utterance began
    scores: tuple[float | None, ...]  # a slot
    faces: str
    mel: str
    share: float  # of the piece's width that the mel fills
    selected_faces: str
    selected_mel: str


@dataclass(frozen=True)
class _Card:
    """An utterance on the page."""

    prediction: Prediction
    moved: str
    decided: list[str]
    pieces: list[_Piece]
    attention: list[str]  # sentences


def _card(model: Model, one: Prediction, pictured: bool) -> _Card:
    decided = one.output.probability > model.thresholds
    return _Card(
        one,
        _moved_words(model, one),
        [emotion for emotion, yes in zip(model.emotions, decided, strict=True) if yes],
        _pieces(model, one) if pictured else [],
        _attention(model, one),
    )


def _attention(model: Model, one: Prediction) -> list[str]:
    """What was selected and spared, by modality."""
    sentences = []
    for letter, name in (("v", "faces"), ("a", "sound")):
        levels = of_modality(one.output.levels, letter)
        if levels and len(levels[0].selected):
            selected = ", ".join(f"{100 * selected_share(level).mean():.0f}" for level in levels)
            saved = np.mean([saved_share(level, model.width, model.query_size) for level in levels])
            sentences.append(
                f"{name}: {selected} % of the places selected, {100 * saved:.0f} % of the multiply-adds spared"
            )
    return sentences


def _pieces(model: Model, one: Prediction) -> list[_Piece]:
    example = _example(model, one)
    slots, mel = face_slots(example), grey_mel(one.clip.mels)[:, : example.mel.shape[1]]
    seen, heard = (_selected(one, letter) for letter in "va")
    frames = SLOT / model.recipe.hop  # of a slot
    found = []
    for piece in pieces(example, SECONDS):
        first, count = round(piece.start / SLOT), len(piece.scores)
        begin, end = round(first * frames), min(round((first + count) * frames), mel.shape[1])
        sound = begin < end
        found.append(
            _Piece(
                start=piece.start,
                scores=piece.scores,
                faces=_uri(piece.faces, "jpeg"),
                mel=_jpeg(mel[:, begin:end]) if sound else "",
                share=piece.share,
                selected_faces=_red(_strip(seen, slots, first, count)) if seen is not None else "",
                selected_mel=_red(_stretch(heard, begin, end, mel.shape[0])) if heard is not None and sound else "",
            )
        )
    return found


def _selected(one: Prediction, letter: str) -> np.ndarray | None:
    """The share of the layers that selected each place, float [F, H, W]; None where nothing was looked at."""
    levels = of_modality(one.output.levels, letter)
    return depth(levels) / len(levels) if levels and len(levels[0].selected) else None


def _stretch(heard: np.ndarray, begin: int, end: int, mels: int) -> np.ndarray:
    """The masks of all chunks from one mel frame to another, on their own coarser grid, low tones below."""
    scale = mels // heard.shape[1]
    return side_by_side(heard)[:, begin // scale : -(-end // scale)]


def _strip(looked: np.ndarray, slots: dict[int, int], first: int, count: int) -> np.ndarray:
    """The masks of some slots side by side, 0 where there is no face."""
    strip = np.zeros((looked.shape[1], count * looked.shape[2]))
    for slot in range(count):
        face = slots.get(first + slot)
        if face is not None:
            strip[:, slot * looked.shape[2] : (slot + 1) * looked.shape[2]] = looked[face]
    return strip


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
        mel=side_by_side(clip.mels.astype(np.float32))[::-1][:, :frames],
        hop=model.recipe.hop,
        sample_rate=clip.sample_rate,
    )


def _film(result: Result) -> bytes:
    """All of the video that can be read, small."""
    kbps = min(400.0, FILM_MB * 8000 / result.seconds - FILM.sound_kbps)
    look = replace(FILM, most_kbps=max(20, round(kbps)))
    whole = Utterance("film", Source(result.video.name), 0.0, result.seconds, "", (), (), "", "")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film.mp4"
        write_videos(result.video.parent, [whole], [out], look)
        return out.read_bytes()


def _ticks(seconds: float) -> list[float]:
    step = next((step for step in TICKS if seconds / step <= max(8.0, seconds / 8)), TICKS[-1])
    return [float(tick) for tick in np.arange(0, seconds, step)]


def _red(share: np.ndarray) -> str:
    """Red where `share` is, the more the thicker, as a small PNG to be laid over a picture."""
    pixels = np.zeros((*share.shape, 4), np.uint8)
    pixels[..., :3] = RED.astype(np.uint8)
    pixels[..., 3] = (200 * share).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _uri(file.getvalue(), "png")


def _jpeg(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).convert("L").save(file, "JPEG", quality=80, optimize=True)
    return _uri(file.getvalue(), "jpeg")


def _uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _clock(seconds: float) -> str:
    """`1:02.5`; whole seconds without a fraction."""
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes)}:{rest:05.2f}".rstrip("0").rstrip(".") if rest % 1 else f"{int(minutes)}:{int(rest):02d}"


def _points(difference: float) -> str:
    """Of 100, with its sign."""
    points = round(100 * float(difference))
    return f"{points:+d}".replace("-", "−") if points else "0"


def _environment() -> Environment:
    environment = Environment(
        # report.css is the data side's
        loader=ChoiceLoader([PackageLoader("mesm_model"), PackageLoader("mesm_data.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": _clock, "points": _points}
    return environment
