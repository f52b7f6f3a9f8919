"""Utterances as a reader would give them, without any media; and a small paper of their own to hold them against."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from mesm_data.corpora import iemocap
from mesm_data.splits import expected
from mesm_data.splits.expected import Expected, ids_digest, read_expected
from mesm_data.utterance import Source, Utterance

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def iemocap_turn(name: str, emotion: str = "anger", *, seconds: float = 2.0, text: str = "one two three") -> Utterance:
    """A turn of IEMOCAP from its id, such as Ses01F_impro01_M003."""
    group, _, turn = name.rpartition("_")
    labels = tuple(int(emotion == each) for each in iemocap.EMOTIONS)
    return Utterance(name, Source("film.avi"), 1.0, 1.0 + seconds, text, labels, (), name[:5] + turn[0], group)


def mosei_clip(
    video: str, clip: int, labels: Sequence[int] = (0, 0, 0, 1, 0, 0), *, start: float = 0.0, text: str = ""
) -> Utterance:
    """A clip of two seconds."""
    return Utterance(f"{video}_{clip}", Source(video), start, start + 2.0, text, tuple(labels), (), video, video)


def small_iemocap() -> list[Utterance]:
    """240 turns: 20 dialogues in five sessions, two speakers, six turns of each, all six emotions."""
    dialogues = [
        f"Ses0{session}{side}_{kind}" for session in range(1, 6) for side in "FM" for kind in ("impro01", "script01_1")
    ]
    names = [f"{dialogue}_{letter}{n:03d}" for dialogue in dialogues for letter in "FM" for n in range(6)]
    return [
        iemocap_turn(
            name,
            iemocap.EMOTIONS[(index * 7 + index // 12) % 6],
            seconds=1.0 + index % 5,
            text=" ".join(WORDS[: 3 + index % 7]),
        )
        for index, name in enumerate(names)
    ]


def in_three(names: Sequence[str]) -> dict[str, list[str]]:
    """Every tenth id to valid, two of ten to test, the rest to train: turns of one dialogue land in all splits."""
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for index, name in enumerate(names):
        splits[("valid", "test", "test")[index % 10] if index % 10 < 3 else "train"].append(name)
    return splits


def write_lists(folder: Path, splits: Mapping[str, Sequence[str]], name: str = "{}.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, ids in splits.items():
        (folder / name.format(split)).write_text("".join(f"{one}\n" for one in ids))
    return folder


def paper_of(utterances: Sequence[Utterance], splits: Mapping[str, Sequence[str]]) -> Expected:
    """What a paper would print about these turns, counted in plain Python with words split at blanks."""
    split_of = {name: split for split, ids in splits.items() for name in ids}
    table = {}
    for index, emotion in enumerate(iemocap.EMOTIONS):
        chosen = [u for u in utterances if u.labels[index]]
        table[emotion] = {
            "words": round(sum(len(u.text.split()) for u in chosen) / len(chosen), 2),
            "seconds": round(sum(u.end - u.start for u in chosen) / len(chosen), 2),
            **{split: sum(split_of[u.id] == split for u in chosen) for split in splits},
        }
    real = read_expected("iemocap")
    return Expected(
        corpus="iemocap",
        source="a paper of our own",
        table=table,
        utterances={split: len(ids) for split, ids in splits.items()},
        digests={split: ids_digest(ids) for split, ids in splits.items()},
        id_form=real.id_form,
        lists_url=real.lists_url,
        lists_files=real.lists_files,
    )


def publish(folder: Path, paper: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a paper of our own the one that this test knows, with an empty cache of lists."""
    (folder / "manifests" / paper.corpus).mkdir(parents=True)
    (folder / "manifests" / paper.corpus / "expected.json").write_text(json.dumps(asdict(paper)))
    monkeypatch.setattr(expected, "MANIFESTS", folder / "manifests")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
