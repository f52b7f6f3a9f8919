"""Pickles from elsewhere: plain ones are read, arrays where asked for, and nothing in one is run."""

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
