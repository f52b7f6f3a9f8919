"""Running means and variances of the norm layers over a step of several batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mesm_model.models.common.interface import Model
from mesm_model.runs.distributed import Distributed


class RunningStatistics:
    """The running means and variances of all norm layers over one step.

    Each batch starts from the values before the step, and the step ends with the mean of what they became. So neither
    the order of the batches nor their distribution over processes matters, even where a process had none.
    """

    def __init__(self, model: Model | nn.Module, batches: int, world: int) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        self.stats: list[Any] = [stat for norm in norms for stat in (norm.running_mean, norm.running_var)]
        self.batches = batches
        self.shared = batches > 1 or world > 1
        if self.shared:
            self.start = [stat.clone() for stat in self.stats]
            self.sums = [torch.zeros_like(stat) for stat in self.stats]

    @contextmanager
    def of_one_batch(self) -> Iterator[None]:
        """Run the forward pass of one batch inside this."""
        if self.shared:
            torch._foreach_copy_(self.stats, self.start)
        yield
        if self.shared:
            torch._foreach_add_(self.sums, self.stats)

    def settle(self, distributed: Distributed) -> None:
        """Set the statistics to the mean over all batches of the step."""
        if self.shared:
            distributed.all_reduce_sum(self.sums)
            for stat, total in zip(self.stats, self.sums, strict=True):
                stat.copy_(total / self.batches)
