"""Id lists on disk, and fetching the published ones once: `read_lists`, `cached_lists`, `fetch_lists`.

DIR/train.txt  valid.txt  test.txt                          one id per line
DIR/train_split.txt  valid_split.txt  test_split.txt        as the paper's authors name them
"""

import http.client
import os
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mesm_data.errors import LONGEST_QUOTE, SplitError, not_a_file
from mesm_data.splits.expected import SPLITS, Expected, ids_digest, read_expected

TIMEOUT = 30.0  # seconds without an answer
MOST_BYTES = 10_000_000  # the longest published list has 181,800


def read_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Split -> its ids, sorted. Raises SplitError for a missing or empty list, an id twice, or one in two splits."""
    lists = {split: _read_list(_list_file(folder, split)) for split in SPLITS}
    owners = Counter(name for ids in lists.values() for name in ids)
    doubles = sorted(name for name, times in owners.items() if times > 1)
    if doubles:
        raise SplitError(
            f"{folder}: {len(doubles)} ids are in two splits: {up_to_ten(doubles)}; expected each id in one"
        )
    return lists


def cache_folder(corpus: str) -> Path:
    """Where fetched lists are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mesm" / "splits" / corpus


def cached_lists(corpus: str) -> Path | None:
    """Where `fetch_lists` put the lists; None when they were never fetched. Raises SplitError if they changed."""
    folder = cache_folder(corpus)
    if not all((folder / f"{split}.txt").is_file() for split in SPLITS):
        return None
    expected = read_expected(corpus)
    changed = [split for split, ids in read_lists(folder).items() if ids_digest(ids) != expected.digests[split]]
    if changed:
        raise SplitError(
            f"{folder}: {', '.join(changed)} changed since it was fetched; "
            f"run `mesm-data splits fetch {corpus}` again, or give the lists with --lists DIR"
        )
    return folder


def fetch_lists(corpus: str, folder: Path | None = None, *, url: str | None = None, timeout: float = TIMEOUT) -> Path:
    """Fetch a corpus's published lists into `folder` (default: the user's cache) and return it.

    Every list is checked against its digest before any is written, and each is written whole or not at all. `timeout`
    is in seconds without an answer. Raises SplitError, one line that names the alternative, for whatever goes wrong.
    """
    expected = read_expected(corpus)
    folder = folder or cache_folder(corpus)
    contents = {split: _fetch_list(expected, split, url or expected.lists_url, timeout) for split in SPLITS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, content in contents.items():
            temporary = folder / f"{split}.txt.tmp"
            temporary.write_bytes(content)
            temporary.replace(folder / f"{split}.txt")
    except OSError as error:
        raise SplitError(f"{folder}: cannot be written ({error}); choose another folder with --out DIR") from None
    return folder


def up_to_ten(ids: Iterable[str]) -> str:
    """The first ten of some ids, for a message."""
    names = [name[:LONGEST_QUOTE] for name in ids]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _list_file(folder: Path, split: str) -> Path:
    """The list of a split; `.TXT` will do."""
    names = (f"{split}.txt", f"{split}_split.txt")
    try:
        found = sorted(path for path in folder.iterdir() if path.name.lower() in names)
    except OSError as error:
        raise SplitError(f"{folder}: cannot be read ({error.strerror}), expected a folder of id lists") from None
    if not found:
        raise SplitError(f"{folder}: no {names[0]} or {names[1]}; expected an id list for each of {', '.join(SPLITS)}")
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise SplitError(f"{folder}: both {both}; expected one of them, remove the other")
    return found[0]


def _read_list(path: Path) -> tuple[str, ...]:
    if found := not_a_file(path):
        raise SplitError(f"{path}: found {found}, expected a file with one id per line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"{path}: cannot be read ({error}), expected one id per line") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise SplitError(f"{path}: no ids, expected one per line")
    twice = sorted(name for name, times in Counter(ids).items() if times > 1)
    if twice:
        raise SplitError(f"{path}: {len(twice)} ids are listed twice: {up_to_ten(twice)}")
    return tuple(sorted(ids))


def _fetch_list(expected: Expected, split: str, url: str, timeout: float) -> bytes:
    address = url.rstrip("/") + "/" + quote(expected.lists_files[split])
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            content: bytes = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:  # HTTPError and URLError are OSErrors
        raise SplitError(f"{address}: not fetched ({error}); {_alternative(expected)}") from None
    found = ids_digest(content.decode("utf-8", "replace").split())
    if found != expected.digests[split]:
        raise SplitError(
            f"{address}: {len(content)} bytes whose ids have sha256 {found}, "
            f"expected {expected.digests[split]}; {_alternative(expected)}"
        )
    return content


def _alternative(expected: Expected) -> str:
    return f"if you hold the {expected.corpus} lists, give their folder with --lists DIR"
