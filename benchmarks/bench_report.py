"""What the report of a dataset costs: processor seconds and memory of the whole command, in a process of its own.

    python -m benchmarks.bench_report [--utterances 2000]

The dataset is made up, with faces and mels as many as an utterance of 4.5 s has, of noise: nothing compresses worse.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from mesm_data.dataset.schema import Row
from tests.data.rows import synthetic_row
from tests.data.synthetic_rows import write_synthetic

SECONDS, FACES, CHUNKS = 4.5, 9, 11
GOAL_SECONDS, GOAL_MB = 20, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "set", Path(name) / "report.html"
        # elsewhere: what Linux counts as the peak of a process begins with the size of the one that started it
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(write, folder, options.utterances).result()
        seconds, peak = cost("-m", "mesm_data.cli", "report", str(folder), "--out", str(out))
        print(
            f"report of {options.utterances:,} utterances: {seconds:.1f} s (goal < {GOAL_SECONDS}), "
            f"{peak:.0f} MB at most (goal < {GOAL_MB}), page of {out.stat().st_size / 1e6:.1f} MB"
        )


def write(folder: Path, count: int) -> None:
    write_synthetic(folder, [row(n, count) for n in range(count)])


def row(n: int, count: int) -> Row:
    part = "train" if n < 0.7 * count else "valid" if n < 0.8 * count else "test"
    made = synthetic_row(n, part, FACES, CHUNKS)
    return made._replace(utterance=replace(made.utterance, end=made.utterance.start + SECONDS))


def cost(*words: str) -> tuple[float, float]:
    """Processor seconds and peak MB of this Python with these words."""
    started = os.posix_spawn(sys.executable, [sys.executable, *words], os.environ)
    _, status, used = os.wait4(started, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
