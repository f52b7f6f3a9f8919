"""Jobs run in processes of their own; one that dies, hangs or is orphaned hurts nobody else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesm_data.errors import DataError
from mesm_data.pool import WorkerFailed, advance, run_jobs


def double(n: int) -> int:
    return 2 * n


def die_on_three(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def hang_on_three(n: int) -> int:
    if n == 3:
        time.sleep(60)
    return n


def die_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fail(n: int) -> int:
    raise ValueError(f"job {n}")


def test_every_job_gives_its_result() -> None:
    assert dict(run_jobs(double, range(7), workers=2, timeout=30)) == {n: 2 * n for n in range(7)}


def test_a_job_that_kills_its_worker_costs_only_itself() -> None:
    results = dict(run_jobs(die_on_three, range(6), workers=2, timeout=30))
    died = results.pop(3)
    assert results == {n: n for n in (0, 1, 2, 4, 5)}
    assert isinstance(died, WorkerFailed)
    assert "the worker process died" in died.reason


def test_a_job_that_hangs_costs_only_itself() -> None:
    results = dict(run_jobs(hang_on_three, range(6), workers=2, timeout=4))
    died = results.pop(3)
    assert results == {n: n for n in (0, 1, 2, 4, 5)}
    assert died == WorkerFailed("no result within 4 s, 2 times", late=True)


def test_a_worker_killed_by_somebody_else_is_given_a_second_try(tmp_path: Path) -> None:
    assert dict(run_jobs(die_once, [tmp_path / "tried"], workers=1, timeout=30)) == {tmp_path / "tried": "done"}


def test_an_error_of_the_program_is_raised() -> None:
    with pytest.raises(ValueError, match="job 0"):
        list(run_jobs(fail, [0], workers=1, timeout=30))


def test_workers_leave_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from mesm_data.pool import run_jobs\n"
        "def note(path):\n"
        "    open(path, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(run_jobs(note, [sys.argv[1] + '/pid'], 1, 90))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    worker = _wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    _wait_for(lambda: not _lives(worker))


def _lives(process: str) -> bool:
    """False for one that is gone, or ended and waits for an init, which a container may lack, to take it away."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(ready, seconds: float = 20.0):  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def die_before_the_first_job() -> None:
    """As `prepare`: the first two workers are killed while they load libraries, where memory runs out most often."""
    for mark in MARKS:
        try:
            (Path(os.environ["MARKS"]) / mark).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


MARKS = ("first", "second")


def always_die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def report_thrice(n: str) -> str:
    for _ in range(3):
        advance(0.5)
    return n


def test_workers_killed_before_their_first_job_are_started_again_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARKS", str(tmp_path))
    results = dict(run_jobs(double, range(4), workers=2, timeout=30, prepare=die_before_the_first_job))
    assert results == {n: 2 * n for n in range(4)}
    assert "the worker processes died before their next job and are started again" in capfd.readouterr().err


def test_where_every_worker_dies_the_jobs_are_given_up_with_the_likely_cause() -> None:
    with pytest.raises(DataError, match=r"all worker processes died before their first job, .*memory runs out"):
        list(run_jobs(double, range(4), workers=1, timeout=30, prepare=always_die))


def test_the_system_as_killer_is_named_with_the_likely_cause() -> None:
    ((_, failed),) = run_jobs(die_on_three, [3], workers=1, timeout=30)
    assert failed.reason.endswith("the system kills processes when memory runs out: fewer --workers need less")


def test_progress_within_a_job_is_reported_by_its_index() -> None:
    seen: list[tuple[int, float]] = []
    jobs = run_jobs(report_thrice, ["a", "b"], 1, 30, progress=lambda number, amount: seen.append((number, amount)))
    assert dict(jobs) == {"a": "a", "b": "b"}
    assert sorted(seen) == [(0, 0.5)] * 3 + [(1, 0.5)] * 3
