"""Emotions of any video: words and film to clips by the checkpoint's own recipe, clips to probabilities.

The clips are made by `make_clips`, as those that the model was trained on: there is no second way.

E emotions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mesm_data.clip import Clip, Recipe
from mesm_data.decode import Outcome, make_clips
from mesm_data.errors import DataError, MediaError
from mesm_data.faces.detector import Detection, FaceDetector
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.faces.tracking import follow
from mesm_data.media.audio import sounds
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_data.utterance import Source, Utterance
from mesm_model import models
from mesm_model.batch import Example, collate
from mesm_model.models.common.attention import Trace, TracedLevel
from mesm_model.models.common.text import tokenize
from mesm_model.models.common.two_phase import is_two_phase
from mesm_model.prediction.transcripts import Segment
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint
from mesm_model.runs.folder import text_folder
from mesm_model.runs.settings import PRECISIONS

STRETCH = 6.0  # seconds that a model without words is asked about at once; MOSEI's utterances last 7.8 on average
CUT = 0.5  # seconds by which a whole file may last shorter than its pictures by their number
SHORTEST = 0.1  # seconds that are left of an utterance; of less nothing is made
SEEN = 0.1  # a face counts as a person when it is in this share of the pictures with a face, and not in one alone


@dataclass(frozen=True)
class Model:
    """A trained model that sees and hears, ready to be asked."""

    run: Path
    checkpoint: Checkpoint
    network: Any
    encoder: Path | None  # where its tokenizer lies; None for a model without text
    device: torch.device

    @property
    def emotions(self) -> tuple[str, ...]:
        return tuple(self.checkpoint.data["emotions"])

    @property
    def modalities(self) -> str:
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
        """Of the vector that the attention asks with; mesm only."""
        return self.network.query_size

    @property
    def thresholds(self) -> np.ndarray:
        return np.array(self.checkpoint.thresholds)


@dataclass(frozen=True)
class ModelOutput:
    """What a model makes of one clip."""

    probability: np.ndarray  # float32 [E]
    levels: tuple[TracedLevel, ...]  # of each attention layer; empty for models that have none


@dataclass(frozen=True)
class Prediction:
    """One utterance of a video: what was said, seen and heard, and what the model makes of it."""

    utterance: Utterance
    clip: Clip
    answer: ModelOutput
    without: dict[str, np.ndarray]  # modality -> float32 [E], the probabilities when the model gets nothing of it


@dataclass(frozen=True)
class Result:
    """A video, predicted."""

    video: Path
    model: Model
    predictions: tuple[Prediction, ...]
    seconds: float  # how far the video can be read
    people: int  # faces that were followed through the film
    face: int  # which of them is the speaker's, from 1, the largest
    missing: tuple[str, ...]  # sentences on what could not be used


def load_model(run: Path, device: torch.device | str = "cpu", top_p: float | None = None) -> Model:
    """The best checkpoint of a run; `top_p`: another share of the attention than it was trained to keep.

    Raises CheckpointError, and DataError for a model that takes fixed features or has no attention to keep a share of.
    """
    checkpoint = checkpoints.load(run)
    if is_two_phase(models.load(checkpoint.model).Config):
        raise DataError(
            f"{run}: a {checkpoint.model} takes fixed features, not faces and sound; expected a run of fe2e or mesm"
        )
    folder = run if run.is_dir() else run.parent
    network: Any = checkpoints.build_model(checkpoint, folder).to(device)
    if top_p is not None:
        check_attention(run, checkpoint, network)
        network.top_p = top_p
    return Model(run, checkpoint, network, text_folder(network, folder), torch.device(device))


def check_attention(run: Path, checkpoint: Checkpoint, network: Any) -> None:
    """Raises DataError for a model that looks everywhere."""
    if not hasattr(network, "top_p"):
        raise DataError(f"{run}: a {checkpoint.model} has no attention to show; expected a run of mesm")


def predict(video: Path, model: Model, words: str | Sequence[Segment] | None, face: int | None = None) -> Result:
    """What `model` makes of a video, utterance by utterance; `words` is one text for all of it, or lines with times.

    `face` chooses among the people in view, 1 is the largest. Raises DataError for a model that needs words and gets
    none, a face that is not there, and a file of which nothing can be used; what can be used of a damaged one is used.
    """
    if isinstance(words, str) and not words.strip():
        words = None
    if words is None and "t" in model.modalities:
        raise DataError(
            f"{model.run}: this {model.checkpoint.model} reads words, and there are none; give --transcript FILE, "
            "--text WORDS or --asr MODEL"
        )
    info = probe(video)
    for there, what in ((info.has_video, "picture"), (info.has_audio, "sound")):
        if not there:
            raise MediaError(f"{video}: has no {what}, expected a video with picture and sound")
    seconds = info.duration or min(_reach(video))
    utterances = _utterances(video, seconds, words)
    outcomes, seen = _make(video, utterances, model.recipe)
    missing: list[str] = []
    if any(outcome.clip is None for outcome in outcomes):
        seconds = min(seconds, *_reach(video))
        utterances, missing = _within(utterances, seconds)
        outcomes, seen = _make(video, utterances, model.recipe)
        missing += _lost(outcomes)
    if not missing and info.counted > seconds + CUT:
        missing = [
            f"Picture and sound can be read up to {seconds:.2f} s, of {info.counted:.2f} s that the file counts."
        ]
    people = _people(seen)
    if face is not None and not 1 <= face <= len(people):
        raise DataError(
            f"{video}: saw {len(people)} {'person' if len(people) == 1 else 'people'}, there is no face {face}"
        )
    if face is not None and face > 1:
        outcomes, _ = _make(video, utterances, model.recipe, _Only(people[face - 1]))
    kept = [(outcome.utterance, outcome.clip) for outcome in outcomes if outcome.clip]
    if not kept:
        raise MediaError(f"{video}: nothing in it can be used; {' '.join(missing)}")
    predictions = tuple(
        Prediction(u, clip, answer(model, clip, u.text), _leave_one_out(model, clip, u.text)) for u, clip in kept
    )
    return Result(video, model, predictions, seconds, len(people), face or 1, tuple(missing))


def answer(model: Model, clip: Clip, text: str) -> ModelOutput:
    """What a model makes of a clip and its words."""
    trace = Trace()
    # Alone: in a batch the last bits differ, and with them a nucleus may have another site at its edge.
    (probability,) = _ask(model, [_example(model, clip, text)], trace)
    return ModelOutput(probability, tuple(trace.levels))


# ---- words to utterances, utterances to clips


def _utterances(video: Path, seconds: float, words: str | Sequence[Segment] | None) -> list[Utterance]:
    if words is None:
        count = max(1, round(seconds / STRETCH))
        words = [Segment(seconds * n / count, seconds * (n + 1) / count, "") for n in range(count)]
    elif isinstance(words, str):
        words = [Segment(0.0, seconds, words)]
    return [
        Utterance(f"{video.stem}_{n}", Source(video.name), *line, (), (), video.stem, video.stem)
        for n, line in enumerate(words)
    ]


def _make(
    video: Path, utterances: list[Utterance], recipe: Recipe, detector: FaceDetector | None = None
) -> tuple[list[Outcome], list[list[Detection]]]:
    """Clips, and the faces of every picture that was looked at."""
    watcher = _Remembering(detector or MTCNN(recipe.min_face, recipe.face_thresholds))
    return list(make_clips(video.parent, utterances, recipe, watcher).outcomes) if utterances else [], watcher.seen


def _reach(video: Path) -> tuple[float, float]:
    """The seconds at which picture and sound end, when all that can be is decoded."""
    picture, sound = DecodeLog(), DecodeLog()
    for _ in frames(video, [], picture, until=float("inf")):
        pass
    for _ in sounds(video, [(1e9, 1e9 + 1)], None, sound):
        pass
    return picture.end, sound.end


def _within(utterances: Sequence[Utterance], seconds: float) -> tuple[list[Utterance], list[str]]:
    """The utterances as far as the file goes, and what is told of the others."""
    kept = [replace(u, end=min(u.end, seconds)) for u in utterances if u.start + SHORTEST <= seconds]
    cut, gone = sum(u.end > seconds for u in utterances) - (len(utterances) - len(kept)), len(utterances) - len(kept)
    told = [
        f"Picture and sound can be read up to {seconds:.2f} s.",
        *([f"{_utterances_are(gone)} behind that and left out."] if gone else []),
        *([f"{_utterances_are(cut)} cut there."] if cut else []),
    ]
    return kept, told if cut or gone else []


def _utterances_are(count: int) -> str:
    return f"{count} utterance{' is' if count == 1 else 's are'}"


def _lost(outcomes: Sequence[Outcome]) -> list[str]:
    lost = [issue for outcome in outcomes if outcome.clip is None for issue in outcome.issues]
    details = dict.fromkeys(issue.detail for issue in lost)
    return [f"{_utterances_are(len(lost))} left out: {'; '.join(details)}."] if lost else []


# ---- who is in view


class _Remembering:
    """A detector that remembers the faces of every picture, in the order in which they were asked for: that of time."""

    def __init__(self, detector: FaceDetector) -> None:
        self.detector = detector
        self.seen: list[list[Detection]] = []

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        found = self.detector.detect(images)
        self.seen += found
        return found


class _Only:
    """A detector that sees one person, as remembered, in the same pictures in the same order."""

    def __init__(self, faces: Sequence[Detection | None]) -> None:
        self.faces = iter(faces)

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        return [[face] if face else [] for face in (next(self.faces) for _ in images)]


def _people(seen: Sequence[Sequence[Detection]]) -> list[list[Detection | None]]:
    """For each person their face in every picture, or None; the one whom `make_clips` follows first."""
    left = [list(faces) for faces in seen]
    with_faces = sum(bool(faces) for faces in left)
    needed = max(min(2, with_faces), SEEN * with_faces)
    people: list[list[Detection | None]] = []
    while any(left):
        picks = follow(left)
        person = [None if pick is None else faces.pop(pick) for faces, pick in zip(left, picks, strict=True)]
        if sum(face is not None for face in person) < needed:
            break
        people.append(person)
    return people


# ---- what the network is given


def _example(model: Model, clip: Clip, text: str) -> Example:
    return Example(
        id=clip.utterance,
        text=text,
        tokens=_tokens(model, text),
        faces=torch.from_numpy(np.ascontiguousarray(clip.faces.transpose(0, 3, 1, 2))),
        mels=torch.from_numpy(clip.mels[:, None].copy()),
        labels=torch.zeros(len(model.emotions)),
    )


def _tokens(model: Model, text: str) -> torch.Tensor:
    ids = tokenize(model.encoder, [text])[0] if model.encoder else []
    return torch.tensor(ids, dtype=torch.int64)


def _leave_one_out(model: Model, clip: Clip, text: str) -> dict[str, np.ndarray]:
    """Modality -> float32 [E], the probabilities when the model gets nothing of it."""
    whole = _example(model, clip, text)
    without = {
        "t": replace(whole, tokens=_tokens(model, "")),
        "a": replace(whole, mels=whole.mels[:0]),
        "v": replace(whole, faces=whole.faces[:0]),
    }
    asked = _ask(model, [without[letter] for letter in model.modalities], None)
    return dict(zip(model.modalities, asked, strict=True))


@torch.no_grad()
def _ask(model: Model, examples: Sequence[Example], trace: Trace | None) -> np.ndarray:
    """float32 [B, E]"""
    dtype = PRECISIONS[model.checkpoint.settings["precision"]]
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        logits = model.network(collate(examples).to(model.device), trace)
    return logits.float().sigmoid().cpu().numpy()
