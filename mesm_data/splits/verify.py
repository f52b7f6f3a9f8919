"""Proof that a dataset is the paper's: every figure of Tables 1-2 and every id digest, found beside expected.

`verify_corpus` checks id lists and annotations, `verify_rows` the rows of a built dataset; both return a
`SplitReport`. What cannot be checked is in its notes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesm_data import corpora
from mesm_data.errors import Issue, SplitError
from mesm_data.splits import stats
from mesm_data.splits.expected import SPLITS, Expected, ids_digest, read_expected
from mesm_data.splits.id_lists import cached_lists
from mesm_data.splits.leaks import leaks
from mesm_data.splits.split import (
    Member,
    Splits,
    derives_paper_split,
    make_splits,
    members,
    no_lists,
    splits_of_lists,
)
from mesm_data.splits.split_report import Cell, Difference, SplitReport
from mesm_data.utterance import Utterance

TOLERANCES = {"words": 0.05, "seconds": 0.01}  # of the averages; everything else must be equal
COLUMNS = ("id", "split", "text", "labels", "start", "end", "speaker", "group")  # what `verify_rows` needs


def verify_corpus(
    corpus: str,
    *,
    utterances: Sequence[Utterance] | None = None,
    lists: Path | None = None,
    expected: Expected | None = None,
) -> SplitReport:
    """The paper's split, made of these annotations and id lists, compared with the paper.

    Lists alone give counts and digests. Raises SplitError when there is neither a list nor a rule to go by.
    """
    expected = expected or read_expected(corpus)
    reference: Splits | None
    if utterances is not None and derives_paper_split(corpus):
        splits, issues = make_splits("paper", corpus, utterances)
        reference = splits_of_lists(corpus, lists, expected) if lists else None
    else:
        folder = lists or cached_lists(corpus)
        if folder is None:
            raise SplitError(no_lists(corpus) + ("; or give --labels CSV" if derives_paper_split(corpus) else ""))
        splits, issues = splits_of_lists(corpus, folder, expected), []
        reference = splits if splits.scheme == "paper" else _published(expected) or splits
        if utterances is not None:
            here, issues = make_splits("paper", corpus, utterances, lists=folder)
            splits = replace(here, scheme=splits.scheme)
    return _report(
        expected,
        splits.scheme,
        members(splits, utterances or (), expected=expected),
        corpora.load(corpus).EMOTIONS,
        reference=members(reference, expected=expected) if reference else None,
        issues=issues,
    )


def verify_rows(
    corpus: str,
    rows: Iterable[Mapping[str, Any]],
    emotions: Sequence[str],
    *,
    scheme: str,
    utterances: Sequence[Utterance] | None = None,
    lists: Path | None = None,
    expected: Expected | None = None,
) -> SplitReport:
    """The rows of a built dataset, with `COLUMNS`, compared with the paper. `scheme` is the index's "split".

    Ids and labels are compared with `utterances` (the annotations of the whole corpus) or `lists`, where given.
    """
    expected = expected or read_expected(corpus)
    reference = None
    if utterances is not None:
        whole, _ = make_splits("paper", corpus, utterances, lists=None if derives_paper_split(corpus) else lists)
        reference = members(whole, utterances)
    elif listed := splits_of_lists(corpus, lists, expected) if lists else _published(expected):
        reference = members(listed, expected=expected)
    return _report(expected, scheme, [_member(row) for row in rows], emotions, reference=reference)


def _report(
    expected: Expected,
    scheme: str,
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
        notes.append(_unknown(expected.corpus, cells))
    shared = leaks(found, **corpora.leak_rules(expected.corpus))
    whose = "the paper's dataset" if expected == read_expected(expected.corpus) else "the dataset of the manifest"
    return SplitReport(expected.corpus, scheme, expected.source, whose, tuple(cells), shared, differences, tuple(notes))


def _cells(counts: stats.Counts, expected: Expected, found: Sequence[Member]) -> list[Cell]:
    table = [
        _cell(emotion, column, counts.table[emotion][column], value)
        for emotion, row in expected.table.items()
        for column, value in row.items()
    ]
    totals = [_cell("utterances", split, counts.utterances[split], expected.utterances[split]) for split in SPLITS]
    digests = {split: ids_digest(member.id for member in found if member.split == split) for split in SPLITS}
    return [*table, *totals, *(_cell("digest", split, digests[split], expected.digests[split]) for split in SPLITS)]


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
    rows = [Difference("missing", name, "-", want[name].split) for name in want.keys() - have.keys()]
    rows += [Difference("extra", name, have[name].split, "-") for name in have.keys() - want.keys()]
    rows += [Difference("extra", issue.utterance, "none", "-") for issue in issues if issue.kind == "no-split"]
    for name in have.keys() & want.keys():
        one, other = have[name], want[name]
        if one.split != other.split:
            rows.append(Difference("other split", name, one.split, other.split))
        if one.labels and other.labels and one.labels != other.labels:
            rows.append(Difference("other labels", name, _digits(one.labels), _digits(other.labels)))
    return tuple(sorted(rows, key=lambda row: (row.kind, row.id)))


def _not_given(counts: stats.Counts, corpus: str) -> list[str]:
    """What cannot be checked, and what to give for it. Without labels nothing per emotion can be counted."""
    labels = "--raw DIR or --labels CSV" if derives_paper_split(corpus) else "--raw DIR"
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
            notes.append(f"Not checked, no {name} given: {what}. Give {option}.")
        elif missing:
            notes.append(f"{missing} of {utterances} utterances have no {name}; {what} are counted without them.")
        if name == "labels" and missing == utterances:
            break
    return notes


def _unknown(corpus: str, cells: Sequence[Cell]) -> str:
    if any(cell.ok is False for cell in cells if cell.row == "digest"):
        annotated = (
            ". Or give the whole corpus's labels, with --labels CSV or --raw DIR" if derives_paper_split(corpus) else ""
        )
        return f"Which ids differ is not known: {no_lists(corpus)}{annotated}."
    return "Which labels, times or words differ is not known: the ids are the paper's, and it publishes nothing else."


def _left_out(issues: Sequence[Issue]) -> list[str]:
    kinds = Counter(issue.kind for issue in issues)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return [f"Labelled utterances in no split: {len(issues)} ({told})."] if issues else []


def _digits(labels: Sequence[int]) -> str:
    return ",".join(map(str, labels))


def _member(row: Mapping[str, Any]) -> Member:
    seconds = row["end"] - row["start"]
    return Member(
        row["id"], row["split"], row["text"] or None, tuple(row["labels"]), seconds, row["speaker"], row["group"]
    )


def _published(expected: Expected) -> Splits | None:
    """The lists that were fetched, where they are the expected ones."""
    folder = cached_lists(expected.corpus)
    listed = splits_of_lists(expected.corpus, folder, expected) if folder else None
    return listed if listed and listed.scheme == "paper" else None
