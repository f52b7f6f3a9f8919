"""Training in processes that a test may kill: quick to start, since they are forked from one that has all imports."""

import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from mesm_data.shards import open_dataset
from mesm_model.models import mesm
from mesm_model.ranks import join
from mesm_model.train import Machine, Settings, train

CONFIG = mesm.Config(
    emotions=4, text_encoder="tiny", top_p=0.5, width=4, hidden=16, d=8, layers=1, heads=2, feed_forward=16, dropout=0.2
)
SETTINGS = Settings(epochs=3, batch=3, accumulate=2, lr=0.003, text_lr=0.5, clip=1.0)
STEPS = 3 * 8  # of 48 utterances
PATIENCE = 120.0  # seconds

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mesm_model.train", "mesm_model.models.mesm", "torch.utils.tensorboard"])


def start(dataset: Path, out: Path, world: int = 1) -> list[ForkServerProcess]:
    """As many processes as `world` that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [_CONTEXT.Process(target=work, args=(dataset, out, rank, world, port)) for rank in range(world)]
    for process in processes:
        process.start()
    return processes


def work(dataset: Path, out: Path, rank: int, world: int, port: int) -> None:
    """What torchrun would do for one process; it saves after nearly every step."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join("cpu") as ranks:
        train(open_dataset(dataset), "mesm", CONFIG, SETTINGS, out, ranks, Machine(save_every=0.02, quiet=True))


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
        assert all(process.is_alive() for process in processes), "a process ended by itself"
        time.sleep(0.002)
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
    for process in processes:
        process.join(PATIENCE)
