"""The processes that `torchrun` starts, or a single one. Home of torch.distributed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mesm_data.errors import DataError


@dataclass(frozen=True)
class Distributed:
    """This process: number `rank` of `world`, computing on `device`."""

    world: int
    rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one collective."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, summed in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in rank order."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every process has called this."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def init_distributed(device: str = "auto") -> Iterator[Distributed]:
    """Join the processes that torchrun started, if any. `device` is auto, cpu, cuda or cuda:N.

    Raises DataError for an unknown device and for cuda where torch finds no GPU.
    """
    world, rank, local = (int(os.environ.get(name, default)) for name, default in _ENVIRONMENT)
    chosen = _device(device, local if world > 1 else None)
    if world > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Distributed(world, rank, chosen)
    finally:
        if world > 1:
            dist.destroy_process_group()


_ENVIRONMENT = (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))


def _device(name: str, local: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DataError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise DataError(f"device {name!r}: torch {torch.__version__} finds no GPU here; give --device cpu")
    if local is not None or device.index is None:
        device = torch.device("cuda", local or 0)
    torch.cuda.set_device(device)
    return device
