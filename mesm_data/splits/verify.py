"""Proof that a split is the paper's: every figure of Tables 1-2 and every id digest, found beside expected.

`verify_corpus` looks at id lists and annotations, `verify_rows` at the rows of a built dataset; both return a
`SplitReport`. What cannot be checked is in its notes, never passed over.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesm_data import corpora
from mesm_data.errors import Issue, SplitError
from mesm_data.splits import stats
from mesm_data.splits.expected import PARTS, Expected, ids_digest, read_expected
from mesm_data.splits.id_lists import cached_lists
from mesm_data.splits.leaks import leaks
from mesm_data.splits.split import Member, Split, make_split, members, no_lists, split_of_lists
from mesm_data.splits.split_report import Cell, Difference, SplitReport
from mesm_data.utterance import Utterance

TOLERANCES = {"words": 0.05, "seconds": 0.01}  # of the averages; everything else must be equal


def verify_corpus(
    corpus: str,
    *,
    utterances: Sequence[Utterance] | None = None,
    lists: Path | None = None,
    expected: Expected | None = None,
) -> SplitReport:
    """The paper's split, made of these annotations and id lists, held against the paper.

    Lists alone give counts and digests. Raises SplitError when there is neither a list nor a rule to go by.
    """
    expected = expected or read_expected(corpus)
    reference: Split | None
    if utterances is not None and _derives(corpus):
        split, issues = make_split("paper", corpus, utterances)
        reference = split_of_lists(corpus, lists, expected) if lists else None
    else:
        folder = lists or cached_lists(corpus)
        if folder is None:
            raise SplitError(no_lists(corpus) + (", or give --labels CSV" if _derives(corpus) else ""))
        split, issues = split_of_lists(corpus, folder, expected), []
        reference = split if split.name == "paper" else _published(expected) or split
        if utterances is not None:
            here, issues = make_split("paper", corpus, utterances, lists=folder)
            split = replace(here, name=split.name)
    return _report(
        expected,
        split.name,
        members(split, utterances or (), expected=expected),
        corpora.load(corpus).EMOTIONS,
        reference=members(reference, expected=expected) if reference else None,
        issues=issues,
    )


def verify_rows(
    corpus: str,
    rows: Iterable[Mapping[str, Any]],
    emotions: Sequence[str],
    *,
    split: str,
    utterances: Sequence[Utterance] | None = None,
    lists: Path | None = None,
    expected: Expected | None = None,
) -> SplitReport:
    """The rows of a built dataset (id, split, text, labels, start, end, speaker, group), held against the paper.

    Ids and labels are compared with `utterances` (the annotations of the whole corpus) or `lists`, where given.
    """
    expected = expected or read_expected(corpus)
    reference = None
    if utterances is not None:
        whole, _ = make_split("paper", corpus, utterances, lists=None if _derives(corpus) else lists)
        reference = members(whole, utterances)
    elif listed := split_of_lists(corpus, lists, expected) if lists else _published(expected):
        reference = members(listed, expected=expected)
    return _report(expected, split, [_member(row) for row in rows], emotions, reference=reference)


def _report(
    expected: Expected,
    split: str,
    found: Sequence[Member],
    emotions: Sequence[str],
    *,
    reference: Sequence[Member] | None,
    issues: Sequence[Issue] = (),
) -> SplitReport:
    if set(emotions) != set(expected.table):
        found_names, names = ", ".join(emotions), ", ".join(expected.table)
        raise SplitError(f"{expected.corpus}: emotions {found_names}, expected {names} ({expected.source})")
    counts = stats.count(found, emotions)
    cells = _cells(counts, expected, found)
    differences = None if reference is None else _differences(found, reference, issues)
    notes = [*_not_given(counts, expected.corpus), *_left_out(issues)]
    if not differences and any(cell.ok is False for cell in cells):
        notes.append(_untold(expected.corpus, cells))
    whose = "the paper's dataset" if expected == read_expected(expected.corpus) else "the dataset of the manifest"
    return SplitReport(
        expected.corpus, split, expected.source, whose, tuple(cells), leaks(found), differences, tuple(notes)
    )


def _cells(counts: stats.Counts, expected: Expected, found: Sequence[Member]) -> list[Cell]:
    table = [
        _cell(emotion, column, counts.table[emotion][column], value)
        for emotion, row in expected.table.items()
        for column, value in row.items()
    ]
    totals = [_cell("utterances", part, counts.utterances[part], expected.utterances[part]) for part in PARTS]
    digests = {part: ids_digest(member.id for member in found if member.part == part) for part in PARTS}
    return [*table, *totals, *(_cell("digest", part, digests[part], expected.digests[part]) for part in PARTS)]


def _cell(row: str, column: str, found: float | str | None, expected: float | str) -> Cell:
    if found is None:
        return Cell(row, column, None, expected, None)
    if isinstance(found, str) or isinstance(expected, str) or column not in TOLERANCES:
        return Cell(row, column, found, expected, found == expected)
    return Cell(row, column, found, expected, round(abs(found - expected), 6) <= TOLERANCES[column])


def _differences(
    found: Sequence[Member], reference: Sequence[Member], issues: Sequence[Issue]
) -> tuple[Difference, ...]:
    have, want = {member.id: member for member in found}, {member.id: member for member in reference}
    rows = [Difference("missing", name, "-", want[name].part) for name in want.keys() - have.keys()]
    rows += [Difference("extra", name, have[name].part, "-") for name in have.keys() - want.keys()]
    rows += [Difference("extra", issue.utterance, "no part", "-") for issue in issues if issue.kind == "no-part"]
    for name in have.keys() & want.keys():
        one, other = have[name], want[name]
        if one.part != other.part:
            rows.append(Difference("other part", name, one.part, other.part))
        if one.labels and other.labels and one.labels != other.labels:
            rows.append(Difference("other labels", name, _digits(one.labels), _digits(other.labels)))
    return tuple(sorted(rows, key=lambda row: (row.kind, row.id)))


def _not_given(counts: stats.Counts, corpus: str) -> list[str]:
    """What cannot be checked, and what to give for it. Without labels nothing per emotion can be counted."""
    labels = "--raw DIR or --labels CSV" if _derives(corpus) else "--raw DIR"
    cells = {
        "labels": ("the cells of every emotion", labels),
        "seconds": ("average seconds", labels),
        "text": ("average words", "--raw DIR"),
    }
    utterances = sum(counts.utterances.values())
    notes = []
    for name, (what, option) in cells.items():
        missing = counts.without[name]
        if missing == utterances:
            notes.append(f"Not checked, for want of {name}: {what}. Give {option}.")
        elif missing:
            notes.append(f"{missing} of {utterances} utterances have no {name}; {what} are counted without them.")
        if name == "labels" and missing == utterances:
            break
    return notes


def _untold(corpus: str, cells: Sequence[Cell]) -> str:
    if any(cell.ok is False for cell in cells if cell.row == "digest"):
        annotated = ". Or give the whole corpus's labels, with --labels CSV or --raw DIR" if _derives(corpus) else ""
        return f"Which ids differ is not known: {no_lists(corpus)}{annotated}."
    return "Which labels, times or words differ is not known: the ids are the paper's, and it publishes nothing else."


def _left_out(issues: Sequence[Issue]) -> list[str]:
    kinds = Counter(issue.kind for issue in issues)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return [f"Labelled utterances in no part: {len(issues)} ({told})."] if issues else []


def _digits(labels: Sequence[int]) -> str:
    return ",".join(map(str, labels))


def _member(row: Mapping[str, Any]) -> Member:
    seconds = row["end"] - row["start"]
    return Member(
        row["id"], row["split"], row["text"] or None, tuple(row["labels"]), seconds, row["speaker"], row["group"]
    )


def _derives(corpus: str) -> bool:
    """True when the paper's split of a corpus follows from a rule, so that no lists are needed."""
    return hasattr(corpora.load(corpus), "paper_drops")


def _published(expected: Expected) -> Split | None:
    """The lists that were fetched, where they are the expected ones."""
    folder = cached_lists(expected.corpus)
    split = split_of_lists(expected.corpus, folder, expected) if folder else None
    return split if split and split.name == "paper" else None
