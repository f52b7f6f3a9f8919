"""What leaks from one split into another: `leaks`.

A model that was trained on a speaker, a dialogue or a line is tested on something it partly knows. Counted are

    speakers    in both splits
    groups      dialogues or videos in both splits
    adjacent    utterances of the second split with an adjacent turn of the same speaker in the first: their ids differ
                only in the last number, by one (Ses01F_impro01_F003 and Ses01F_impro01_F004)
    lines       utterances of the second split whose scripted line is spoken in the first (all sessions of IEMOCAP play
                the same scripts): same script, same words, four or more, since shorter ones recur within a script
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from mesm_data.splits.expected import SPLITS
from mesm_data.splits.split import Member

SHORTEST_LINE = 4  # words
LONGEST_NUMBER = 18  # digits at the end of an id that are read as the number of a turn

ScriptOf = Callable[[str], str | None]  # group -> the script that it plays, if it plays one


@dataclass(frozen=True)
class Leak:
    """What two splits share. None: unknown from what is given."""

    first: str
    second: str
    speakers: int | None
    groups: int
    adjacent: int
    lines: int | None

    @property
    def found(self) -> bool:
        """True when the splits share anything."""
        return any((self.speakers, self.groups, self.adjacent, self.lines))


@dataclass(frozen=True)
class Leaks:
    """Every pair of splits, and the number of each thing that may leak."""

    pairs: tuple[Leak, ...]
    speakers: int | None  # None: the corpus does not name its speakers
    groups: int
    utterances: dict[str, int]  # by split

    @property
    def found(self) -> bool:
        """True when any two splits share anything."""
        return any(pair.found for pair in self.pairs)


def leaks(members: Sequence[Member], *, script_of: ScriptOf = lambda group: None, speakers_known: bool = True) -> Leaks:
    """What the splits of a dataset share. Not `speakers_known`: a speaker is only another name of the recording."""
    by_split = {split: [member for member in members if member.split == split] for split in SPLITS}
    named = {member.speaker for member in members if member.speaker is not None and speakers_known}
    pairs = tuple(
        _between(by_split[first], by_split[second], bool(named), script_of)
        for first, second in combinations(SPLITS, 2)
        if by_split[first] and by_split[second]
    )
    counts = {split: len(by_split[split]) for split in SPLITS}
    return Leaks(pairs, len(named) if named else None, len({member.group for member in members}), counts)


def _between(first: Sequence[Member], second: Sequence[Member], speakers_named: bool, script_of: ScriptOf) -> Leak:
    return Leak(
        first[0].split,
        second[0].split,
        len(_speakers(first) & _speakers(second)) if speakers_named else None,
        len({member.group for member in first} & {member.group for member in second}),
        _adjacent(first, second),
        _same_lines(first, second, script_of),
    )


def _speakers(members: Sequence[Member]) -> set[str]:
    return {member.speaker for member in members if member.speaker is not None}


def _adjacent(first: Sequence[Member], second: Sequence[Member]) -> int:
    turns = {turn for member in first if (turn := _turn(member))}
    mine = [turn for member in second if (turn := _turn(member))]
    return sum(
        (speaker, head, number - 1) in turns or (speaker, head, number + 1) in turns for speaker, head, number in mine
    )


def _turn(member: Member) -> tuple[str | None, str, int] | None:
    head = member.id.rstrip("0123456789")
    number = member.id[len(head) :]
    return (member.speaker, head, int(number)) if 0 < len(number) <= LONGEST_NUMBER else None


def _same_lines(first: Sequence[Member], second: Sequence[Member], script_of: ScriptOf) -> int | None:
    spoken = {line for member in first if (line := _line(member, script_of))}
    again = [line for member in second if (line := _line(member, script_of))]
    return sum(line in spoken for line in again) if spoken and again else None


def _line(member: Member, script_of: ScriptOf) -> tuple[str, ...] | None:
    """Script and words of a scripted line, as ("script01_1", "i", "don't", ...); None for any other utterance."""
    script = script_of(member.group or "")
    if not script:
        return None
    bracketed, end, rest = (member.text or "").lower().rpartition("]")  # so that every [ has its ]: linear time
    words = re.findall(r"[\w']+", re.sub(r"\[[^\]]*\]", " ", bracketed + end) + rest)
    return (script, *words) if len(words) >= SHORTEST_LINE else None
