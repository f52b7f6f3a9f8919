"""Id lists on disk, and fetching the published ones once: `read_lists`, `cached_lists`, `fetch_lists`.

DIR/train.txt  valid.txt  test.txt                          one id a line
DIR/train_split.txt  valid_split.txt  test_split.txt        as the paper's authors name them
"""

import http.client
import os
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mesm_data.errors import SplitError
from mesm_data.splits.expected import PARTS, Expected, ids_digest, read_expected

TIMEOUT = 30.0  # seconds without an answer
MOST_BYTES = 10_000_000  # the longest published list has 181,800


def read_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """Part -> its ids, sorted. Raises SplitError for a missing or empty list, an id twice, or one in two parts."""
    parts = {part: _read_list(_list_file(folder, part)) for part in PARTS}
    owners = Counter(name for ids in parts.values() for name in ids)
    doubles = sorted(name for name, times in owners.items() if times > 1)
    if doubles:
        raise SplitError(
            f"{folder}: {len(doubles)} ids are in two parts: {up_to_ten(doubles)}; expected each id in one"
        )
    return parts


def cache_folder(corpus: str) -> Path:
    """Where fetched lists are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mesm" / "splits" / corpus


def cached_lists(corpus: str) -> Path | None:
    """Where `fetch_lists` put the lists; None when they were never fetched. Raises SplitError if they changed."""
    folder = cache_folder(corpus)
    if not all((folder / f"{part}.txt").is_file() for part in PARTS):
        return None
    expected = read_expected(corpus)
    changed = [part for part, ids in read_lists(folder).items() if ids_digest(ids) != expected.digests[part]]
    if changed:
        raise SplitError(
            f"{folder}: {', '.join(changed)} changed since it was fetched; "
            f"run `mesm-data splits fetch {corpus}` again, or give the lists with --lists DIR"
        )
    return folder


def fetch_lists(corpus: str, folder: Path | None = None, *, url: str | None = None) -> Path:
    """Fetch a corpus's published lists into `folder` (default: the user's cache) and return it.

    Every list is checked against its digest before any is written, and each is written whole or not at all.
    Raises SplitError, one line that names the other way, for whatever goes wrong.
    """
    expected = read_expected(corpus)
    folder = folder or cache_folder(corpus)
    contents = {part: _fetch_list(expected, part, url or expected.lists_url) for part in PARTS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, content in contents.items():
            temporary = folder / f"{part}.txt.tmp"
            temporary.write_bytes(content)
            temporary.replace(folder / f"{part}.txt")
    except OSError as error:
        raise SplitError(f"{folder}: cannot be written ({error}); choose another folder with --out DIR") from None
    return folder


def up_to_ten(ids: Iterable[str]) -> str:
    """The first ten of some ids, for a message."""
    names = list(ids)
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _list_file(folder: Path, part: str) -> Path:
    names = (f"{part}.txt", f"{part}_split.txt")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise SplitError(f"{folder}: no {names[0]} or {names[1]}; expected an id list for each of {', '.join(PARTS)}")
    if len(found) == 2:
        raise SplitError(f"{folder}: both {names[0]} and {names[1]}; expected one of them, remove the other")
    return found[0]


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"{path}: cannot be read ({error}), expected one id a line") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise SplitError(f"{path}: no ids, expected one a line")
    twice = sorted(name for name, times in Counter(ids).items() if times > 1)
    if twice:
        raise SplitError(f"{path}: {len(twice)} ids stand twice: {up_to_ten(twice)}")
    return tuple(sorted(ids))


def _fetch_list(expected: Expected, part: str, url: str) -> bytes:
    address = url.rstrip("/") + "/" + quote(expected.lists_files[part])
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:  # HTTPError and URLError are OSErrors
        raise SplitError(f"{address}: not fetched ({error}); {_other_way(expected)}") from None
    found = ids_digest(content.decode("utf-8", "replace").split())
    if found != expected.digests[part]:
        raise SplitError(
            f"{address}: {len(content)} bytes whose ids have sha256 {found}, "
            f"expected {expected.digests[part]}; {_other_way(expected)}"
        )
    return content


def _other_way(expected: Expected) -> str:
    return f"if you hold the {expected.corpus} lists, give their folder with --lists DIR"
