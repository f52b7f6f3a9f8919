"""Dialogues as IEMOCAP annotates them: their names, turns, votes, and text files.

Both trees that `synth` writes for IEMOCAP, the small one with media and the full-size one of text, write these files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesm_data.corpora.iemocap import EMOTIONS, VOTED
from mesm_data.synth.chance import chance
from mesm_data.synth.script import say

CODES = dict(zip(VOTED, EMOTIONS, strict=True)) | {"sur": "surprise", "fea": "fear", "dis": "disgust"}

# Code -> what raters tick, and the usual valence, activation and dominance.
_RATED: dict[str, tuple[str, tuple[int, int, int]]] = {
    "ang": ("Anger", (2, 4, 4)),
    "dis": ("Disgust", (2, 3, 3)),
    "exc": ("Excited", (4, 4, 3)),
    "fea": ("Fear", (2, 3, 2)),
    "fru": ("Frustration", (2, 3, 3)),
    "hap": ("Happiness", (4, 3, 3)),
    "neu": ("Neutral", (3, 2, 2)),
    "oth": ("Other", (3, 3, 3)),
    "sad": ("Sadness", (2, 2, 2)),
    "sur": ("Surprise", (3, 4, 3)),
}
_RARE = ("dis", "fea", "oth", "sur")
_SCRIPTS = ("script01_1", "script01_2", "script01_3", "script02_1", "script02_2", "script03_1", "script03_2")


@dataclass(frozen=True)
class Turn:
    """One turn and the vote on it. `speaker` is F or M, `code` what EmoEvaluation has: ang, ..., sur, xxx."""

    id: str
    speaker: str
    start: float  # seconds
    end: float
    code: str
    text: str

    @property
    def kept(self) -> bool:
        """True when the vote is one of the paper's six emotions."""
        return self.code in VOTED

    @property
    def emotion(self) -> str:
        """The emotion that is played; neutral where the raters did not agree."""
        return CODES.get(self.code, "neutral")


def dialogue_names() -> list[str]:
    """The release's 151 dialogues, by session 28, 30, 32, 30, 31."""
    names = []
    for session in range(1, 6):
        for letter in "FM":
            parts = {f"impro0{number}" for number in range(1, 9)} | set(_SCRIPTS)
            if session == 1:
                parts -= {"impro08"}
            if (session, letter) == (3, "M"):
                parts = parts - {"impro05", "impro08"} | {"impro05a", "impro05b", "impro08a", "impro08b"}
            if (session, letter) == (5, "M"):
                parts |= {"script01_1b"}
            names += [f"Ses0{session}{letter}_{part}" for part in sorted(parts)]
    return names


def play(name: str, seconds: float, seed: int, pause: tuple[float, float] | None = None) -> list[Turn]:
    """The turns of a dialogue of this length, in time order, on a grid of 0.1 ms; nobody begins within the pause.

    Turns follow each other closely, and one in three begins before the other speaker has ended. They last 2.1 s on
    average, in long dialogues 4.4 s as in the release. All dialogues of one script speak the same lines in one order.
    """
    score = chance(seed, "score", part_of(name) if is_scripted(name) else name)
    pace = chance(seed, "pace", name)
    turns: list[Turn] = []
    numbers, ends = {"F": 0, "M": 0}, {"F": 0.0, "M": 0.0}
    speaker, time = str(score.choice(["F", "M"])), 0.8
    codes: list[str] = []
    while True:
        codes = codes or score.permutation([*VOTED, "neu", "xxx", score.choice(_RARE)]).tolist()
        code = codes.pop()
        text = say(CODES.get(code, "neutral"), score)
        start = max(time + pace.choice([-0.3, 0.15, 0.4]), ends[speaker] + 0.2)
        if pause and pause[0] <= start < pause[1]:
            start = pause[1]
        end = start + longest_turn(seconds) * pace.uniform(0.5, 1.0)
        if end > seconds - 0.3:
            return turns
        identity = f"{name}_{speaker}{numbers[speaker]:03d}"
        turns.append(Turn(identity, speaker, round(float(start), 4), round(float(end), 4), code, text))
        numbers[speaker] += 1
        time = ends[speaker] = end
        speaker = "FM"[speaker == "F"] if score.random() < 0.85 else speaker


def longest_turn(seconds: float) -> float:
    """Seconds that turns of a dialogue of this length last at most; on average three quarters of it."""
    return 2.8 * min(max(seconds / 20, 1.0), 2.1)


def is_scripted(name: str) -> bool:
    """True for a dialogue that is played from a script, not improvised."""
    return "_script" in name


def part_of(name: str) -> str:
    """impro01, script01_1: what the dialogue plays; script01_1b is a second take of script01_1."""
    return re.sub(r"_\db$", lambda take: take[0][:-1], name[7:])


def write_evaluation(path: Path, turns: Sequence[Turn], rng: np.random.Generator) -> None:
    """EmoEvaluation/<dialogue>.txt: all of the woman's turns, then all of the man's, each with its raters' votes."""
    blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
    blocks += [_rate(turn, rng) for letter in "FM" for turn in turns if turn.speaker == letter]
    _write(path, "\n".join(blocks))
    # The release has each rater's own files in folders beside; none of them is needed.
    _write(path.parent / "Attribute" / f"{path.stem}_e2_atr.anvil", "<annotation/>\n")
    _write(path.parent / "Categorical" / f"{path.stem}_e2_cat.txt", f"{turns[0].id} :Neutral state; ()\n")


def write_transcript(path: Path, turns: Sequence[Turn], line_end: str) -> None:
    """transcriptions/<dialogue>.txt: the words in time order, among them sounds that nobody rated."""
    lines = [f"{turn.id} [{turn.start:08.4f}-{turn.end:08.4f}]: {turn.text}" for turn in turns]
    name = path.stem
    lines.insert(1, f"{name}_MXX0 [{turns[0].start + 0.1:08.4f}-{turns[0].start + 0.4:08.4f}]: [BREATHING]")
    lines.append("M: [GARBAGE]")
    _write(path, line_end.join([*lines, ""]))


def write_mac_file(path: Path) -> None:
    """The `._` file that a Mac leaves beside a file; it is no text."""
    _write(path.with_name("._" + path.name), "\0\5\x16\7Mac OS X")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")


def _rate(turn: Turn, rng: np.random.Generator) -> str:
    """A turn's lines: three raters name emotions, two give levels, and one turn in four its own actor does both."""
    names, levels = _votes(turn.code, rng)
    scores = [[min(max(level + int(rng.integers(-1, 2)), 1), 5) for level in levels] for _ in range(2)]
    mean = ", ".join(f"{np.mean(values):.4f}" for values in zip(*scores, strict=True))
    lines = [f"[{turn.start:.4f} - {turn.end:.4f}]\t{turn.id}\t{turn.code}\t[{mean}]"]
    lines += [f"C-E{rater}:\t{name};\t()" for rater, name in enumerate(names, start=2)]
    lines += [_levels(f"E{rater}", values, rng.random() < 0.9) for rater, values in enumerate(scores, start=3)]
    if rng.random() < 0.25:
        lines += [f"C-{turn.speaker}1:\t{names[0]};\t()", _levels(f"{turn.speaker}1", scores[0], True)]
    return "\n".join(lines) + "\n"


def _votes(code: str, rng: np.random.Generator) -> tuple[list[str], tuple[int, int, int]]:
    """The choices of three raters that make the vote `code`, and the levels that they agree on."""
    if code == "xxx":
        return ["Anger", "Sadness; Frustration", "Neutral"], (3, 3, 3)
    name, levels = _RATED[code]
    other = str(rng.choice([label for label, _ in _RATED.values() if label != name]))
    return [name, f"{name}; {other}" if rng.random() < 0.5 else name, other if rng.random() < 0.3 else name], levels


def _levels(rater: str, values: Sequence[int], dominance: bool) -> str:
    valence, activation, power = values
    return f"A-{rater}:\tval {valence}; act {activation}; dom  {power if dominance else ''};\t()"
