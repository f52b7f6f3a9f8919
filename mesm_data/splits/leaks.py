"""What leaks from one part of a split into another: `leaks`.

A model that has heard a speaker, a dialogue or a line in training is tested on something it partly knows. Counted are

    speakers    in both parts
    groups      dialogues or videos in both parts
    adjacent    utterances of the second part with an adjacent turn of the same speaker in the first: their ids differ
                only in the last number, by one (Ses01F_impro01_F003 and Ses01F_impro01_F004), so ids alone tell it
    lines       utterances of the second part whose scripted line is spoken in the first (all sessions of IEMOCAP play
                the same scripts): same script, same words, four or more, since shorter ones return within a script
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from mesm_data.splits.expected import PARTS
from mesm_data.splits.split import Member

SHORTEST_LINE = 4  # words


@dataclass(frozen=True)
class Leak:
    """What two parts share. None: cannot be told from what is known."""

    first: str
    second: str
    speakers: int | None
    groups: int
    adjacent: int
    lines: int | None

    @property
    def found(self) -> bool:
        """True when the parts share anything."""
        return any((self.speakers, self.groups, self.adjacent, self.lines))


@dataclass(frozen=True)
class Leaks:
    """Every pair of parts, and how many there are of each thing that may leak."""

    pairs: tuple[Leak, ...]
    speakers: int | None  # None: the corpus does not name its speakers
    groups: int
    utterances: dict[str, int]  # by part

    @property
    def found(self) -> bool:
        """True when any two parts share anything."""
        return any(pair.found for pair in self.pairs)


def leaks(members: Sequence[Member]) -> Leaks:
    """What the parts of a split share. Speakers are not told where each is named after a video (CMU-MOSEI)."""
    parts = {part: [member for member in members if member.part == part] for part in PARTS}
    told = any(member.speaker is not None and member.speaker != member.group for member in members)
    speakers = len({member.speaker for member in members}) if told else None
    pairs = tuple(
        _between(parts[first], parts[second], told)
        for first, second in combinations(PARTS, 2)
        if parts[first] and parts[second]
    )
    return Leaks(pairs, speakers, len({member.group for member in members}), {part: len(parts[part]) for part in PARTS})


def _between(first: Sequence[Member], second: Sequence[Member], speakers_told: bool) -> Leak:
    return Leak(
        first[0].part,
        second[0].part,
        len({member.speaker for member in first} & {member.speaker for member in second}) if speakers_told else None,
        len({member.group for member in first} & {member.group for member in second}),
        _adjacent(first, second),
        _same_lines(first, second),
    )


def _adjacent(first: Sequence[Member], second: Sequence[Member]) -> int:
    turns = {turn for member in first if (turn := _turn(member))}
    mine = [turn for member in second if (turn := _turn(member))]
    return sum(
        (speaker, head, number - 1) in turns or (speaker, head, number + 1) in turns for speaker, head, number in mine
    )


def _turn(member: Member) -> tuple[str | None, str, int] | None:
    found = re.fullmatch(r"(.*?)(\d+)", member.id)
    return (member.speaker, found[1], int(found[2])) if found else None


def _same_lines(first: Sequence[Member], second: Sequence[Member]) -> int | None:
    spoken = {line for member in first if (line := _line(member))}
    again = [line for member in second if (line := _line(member))]
    return sum(line in spoken for line in again) if spoken and again else None


def _line(member: Member) -> tuple[str, ...] | None:
    """Script and words of a scripted line, as ("script01_1", "i", "don't", ...); None for any other utterance."""
    script = re.search(r"_(script\d\d_\d)b?$", member.group or "")  # script01_1b is of the same script
    words = re.findall(r"[\w']+", re.sub(r"\[.*?\]", " ", (member.text or "").lower()))
    return (script[1], *words) if script and len(words) >= SHORTEST_LINE else None
