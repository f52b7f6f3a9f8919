"""Submanifold convolution, batch norm and max pooling over active sites, and the choice of their backend.

Three backends give the same results: `dense` (masked conv2d, the reference), `rulebook` (plain PyTorch, for CPUs) and
`triton` (GPUs, the folder kernels).

Legend: n rows of active sites, C channels; weights are [9, Cin, Cout], offsets row by row.
"""

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesm_data.errors import DataError
from mesm_model.sparse.mask_gradient import MaskInputs, add_mask_gradient
from mesm_model.sparse.sites import CENTRE, Sites, blocks, links

BACKENDS = ("auto", "dense", "rulebook", "triton")

# On a CPU `auto` computes a level densely when more than this share of its places is active: (places per frame, share).
# Training steps of the three levels broke even at .80, .92 and never on one processor (AMD Zen, AVX-512), at .60, .78
# and above .90 on another (Intel, AMX). On a GPU it never does: on an H100 the kernels were faster at .9 too.
DENSE_ABOVE = ((300, 0.70), (100, 0.85), (0, 1.0))


def submanifold_conv(x: Tensor, weight: Tensor, sites: Sites, backend: str = "auto") -> Tensor:
    """3x3 convolution of x [n, Cin] with `weight` [9, Cin, Cout] that reads and writes active sites only: [n, Cout].

    Graham et al. 2018, "3D semantic segmentation with submanifold sparse convolutional networks".
    """
    x, weight = autocast(x, weight)
    chosen = choose(x, sites, backend)
    if chosen == "dense":
        return _dense(x, weight, sites)
    if chosen == "rulebook":
        return _Rulebook.apply(x, weight, sites)
    from mesm_model.sparse.kernels.conv import convolve

    return convolve(x, weight, sites)


def choose(x: Tensor, sites: Sites, backend: str = "auto") -> str:
    """The backend for `x` at these sites: dense, rulebook or triton.

    Raises ValueError for an unknown name, DataError for triton where it cannot run.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    if backend == "triton":
        require_triton(x)
    if backend != "auto":
        return backend
    if triton_ready(x):
        return "triton"
    most = next(share for places, share in DENSE_ABOVE if sites.height * sites.width >= places)
    if x.device.type != "cpu" or sites.density > most:
        return "dense"  # on an old GPU too: the many small steps of the rulebook cost more than they save
    return "rulebook"


def triton_ready(x: Tensor) -> bool:
    """True where the Triton kernels can run on `x`."""
    if importlib.util.find_spec("triton") is None:
        return False
    from mesm_model.sparse.kernels.common import available

    return available(x)


def require_triton(x: Tensor) -> None:
    """Raises DataError where the Triton kernels cannot run on `x`."""
    if not triton_ready(x):
        raise DataError(
            f"backend 'triton' needs the triton package and a GPU of 2020 or later, found {x.device}; use 'auto'"
        )


def to_conv2d(weight: Tensor) -> Tensor:
    """A weight [9, Cin, Cout] in the layout of `conv2d`, [Cout, Cin, 3, 3]."""
    return weight.unflatten(0, (3, 3)).permute(3, 2, 0, 1)


def from_conv2d(weight: Tensor) -> Tensor:
    """A `conv2d` weight [Cout, Cin, 3, 3] in the layout used here, [9, Cin, Cout]."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


class SubmanifoldConv2d(nn.Module):
    """3x3 submanifold convolution without bias; initialised as in SparseConvNet, N(0, 2 / (9 Cin))."""

    def __init__(self, cin: int, cout: int, backend: str = "auto") -> None:
        super().__init__()
        self.backend = backend
        self.weight = nn.Parameter(torch.randn(9, cin, cout) * (2 / (9 * cin)) ** 0.5)

    def forward(self, x: Tensor, sites: Sites) -> Tensor:
        return submanifold_conv(x, self.weight, sites, self.backend)


class SparseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [n, C] over the active rows; parameters and buffers are named as in `nn.BatchNorm2d`.

    The defaults are those of SparseConvNet (its momentum 0.99 is 0.01 in PyTorch's convention). With fewer than two
    active rows there is no variance: a single row becomes the bias, and the running statistics are not updated.
    """

    def __init__(self, channels: int, eps: float = 1e-4, momentum: float = 0.01) -> None:
        super().__init__(channels, eps, momentum)

    def forward(self, x: Tensor, sites: Sites) -> Tensor:  # type: ignore[override]
        if not self.training or (sites.valid is None and x.shape[0] > 1):
            y = super().forward(x)
            return y if sites.valid is None else y * sites.valid[:, None]
        valid = x.new_ones(x.shape[0], dtype=torch.bool) if sites.valid is None else sites.valid
        weight = valid[:, None].to(torch.promote_types(x.dtype, torch.float32))
        count = weight.sum()
        mean = (x * weight).sum(0) / count.clamp_min(1)
        centred = (x - mean) * weight
        variance = centred.square().sum(0) / count.clamp_min(1)
        _update_running_stats(self, mean, variance, count)
        y = centred * (variance + self.eps).rsqrt() * self.weight + self.bias * weight
        return y.to(x.dtype)


class SparseMaxPool2d(nn.Module):
    """2x2 max pooling over the active sites: [n, C] -> [m, C] and the sites of the coarser grid."""

    def forward(self, x: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        pooled, children = sites.pool()
        return _MaxPool.apply(x, children), pooled


class SubmanifoldBlock(nn.Module):
    """Submanifold convolution, batch norm over active rows, ReLU: [n, Cin] -> [n, Cout].

    With `mask_inputs` the selection mask that the rows passed receives a gradient at its unselected sites.
    """

    def __init__(self, cin: int, cout: int, backend: str = "auto") -> None:
        super().__init__()
        self.conv = SubmanifoldConv2d(cin, cout, backend)
        self.norm = SparseBatchNorm(cout)

    def forward(self, x: Tensor, sites: Sites, mask_inputs: MaskInputs | None = None) -> Tensor:
        backend = choose(x, sites, self.conv.backend)
        if backend == "triton":
            return self._fused(x, sites, None, mask_inputs)
        y = self.conv(x, sites)
        if mask_inputs is not None:
            if self.conv.backend == "auto" and x.device.type == "cpu":
                backend = "rulebook"  # where most sites are selected few are unselected
            y = add_mask_gradient(y, self.conv.weight, mask_inputs, sites, backend)
        return F.relu(self.norm(y, sites), inplace=True)

    def forward_pooled(self, x: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        """`forward` followed by a 2x2 max pool, in one pass where there is a kernel for it."""
        if choose(x, sites, self.conv.backend) == "triton":
            pooled, children = sites.pool()
            return self._fused(x, sites, children), pooled
        return SparseMaxPool2d()(self(x, sites), sites)

    def _fused(self, x: Tensor, sites: Sites, children: Tensor | None, mask_inputs: MaskInputs | None = None) -> Tensor:
        from mesm_model.sparse.kernels.conv import convolve_with_stats
        from mesm_model.sparse.kernels.norm import norm_relu_of_sites

        x, weight = autocast(x, self.conv.weight)
        y, tile_stats = convolve_with_stats(x, weight, sites, self.norm.training)
        if mask_inputs is not None:
            y = add_mask_gradient(y, weight, mask_inputs, sites, "triton")
        return norm_relu_of_sites(y, tile_stats, self.norm, sites, children)


def autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype that autocast uses for convolutions."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, weight
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype)


def _update_running_stats(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Update the running statistics of `norm` with those of a batch of `count` rows, without waiting for the GPU."""
    with torch.no_grad():
        share = (count > 1).to(mean.dtype) * norm.momentum
        unbiased = variance * (count / (count - 1).clamp_min(1))
        norm.running_mean += share * (mean - norm.running_mean)
        norm.running_var += share * (unbiased - norm.running_var)
        norm.num_batches_tracked += count > 1


def _dense(x: Tensor, weight: Tensor, sites: Sites) -> Tensor:
    """conv2d over the whole grid, gathered at the active sites."""
    kernel = to_conv2d(weight).contiguous(memory_format=torch.channels_last)
    return sites.from_dense(F.conv2d(sites.to_dense(x), kernel, padding=1))


class _Rulebook(torch.autograd.Function):
    """y[i] = sum over k of x[neighbour k of i] W[k]: a gather, a matrix product and a scatter per block and k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sites: Sites) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sites = sites
        y = _sums(x @ weight[CENTRE])
        for block, pairs in zip(blocks(y), sites.rulebook, strict=True):
            for offset, here, there in pairs:
                block.index_add_(0, here, _sums(x.index_select(0, there) @ weight[offset]))
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Neighbourhood is mutual: if j is neighbour k of i, then i is neighbour 8 - k of j."""
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_weight = _sums(grad @ weight[CENTRE].t()), _sums(torch.zeros_like(weight))
        grad_weight[CENTRE] = x.t() @ grad
        for block, rows, pairs in zip(blocks(grad_x), blocks(x), ctx.sites.rulebook, strict=True):
            for offset, here, there in pairs:
                grad_there = grad.index_select(0, there)
                block.index_add_(0, here, _sums(grad_there @ weight[8 - offset].t()))
                grad_weight[8 - offset] += rows.index_select(0, here).t() @ grad_there
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None


class _MaxPool(torch.autograd.Function):
    """Maximum of up to four rows per channel; of equal ones the first receives the gradient, as in `max_pool2d`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, children: Tensor) -> Tensor:
        n = x.shape[0]
        padded = torch.cat([x, x.new_full((1, x.shape[1]), float("-inf"))])
        rows = torch.where(children < 0, n, children)
        y = padded.index_select(0, rows[:, 0])
        tap = torch.zeros_like(y, dtype=torch.uint8)
        for child in range(1, 4):
            value = padded.index_select(0, rows[:, child])
            tap = torch.maximum(tap, (value > y).view(torch.uint8) * child)
            y = torch.maximum(y, value)
        ctx.save_for_backward(tap, links(children, n))
        return y.masked_fill_((children < 0).all(1, keepdim=True), 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        tap, link = ctx.saved_tensors
        if grad.shape[0] == 0:
            return grad.new_zeros(link.shape[0], grad.shape[1]), None
        parent = link.clamp_min(0) // 4
        child = torch.where(link < 0, 4, link % 4)[:, None]
        return grad.index_select(0, parent) * (tap.index_select(0, parent) == child), None


def _sums(x: Tensor) -> Tensor:
    """In a dtype to accumulate in: at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
