"""Pickles from elsewhere: plain ones are read, arrays where asked for, and nothing in one is run."""

import pickle
import pickletools
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_data.errors import CorpusError
from mesm_data.pickles import read_pickle


class Harm:
    """A pickle of this makes a file as soon as it is read by the plain unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def stored(folder: Path, content: Any, protocol: int = 4) -> Path:
    path = folder / "some.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_and_arrays_are_read_as_they_were(protocol: int, tmp_path: Path) -> None:
    content = {"train": {"id": ["a$_$0"], "text": np.arange(6.0).reshape(1, 2, 3), "n": np.float64(2.5)}}
    found = read_pickle(stored(tmp_path, content, protocol), arrays=True)
    assert found["train"]["id"] == ["a$_$0"]
    assert np.array_equal(found["train"]["text"], content["train"]["text"])  # type: ignore[index]
    assert found["train"]["n"] == 2.5


def test_arrays_of_the_first_and_the_second_numpy_are_read(tmp_path: Path) -> None:
    new = pickle.dumps(np.arange(3.0), 2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    for content in (old, new):
        assert read_pickle(stored(tmp_path, content), arrays=True).tolist() == [0, 1, 2]


def test_arrays_are_refused_where_none_are_expected(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"it asks for numpy.*expected a pickle of plain dicts, lists, strings and numb"
    ):
        read_pickle(stored(tmp_path, np.arange(3)))


@pytest.mark.parametrize("arrays", [False, True])
def test_nothing_in_a_pickle_is_run(arrays: bool, tmp_path: Path) -> None:
    path = stored(tmp_path, {"a": Harm(tmp_path / "harmed")})
    with pytest.raises(CorpusError, match=r"some.pkl: it asks for pathlib"):
        read_pickle(path, arrays)
    assert not (tmp_path / "harmed").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "harmed").exists()  # the pickle was a harmful one


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", pickle.dumps([1, 2, 3])[:-3], pickletools.optimize(b"\x80\x04N.")[:2]]
)
def test_what_is_no_whole_pickle_is_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"some.pkl: .*; expected a pickle of plain dicts"):
        read_pickle(stored(tmp_path, content))


# ---- arrays


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24, dtype=np.float16).reshape(2, 3, 4)[:, ::2],
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array([True, False]),
        np.array(["a", None, 3], dtype=object),
        np.zeros((0, 5), np.float32),
        np.array(2.5),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_every_plain_kind_are_read_as_they_were(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    path = stored(tmp_path, [array, array], protocol)
    found = read_pickle(path, arrays=True)
    for one, own in zip(found, pickle.loads(path.read_bytes()), strict=True):  # numpy's own makes them native
        assert (one.dtype, one.shape) == (own.dtype, own.shape)
        assert np.array_equal(one, array)
    assert np.asarray(found[0]).tolist() == array.tolist()


class Crafted:
    """Pickles as a call of `make` with `state` put into what it returns."""

    def __init__(self, make: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.made = (make, arguments, state) if state is not None else (make, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


EMPTY = (np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"))
FLOAT = np.dtype("f8")
RECORD = Crafted(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 27))
OBJECTS = Crafted(np.dtype, ("i8", False, True), (3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 63))
TEXTS = Crafted(np.dtype, ("U1", False, True), (3, "<", None, None, None, 4000, 4, 8))


@pytest.mark.parametrize(
    "crafted",
    {
        "objects made of bytes": Crafted(*EMPTY, (1, (1,), np.dtype("O"), False, b"A" * 8)),
        "records with objects": Crafted(*EMPTY, (1, (1,), RECORD, False, b"A" * 8)),
        "numbers whose state has objects": Crafted(*EMPTY, (1, (1,), OBJECTS, False, b"A" * 8)),
        "fewer bytes than its shape": Crafted(*EMPTY, (1, (1000,), FLOAT, False, b"A" * 8)),
        "a huge shape": Crafted(*EMPTY, (1, (2**40, 2**40), FLOAT, False, b"")),
        "a negative shape": Crafted(*EMPTY, (1, (-1,), FLOAT, False, b"A" * 8)),
        "bytes that are a list": Crafted(*EMPTY, (1, (1,), FLOAT, False, [1])),
        "no dtype": Crafted(*EMPTY, (1, (1,), "f8", False, b"A" * 8)),
        "texts of another size": Crafted(*EMPTY, (1, (1,), TEXTS, False, b"A" * 4)),
        "a subarray": Crafted(np.dtype, ("(1000000,1000000)f8", False, True)),
        "a record by name": Crafted(np.dtype, ("f8,O", False, True)),
        "a dtype of a dtype": Crafted(np.dtype, (Crafted(np.dtype, ("f8", False, True)), False, True)),
        "a state of nothing": Crafted(*EMPTY, ()),
        "an array by its class": Crafted(np.ndarray, ((3,), "f8", b"A" * 24, 2**40)),
        "a scalar of an object": Crafted(np.float64(1).__reduce__()[0], (np.dtype("O"), b"A" * 8)),
        "another encoding": Crafted(__import__("_codecs").encode, ("a", "rot13")),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_crafted_array_is_refused_and_crashes_nothing(crafted: tuple[str, Crafted], tmp_path: Path) -> None:
    """Read in a process of its own: some of these crash the process that unpickles them with numpy itself."""
    path = stored(tmp_path, [crafted[1]])
    code = (
        "import sys, pathlib\n"
        "from mesm_data.errors import CorpusError\n"
        "from mesm_data.pickles import read_pickle\n"
        "try:\n    print(repr(read_pickle(pathlib.Path(sys.argv[1]), arrays=True)))\n"
        "except CorpusError as error:\n    print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"refused: {path}: "), done.stdout
    assert "expected a pickle of plain dicts, lists, strings, numbers and arrays" in done.stdout


@settings(max_examples=400, derandomize=True, deadline=None)
@given(data=st.data())
def test_damaged_pickles_are_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = {"a": np.arange(6.0), "t": np.array(["x", "yz"]), "n": np.float32(1), "l": [1, 2.5, None, "text"]}
    damaged = bytearray(pickle.dumps(content, data.draw(st.sampled_from([2, 4]))))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CorpusError):
        read_pickle(stored(tmp_path_factory.getbasetemp(), bytes(damaged)), arrays=True)
