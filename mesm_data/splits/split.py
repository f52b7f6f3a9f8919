"""Which utterance is in which part: `make_split` reads, derives or draws a `Split`.

    paper       the paper's: from id lists (IEMOCAP), or from the standard folds and the cleaning rule (CMU-MOSEI)
    official    the corpus's standard folds, nothing cleaned
    random      70/10/20 by utterance, as the paper describes
    grouped     70/10/20 by dialogue or video, emotions balanced, no group in two parts
    session:N   session N is test; a tenth of the other dialogues, drawn as `grouped` draws, is valid

The drawn ones leave out misaligned videos too, but not those that are in no fold.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesm_data import corpora
from mesm_data.errors import Issue, SplitError
from mesm_data.splits import draw
from mesm_data.splits.expected import PARTS, Expected, corpora_of_the_paper, ids_digest, read_expected
from mesm_data.splits.id_lists import cached_lists, read_lists, up_to_ten
from mesm_data.utterance import Utterance

NAMES = ("paper", "official", "random", "grouped", "session:N")


@dataclass(frozen=True)
class Split:
    """Parts and the ids in them, sorted. `absent`: ids of the lists that this copy of the corpus lacks."""

    name: str
    parts: dict[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over the parts' names and digests: equal for equal parts, whatever the split is called."""
        lines = "".join(f"{part} {ids_digest(ids)}\n" for part, ids in sorted(self.parts.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class Member:
    """One utterance in its part, as far as it is known: None is what nobody gave."""

    id: str
    part: str
    text: str | None = None
    labels: tuple[int, ...] | None = None
    seconds: float | None = None
    speaker: str | None = None
    group: str | None = None


def make_split(
    name: str, corpus: str, utterances: Sequence[Utterance], *, seed: int = 0, lists: Path | None = None
) -> tuple[Split, list[Issue]]:
    """The split called `name` of these utterances, and an Issue for every utterance in no part.

    `lists` is a folder of id lists for "paper"; the split is called "lists" where they are not the published ones.
    Raises SplitError for an unknown name, lists that cannot be had or do not fit, ids given twice, too few utterances.
    """
    _check_ids(utterances)
    if lists is not None and name != "paper":
        raise SplitError(
            f"id lists go with the split 'paper', not with {name!r}; leave --lists out or take --split paper"
        )
    kind, _, number = name.partition(":")
    if name == "paper":
        return _paper(corpus, utterances, lists)
    if name == "official":
        return _official(corpus, utterances)
    kept, issues = _without_misaligned(utterances)
    if name == "random":
        return Split(f"random:{seed}", draw.by_utterance(kept, seed)), issues
    if name == "grouped":
        return Split(f"grouped:{seed}", draw.by_group(kept, seed)), issues
    if kind == "session" and number.isdecimal():
        return Split(f"session:{int(number)}:{seed}", draw.by_session(kept, int(number), seed)), issues
    raise SplitError(f"split {name!r}, expected one of {', '.join(NAMES)}")


def members(split: Split, utterances: Iterable[Utterance] = (), *, expected: Expected | None = None) -> list[Member]:
    """Every id of a split with what its utterance says; of an id without one, what `expected` reads off the id."""
    known = {utterance.id: utterance for utterance in utterances}
    return [_member(name, part, known.get(name), expected) for part, ids in split.parts.items() for name in ids]


def split_of_lists(corpus: str, folder: Path, expected: Expected | None = None) -> Split:
    """The split that id lists say: "paper" when they are the published ones (or those of `expected`), else "lists"."""
    parts = read_lists(folder)
    if expected is None and corpus not in corpora_of_the_paper():
        return Split("lists", parts)
    expected = expected or read_expected(corpus)
    unknown = sorted(name for ids in parts.values() for name in ids if not expected.knows(name))
    if unknown:
        raise SplitError(f"{folder}: {len(unknown)} ids are unknown, not of the form of {corpus}: {up_to_ten(unknown)}")
    published = {part: ids_digest(ids) for part, ids in parts.items()} == expected.digests
    return Split("paper" if published else "lists", parts)


def no_lists(corpus: str) -> str:
    """What to do about lists that are not here, in words."""
    if corpus not in corpora_of_the_paper():
        return f"the paper has no split of {corpus}; give id lists with --lists DIR, or take --split random or grouped"
    return (
        f"the published id lists of {corpus} are not part of this project: give their folder with --lists DIR, "
        f"or fetch them once with `mesm-data splits fetch {corpus}`"
    )


def _paper(corpus: str, utterances: Sequence[Utterance], lists: Path | None) -> tuple[Split, list[Issue]]:
    if lists is None and hasattr(corpora.load(corpus), "paper_drops"):
        return _derived(corpus, utterances)
    if lists is None and corpus in corpora_of_the_paper():
        lists = cached_lists(corpus)
    if lists is None:
        raise SplitError(no_lists(corpus))
    return _of_this_copy(corpus, split_of_lists(corpus, lists), utterances, lists)


def _of_this_copy(
    corpus: str, listed: Split, utterances: Sequence[Utterance], folder: Path
) -> tuple[Split, list[Issue]]:
    here = {utterance.id for utterance in utterances}
    ids = set().union(*listed.parts.values())
    absent = sorted(ids - here)
    if len(absent) == len(ids):
        raise SplitError(
            f"{folder}: none of its {len(absent)} ids is in this copy of {corpus}; "
            f"the lists say {absent[0]}, the copy {min(here)}: lists of another corpus?"
        )
    parts = {part: tuple(name for name in names if name in here) for part, names in listed.parts.items()}
    detail = f"in none of the lists {', '.join(parts)}"
    issues = [Issue(u.id, "no-part", detail) for u in utterances if u.id not in ids]
    return Split(listed.name, parts, tuple(absent)), issues


def _derived(corpus: str, utterances: Sequence[Utterance]) -> tuple[Split, list[Issue]]:
    issues = corpora.load(corpus).paper_drops(utterances)
    dropped = {issue.utterance for issue in issues}
    parts, in_no_fold = _by_fold(corpus, [utterance for utterance in utterances if utterance.id not in dropped])
    return Split("paper", parts), [*issues, *in_no_fold]


def _official(corpus: str, utterances: Sequence[Utterance]) -> tuple[Split, list[Issue]]:
    if not hasattr(corpora.load(corpus), "standard_folds"):
        raise SplitError(f"{corpus} has no official folds; take one of {', '.join(NAMES[2:])}")
    parts, issues = _by_fold(corpus, utterances)
    return Split("official", parts), issues


def _by_fold(corpus: str, utterances: Iterable[Utterance]) -> tuple[dict[str, tuple[str, ...]], list[Issue]]:
    fold_of = {group: part for part, groups in corpora.load(corpus).standard_folds().items() for group in groups}
    ids: dict[str, list[str]] = {part: [] for part in PARTS}
    issues = []
    for utterance in utterances:
        if utterance.group in fold_of:
            ids[fold_of[utterance.group]].append(utterance.id)
        else:
            issues.append(Issue(utterance.id, "no-fold", f"{utterance.group} is in no standard fold"))
    return {part: tuple(sorted(names)) for part, names in ids.items()}, issues


def _without_misaligned(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Issue]]:
    """Without the videos whose transcript is shifted: one clip before 0 gives away that all of them are misplaced."""
    earliest: dict[str, float] = {}
    for utterance in utterances:
        earliest[utterance.group] = min(utterance.start, earliest.get(utterance.group, 0.0))
    kept = [utterance for utterance in utterances if earliest[utterance.group] >= 0]
    issues = [
        Issue(u.id, "negative-start", f"{u.group} has a clip that starts at {earliest[u.group]:.3f} s")
        for u in utterances
        if earliest[u.group] < 0
    ]
    return kept, issues


def _member(name: str, part: str, known: Utterance | None, expected: Expected | None) -> Member:
    if known is None:
        speaker = expected.speaker_of(name) if expected else None
        return Member(name, part, speaker=speaker, group=name.rpartition("_")[0])
    seconds = known.end - known.start
    return Member(name, part, known.text or None, known.labels, seconds, known.speaker, known.group)


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise SplitError("no utterances to split")
    twice = sorted(name for name, times in Counter(u.id for u in utterances).items() if times > 1)
    if twice:
        raise SplitError(f"{len(twice)} utterance ids stand twice in this copy: {up_to_ten(twice)}")
