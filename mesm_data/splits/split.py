"""Which utterance is in which split: `make_splits` reads, derives or draws `Splits`. The schemes:

    paper       the paper's: from id lists (IEMOCAP), or from the standard folds and the cleaning rule (CMU-MOSEI)
    official    the corpus's standard folds, nothing cleaned
    random      70/10/20 by utterance, as the paper describes
    grouped     70/10/20 by dialogue or video, emotions balanced, no group in two splits
    session:N   session N is test; a tenth of the other dialogues, drawn as `grouped` draws, is valid

The drawn ones drop misaligned videos too, but not those that are in no fold.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesm_data import corpora
from mesm_data.errors import Issue, SplitError
from mesm_data.splits import draw
from mesm_data.splits.expected import SPLITS, Expected, corpora_of_the_paper, ids_digest, read_expected
from mesm_data.splits.id_lists import cached_lists, fetch_lists, read_lists, up_to_ten
from mesm_data.utterance import Utterance

SCHEMES = ("paper", "official", "random", "grouped", "session:N")
PATIENCE = 10.0  # seconds that a build waits for the server of the id lists


@dataclass(frozen=True)
class Splits:
    """Split -> its ids, sorted, and the scheme that made them. `absent`: listed ids that this copy lacks."""

    scheme: str
    ids: dict[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of the splits: equal for equal splits, whatever the scheme."""
        lines = "".join(f"{split} {ids_digest(ids)}\n" for split, ids in sorted(self.ids.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class Member:
    """One utterance in its split, as far as it is known: None is what nobody gave."""

    id: str
    split: str
    text: str | None = None
    labels: tuple[int, ...] | None = None
    seconds: float | None = None
    speaker: str | None = None
    group: str | None = None


def make_splits(
    scheme: str, corpus: str, utterances: Sequence[Utterance], *, seed: int = 0, lists: Path | None = None
) -> tuple[Splits, list[Issue]]:
    """The splits of these utterances by a scheme, and an Issue for every utterance in none.

    `lists` is a folder of id lists for "paper"; the scheme is called "lists" where they are not the published ones.
    Raises SplitError for an unknown scheme, lists that are missing or do not fit, duplicate ids, too few utterances.
    """
    _check_ids(utterances)
    if lists is not None and scheme != "paper":
        raise SplitError(f"id lists go with the split 'paper', not with {scheme!r}; leave --lists out")
    if scheme == "paper":
        return _paper(corpus, utterances, lists)
    if scheme == "official":
        return _official(corpus, utterances)
    aligned, issues = _without_misaligned(utterances)
    if scheme == "random":
        return Splits(f"random:{seed}", draw.by_utterance(aligned, seed)), issues
    if scheme == "grouped":
        return Splits(f"grouped:{seed}", draw.by_group(aligned, seed)), issues
    kind, _, number = scheme.partition(":")
    if kind == "session" and number.isdecimal() and len(number) < 10:
        session_of = corpora.load(corpus).session_of
        return Splits(f"session:{int(number)}:{seed}", draw.by_session(aligned, int(number), session_of, seed)), issues
    raise SplitError(f"split {scheme!r}, expected one of {', '.join(SCHEMES)}")


def members(splits: Splits, utterances: Iterable[Utterance] = (), *, expected: Expected | None = None) -> list[Member]:
    """Every id with the facts of its utterance; for an id without one, what `expected` reads off the id."""
    known = {utterance.id: utterance for utterance in utterances}
    return [_member(name, split, known.get(name), expected) for split, ids in splits.ids.items() for name in ids]


def splits_of_lists(corpus: str, folder: Path, expected: Expected | None = None) -> Splits:
    """The splits of id lists: "paper" when they are the published ones (or those of `expected`), else "lists"."""
    ids = read_lists(folder)
    if expected is None and corpus not in corpora_of_the_paper():
        return Splits("lists", ids)
    expected = expected or read_expected(corpus)
    unknown = sorted(name for names in ids.values() for name in names if not expected.knows(name))
    if unknown:
        raise SplitError(f"{folder}: {len(unknown)} ids are unknown, not of the form of {corpus}: {up_to_ten(unknown)}")
    published = {split: ids_digest(names) for split, names in ids.items()} == expected.digests
    return Splits("paper" if published else "lists", ids)


def obtain_lists(corpus: str, *, url: str | None = None) -> str | None:
    """Fetch the lists that the paper's split of a corpus needs, once; returns the line to print if it did.

    Raises SplitError, one line with every alternative, where they cannot be fetched.
    """
    if corpus not in corpora_of_the_paper() or derives_paper_split(corpus) or cached_lists(corpus):
        return None
    try:
        folder = fetch_lists(corpus, url=url, timeout=PATIENCE)
    except SplitError as error:
        reason = str(error).partition("; if you hold")[0]
        raise SplitError(f"{no_lists(corpus)}. They could not be fetched now: {reason}") from None
    return f"fetched the published id lists of {corpus} to {folder}; they have the expected digests"


def derives_paper_split(corpus: str) -> bool:
    """True when the paper's split of a corpus follows from a rule, so that no lists are needed."""
    return corpora.load(corpus).paper_drops is not None


def no_lists(corpus: str) -> str:
    """What to do about missing lists, in words."""
    if corpus not in corpora_of_the_paper():
        return f"the paper has no split of {corpus}; give id lists with --lists DIR, or use --split random or grouped"
    return (
        f"the paper's split of {corpus} needs the published id lists: give their folder with --lists DIR, "
        f"or fetch them once with `mesm-data splits fetch {corpus}`; a build may use --split random instead"
    )


def _paper(corpus: str, utterances: Sequence[Utterance], lists: Path | None) -> tuple[Splits, list[Issue]]:
    if lists is None and derives_paper_split(corpus):
        return _derived(corpus, utterances)
    if lists is None and corpus in corpora_of_the_paper():
        lists = cached_lists(corpus)
    if lists is None:
        raise SplitError(no_lists(corpus))
    return _of_this_copy(corpus, splits_of_lists(corpus, lists), utterances, lists)


def _of_this_copy(
    corpus: str, listed: Splits, utterances: Sequence[Utterance], folder: Path
) -> tuple[Splits, list[Issue]]:
    here = {utterance.id for utterance in utterances}
    ids = set().union(*listed.ids.values())
    absent = sorted(ids - here)
    if len(absent) == len(ids):
        raise SplitError(
            f"{folder}: none of its {len(absent)} ids is in this copy of {corpus}; "
            f"the lists hold {absent[0]}, the copy {min(here)}: lists of another corpus?"
        )
    present = {split: tuple(name for name in names if name in here) for split, names in listed.ids.items()}
    detail = f"in none of the lists {', '.join(present)}"
    issues = [Issue(u.id, "no-split", detail) for u in utterances if u.id not in ids]
    return Splits(listed.scheme, present, tuple(absent)), issues


def _derived(corpus: str, utterances: Sequence[Utterance]) -> tuple[Splits, list[Issue]]:
    paper_drops = corpora.load(corpus).paper_drops
    assert paper_drops
    issues = paper_drops(utterances)
    dropped = {issue.utterance for issue in issues}
    ids, in_no_fold = _by_fold(corpus, [utterance for utterance in utterances if utterance.id not in dropped])
    return Splits("paper", ids), [*issues, *in_no_fold]


def _official(corpus: str, utterances: Sequence[Utterance]) -> tuple[Splits, list[Issue]]:
    if corpora.load(corpus).standard_folds is None:
        raise SplitError(f"{corpus} has no official folds; use one of {', '.join(SCHEMES[2:])}")
    ids, issues = _by_fold(corpus, utterances)
    return Splits("official", ids), issues


def _by_fold(corpus: str, utterances: Iterable[Utterance]) -> tuple[dict[str, tuple[str, ...]], list[Issue]]:
    standard_folds = corpora.load(corpus).standard_folds
    assert standard_folds
    fold_of = {group: split for split, groups in standard_folds().items() for group in groups}
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    issues = []
    for utterance in utterances:
        if utterance.group in fold_of:
            ids[fold_of[utterance.group]].append(utterance.id)
        else:
            issues.append(Issue(utterance.id, "no-fold", f"{utterance.group} is in no standard fold"))
    return {split: tuple(sorted(names)) for split, names in ids.items()}, issues


def _without_misaligned(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Issue]]:
    """Drop the videos whose transcript is shifted: one clip before 0 shows that all clips of it are misplaced."""
    earliest: dict[str, float] = {}
    for utterance in utterances:
        earliest[utterance.group] = min(utterance.start, earliest.get(utterance.group, 0.0))
    aligned = [utterance for utterance in utterances if earliest[utterance.group] >= 0]
    issues = [
        Issue(u.id, "negative-start", f"{u.group} has a clip that starts at {earliest[u.group]:.3f} s")
        for u in utterances
        if earliest[u.group] < 0
    ]
    return aligned, issues


def _member(name: str, split: str, known: Utterance | None, expected: Expected | None) -> Member:
    if known is None:
        speaker = expected.speaker_of(name) if expected else None
        return Member(name, split, speaker=speaker, group=name.rpartition("_")[0])
    seconds = known.end - known.start
    return Member(name, split, known.text or None, known.labels, seconds, known.speaker, known.group)


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise SplitError("no utterances to split")
    twice = sorted(name for name, times in Counter(u.id for u in utterances).items() if times > 1)
    if twice:
        raise SplitError(f"{len(twice)} utterance ids occur twice in this copy: {up_to_ten(twice)}")
