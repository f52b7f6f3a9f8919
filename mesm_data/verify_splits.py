"""What `mesm-data verify-splits` checks: a corpus or a dataset against the paper, or every dataset of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mesm_data import corpora
from mesm_data.build import read_corpus
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError, SplitError
from mesm_data.files import datasets_below
from mesm_data.splits.expected import SPLITS, corpora_of_the_paper, read_expected, read_expected_file
from mesm_data.splits.id_lists import cached_lists
from mesm_data.splits.split_report import SplitReport, verdict
from mesm_data.splits.verify import COLUMNS, verify_corpus, verify_rows
from mesm_data.utterance import Utterance


@dataclass(frozen=True)
class Given:
    """What the user gave to compare with."""

    raw: Path | None = None  # the raw corpus
    labels: Path | None = None  # a table of all labels instead of it
    lists: Path | None = None  # a folder of id lists
    expected: Path | None = None  # another manifest than the paper's


@dataclass(frozen=True)
class Check:
    """The result for one dataset, or for a manifest (`dataset` is None). `ok` is None where nothing can be compared."""

    dataset: str | None
    ok: bool | None
    line: str


def check_corpus(corpus: str, given: Given) -> SplitReport:
    """The paper's split of a corpus, from annotations or id lists. Raises SplitError where there are neither."""
    manifest = read_expected_file(given.expected) if given.expected else None
    return verify_corpus(corpus, utterances=_utterances(corpus, given), lists=given.lists, expected=manifest)


def check_dataset(dataset: Dataset, given: Given) -> SplitReport:
    """A built dataset. Raises SplitError for a corpus that is not in the paper."""
    return verify_rows(
        dataset.corpus,
        dataset.rows(COLUMNS),
        dataset.emotions,
        scheme=dataset.index["split"],
        utterances=_utterances(dataset.corpus, given),
        lists=given.lists,
        expected=read_expected_file(given.expected) if given.expected else None,
    )


def check_folder(folder: Path, strict: bool = False) -> list[Check]:
    """A check for each manifest's own sums, for the fetched lists, and for every dataset at or below the folder."""
    manifests = [check for corpus in corpora_of_the_paper() for check in _check_manifest(corpus)]
    return manifests + [_check_dataset(path, strict) for path in datasets_below(folder)]


def is_dataset(folder: Path) -> bool:
    """True for a folder in which a build has begun or finished."""
    return (folder / "index.json").is_file() or (folder / "build.json").is_file()


def _utterances(corpus: str, given: Given) -> list[Utterance] | None:
    if given.raw:
        return read_corpus(corpus, given.raw, {})[0]
    if given.labels is None:
        return None
    read_labels = corpora.load(corpus).read_labels_csv
    if read_labels is None:
        raise SplitError(f"{given.labels}: {corpus} has no such table of labels; give the raw corpus with --raw")
    return read_labels(given.labels)


def _check_manifest(corpus: str) -> Iterator[Check]:
    """Where every utterance has one emotion, the columns of the table add up to the utterances; else none is larger."""
    expected = read_expected(corpus)
    columns = {split: [row[split] for row in expected.table.values()] for split in SPLITS}
    one_each = corpora.load(corpus).ONE_EMOTION
    sums = {split: int(sum(column) if one_each else max(column)) for split, column in columns.items()}
    fits = [sums[s] == expected.utterances[s] if one_each else sums[s] <= expected.utterances[s] for s in SPLITS]
    total = " + ".join(str(expected.utterances[split]) for split in SPLITS)
    rule = "adds up to" if one_each else "has no emotion with more than"
    found = "" if all(fits) else f"; found {', '.join(f'{split} {sums[split]}' for split in SPLITS)}"
    word = "ok" if all(fits) else "wrong"
    yield Check(None, all(fits), f"manifest {corpus}: {word}, {expected.source} {rule} {total} utterances{found}")
    try:
        if folder := cached_lists(corpus):
            yield Check(None, True, f"id lists of {corpus}: ok, {folder} has the published digests")
    except SplitError as error:
        yield Check(None, False, f"id lists of {corpus}: wrong, {error}")


def _check_dataset(folder: Path, strict: bool) -> Check:
    name = str(folder)
    try:
        dataset = load(folder)
        if dataset.corpus not in corpora_of_the_paper():
            return Check(name, None, f"{folder}: not comparable, {dataset.corpus} is not in the paper")
        report = check_dataset(dataset, Given())
    except DataError as error:
        return Check(name, False, f"{folder}: wrong, {error}")
    if not report.comparable:
        return Check(name, None, f"{folder}: not comparable, its split is {report.scheme}, not the paper's")
    ok = report.passes(strict)
    return Check(name, ok, f"{folder}: {'ok' if ok else 'wrong'}, {verdict(report, strict)}")
