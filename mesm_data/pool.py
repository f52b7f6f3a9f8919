"""Where jobs run: worker processes that may die or hang without taking the others along."""

import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from pebble import ProcessExpired, ProcessPool

Job = TypeVar("Job")
ATTEMPTS = 2  # a worker that somebody else killed (out of memory, an impatient admin) should not cost its video


class WorkerFailed(NamedTuple):
    """Instead of a job's result: its worker died or ran out of time, in every attempt."""

    reason: str


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    work: Callable[[Job], Any],
    jobs: Sequence[Job],
    workers: int,
    timeout: float,
    prepare: Callable[[], object] | None = None,
) -> Generator[tuple[Job, Any | WorkerFailed], None, None]:
    """Run `work(job)` for each job in `workers` fresh processes, at most `timeout` seconds each; results as they come.

    `work`, and `prepare`, which each worker calls once and off the clock, must be functions of a module. What `work`
    raises is raised here; a dead or late worker becomes `WorkerFailed`. Leaving the iterator early stops the workers.
    """
    import multiprocessing

    _one_thread_each()
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process's threads and locks
    with ProcessPool(max_workers=workers, context=context, initializer=_begin, initargs=[os.getpid(), prepare]) as pool:
        try:
            pending: dict[Any, tuple[Job, int]] = {
                pool.schedule(work, args=[job], timeout=timeout): (job, 1) for job in jobs
            }
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    job, attempt = pending.pop(future)
                    died = _death(future, timeout)
                    if died and attempt < ATTEMPTS:
                        pending[pool.schedule(work, args=[job], timeout=timeout)] = (job, attempt + 1)
                    else:
                        yield job, died or future.result()
        except BaseException:
            pool.stop()
            raise


def _death(future: Any, timeout: float) -> WorkerFailed | None:
    error = future.exception()
    if isinstance(error, ProcessExpired):
        return WorkerFailed(f"the worker process died (exit code {error.exitcode}), {ATTEMPTS} times")
    if isinstance(error, TimeoutError):
        return WorkerFailed(f"no result within {timeout:g} s, {ATTEMPTS} times; --timeout allows more")
    return None


def _one_thread_each() -> None:
    """Workers are the parallelism: one thread in each is 1.9 times the throughput of two that compete."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def _begin(parent: int, prepare: Callable[[], object] | None) -> None:
    """In a worker, before its first job."""
    _leave_with_parent(parent)
    if prepare:
        with suppress(Exception):  # the first job meets the same error, and can report it
            prepare()


def _leave_with_parent(parent: int) -> None:
    """In a worker: exit when the parent is gone, however it went (kill -9 leaves no time for good-byes)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
