"""The paper's figures for a corpus: `Expected`, read from `manifests/<corpus>/expected.json`.

The manifests are at the top of a checkout and inside the package of an installed wheel; `manifests/README.md` gives the
source of each figure.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from mesm_data.errors import SplitError, not_a_file, quoted

_PLACES = [Path(__file__).parents[1] / "manifests", Path(__file__).parents[2] / "manifests"]  # wheel, checkout
MANIFESTS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Expected:
    """Everything that a dataset is compared with. No id is stored, only digests of the id lists."""

    corpus: str
    source: str  # where the table is printed
    table: dict[str, dict[str, float]]  # emotion -> words (average), seconds (average), train, valid, test (counts)
    utterances: dict[str, int]  # split -> number of utterances
    digests: dict[str, str]  # split -> `ids_digest` of its ids
    id_form: str  # regular expression of a whole id; its groups, joined, name the speaker
    lists_url: str  # where the id lists are published, at one commit
    lists_files: dict[str, str]  # split -> path below `lists_url`

    def knows(self, utterance: str) -> bool:
        """True when this has the form of an id of the corpus."""
        return re.fullmatch(self.id_form, utterance) is not None

    def speaker_of(self, utterance: str) -> str | None:
        """The speaker that an id names; None where the ids of this corpus name none."""
        found = re.fullmatch(self.id_form, utterance)
        return "".join(found.groups()) or None if found else None


def read_expected(corpus: str) -> Expected:
    """The manifest of a corpus of the paper. Raises SplitError for any other corpus."""
    path = MANIFESTS / corpus / "expected.json"
    if corpus not in corpora_of_the_paper():
        raise SplitError(f"the paper has no corpus {corpus!r}, expected one of {', '.join(corpora_of_the_paper())}")
    return read_expected_file(path)


def read_expected_file(path: Path) -> Expected:
    """A manifest from any file of the same form. Raises SplitError naming what does not fit."""
    if found := not_a_file(path):
        raise SplitError(f"{path}: found {found}, expected a manifest as in {MANIFESTS}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SplitError(f"{path}: not a manifest ({error}), expected JSON as in {MANIFESTS}") from None
    names = [field.name for field in fields(Expected)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise SplitError(f"{path}: not a manifest, expected a JSON object with {', '.join(names)}")
    expected = Expected(**content)
    if wrong := _misshapen(expected):
        raise SplitError(f"{path}: not a manifest, {wrong}")
    return expected


def corpora_of_the_paper() -> tuple[str, ...]:
    """Names of the corpora that have a manifest."""
    return tuple(sorted(path.parent.name for path in MANIFESTS.glob("*/expected.json")))


def ids_digest(ids: Iterable[str]) -> str:
    """sha256 of the sorted ids, one per line, with a final newline: the same whatever the order of a list."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


def _misshapen(expected: Expected) -> str | None:
    """The first field that does not have its form, in words."""
    if not all(isinstance(text, str) for text in (expected.corpus, expected.source, expected.lists_url)):
        return "corpus, source and lists_url are texts"
    for name, kind in (("utterances", int), ("digests", str), ("lists_files", str)):
        value = getattr(expected, name)
        if not isinstance(value, dict) or set(value) != set(SPLITS) or not all(type(v) is kind for v in value.values()):
            return f"{name} holds one value for each of {', '.join(SPLITS)}"
    columns = {"words", "seconds", *SPLITS}
    if not isinstance(expected.table, dict) or not all(
        isinstance(row, dict) and set(row) == columns and all(type(value) in (int, float) for value in row.values())
        for row in expected.table.values()
    ):
        return f"table holds {', '.join(sorted(columns))} for each emotion"
    try:
        re.compile(expected.id_form)
    except (re.error, TypeError):
        return f"id_form is a regular expression, found {quoted(expected.id_form)}"
    return None
