"""A folder belongs to one process at a time, and to nobody once that is gone; a new one is whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from mesm_data import files
from mesm_data.errors import DataError
from mesm_data.files import exclusive, new_folder

TAKEN = "another process builds in this folder; wait for it, or give another --out"


def test_a_second_one_is_refused_until_the_first_has_left(tmp_path: Path) -> None:
    with exclusive(tmp_path, "builds"), pytest.raises(DataError, match=TAKEN), exclusive(tmp_path, "builds"):
        pass
    with exclusive(tmp_path, "builds"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_inside_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path, "builds"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, os, mesm_data.files as lock\nwith lock.exclusive(pathlib.Path(sys.argv[1]), 'builds'):\n"
    )
    subprocess.run([sys.executable, "-c", f"{code} os.kill(os.getpid(), 9)", tmp_path], cwd=Path(__file__).parents[2])
    assert (tmp_path / "lock").is_file()
    with exclusive(tmp_path, "builds"):
        pass


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*of: int) -> None:  # between opening and locking the one before leaves, with its file
        (tmp_path / "lock").unlink()

    monkeypatch.setattr(files.fcntl, "flock", late)
    with pytest.raises(DataError, match=TAKEN), exclusive(tmp_path, "builds"):
        pass


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(FileNotFoundError), new_folder(out) as folder:
        (folder / "half").joinpath("nowhere").write_text("of it")
    assert not out.exists()
    with new_folder(out) as folder:
        (folder / "index.json").write_text("{}")
        (folder / "shards").mkdir()
        assert not (out / "index.json").exists()
    assert sorted(path.name for path in out.iterdir()) == ["index.json", "shards"]


def test_what_a_killed_process_left_of_a_new_folder_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "half").write_text("of it")
    with new_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="not empty; give another --out, or delete it"), new_folder(taken):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
