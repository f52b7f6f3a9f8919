"""The folder of a run: what it holds, whose it is, and its log.

runs/mesm/
    run.json        what is trained, on what: written first; another run into the same folder is refused
    text/           the text encoder as it was before training, and its tokenizer
    log.jsonl       a line a step and a line an epoch
    last.pt         where to go on
    best.pt         the epoch with the best mean F1 on valid, with its thresholds
    tensorboard/    the log once more, where tensorboard is installed
    page.html       curves, scores, thresholds
    scores.json     the scores at the end; written last: the run is finished
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mesm_data.errors import DataError
from mesm_data.files import exclusive, has_other_files, write_text
from mesm_model.features.store import read_json
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import TEXT
from mesm_model.runs.distributed import Distributed


def features_of(run: Path) -> Path | None:
    """The folder of features that a finished run, or the first of its seeds, was scored with; None where unknown."""
    folder = run if run.is_dir() else run.parent  # of a best.pt
    for path in (folder / "scores.json", *sorted(folder.glob("seed-*/scores.json"))):
        if path.is_file():
            for report in read_json(path, "delete it and give the same `mesm train` again")["parts"].values():
                return Path(report["features"]["folder"]) if report["features"] else None
    return None


@contextmanager
def begin(out: Path, wanted: dict[str, Any], ranks: Distributed) -> Iterator[None]:
    """Hold the folder for the run that `wanted`, run.json, describes; the lock goes when the process does.

    Raises DataError where the folder holds another run, or something else, or a process is at work in it. A run that
    has no checkpoint yet gives way.
    """
    wanted = json.loads(json.dumps(wanted))
    refusal = _refusal(out, wanted)
    ranks.wait()  # nobody writes before everybody has looked
    if refusal:
        raise DataError(refusal)
    if not ranks.is_main:
        ranks.wait()
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, "trains"):
        if refusal := _refusal(out, wanted):  # of another run that began and ended meanwhile
            raise DataError(refusal)
        if _begun(out) != wanted:
            shutil.rmtree(out / TEXT, ignore_errors=True)
            write(out, "run.json", wanted)
        ranks.wait()
        yield


def _begun(out: Path) -> Any:
    """What run.json says; None where there is none."""
    return read(out, "run.json") if (out / "run.json").is_file() else None


def _refusal(out: Path, wanted: Any) -> str | None:
    """Why the run that is `wanted` cannot be in this folder; None where it can."""
    begun = _begun(out)
    if begun is None and has_other_files(out, "run.json.tmp"):
        return f"{out}: not empty and no run of this program (no run.json); give another --out"
    if begun != wanted and any((out / name).is_file() for name in ("last.pt", "best.pt", "scores.json")):
        name, there, here = next(_differences(begun, wanted))
        return (
            f"{out / 'run.json'}: this folder holds a run with {name} {there}, now asked for with {here}; give another "
            f"--out, or delete {out} to start over"
        )
    return None


def is_finished(out: Path) -> bool:
    """True when there is nothing left to train."""
    return (out / "scores.json").is_file()


def read(out: Path, name: str) -> Any:
    """run.json or scores.json. Raises DataError for one that is damaged."""
    path = out / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        lost = (
            "delete it, and the same command makes it again" if name == "scores.json" else f"delete {out} to start over"
        )
        raise DataError(f"{path}: damaged, it is no JSON ({error}); {lost}") from None


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of the log: {"step", "loss", "gradient"} or {"epoch", "loss", "valid": {...}, "best"}.

    A last line that a killed process did not finish is left out.
    """
    lines = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def write(out: Path, name: str, content: dict[str, Any]) -> None:
    """The same, whole or not at all."""
    write_text(out / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


class Log:
    """log.jsonl, cut to the length that a checkpoint knew; and TensorBoard, where it is installed."""

    def __init__(self, out: Path, length: int, updates: int) -> None:
        self.path = out / "log.jsonl"
        with self.path.open("ab") as file:
            file.truncate(length)
        self.length = length
        self._board = _board(out / "tensorboard", updates)

    def step(self, update: int, loss: float | None, gradient: float | None) -> None:
        self._write({"step": update, "loss": loss, "gradient": gradient})
        self._show(update, {"loss": loss, "gradient": gradient})

    def epoch(self, update: int, line: dict[str, Any]) -> None:
        self._write(line)
        self._show(update, {f"valid/{name}": value for name, value in line["valid"].items()})

    def sync(self) -> None:
        """Have it on the disk before a checkpoint says how long it is."""
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


def _board(folder: Path, updates: int) -> Any:
    """TensorBoard's writer; what an earlier start wrote beyond `updates` is hidden."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=updates + 1)


def _differences(begun: Any, wanted: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, there, here of everything that is not the same in two run.json."""
    if isinstance(begun, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*wanted, *begun]):
            yield from _differences(begun.get(name), wanted.get(name), f"{where}.{name}" if where else name)
    elif begun != wanted:
        yield where, json.dumps(begun), json.dumps(wanted)


def seeds_of(run: Path) -> dict[str, Path]:
    """The runs below the folder of `mesm train --seeds N`, by name; a single run is its own only member."""
    below = sorted(path.parent for path in run.glob("seed-*/run.json")) if run.is_dir() else []
    return {path.name: path for path in below} or {run.name: run}


def text_folder(model: nn.Module, folder: Path) -> Path | None:
    """Where the tokenizer of a run's model lies; None for a model without text."""
    return folder / checkpoints.TEXT if checkpoints.reads_text(model.config) else None
