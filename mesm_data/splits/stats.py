"""Counting splits as the paper's Tables 1 and 2 do: `count`.

Words are NLTK tokens: sentences by `PunktSentenceTokenizer`, untrained, then `NLTKWordTokenizer`; no download.
Punctuation counts, and "[LAUGHTER]" is three. Averages run over all splits together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

from mesm_data.splits.expected import SPLITS
from mesm_data.splits.split import Member

COLUMNS = ("words", "seconds", *SPLITS)


@dataclass(frozen=True)
class Counts:
    """The table of a dataset. None: nothing is known to count it from."""

    table: dict[str, dict[str, float | None]]  # emotion -> COLUMNS: average words and seconds, utterances by split
    utterances: dict[str, int]  # by split
    without: dict[str, int]  # "text", "labels", "seconds" -> utterances for which it is unknown


def count(members: Sequence[Member], emotions: Sequence[str]) -> Counts:
    """Averages and counts per emotion. `emotions` name the members' labels, in their order."""
    frame = pd.DataFrame(
        {
            "split": [member.split for member in members],
            "words": [None if member.text is None else word_count(member.text) for member in members],
            "seconds": [member.seconds for member in members],
        }
    ).astype({"words": float, "seconds": float})
    labels = pd.DataFrame([member.labels or (0,) * len(emotions) for member in members], columns=list(emotions))
    without = {name: sum(getattr(member, name) is None for member in members) for name in ("text", "labels", "seconds")}
    labelled = without["labels"] < len(members)
    return Counts(
        {emotion: _emotion(frame[labels[emotion] == 1] if labelled else None) for emotion in emotions},
        {split: int((frame["split"] == split).sum()) for split in SPLITS},
        without,
    )


def word_count(text: str) -> int:
    """The number of NLTK tokens of a text."""
    return len(words(text))


def words(text: str) -> list[str]:
    """The NLTK tokens of a text, in their order."""
    return [word for sentence in _SENTENCES.tokenize(text) for word in _WORDS.tokenize(sentence)]


def _emotion(chosen: pd.DataFrame | None) -> dict[str, float | None]:
    if chosen is None:
        return dict.fromkeys(COLUMNS)
    averages = {
        name: None if chosen[name].isna().all() else float(chosen[name].mean()) for name in ("words", "seconds")
    }
    return averages | {split: int((chosen["split"] == split).sum()) for split in SPLITS}


_SENTENCES = PunktSentenceTokenizer()
_WORDS = NLTKWordTokenizer()
