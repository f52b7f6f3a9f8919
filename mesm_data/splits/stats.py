"""Counting a split as the paper's Tables 1 and 2 do: `count`.

Words are NLTK tokens: sentences by `PunktSentenceTokenizer`, untrained, then `NLTKWordTokenizer`; no download.
Punctuation counts, and "[LAUGHTER]" is three. Averages run over all parts together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

from mesm_data.splits.expected import PARTS
from mesm_data.splits.split import Member

COLUMNS = ("words", "seconds", *PARTS)


@dataclass(frozen=True)
class Counts:
    """The table of a split. None: nothing is known to count it from."""

    table: dict[str, dict[str, float | None]]  # emotion -> COLUMNS: average words and seconds, utterances by part
    utterances: dict[str, int]  # by part
    without: dict[str, int]  # "text", "labels", "seconds" -> utterances of which it is not known


def count(members: Sequence[Member], emotions: Sequence[str]) -> Counts:
    """Averages and counts per emotion. `emotions` name the members' labels, in their order."""
    frame = pd.DataFrame(
        {
            "part": [member.part for member in members],
            "words": [None if member.text is None else word_count(member.text) for member in members],
            "seconds": [member.seconds for member in members],
        }
    ).astype({"words": float, "seconds": float})
    labels = pd.DataFrame([member.labels or (0,) * len(emotions) for member in members], columns=list(emotions))
    without = {name: sum(getattr(member, name) is None for member in members) for name in ("text", "labels", "seconds")}
    labelled = without["labels"] < len(members)
    return Counts(
        {emotion: _emotion(frame[labels[emotion] == 1] if labelled else None) for emotion in emotions},
        {part: int((frame["part"] == part).sum()) for part in PARTS},
        without,
    )


def word_count(text: str) -> int:
    """NLTK tokens of a text."""
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
    return averages | {part: int((chosen["part"] == part).sum()) for part in PARTS}


_SENTENCES = PunktSentenceTokenizer()
_WORDS = NLTKWordTokenizer()
