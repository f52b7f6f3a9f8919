"""The folder of a raw corpus, and `expected.json` in it: the result of a correct reader and a correct build.

    {"corpus": "mosei", "emotions": [...],
     "utterances": {id: {"start": 2.7, "end": 5.95, "text": "...", "labels": [0, 1, ...], "part": "train"}},
     "left_out": {id: {"kind": "no-media", "why": "there is no video"}},
     "doubtful": {id: {"silent": "the speaker's channel is all zeros"}},
     "rhythms": {video: [3003]}}

`utterances` are all that are labelled; a dataset has them without those `left_out`. Kinds are those of
mesm_data/errors.py. `part` is the paper's split, null where the paper drops the clip. A rhythm lists how long frames
are shown, in 1/90000 s, repeated to the end. The file is written last: where it is, the folder is complete.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesm_data import corpora
from mesm_data.errors import DataError


@dataclass(frozen=True)
class Expectation:
    """One labelled utterance: the facts, and (kind, why) where it is left out or doubtful."""

    id: str
    start: float
    end: float
    text: str
    labels: tuple[int, ...]
    part: str | None = None
    left_out: tuple[str, str] | None = None
    doubtful: Mapping[str, str] = field(default_factory=dict)


def is_synthetic(raw: Path) -> bool:
    """True for the raw folder of a corpus that `synth` wrote."""
    return (raw / "expected.json").is_file()


def new_tree(out: Path) -> None:
    """Make the folder. Raises DataError where something is there: it must hold what expected.json lists, no more."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: not empty, expected a new or empty folder; delete it or give another --out")
    out.mkdir(parents=True, exist_ok=True)


def write_expected(out: Path, corpus: str, found: Sequence[Expectation], rhythms: Mapping[str, Sequence[int]]) -> None:
    """Write `out`/expected.json."""
    content = {
        "corpus": corpus,
        "emotions": corpora.load(corpus).EMOTIONS,
        "utterances": {
            e.id: {"start": e.start, "end": e.end, "text": e.text, "labels": e.labels, "part": e.part} for e in found
        },
        "left_out": {e.id: {"kind": e.left_out[0], "why": e.left_out[1]} for e in found if e.left_out},
        "doubtful": {e.id: dict(e.doubtful) for e in found if e.doubtful and not e.left_out},
        "rhythms": rhythms,
    }
    (out / "expected.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
