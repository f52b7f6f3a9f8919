"""A folder belongs to one process at a time, and to nobody once that is gone; a new one is whole or not there."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesm_data import files
from mesm_data.errors import DataError
from mesm_data.files import Plan, check_folder, claim_folder, csv_text, exclusive, plain

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


HOLD = "import sys, pathlib, os, mesm_data.files as f\nwith f.exclusive(pathlib.Path(sys.argv[1]), 'builds'):\n"


def python(code: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, env=os.environ | more,
    )  # fmt: skip


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    python(f"{HOLD} os.kill(os.getpid(), 9)", tmp_path)
    assert (tmp_path / "lock").is_file()
    with exclusive(tmp_path, "builds"):
        pass


@pytest.fixture(scope="module")
def no_flock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that makes flock fail as on a disk that has none, with the error number FLOCK_ERRNO."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here to build a flock that fails")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "noflock.c").write_text(
        "#include <errno.h>\n#include <stdlib.h>\n"
        'int flock(int fd, int op) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "noflock.so", folder / "noflock.c"], check=True)
    return str(folder / "noflock.so")


@pytest.mark.parametrize("number", [37, 38, 95])  # ENOLCK, ENOSYS, EOPNOTSUPP
def test_a_disk_without_flock_is_locked_by_the_file_itself(no_flock: str, number: int, tmp_path: Path) -> None:
    broken = {"LD_PRELOAD": no_flock, "FLOCK_ERRNO": str(number)}
    twice = "    with f.exclusive(pathlib.Path(sys.argv[1]), 'builds'): pass"
    second = python(HOLD + twice, tmp_path, **broken)
    assert TAKEN in second.stderr.splitlines()[-1]
    alone = python(f"{HOLD}    print(os.listdir(sys.argv[1]))", tmp_path, **broken)
    assert (alone.returncode, alone.stdout) == (0, "['lock']\n")
    (line,) = alone.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'lock'}: this disk has no file locks; ")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_on_a_disk_without_flock_is_taken_over(no_flock: str, tmp_path: Path) -> None:
    broken = {"LD_PRELOAD": no_flock, "FLOCK_ERRNO": "37"}
    python(f"{HOLD}    os.kill(os.getpid(), 9)", tmp_path, **broken)
    assert (tmp_path / "lock").is_file()
    assert python(f"{HOLD}    print('in')", tmp_path, **broken).stdout == "in\n"


def test_waiting_processes_go_one_after_the_other(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time, mesm_data.files as f\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for _ in range(5):\n"
        "    with f.locked(folder / 'lock'):\n"
        "        (folder / 'inside').open('x').close(); time.sleep(0.01); (folder / 'inside').unlink()\n"
    )
    start = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(start, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


# ---- claims


def plan(**content: Any) -> Plan:
    return Plan("build.json", content, "build", "builds", {"corpus": str})


def test_a_folder_is_claimed_once_and_again_by_the_same_plan_only(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with claim_folder(out, plan(corpus="iemocap", recipe={"step": 0.5, "thresholds": (1, 2)})) as found:
        assert found is None
        with (
            pytest.raises(DataError, match=TAKEN),
            claim_folder(out, plan(corpus="iemocap", recipe={"step": 0.5, "thresholds": (1, 2)})),
        ):
            pass
    before = (out / "build.json").read_bytes()
    with claim_folder(out, plan(corpus="iemocap", recipe={"step": 0.5, "thresholds": (1, 2)})) as found:
        assert found["recipe"] == {"step": 0.5, "thresholds": [1, 2]}
    other = plan(corpus="iemocap", recipe={"step": 0.25, "thresholds": (1, 2)})
    words = r"build\.json: this folder holds a build with recipe\.step 0\.5, now asked for with 0\.25; give ano"
    with pytest.raises(DataError, match=words), claim_folder(out, other):
        pass
    assert (out / "build.json").read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["build.json"]


def test_a_plan_that_another_one_may_replace_is_replaced_after_what_it_made(tmp_path: Path) -> None:
    for corpus, cleared in (("iemocap", []), ("mosei", ["iemocap"])):
        found: list[str] = []

        def clear(before: Any, found: list[str] = found) -> None:
            assert json.loads((tmp_path / "build.json").read_text()) == before
            found.append(before["corpus"])

        with claim_folder(tmp_path, replace(plan(corpus=corpus), differs=lambda *_: None, clear=clear)):
            assert json.loads((tmp_path / "build.json").read_text()) == {"corpus": corpus}
        assert found == cleared


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        DataError, match=r"not empty and no build of this program \(no build\.json\); give another --out"
    ):
        check_folder(tmp_path, plan(corpus="iemocap"))
    with pytest.raises(DataError, match=r"thesis\.txt: is a file, expected a folder; give another --out"):
        check_folder(tmp_path / "thesis.txt", plan(corpus="iemocap"))
    for damage in ("", "{", "\0"):
        (tmp_path / "build.json").write_text(damage)
        with pytest.raises(
            DataError, match=r"build\.json: not JSON .*; give another --out, or delete .* to start over"
        ):
            check_folder(tmp_path, plan(corpus="iemocap"))
    for other in ("[]", "{}", '{"corpus": 3}'):
        (tmp_path / "build.json").write_text(other)
        with pytest.raises(DataError, match=r"build\.json: .*; no plan of a build; give another --out$"):
            check_folder(tmp_path, plan(corpus="iemocap"))


def test_what_a_killed_process_left_of_a_plan_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "build.json.tmp").write_text("{")
    with claim_folder(tmp_path, plan(corpus="iemocap")):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["build.json", "lock"]


def test_of_two_that_begin_together_the_second_sees_what_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def late(folder: Path, does: str) -> Iterator[None]:  # another one begins and ends between looking and locking
        (folder / "build.json").write_text('{"corpus": "mosei"}')
        with exclusive(folder, does):
            yield

    monkeypatch.setattr(files, "exclusive", late)
    with pytest.raises(DataError, match="holds a build with corpus"), claim_folder(tmp_path, plan(corpus="iemocap")):
        pass


# ---- files


def test_a_text_goes_through_a_link_and_into_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "kept.json")
    files.write_text(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept.json").read_text() == "through"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    files.write_text(tmp_path / "pipe", "piped")
    assert reader.communicate(timeout=30)[0] == "piped"


def test_a_text_that_cannot_be_written_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed:
        files.write_text(tmp_path / "nowhere" / "page.html", "")
    assert failed.value.filename == str(tmp_path / "nowhere" / "page.html")


# ---- CSV


@pytest.mark.parametrize("cell", ["=1+1", "+1 for that", "-- no", "@home", "\t=1", "\r=1", "\n=1"])
def test_a_text_that_begins_like_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert plain(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["plain = text", "", "-1.5", "+2", "-inf", -1.5, 3, None])
def test_other_texts_and_numbers_stay_as_they_are(cell: object) -> None:
    assert plain(cell) == cell


def test_every_row_is_a_line_and_every_cell_is_made_harmless() -> None:
    text = csv_text([["=name", "b"], ['say "so", he', -2], ["=HYPERLINK(1)", "two\nlines"]])
    assert list(csv.reader(io.StringIO(text))) == [
        ["'=name", "b"],
        ['say "so", he', "-2"],
        ["'=HYPERLINK(1)", "two\nlines"],
    ]
    assert text.startswith("'=name,b\n")
