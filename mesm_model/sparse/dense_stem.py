"""The dense layers before the sparse ones, which FE2E uses throughout; fused where there is a kernel.

Legend: N frames, C channels, H x W places.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesm_model.sparse.conv import autocast, triton_ready
from mesm_model.sparse.sites import channels_last


class FirstConv2d(nn.Conv2d):
    """5x5 convolution without bias of raw frames [F, C, H, W] of any dtype, normalised by mean and deviation [C, 1, 1].

    Fused where there is a kernel, unless the frames require a gradient.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, width: int, mean: Tensor, deviation: Tensor) -> None:
        super().__init__(channels, width, 5, padding=2, bias=False)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        if not triton_ready(frames) or frames.requires_grad:
            return super().forward(self.normalised(frames))
        from mesm_model.sparse.kernels.stem import first_conv

        _, weight = autocast(frames[:0], self.weight)
        rows = first_conv(frames, self.mean.flatten(), self.deviation.flatten(), weight)
        number, _, height, width = frames.shape
        return rows.view(number, height, width, len(weight)).permute(0, 3, 1, 2)

    def normalised(self, frames: Tensor) -> Tensor:
        """The normalised frames, in channels-last layout."""
        return channels_last((frames - self.mean) / self.deviation)


class NormRelu(nn.BatchNorm2d):
    """Batch norm, ReLU and optionally a 2x2 max pool of [N, C, H, W]; fused where there is a kernel.

    On a CPU the pool comes first where that gives the same values and gradients: a quarter of the work.
    """

    def __init__(self, channels: int, pool: bool = False) -> None:
        super().__init__(channels)
        self.pool = pool

    def forward(self, y: Tensor) -> Tensor:
        frames, channels, height, width = y.shape
        if not triton_ready(y) or (self.pool and (height % 2 or width % 2)):
            if self.pool and self._may_pool_first(y):
                return self._pool_first(y)
            y = super().forward(y)
            return F.relu(F.max_pool2d(y, 2) if self.pool else y, inplace=True)
        from mesm_model.sparse.kernels.norm import norm_relu

        rows = y.permute(0, 2, 3, 1).reshape(-1, channels)
        if self.pool:
            height, width = height // 2, width // 2
        z = norm_relu(rows, self, y.shape[3] if self.pool else 0)
        return z.view(frames, height, width, channels).permute(0, 3, 1, 2)

    def _may_pool_first(self, y: Tensor) -> bool:
        """On a CPU, in training, with at least one frame, and if no gain reverses the order of values."""
        if torch.compiler.is_compiling() or not self.training or y.device.type != "cpu":
            return False  # reading the gains would break the compiled graph
        return y.dtype == self.weight.dtype and y.numel() > 0 and bool((self.weight > 0).all())

    def _pool_first(self, y: Tensor) -> Tensor:
        """With positive gains the maximum before the norm is the maximum after it."""
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        running = (self.running_mean, self.running_var, self.momentum)
        mean, variance = torch.batch_norm_update_stats(y.detach(), *running)
        return _PoolNormRelu.apply(y, self.weight, self.bias, mean, (variance + self.eps).rsqrt())


class _PoolNormRelu(torch.autograd.Function):
    """z = max(0, v g + b), v = (max of four y - mean) s;  dy = g s (dz - mean(dz) - v mean(dz v)); dz at the max."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        best, place = F.max_pool2d(y, 2, return_indices=True)
        scale = gain * inverse
        z = F.relu_(torch.addcmul(_per_channel(bias - mean * scale), best, _per_channel(scale)))
        ctx.save_for_backward(y, gain, mean, inverse, best, place, z)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        y, gain, mean, inverse, best, place, z = ctx.saved_tensors
        scale, count = gain * inverse, y.numel() // len(gain)
        grad = _rows(grad * (z > 0))
        grad_bias = grad.sum((0, 1))
        grad_gain = ((grad * _rows(best)).sum((0, 1)) - mean * grad_bias) * inverse
        slope = -scale * inverse * grad_gain / count
        level = -scale * grad_bias / count - slope * mean
        grad_y = torch.addcmul(level, _rows(y), slope)  # through mean and deviation, at every place
        grad_y.scatter_add_(1, _rows(place), grad * scale)
        frames, channels, height, width = y.shape
        return grad_y.view(frames, height, width, channels).permute(0, 3, 1, 2), grad_gain, grad_bias, None, None


def _per_channel(values: Tensor) -> Tensor:
    """One value per channel, [C], shaped for [N, C, H, W]."""
    return values.view(-1, 1, 1)


def _rows(grid: Tensor) -> Tensor:
    """[N, C, H, W] as [N, H * W, C]: the same memory if it is channels last."""
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
