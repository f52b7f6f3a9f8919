"""An utterance as the annotations tell it, before any media is opened; and `utterances.jsonl`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Source:
    """Where an utterance is seen and heard. Paths are relative to the raw root, with forward slashes."""

    video: str  # a file, or (MOSEI, the authors' processed tree) a folder of image_N.jpg
    audio: str | None = None  # None: the video's own sound
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # left, top, right, bottom, as fractions
    channel: int | None = None  # None: the mean of all channels
    offset: float = 0.0  # second of the recording at which these files begin (clips that are already cut)


class Vote(NamedTuple):
    """What one rater said about one thing: ("C-E2", "Anger", 1.0), ("A-E3", "valence", 2.0), ("W0", "fear", 2.0)."""

    rater: str
    name: str
    value: float


@dataclass(frozen=True, repr=False)
class Utterance:
    """One labelled stretch of speech. `start` and `end` are seconds of the recording."""

    id: str
    source: Source
    start: float
    end: float
    text: str
    labels: tuple[int, ...]  # 0 or 1 for each of the corpus's EMOTIONS, in their order
    votes: tuple[Vote, ...]
    speaker: str
    group: str  # dialogue or video: what a grouped split never tears apart

    def __repr__(self) -> str:
        return (
            f"Utterance({self.id!r}, {self.start:.2f} s to {self.end:.2f} s, labels {list(self.labels)}, "
            f"{len(self.votes)} votes, speaker {self.speaker!r}, {shorten(self.text, 60, placeholder='...')!r})"
        )


def write_utterances(path: Path, utterances: Iterable[Utterance]) -> None:
    """One JSON object a line, in the order given."""
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for utterance in utterances:
            lines.write(to_json(asdict(utterance)) + "\n")


def read_utterances(path: Path) -> Iterator[Utterance]:
    """The utterances of a file that `write_utterances` wrote, equal to those written."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = json.loads(line)
            source = fields.pop("source") | {}
            source["crop"] = tuple(source["crop"])
            fields["labels"] = tuple(fields["labels"])
            fields["votes"] = tuple(Vote(*vote) for vote in fields["votes"])
            yield Utterance(source=Source(**source), **fields)


def to_json(content: Any) -> str:
    """JSON on one line, readable; with escapes only where a file name is not UTF-8, so that it can be written."""
    text = json.dumps(content, ensure_ascii=False)
    return text if _is_utf8(text) else json.dumps(content)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
