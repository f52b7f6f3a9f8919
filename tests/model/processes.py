"""Training in processes that a test may kill: quick to start, since they are forked from one that has all imports."""

import multiprocessing
import os
import signal
import socket
import time
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from mesm_data.dataset.reader import load
from mesm_model.models import mesm
from mesm_model.runs import checkpoint
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RunConfig, RuntimeOptions, TrainSettings
from mesm_model.training.train import train

CONFIG = mesm.Config(
    emotions=4,
    text_encoder="tiny",
    top_p=0.5,
    width=4,
    hidden=16,
    embed_dim=8,
    layers=1,
    heads=2,
    feed_forward=16,
    dropout=0.2,
)
TINY = {"width": 2, "hidden": 8, "embed_dim": 4, "layers": 1, "heads": 1, "feed_forward": 8, "text_encoder": "tiny"}
SETTINGS = TrainSettings(epochs=4, batch=7, grad_accumulation=2, lr=0.003, text_lr_scale=0.5, grad_clip_norm=1.0)
STEPS = 4 * 4  # of 48 utterances in 7 batches: in the last step of an epoch the second process has nothing to do
PATIENCE = 120.0  # seconds
_save = checkpoint.save

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mesm_model.training.train", "mesm_model.models.mesm", "torch.utils.tensorboard"])


def start(dataset: Path, out: Path, world: int = 1, **changed: Any) -> list[ForkServerProcess]:
    """As many processes as `world` that train together, with SETTINGS but for those `changed`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = replace(SETTINGS, **changed)
    processes = [
        _CONTEXT.Process(target=work, args=(dataset, out, rank, world, port, settings)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def work(dataset: Path, out: Path, rank: int, world: int, port: int, settings: TrainSettings) -> None:
    """What torchrun would do for one process; it saves after nearly every step, the best epoch on a slow disk."""
    torch.set_num_threads(1)
    checkpoint.save = _save_slowly
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with init_distributed("cpu") as ranks:
        runtime = RuntimeOptions(save_every=0.02, quiet=True)
        train(load(dataset), RunConfig("mesm", CONFIG, settings), out, ranks, runtime)


def _save_slowly(path: Path, what: checkpoint.Checkpoint) -> None:
    if path.name == "best.pt":
        time.sleep(0.3)
    _save(path, what)


def finish(processes: list[ForkServerProcess]) -> None:
    """Wait until they are done, and hold them to have ended well."""
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def kill_at(processes: list[ForkServerProcess], log: Path, steps: int) -> None:
    """kill -9 to all of them when the log has so many lines."""
    until = time.monotonic() + PATIENCE
    while not log.is_file() or log.read_bytes().count(b"\n") < steps:
        assert time.monotonic() < until, f"{log} stays short"
        if not all(process.is_alive() for process in processes):
            assert log.is_file(), "a process ended by itself"
            assert log.read_bytes().count(b"\n") >= steps, "a process ended by itself"
        time.sleep(0.002)
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
    for process in processes:
        process.join(PATIENCE)
