"""Id lists are read as they should be, and fetched ones are checked before they are trusted."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mesm_data.errors import SplitError
from mesm_data.splits.id_lists import cached_lists, fetch_lists, read_lists
from tests.data.annotated import in_three, paper_of, publish, small_iemocap, write_lists

PARTS = {"train": ["b_1", "a_1"], "valid": ["c_1"], "test": ["d_1"]}


@pytest.mark.parametrize("name", ["{}.txt", "{}_split.txt"])
def test_lists_are_read_by_our_names_and_by_the_authors(tmp_path: Path, name: str) -> None:
    write_lists(tmp_path, PARTS, name)
    assert read_lists(tmp_path) == {"train": ("a_1", "b_1"), "valid": ("c_1",), "test": ("d_1",)}


def test_windows_line_ends_a_mark_at_the_start_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    write_lists(tmp_path, PARTS)
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfb_1\r\n\r\na_1 \r\n")
    assert read_lists(tmp_path)["train"] == ("a_1", "b_1")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("valid.txt", None, r"no valid\.txt or valid_split\.txt; expected an id list for each of train, valid, test"),
        ("valid_split.txt", b"c_1\n", r"both valid\.txt and valid_split\.txt; expected one of them"),
        ("valid.txt", b"\n", r"valid\.txt: no ids, expected one per line"),
        ("valid.txt", b"\xff\xfe\x00", r"valid\.txt: cannot be read .*expected one id per line"),
        ("valid.txt", b"c_1\nc_2\nc_1\n", r"valid\.txt: 1 ids are listed twice: c_1"),
        ("valid.txt", b"c_1\na_1\nd_1\n", r"2 ids are in two splits: a_1, d_1"),
    ],
)
def test_lists_that_do_not_fit_are_told(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    write_lists(tmp_path, PARTS)
    (tmp_path / file).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(SplitError, match=message):
        read_lists(tmp_path)


def test_of_many_ids_ten_are_named(tmp_path: Path) -> None:
    write_lists(tmp_path, PARTS | {"valid": [f"v_{n:02d}" for n in range(12)] * 2})
    with pytest.raises(SplitError, match=r"12 ids are listed twice: v_00, .*, v_09, \.\.\.$"):
        read_lists(tmp_path)


@pytest.fixture
def splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Lists that a paper of our own has published; nothing is in the cache."""
    utterances = small_iemocap()
    listed = in_three([u.id for u in utterances])
    publish(tmp_path, paper_of(utterances, listed), monkeypatch)
    return listed


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """The test's output is for the test."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a web server on this machine gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/commit/"
    server.shutdown()
    server.server_close()


def put_online(served: tuple[Path, str], splits: dict[str, list[str]]) -> Path:
    return write_lists(served[0] / "commit" / "data split" / "IEMOCAP_split", splits, "{}_split.txt")


def test_fetched_lists_are_in_the_cache_and_read_back(
    served: tuple[Path, str], splits: dict[str, list[str]], tmp_path: Path
) -> None:
    put_online(served, splits)
    assert cached_lists("iemocap") is None
    folder = fetch_lists("iemocap", url=served[1])
    assert folder == tmp_path / "cache" / "mesm" / "splits" / "iemocap"
    assert sorted(path.name for path in folder.iterdir()) == ["test.txt", "train.txt", "valid.txt"]
    assert cached_lists("iemocap") == folder
    assert read_lists(folder) == {split: tuple(sorted(ids)) for split, ids in splits.items()}


def test_a_list_with_another_digest_is_refused_and_nothing_is_written(
    served: tuple[Path, str], splits: dict[str, list[str]], tmp_path: Path
) -> None:
    put_online(served, splits | {"test": splits["test"][:-1]})
    with pytest.raises(SplitError, match=r"test_split\.txt: 1009 bytes .* sha256 .*, expected .*--lists DIR") as told:
        fetch_lists("iemocap", tmp_path / "lists", url=served[1])
    assert "\n" not in str(told.value)
    assert not (tmp_path / "lists").exists()


def test_a_missing_file_and_an_unreachable_server_are_one_line_that_names_the_other_way(
    served: tuple[Path, str], splits: dict[str, list[str]], tmp_path: Path
) -> None:
    for url in (served[1], "http://127.0.0.1:1/commit", "no address at all"):
        with pytest.raises(
            SplitError, match=r"not fetched \(.+\); if you hold the iemocap lists, .* --lists DIR"
        ) as told:
            fetch_lists("iemocap", tmp_path / "lists", url=url)
        assert "\n" not in str(told.value)


def test_a_folder_that_cannot_be_written_is_told(
    served: tuple[Path, str], splits: dict[str, list[str]], tmp_path: Path
) -> None:
    put_online(served, splits)
    (tmp_path / "a file").touch()
    with pytest.raises(SplitError, match=r"cannot be written .* choose another folder with --out DIR"):
        fetch_lists("iemocap", tmp_path / "a file" / "lists", url=served[1])


def test_a_cache_that_was_changed_is_not_trusted(served: tuple[Path, str], splits: dict[str, list[str]]) -> None:
    put_online(served, splits)
    folder = fetch_lists("iemocap", url=served[1])
    (folder / "valid.txt").write_text("Ses01F_impro01_F999\n")
    with pytest.raises(SplitError, match="valid changed since it was fetched; run `mesm-data splits fetch iemocap`"):
        cached_lists("iemocap")
