"""A part of a dataset as the pickle of MMSA has it (github.com/thuiar/MMSA, README.md and data_loader.py).

    {"train": {"id", "raw_text", "text", "audio", "vision", "audio_lengths", "vision_lengths", "regression_labels",
               "classification_labels", "annotations"}, "valid": {...}, "test": {...}}

Arrays are [N, the longest, size] with zeros behind. They hold plain figures of the shards, no learned features. MMSA
asks whether something is good or bad and nothing of emotions: those are in "emotion_labels", which it passes over.
"""

import hashlib
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.export.samples import samples_of
from mesm_data.files import commit_file
from mesm_data.splits.stats import words


def write_mmsa(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    absent = [part for part in PARTS if part not in dataset.splits]
    if absent:
        raise DataError(f"{dataset.folder}: has no part {', '.join(absent)}; MMSA reads {', '.join(PARTS)}")
    actors = tuple(corpora.about(dataset.index)["self_reports"])
    parts = {part: mmsa_part(samples_of(dataset, part), dataset.emotions, actors) for part in PARTS}
    temporary = out / "features.pkl.tmp"
    with temporary.open("wb") as file:
        pickle.dump({part: made.content for part, made in parts.items()}, file, protocol=4)
    commit_file(temporary, out / "features.pkl")
    made = parts.values()
    return {"cut": sum(part.cut for part in made), "unrated": sum(part.unrated for part in made)}


PARTS = ("train", "valid", "test")
WORDS, WORD_SIZE = 50, 300  # most words of an utterance; +1 and -1 that follow from a word's letters
STEPS, BANDS, FRAMES_A_STEP = 500, 32, 8  # most steps of sound; each is 8 mel frames, 0.1 s, in 32 bands
FACES, THUMBNAIL = 100, 12  # most faces; each is a grey picture of 12 x 12
SENTIMENTS = {"sentiment": 0.0, "valence": 3.0}  # votes on good and bad, and the value that says neither
ANNOTATIONS = ("Negative", "Neutral", "Positive")


@dataclass(frozen=True)
class Part:
    """What MMSA reads of one part."""

    content: dict[str, Any]
    cut: int  # utterances that are longer than the arrays
    unrated: int  # utterances without a vote on good and bad; they have 0


def mmsa_part(
    samples: Iterable[tuple[dict[str, Any], np.ndarray, np.ndarray]], emotions: Sequence[str], actors: tuple[str, ...]
) -> Part:
    """Samples are rows of a shard, their faces [V, 48, 48, 3] and mels [A, 128, 32]."""
    rows: list[dict[str, Any]] = []
    texts: list[np.ndarray] = []
    sounds: list[np.ndarray] = []
    pictures: list[np.ndarray] = []
    for row, faces, mels in samples:
        rows.append(row)
        texts.append(_word_rows(row["text"]))
        sounds.append(_sound_rows(mels))
        pictures.append(_thumbnails(faces))
    judged = [_sentiment(row["votes"], actors) for row in rows]
    sentiment = np.array([value or 0.0 for value in judged], np.float32)
    classes = (np.sign(sentiment) + 1).astype(np.int64)
    content = {
        "id": [_name(row) for row in rows],
        "raw_text": [row["text"] for row in rows],
        "text": _padded(texts, WORDS, WORD_SIZE),
        "audio": _padded(sounds, STEPS, BANDS),
        "vision": _padded(pictures, FACES, THUMBNAIL**2),
        "audio_lengths": [min(len(one), STEPS) for one in sounds],
        "vision_lengths": [min(len(one), FACES) for one in pictures],
        "regression_labels": sentiment,
        "classification_labels": classes,
        "annotations": [ANNOTATIONS[one] for one in classes],
        "emotion_labels": np.array([row["labels"] for row in rows], np.float32),
        "emotion_names": list(emotions),
    }
    lengths = zip(texts, sounds, pictures, strict=True)
    cut = sum(len(text) > WORDS or len(sound) > STEPS or len(picture) > FACES for text, sound, picture in lengths)
    return Part(content, cut, judged.count(None))


def _name(row: dict[str, Any]) -> str:
    """`video$_$clip`, where the id begins with the video's name."""
    clip = row["id"].removeprefix(row["group"] + "_")
    return row["id"] if clip == row["id"] else f"{row['group']}$_${clip}"


def _sentiment(votes: Sequence[dict[str, Any]], actors: tuple[str, ...]) -> float | None:
    """The mean of what others than the speaker said of good and bad, 0 for neither; None where nobody did."""
    for name, neither in SENTIMENTS.items():
        said = [v["value"] for v in votes if v["name"] == name and not v["rater"].startswith(actors)]
        if said:
            return float(np.mean(said)) - neither
    return None


def _word_rows(text: str) -> np.ndarray:
    """float32 [words, WORD_SIZE]: the bits of a hash, the same word the same row."""
    digests = [hashlib.shake_256(word.lower().encode()).digest(-(-WORD_SIZE // 8)) for word in words(text)]
    bits = [np.unpackbits(np.frombuffer(digest, np.uint8))[:WORD_SIZE] for digest in digests]
    return np.array(bits, np.float32).reshape(-1, WORD_SIZE) * 2 - 1


def _sound_rows(mels: np.ndarray) -> np.ndarray:
    """[A, 128, 32] as float32 [steps, BANDS]: means over neighbouring mels and frames."""
    frames = mels.astype(np.float32).transpose(0, 2, 1)  # [A, 32, 128]
    return frames.reshape(-1, FRAMES_A_STEP, BANDS, 128 // BANDS).mean((1, 3))


def _thumbnails(faces: np.ndarray) -> np.ndarray:
    """[V, 48, 48, 3] as float32 [V, THUMBNAIL ** 2], grey, 0..1."""
    grey = faces.astype(np.float32).mean(3) / 255
    side = faces.shape[1] // THUMBNAIL
    return grey.reshape(-1, THUMBNAIL, side, THUMBNAIL, side).mean((2, 4)).reshape(len(faces), -1)


def _padded(rows: Sequence[np.ndarray], most: int, size: int) -> np.ndarray:
    """float32 [N, L, size], zeros behind; L is the longest, at most `most` and at least 1."""
    longest = min(most, max([1, *(len(one) for one in rows)]))
    padded = np.zeros((len(rows), longest, size), np.float32)
    for target, one in zip(padded, rows, strict=True):
        target[: len(one)] = one[:longest]
    return padded
