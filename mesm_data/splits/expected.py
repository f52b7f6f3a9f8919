"""What the paper says of a corpus: `Expected`, read from `manifests/<corpus>/expected.json`.

The manifests are at the top of a checkout and inside the package of an installed wheel; `manifests/README.md` says where
each figure comes from.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from mesm_data.errors import SplitError

_PLACES = [Path(__file__).parents[1] / "manifests", Path(__file__).parents[2] / "manifests"]  # wheel, checkout
MANIFESTS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Expected:
    """Everything that the paper's dataset is held against. No id is stored, only digests of the id lists."""

    corpus: str
    source: str  # where the table is printed
    table: dict[str, dict[str, float]]  # emotion -> words (average), seconds (average), train, valid, test (counts)
    utterances: dict[str, int]  # part -> how many
    digests: dict[str, str]  # part -> `ids_digest` of its ids
    id_form: str  # regular expression of a whole id; what its groups catch, joined, names the speaker
    lists_url: str  # where the id lists are published, at one commit
    lists_files: dict[str, str]  # part -> path below `lists_url`

    def knows(self, utterance: str) -> bool:
        """True when this has the form of an id of the corpus."""
        return re.fullmatch(self.id_form, utterance) is not None

    def speaker_of(self, utterance: str) -> str | None:
        """The speaker that an id names; None where ids of this corpus do not."""
        found = re.fullmatch(self.id_form, utterance)
        return "".join(found.groups()) or None if found else None


def read_expected(corpus: str) -> Expected:
    """The manifest of a corpus of the paper. Raises SplitError for any other corpus."""
    path = MANIFESTS / corpus / "expected.json"
    if not path.is_file():
        raise SplitError(f"the paper has no corpus {corpus!r}, expected one of {', '.join(corpora_of_the_paper())}")
    return read_expected_file(path)


def read_expected_file(path: Path) -> Expected:
    """A manifest from any file of the same form. Raises SplitError naming what does not fit."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SplitError(f"{path}: not a manifest ({error}), expected JSON as in {MANIFESTS}") from None
    names = [field.name for field in fields(Expected)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise SplitError(f"{path}: not a manifest, expected a JSON object with {', '.join(names)}")
    return Expected(**content)


def corpora_of_the_paper() -> tuple[str, ...]:
    """Names of the corpora that have a manifest."""
    return tuple(sorted(path.parent.name for path in MANIFESTS.glob("*/expected.json")))


def ids_digest(ids: Iterable[str]) -> str:
    """sha256 of the sorted ids, one per line, with a final newline: the same whatever the order of a list."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()
