"""`Utterance`: what the annotations say, before any media is opened; and `utterances.jsonl`."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from mesm_data.state import read_state_lines, to_json


@dataclass(frozen=True)
class Source:
    """The video and audio of an utterance. Paths are relative to the raw root, with forward slashes."""

    video: str  # a file, or (MOSEI, the authors' processed tree) a folder of image_N.jpg
    audio: str | None = None  # None: the video's own audio
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # left, top, right, bottom, as fractions
    channel: int | None = None  # None: the mean of all channels
    offset: float = 0.0  # second of the recording at which these files begin (clips that are already cut)


class Vote(NamedTuple):
    """What one rater chose: ("C-E2", "Anger", 1.0), ("A-E3", "valence", 2.0), ("W0", "fear", 2.0)."""

    rater: str
    name: str
    value: float


@dataclass(frozen=True, repr=False)
class Utterance:
    """One labelled stretch of speech, from the annotations alone. `start` and `end` are seconds of the recording."""

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


# Shape of a line of utterances.jsonl, for `read_state_lines`.
LINE: dict[str, Any] = {
    "id": str,
    "source": {
        "video": str,
        "audio": (str, None),
        "crop": [float, float, float, float],
        "channel": (int, None),
        "offset": float,
    },
    "start": float,
    "end": float,
    "text": str,
    "labels": [int],
    "votes": [[str, str, float]],
    "speaker": str,
    "group": str,
}


def by_recording(utterances: Iterable[Utterance]) -> list[tuple[Utterance, ...]]:
    """Utterances that are decoded together, because they share video and offset; sorted by these."""
    groups: dict[tuple[str, float], list[Utterance]] = {}
    for u in utterances:
        groups.setdefault((u.source.video, u.source.offset), []).append(u)
    return [tuple(groups[key]) for key in sorted(groups)]


def write_utterances(path: Path, utterances: Iterable[Utterance]) -> None:
    """One JSON object per line, in the order given."""
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for utterance in utterances:
            lines.write(to_json(asdict(utterance)) + "\n")


def read_utterances(path: Path) -> Iterator[Utterance]:
    """The utterances of a file that `write_utterances` wrote, equal to those written. Raises DataError for others."""
    for found in read_state_lines(path, LINE, "build the dataset again"):
        values = {field.name: found[field.name] for field in fields(Utterance)}
        source = {field.name: found["source"][field.name] for field in fields(Source)}
        values["source"] = Source(**source | {"crop": tuple(source["crop"])})
        values["labels"] = tuple(found["labels"])
        values["votes"] = tuple(Vote(*vote) for vote in found["votes"])
        yield Utterance(**values)
