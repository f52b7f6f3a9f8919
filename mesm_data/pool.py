"""Where jobs run: worker processes that may die or hang without taking the others along."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from mesm_data.errors import DataError

Job = TypeVar("Job")
ATTEMPTS = 2  # a worker killed from outside (out of memory, an impatient admin) should not cost its video
RESTARTS = 3  # of all workers without a result in between, before the jobs are given up
TICK = 0.25  # seconds between two reports of progress
MEMORY = "the system kills processes when memory runs out: fewer --workers need less"


class WorkerFailed(NamedTuple):
    """Instead of a job's result: its worker died, or timed out (`late`), in every attempt."""

    reason: str
    late: bool = False


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    work: Callable[[Job], Any],
    jobs: Sequence[Job],
    workers: int,
    timeout: float,
    prepare: Callable[[], object] | None = None,
    progress: Callable[[int, float], object] | None = None,
) -> Generator[tuple[Job, Any | WorkerFailed], None, None]:
    """Run `work(job)` for each job in `workers` fresh processes, at most `timeout` seconds each; results as they come.

    `work`, and `prepare`, which each worker calls once and off the clock, must be functions of a module. Exceptions of
    `work` are raised here; a dead or late worker becomes `WorkerFailed`. Where all workers die before they have a job,
    they are started again. `progress` receives the index of a job and what its worker gave to `advance`. Closing the
    generator stops the workers. Raises DataError where no worker can be started.
    """
    _one_thread_each()
    context = get_context("spawn")  # a fork would inherit this process's threads and locks
    reader, writer = context.Pipe(duplex=False)
    os.set_blocking(writer.fileno(), False)  # what is not read in time is dropped, not waited for
    tasks = [_Task(number, job) for number, job in enumerate(jobs)]
    failures = 0
    while tasks:
        before = len(tasks)
        initargs = [os.getpid(), prepare, writer]
        pool = ProcessPool(max_workers=workers, context=context, initializer=_begin, initargs=initargs)
        for task, result in _results(pool, work, tasks, timeout, reader, progress):
            yield task.job, result
        failures = failures + 1 if len(tasks) == before else 0
        if failures > RESTARTS:
            raise DataError(f"all worker processes died before their first job, {failures} times; {MEMORY}")
        if tasks:
            tqdm.write(f"the worker processes died before their next job and are started again; {MEMORY}", sys.stderr)


def advance(amount: float) -> None:
    """In a worker: report that so much more of the current job is done, in any unit. Does nothing elsewhere."""
    if _report is not None:
        with suppress(OSError):  # the pipe is full: a report is lost
            _report.send((_current, amount))


class _Task(NamedTuple):
    """A job, its index, and how often it was tried, this time included."""

    number: int
    job: Any
    attempt: int = 1


def _results(
    pool: ProcessPool,
    work: Callable[[Any], Any],
    tasks: list[_Task],
    timeout: float,
    reader: Connection,
    progress: Callable[[int, float], object] | None,
) -> Iterator[tuple[_Task, Any]]:
    """Results of the tasks, each taken off the list when it is done. Ends early where the pool breaks."""
    with pool:
        try:
            pending = {_schedule(pool, work, task, timeout): task for task in tasks}
            while pending:
                done, _ = wait(pending, timeout=TICK if progress else None, return_when=FIRST_COMPLETED)
                _pass_on(reader, progress)
                for future in done:
                    task, failed = pending.pop(future), _failure(future, timeout)
                    tasks.remove(task)
                    if failed and task.attempt < ATTEMPTS:
                        tasks.append(task._replace(attempt=task.attempt + 1))
                        pending[_schedule(pool, work, tasks[-1], timeout)] = tasks[-1]
                    else:
                        yield task, failed or future.result()
        except _PoolBroken:
            pool.stop()
        except BaseException:
            pool.stop()
            raise


class _PoolBroken(Exception):
    """No worker is left, and none of them had a job."""


def _schedule(pool: ProcessPool, work: Callable[[Any], Any], task: _Task, timeout: float) -> Any:
    try:
        return pool.schedule(_call, args=[work, task.number, task.job], timeout=timeout)
    except RuntimeError as error:
        raise _PoolBroken from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EAGAIN, errno.ENOMEM, errno.EMFILE):
            raise
        place = " in /dev/shm, where processes keep their locks" if error.errno == errno.ENOSPC else ""
        raise DataError(f"worker processes cannot be started: {error.strerror}{place}; make room there") from error


def _failure(future: Any, timeout: float) -> WorkerFailed | None:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise _PoolBroken from error
    if isinstance(error, ProcessExpired):
        killed = f"; {MEMORY}" if error.exitcode == -signal.SIGKILL else ""
        return WorkerFailed(f"the worker process died (exit code {error.exitcode}), {ATTEMPTS} times{killed}")
    if isinstance(error, TimeoutError):
        return WorkerFailed(f"no result within {timeout:g} s, {ATTEMPTS} times", late=True)
    return None


def _pass_on(reader: Connection, progress: Callable[[int, float], object] | None) -> None:
    while reader.poll():
        number, amount = reader.recv()
        if progress:
            progress(number, amount)


def _one_thread_each() -> None:
    """Workers are the parallelism: one thread in each is 1.9 times the throughput of two that compete."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


# ---- in a worker

_report: Connection | None = None  # where `advance` writes
_current = 0  # index of the job in work


def _begin(parent: int, prepare: Callable[[], object] | None, report: Connection) -> None:
    """Before the first job."""
    global _report
    _report = report
    _exit_with_parent(parent)
    if prepare:
        with suppress(Exception):  # the first job meets the same error, and can report it
            prepare()


def _call(work: Callable[[Any], Any], number: int, job: Any) -> Any:
    global _current
    _current = number
    return work(job)


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent is gone, however it ended (kill -9 leaves no time to stop its workers)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
