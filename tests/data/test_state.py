"""Small JSON files: read as written where they have their shape, one line that says what is wrong where they do not."""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_data.errors import DataError, ShardError
from mesm_data.state import read_state, read_state_lines

SHAPE = {
    "name": str,
    "rows": int,
    "share": float,
    "note?": (str, None),
    "files": {str: {"bytes": int}},
    "list": [{"id": str, "place?": [int]}],
}
GOOD: dict[str, Any] = {
    "name": "a", "rows": 2, "share": 1, "files": {"x.json": {"bytes": 3}}, "list": [{"id": "b", "place": [1, 2]}],
}  # fmt: skip
MEND = "delete it and build again"


def write(folder: Path, content: Any) -> Path:
    path = folder / "some.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_file_of_the_shape_is_read_as_it_is(tmp_path: Path) -> None:
    more = GOOD | {"note": None, "unknown": [1]}
    assert read_state(write(tmp_path, more), SHAPE, MEND) == more
    assert read_state(write(tmp_path, [[1.5], 2]), [([float], int)], MEND) == [[1.5], 2]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "found a list of 0, expected an object"),
        ({}, "it lacks name, rows, share, files, list"),
        (GOOD | {"rows": "2"}, 'rows: found "2", expected a whole number'),
        (GOOD | {"rows": True}, "rows: found true, expected a whole number"),
        (GOOD | {"rows": 2.5}, "rows: found 2.5, expected a whole number"),
        (GOOD | {"share": None}, "share: found null, expected a number"),
        (GOOD | {"note": 3}, "note: found 3, expected a text or null"),
        (GOOD | {"files": {"x.json": {}}}, "files.x.json lacks bytes"),
        (GOOD | {"list": [{"id": "a"}, {"id": 4}]}, "list[1].id: found 4, expected a text"),
        (GOOD | {"list": [{"id": "a", "place": [0, "z" * 200]}]}, f'list[0].place[1]: found "{"z" * 79}..., expected'),
        (b"", "not JSON (Expecting value"),
        (b'{"name": "a", ', "not JSON ("),
        (b"\xff\xfe{", "not UTF-8 ("),
        (b"[" * 100_000, "not JSON ("),
    ],
)
def test_anything_else_is_one_line_that_says_where_and_what(content: Any, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ShardError, match=f"^{re.escape(str(path))}: {re.escape(problem)}") as raised:
        read_state(path, SHAPE, MEND, ShardError)
    assert str(raised.value).endswith(f"; {MEND}")
    assert "\n" not in str(raised.value)


def test_a_pipe_a_socket_a_folder_or_nothing_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, found in {"pipe": "a pipe", "folder": "a folder", "socket": "a socket", "none": "nothing"}.items():
            with pytest.raises(DataError, match=f"{name}: found {found}, expected a file; {MEND}"):
                read_state(tmp_path / name, SHAPE, MEND)


def test_lines_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text("")
    assert list(read_state_lines(path, {"id": str}, MEND)) == []
    path.write_text('{"id": "a"}\n{"id": "b\u2028c\u0085"}\n', encoding="utf-8")
    assert [line["id"] for line in read_state_lines(path, {"id": str}, MEND)] == ["a", "b\u2028c\u0085"]
    path.write_text('{"id": "a"}\n{"id": 5}\n')
    with pytest.raises(DataError, match=r"some\.jsonl:2: id: found 5, expected a text; delete it"):
        list(read_state_lines(path, {"id": str}, MEND))
    path.write_text('{"id": "a"}\n{"id": "b"')
    with pytest.raises(DataError, match=r"some\.jsonl:2: not JSON"):
        list(read_state_lines(path, {"id": str}, MEND))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "id", "x"]), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(content=JSON)
def test_whatever_json_is_in_it_the_error_is_ours(content: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        assert set(read_state(path, SHAPE, MEND)) >= {"name", "rows"}
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
