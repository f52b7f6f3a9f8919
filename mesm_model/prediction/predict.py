"""Predict the emotions of each utterance of a video: `predict`.

Clips are made by `mesm_data.decode.make_clips` with the recipe of the checkpoint, as those of the training data were:
there is no second way of preparing input. V faces, A mel chunks, E emotions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mesm_data.clip import Clip, Recipe
from mesm_data.decode import END_TOLERANCE, SHORTEST, Decoded, make_clips
from mesm_data.errors import DataError, MediaError
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.faces.tracking import follow_all
from mesm_data.media.probe import probe
from mesm_data.utterance import Source, Utterance
from mesm_model import models
from mesm_model.batch import Example, collate, model_input
from mesm_model.models.common.attention import Trace, TracedLevel
from mesm_model.models.common.interface import SelectsSites
from mesm_model.models.common.text import tokenize
from mesm_model.models.common.two_phase import is_two_phase
from mesm_model.prediction.transcripts import Segment, Transcript, read_transcript
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint
from mesm_model.runs.folder import text_folder
from mesm_model.runs.settings import PRECISIONS

if TYPE_CHECKING:
    import pandas as pd

STRETCH = 6.0  # seconds per utterance where there is no transcript; MOSEI's utterances last 7.8 s on average
CUT = 0.5  # seconds by which a file may be shorter than its number of frames says


@dataclass(frozen=True, repr=False)
class Model:
    """A trained FE2E or MESM, ready to predict."""

    run: Path
    checkpoint: Checkpoint
    network: Any
    encoder: Path | None  # folder of the tokenizer; None for a model without text
    device: torch.device

    @property
    def emotions(self) -> tuple[str, ...]:
        return tuple(self.checkpoint.data["emotions"])

    @property
    def modalities(self) -> str:
        """Letters of t (text), a (audio), v (vision)."""
        return self.network.config.modalities

    @property
    def recipe(self) -> Recipe:
        stored = dict(self.checkpoint.data["recipe"])
        return Recipe(**stored | {"face_thresholds": tuple(stored["face_thresholds"])})

    @property
    def width(self) -> int:
        """Channels of the first convolutions."""
        return self.network.config.width

    @property
    def query_size(self) -> int:
        """Size of the vector that queries the attention; MESM only."""
        return self.network.query_size

    @property
    def thresholds(self) -> np.ndarray:
        """float [E], chosen on the valid split in training."""
        return np.array(self.checkpoint.thresholds)

    def __repr__(self) -> str:
        return f"Model({self.checkpoint.model} of {self.run}, {self.modalities}, {', '.join(self.emotions)})"


@dataclass(frozen=True)
class ModelOutput:
    """The output of a model for one clip."""

    probability: np.ndarray  # float32 [E]
    levels: tuple[TracedLevel, ...]  # one per attention layer; empty for models without attention


@dataclass(frozen=True, repr=False)
class Prediction:
    """One utterance of a video with its clip and the model's output."""

    utterance: Utterance
    clip: Clip
    output: ModelOutput
    without: Mapping[str, np.ndarray]  # modality -> float32 [E], probabilities when the model gets nothing of it

    def __repr__(self) -> str:
        u = self.utterance
        values = ", ".join(f"{value:.2f}" for value in self.output.probability)
        return f"Prediction({u.start:.2f} to {u.end:.2f} s, {u.text[:60]!r}, probabilities {values})"


@dataclass(frozen=True, repr=False)
class Result:
    """A video, predicted utterance by utterance."""

    video: Path
    model: Model
    predictions: tuple[Prediction, ...]  # in order of time
    seconds: float  # up to which the video can be read
    people: int  # in view over the whole video
    face: int  # whose face the model was given, from 1, the largest
    missing: tuple[str, ...]  # what could not be used, in sentences
    assumed: tuple[str, ...] = ()  # what the reader of the transcript assumed, in sentences

    def to_pandas(self) -> "pd.DataFrame":
        """A row per utterance: start and end in seconds, text, a probability per emotion, what was decided.

        `decided` are the emotions above their thresholds, `top_emotion` and `top_modality` are those of the page;
        `faces_found` of `faces` frames show the speaker.
        """
        import pandas as pd

        return pd.DataFrame([_row(self.model, one) for one in self.predictions])

    def __repr__(self) -> str:
        return (
            f"Result({self.video.name}, {len(self.predictions)} utterances in {self.seconds:.1f} s, {self.people} in "
            f"view, {self.model})"
        )


def load_model(run: str | Path, device: torch.device | str = "cpu", top_p: float | None = None) -> Model:
    """The model of a run's best checkpoint; `top_p` replaces the share of the attention that it was trained to keep.

    Raises CheckpointError, and DataError for a two-phase model, or a `top_p` for a model without attention.
    """
    run = Path(run)
    checkpoint = checkpoints.load(run)
    if is_two_phase(models.load(checkpoint.model).Config):
        raise DataError(
            f"{run}: {checkpoint.model} takes precomputed features, not faces and audio; expected a run of fe2e or mesm"
        )
    folder = run if run.is_dir() else run.parent
    network: Any = checkpoints.build_model(checkpoint, folder).to(device)
    if top_p is not None:
        check_attention(run, checkpoint, network)
        network.top_p = top_p
    return Model(run, checkpoint, network, text_folder(network, folder), torch.device(device))


def check_attention(run: Path, checkpoint: Checkpoint, network: Any) -> None:
    """Raises DataError for a model without a nucleus of attention."""
    if not isinstance(network, SelectsSites):
        raise DataError(f"{run}: a {checkpoint.model} has no attention to show; expected a run of mesm")


def predict(
    run: str | Path | Model,
    video: str | Path,
    transcript: str | Path | Transcript | Sequence[Segment] | None = None,
    *,
    text: str | None = None,
    face: int | None = None,
    device: torch.device | str = "cpu",
) -> Result:
    """Predict the emotions of each utterance of a video.

    `run` is a run's folder, its best.pt, or a model from `load_model`; only then `device` is ignored. `transcript` is a
    file (.srt, .vtt, lines of start, end and text) or what was read from one; `text` is one text for the whole video
    instead. A model without text needs neither. `face` chooses among the people in view: 1, the default, is the
    largest. The video is decoded once; of a damaged file everything that can be read is used.

    Raises DataError for a model that reads text and gets none, and for a face that is not there; MediaError for a file
    of which nothing can be used.
    """
    model = run if isinstance(run, Model) else load_model(run, device)
    video = Path(video)
    if isinstance(transcript, str | Path):
        transcript = read_transcript(transcript)
    elif transcript is not None and not isinstance(transcript, Transcript):
        transcript = Transcript(tuple(transcript))
    seconds, counted = _length(video)
    segments = _segments(model, transcript, text, seconds)
    utterances, missing = _within(_utterances(video, segments), seconds)
    if not utterances:
        raise MediaError(f"{video}: nothing in it can be used; {' '.join(missing)}")
    detector = MTCNN(model.recipe.min_face, model.recipe.face_thresholds)
    decoded = make_clips(video.parent, utterances, model.recipe, detector, person=face or 1, cut=True)
    seconds, unreadable = _unreadable(utterances, decoded, seconds)
    missing += unreadable
    if not missing and counted > seconds + CUT:
        missing = [f"Video and audio can be read up to {seconds:.2f} s, of {counted:.2f} s by the number of frames."]
    usable = [(outcome.utterance, outcome.clip) for outcome in decoded.outcomes if outcome.clip]
    if not usable:
        raise MediaError(f"{video}: nothing in it can be used; {' '.join(missing)}")
    people = _people(video, decoded, face)
    predictions = _predictions(model, usable)
    assumed = transcript.notes if transcript else ()
    return Result(video, model, predictions, seconds, people, face or 1, tuple(missing), assumed)


def run_model(model: Model, clip: Clip, text: str) -> ModelOutput:
    """The output of a model for a clip and its text."""
    return _traced(model, _example(model, clip, text, _tokens(model, [text])[0]))


def top_emotion(model: Model, prediction: Prediction) -> int:
    """Number of the emotion whose probability is highest above its threshold, or least below it."""
    return int((prediction.output.probability - model.thresholds).argmax())


def top_modality(model: Model, prediction: Prediction) -> str:
    """The modality without which the probability of the top emotion would change most."""
    emotion = top_emotion(model, prediction)
    probability = prediction.output.probability[emotion]
    return max(model.modalities, key=lambda letter: abs(float(probability - prediction.without[letter][emotion])))


# ---- from video and transcript to utterances


def _length(video: Path) -> tuple[float, float]:
    """Seconds by the header of a video with audio, and by its number of frames."""
    info = probe(video)
    for there, what in ((info.has_video, "video"), (info.has_audio, "audio")):
        if not there:
            raise MediaError(f"{video}: found no {what} stream, expected a file with video and audio")
    return info.duration, info.counted


def _segments(model: Model, transcript: Transcript | None, text: str | None, seconds: float) -> Sequence[Segment]:
    if transcript is not None:
        return transcript.segments
    if text and text.strip():
        return [Segment(0.0, seconds, text)]
    if "t" in model.modalities:
        raise DataError(
            f"{model.run}: this {model.checkpoint.model} reads text, and there is none; give --transcript FILE, "
            "--text WORDS or --asr MODEL"
        )
    count = max(1, round(seconds / STRETCH))
    return [Segment(seconds * n / count, seconds * (n + 1) / count, "") for n in range(count)]


def _utterances(video: Path, segments: Sequence[Segment]) -> list[Utterance]:
    return [
        Utterance(f"{video.stem}_{n}", Source(video.name), *segment, (), (), video.stem, video.stem)
        for n, segment in enumerate(segments)
    ]


def _within(utterances: Sequence[Utterance], seconds: float) -> tuple[list[Utterance], list[str]]:
    """The utterances cut at the beginning and the end of the video, and sentences on what was cut or left out."""
    early = sum(u.start < 0 < u.end for u in utterances)
    inside = [replace(u, start=max(0.0, u.start)) for u in utterances if u.end > 0]
    before = len(utterances) - len(inside)
    begun = [u for u in inside if u.start + SHORTEST <= seconds]
    late = sum(u.end > seconds + END_TOLERANCE for u in begun)
    notes = [
        *([f"{_utterances_are(before)} before the video begins and left out."] if before else []),
        *([f"{_utterances_are(early)} cut at 0 s, where the video begins."] if early else []),
        *_notes_on_end(seconds, len(inside) - len(begun), late),
    ]
    return [replace(u, end=seconds) if u.end > seconds + END_TOLERANCE else u for u in begun], notes


def _unreadable(utterances: Sequence[Utterance], decoded: Decoded, seconds: float) -> tuple[float, list[str]]:
    """Seconds up to which the video was read, and sentences on what lies after that or cannot be used."""
    late = sum(outcome.utterance.end < u.end for u, outcome in zip(utterances, decoded.outcomes, strict=True))
    lost = [issue for outcome in decoded.outcomes if outcome.clip is None for issue in outcome.issues]
    after = [issue for issue in lost if issue.kind in ("media-short", "after-media-end")]
    if late or after:
        seconds = min(seconds, decoded.end)
    notes = _notes_on_end(seconds, len(after), late)
    others = [issue for issue in lost if issue not in after]
    if others:
        notes.append(f"{_utterances_are(len(others))} left out: {'; '.join(dict.fromkeys(i.detail for i in others))}.")
    return seconds, notes


def _notes_on_end(seconds: float, after: int, cut: int) -> list[str]:
    notes = [
        f"Video and audio can be read up to {seconds:.2f} s.",
        *([f"{_utterances_are(after)} after that and left out."] if after else []),
        *([f"{_utterances_are(cut)} cut there."] if cut else []),
    ]
    return notes if after or cut else []


def _utterances_are(count: int) -> str:
    return f"{count} utterance{' is' if count == 1 else 's are'}"


def _people(video: Path, decoded: Decoded, face: int | None) -> int:
    """How many people are in view. Raises DataError where `face` is none of them."""
    people = len(follow_all([moment.faces for moment in decoded.faces]))
    if face is not None and not 1 <= face <= people:
        raise DataError(
            f"{video}: found {people} {'person' if people == 1 else 'people'} in view, there is no face {face}"
        )
    return people


# ---- the model's input and output


def _predictions(model: Model, clips: Sequence[tuple[Utterance, Clip]]) -> tuple[Prediction, ...]:
    tokens = _tokens(model, [*(u.text for u, _ in clips), ""])
    return tuple(
        _prediction(model, u, clip, own, tokens[-1]) for (u, clip), own in zip(clips, tokens[:-1], strict=True)
    )


def _prediction(model: Model, u: Utterance, clip: Clip, tokens: Sequence[int], no_words: Sequence[int]) -> Prediction:
    whole = _example(model, clip, u.text, tokens)
    without = {
        "t": replace(whole, tokens=torch.tensor(no_words, dtype=torch.int64)),
        "a": replace(whole, mels=whole.mels[:0]),
        "v": replace(whole, faces=whole.faces[:0]),
    }
    left_out = _probabilities(model, [without[letter] for letter in model.modalities], None)
    return Prediction(u, clip, _traced(model, whole), dict(zip(model.modalities, left_out, strict=True)))


def _tokens(model: Model, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    return tokenize(model.encoder, texts) if model.encoder else [()] * len(texts)


def _example(model: Model, clip: Clip, text: str, tokens: Sequence[int]) -> Example:
    labels = np.zeros(len(model.emotions), np.float32)
    return model_input(clip.utterance, text, tokens, clip.faces, clip.mels, labels)


def _traced(model: Model, example: Example) -> ModelOutput:
    trace = Trace()
    # A batch of one: in a larger batch the last bits differ, and with them a nucleus may have another site at its edge.
    (probability,) = _probabilities(model, [example], trace)
    return ModelOutput(probability, tuple(trace.levels))


@torch.no_grad()
def _probabilities(model: Model, examples: Sequence[Example], trace: Trace | None) -> np.ndarray:
    """float32 [B, E]"""
    dtype = PRECISIONS[model.checkpoint.settings["precision"]]
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        logits = model.network(collate(examples).to(model.device), trace)
    return logits.float().sigmoid().cpu().numpy()


def _row(model: Model, one: Prediction) -> dict[str, Any]:
    probability, clip = one.output.probability, one.clip
    decided = [name for name, yes in zip(model.emotions, probability > model.thresholds, strict=True) if yes]
    return {
        "start": one.utterance.start,
        "end": one.utterance.end,
        "text": one.utterance.text,
        **{name: float(value) for name, value in zip(model.emotions, probability, strict=True)},
        "decided": ", ".join(decided),
        "top_emotion": model.emotions[top_emotion(model, one)],
        "top_modality": models.MODALITIES[top_modality(model, one)],
        "faces": len(clip.face_found),
        "faces_found": int(clip.face_found.sum()),
        "quality": ", ".join(clip.quality),
    }
