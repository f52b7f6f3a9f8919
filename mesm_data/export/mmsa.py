"""A dataset as the pickle that MMSA reads (github.com/thuiar/MMSA, README.md and data_loader.py).

    {"train": {"id", "raw_text", "regression_labels", "classification_labels", "annotations", "emotion_labels",
               "emotion_names"; with features also "text", "audio", "vision", "audio_lengths", "vision_lengths"},
     "valid": {...}, "test": {...}}

MMSA predicts sentiment: the mean of the raters' votes on sentiment, or on valence less its middle. Utterances without
such a vote are not in the pickle. Features are what `mesm features` made, [N, longest, size] with zeros after the end.
"""

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.export.features import read_features, read_index
from mesm_data.export.samples import Options
from mesm_data.files import commit_file

SPLITS = ("train", "valid", "test")
SENTIMENTS = {"sentiment": 0.0, "valence": 3.0}  # name of the votes -> the value that is neither good nor bad
ANNOTATIONS = ("Negative", "Neutral", "Positive")
ARRAYS = {"t": ("text", 50), "a": ("audio", 500), "v": ("vision", 500)}  # modality -> name, most rows of an utterance
COLUMNS = ("id", "group", "text", "labels", "votes")


@dataclass(frozen=True)
class Rated:
    """One utterance with its sentiment."""

    row: Mapping[str, Any]
    sentiment: float


def write_mmsa(dataset: Dataset, out: Path, options: Options) -> dict[str, Any]:
    """Write features.pkl. Raises DataError where a split is missing, or where nobody rated sentiment or valence."""
    if absent := [split for split in SPLITS if split not in dataset.splits]:
        raise DataError(f"{dataset.folder}: has no split {', '.join(absent)}; MMSA reads {', '.join(SPLITS)}")
    rated = {split: list(_rated(dataset, split)) for split in SPLITS}
    if empty := [split for split in SPLITS if not rated[split]]:
        raise DataError(
            f"{dataset.folder}: no votes on {' or '.join(SENTIMENTS)} in {', '.join(empty)}, and MMSA predicts "
            "sentiment; take --to webdataset or --to hf"
        )
    index = read_index(dataset, options.features) if options.features else None
    features = read_features(options.features, index) if options.features and index else {}
    cut = Counter[str]()
    content = {split: _split(rows, dataset.emotions, features, cut) for split, rows in rated.items()}
    temporary = out / "features.pkl.tmp"
    with temporary.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    commit_file(temporary, out / "features.pkl")
    return {
        "unrated": len(dataset) - sum(len(rows) for rows in rated.values()),
        "sets": {ARRAYS[m][0]: one["name"] for m, one in index["sets"].items()} if index else {},
        "longest": dict(ARRAYS.values()),
        "cut": dict(cut),
    }


def _rated(dataset: Dataset, split: str) -> list[Rated]:
    actors = tuple(corpora.about(dataset.index)["self_reports"])
    judged = ((row, _sentiment(row["votes"], actors)) for row in dataset.rows(COLUMNS, split))
    return [Rated(row, sentiment) for row, sentiment in judged if sentiment is not None]


def _sentiment(votes: Sequence[Mapping[str, Any]], actors: tuple[str, ...]) -> float | None:
    """The mean of what everybody but the speaker voted, 0 for neither good nor bad; None where nobody did."""
    for name, neither in SENTIMENTS.items():
        values = [v["value"] for v in votes if v["name"] == name and not v["rater"].startswith(actors)]
        if values:
            return float(np.mean(values)) - neither
    return None


def _split(
    rated: Sequence[Rated],
    emotions: Sequence[str],
    features: Mapping[str, Mapping[str, np.ndarray]],
    cut: Counter[str],
) -> dict[str, Any]:
    """What MMSA reads of one split; `cut` counts utterances that are longer than the arrays."""
    sentiment = np.array([one.sentiment for one in rated], np.float32)
    classes = (np.sign(sentiment) + 1).astype(np.int64)
    content: dict[str, Any] = {
        "id": [_name(one.row) for one in rated],
        "raw_text": [one.row["text"] for one in rated],
        "regression_labels": sentiment,
        "classification_labels": classes,
        "annotations": [ANNOTATIONS[one] for one in classes],
        "emotion_labels": np.array([one.row["labels"] for one in rated], np.float32),
        "emotion_names": list(emotions),
    }
    for modality, of_utterance in features.items():
        name, most = ARRAYS[modality]
        rows = [of_utterance[one.row["id"]] for one in rated]
        content[name] = _padded(rows, most)
        cut[name] += sum(len(one) > most for one in rows)
        if modality != "t":
            content[f"{name}_lengths"] = [min(len(one), most) for one in rows]
    return content


def _name(row: Mapping[str, Any]) -> str:
    """`video$_$clip`, where the id begins with the video's name."""
    clip = row["id"].removeprefix(row["group"] + "_")
    return row["id"] if clip == row["id"] else f"{row['group']}$_${clip}"


def _padded(rows: Sequence[np.ndarray], most: int) -> np.ndarray:
    """float32 [N, L, size], zeros after the end; L is the longest, at most `most` and at least 1."""
    longest = min(most, max([1, *(len(one) for one in rows)]))
    padded = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    for target, one in zip(padded, rows, strict=True):
        target[: len(one)] = one[:longest]
    return padded
