"""Running means and variances of the norm layers over a step of several batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mesm_model.runs.distributed import Distributed


class RunningStatistics:
    """The running means and variances of all norm layers over a step of several batches.

    Each batch starts from the figures before the step, and the step ends with the mean of what they became: neither the
    order of the batches nor which process had which makes a difference, also where a process had none.
    """

    def __init__(self, model: nn.Module, batches: int, world: int) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        self.figures: list[Any] = [figure for norm in norms for figure in (norm.running_mean, norm.running_var)]
        self.batches = batches
        self.shared = batches > 1 or world > 1
        if self.shared:
            self.start = [figure.clone() for figure in self.figures]
            self.sums = [torch.zeros_like(figure) for figure in self.figures]

    @contextmanager
    def of_one_batch(self) -> Iterator[None]:
        if self.shared:
            torch._foreach_copy_(self.figures, self.start)
        yield
        if self.shared:
            torch._foreach_add_(self.sums, self.figures)

    def settle(self, ranks: Distributed) -> None:
        if self.shared:
            ranks.all_reduce_sum(self.sums)
            for figure, total in zip(self.figures, self.sums, strict=True):
                figure.copy_(total / self.batches)
