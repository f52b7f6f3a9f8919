"""The folder of a run: what it holds, which run it belongs to, and the log.

runs/mesm/
    run.json        model, settings and data: written first; a different run in the same folder is refused
    text/           the text encoder before training, and its tokenizer
    log.jsonl       one line per step and one per epoch
    last.pt         where training resumes
    best.pt         the epoch with the best mean F1 on valid, with its thresholds
    tensorboard/    the log once more, where tensorboard is installed
    page.html       curves, scores, thresholds
    scores.json     the final scores; written last: the run is finished
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesm_data.files import Plan, check_folder, claim_folder, first_difference, write_json
from mesm_data.state import parse_state, read_state
from mesm_model.models.common.interface import Model
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import TEXT
from mesm_model.runs.distributed import Distributed

RUN, SCORES, LOG = "run.json", "scores.json", "log.jsonl"
# Shapes of run.json, scores.json and the lines of log.jsonl, for `read_state`.
_RUN_SHAPE = {"model": str, "config": {str: object}, "settings": {str: object}, "data": {str: object}}
_NUMBER = (float, None)
_MEANS = dict.fromkeys(("acc", "wacc", "f1", "auc"), _NUMBER)
_REPORT = {"data": str, "split": str, "means": _MEANS, "features": ({"folder": str}, None)}
_SCORES_SHAPE = {"epochs": int, "best_epoch": int, "splits": {"valid": _REPORT, "test?": _REPORT}}
_FEATURES_SHAPE = {"splits": {str: {"features": _REPORT["features"]}}}
_LOG_SHAPE = (
    {"step": int, "loss": _NUMBER, "gradient": _NUMBER},
    {"epoch": int, "loss": _NUMBER, "valid": _MEANS, "best": bool},
)
_REMAKE = "delete it, and the same `mesm train` makes it again"


@contextmanager
def claim_run(out: Path, wanted: Mapping[str, Any], distributed: Distributed) -> Iterator[None]:
    """Hold the folder for the run that `wanted`, the content of run.json, describes; released when the process ends.

    Raises DataError where the folder holds another run or other files, or another process works in it. A run without a
    checkpoint is overwritten.
    """
    plan = Plan(
        RUN, wanted, "run", "trains", _RUN_SHAPE,
        differs=lambda found, own: first_difference(found, own) if _has_checkpoint(out) else None,
        clear=lambda found: shutil.rmtree(out / TEXT, ignore_errors=True),
    )  # fmt: skip
    try:
        check_folder(out, plan)
    finally:
        distributed.wait()  # nobody writes before everybody has looked
    if not distributed.is_main:
        distributed.wait()
        yield
        return
    with claim_folder(out, plan):
        distributed.wait()
        yield


def is_finished(out: Path) -> bool:
    """True when there is nothing left to train."""
    return (out / SCORES).is_file()


def read_run(out: Path) -> dict[str, Any]:
    """run.json: "model", "config", "settings", "data". Raises DataError for a damaged one."""
    found: dict[str, Any] = read_state(out / RUN, _RUN_SHAPE, f"delete {out} to start over")
    return found


def read_scores(out: Path) -> dict[str, Any]:
    """scores.json: "epochs", "best_epoch", "splits" with a report per split. Raises DataError for a damaged one."""
    found: dict[str, Any] = read_state(out / SCORES, _SCORES_SHAPE, _REMAKE)
    return found


def write_scores(out: Path, scores: Mapping[str, Any]) -> None:
    """Write scores.json, which ends the run."""
    write_json(out / SCORES, scores)


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of the log: {"step", "loss", "gradient"} or {"epoch", "loss", "valid": {...}, "best"}.

    An unfinished last line, left by a killed process, is skipped. Raises DataError for any other damaged line.
    """
    lines = (out / LOG).read_bytes().splitlines(keepends=True)
    return [_read_line(out, number, line) for number, line in enumerate(lines, start=1) if line.endswith(b"\n")]


def seeds_of(run: Path) -> dict[str, Path]:
    """The runs below the folder of `mesm train --seeds N`, by name; a single run is its own only member."""
    below = sorted(path.parent for path in run.glob(f"seed-*/{RUN}")) if run.is_dir() else []
    return {path.name: path for path in below} or {run.name: run}


def features_of(run: Path) -> Path | None:
    """The folder of features that a finished run, or the first of its seeds, was scored with; None where unknown."""
    folder = run if run.is_dir() else run.parent  # of a best.pt
    for path in (folder / SCORES, *sorted(folder.glob(f"seed-*/{SCORES}"))):
        if path.is_file():
            for report in read_state(path, _FEATURES_SHAPE, _REMAKE)["splits"].values():
                return Path(report["features"]["folder"]) if report["features"] else None
    return None


def text_folder(model: Model, folder: Path) -> Path | None:
    """Where the tokenizer of a run's model lies; None for a model without text."""
    return folder / TEXT if checkpoints.reads_text(model.config) else None


class RunLog:
    """log.jsonl, cut to the length that a checkpoint knew; and TensorBoard, where it is installed."""

    def __init__(self, out: Path, length: int, updates: int) -> None:
        self.path = out / LOG
        self.length = _cut(self.path, length)
        self._board = _board(out / "tensorboard", updates)

    def step(self, update: int, loss: float | None, gradient: float | None) -> None:
        self._write({"step": update, "loss": loss, "gradient": gradient})
        self._show(update, {"loss": loss, "gradient": gradient})

    def epoch(self, update: int, line: dict[str, Any]) -> None:
        self._write(line)
        self._show(update, {f"valid/{name}": value for name, value in line["valid"].items()})

    def sync(self) -> None:
        """Have it on the disk before a checkpoint records its length."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            self.length = file.tell()

    def _show(self, update: int, values: dict[str, float | None]) -> None:
        for name, value in values.items():
            if self._board and value is not None:
                self._board.add_scalar(name, value, update)


def _has_checkpoint(out: Path) -> bool:
    return any((out / name).is_file() for name in ("last.pt", "best.pt", SCORES))


def _read_line(out: Path, number: int, line: bytes) -> dict[str, Any]:
    found: dict[str, Any] = parse_state(f"{out / LOG}:{number}", line, _LOG_SHAPE, f"delete {out} to start over")
    return found


def _cut(path: Path, length: int) -> int:
    """Cut the log to `length` bytes; of a log that lost its end, keep the whole lines. Returns its length in bytes."""
    path.touch()
    found = path.read_bytes()[:length]
    if len(found) < length:
        found = found[: found.rfind(b"\n") + 1]
        print(
            f"{path}: cut short by {length - len(found)} bytes; those steps are missing in its curves", file=sys.stderr
        )
    os.truncate(path, len(found))
    return len(found)


def _board(folder: Path, updates: int) -> Any:
    """TensorBoard's writer; what an earlier start wrote beyond `updates` is hidden."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=updates + 1)
