"""Triton kernels: batch norm, ReLU and max pooling over active rows."""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesm_model.sparse.kernels.common import grid, power_of_two, sum_type, triton_sum_type
from mesm_model.sparse.kernels.select import NONE
from mesm_model.sparse.kernels.tables import tables
from mesm_model.sparse.sites import Sites, links


@triton.jit
def tile_stats_kernel(Y, STATS, n, C: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Mean and sum of squared deviations, [T, 2, C], of every ROWS rows of Y [n, C]."""
    tile = tl.program_id(0)
    row = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < n)[:, None] & (column < C)[None, :]
    y = tl.load(Y + row[:, None] * C + column[None, :], mask=inside, other=0.0).to(SUM)
    mean = tl.sum(y, 0) / tl.minimum(n - tile * ROWS, ROWS)
    centred = tl.where(inside, y - mean[None, :], 0.0)
    tl.store(STATS + (tile * 2) * C + column, mean, mask=column < C)
    tl.store(STATS + (tile * 2 + 1) * C + column, tl.sum(centred * centred, 0), mask=column < C)


@triton.jit
def batch_stats_kernel(
    STATS, COUNTS, MEAN, INVERSE, TOTAL, RUNNING_MEAN, RUNNING_VAR, SEEN, tiles, EPS: tl.constexpr,
    MOMENTUM: tl.constexpr, TRACK: tl.constexpr, C: tl.constexpr, SUM: tl.constexpr,
    BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """MEAN, 1 / standard deviation and number of all rows from STATS [T, 2, C] and COUNTS [T] (Chan et al. 1983).

    With TRACK the running statistics are updated, unless there are fewer than two rows and so no variance.
    """
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    across = (column < C)[None, :]
    total = tl.zeros((COLUMNS,), SUM)
    mean = tl.zeros((COLUMNS,), SUM)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        inside = (tile < tiles)[:, None] & across
        weight = tl.load(COUNTS + tile, mask=tile < tiles, other=0).to(SUM)
        part = tl.load(STATS + (tile * 2)[:, None] * C + column[None, :], mask=inside, other=0.0)
        total += tl.sum(weight, 0)
        mean += tl.sum(part * weight[:, None], 0)
    mean = mean / tl.maximum(total, 1.0)
    squares = tl.zeros((COLUMNS,), SUM)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        inside = (tile < tiles)[:, None] & across
        weight = tl.load(COUNTS + tile, mask=tile < tiles, other=0).to(SUM)
        place = (tile * 2)[:, None] * C + column[None, :]
        shift = tl.load(STATS + place, mask=inside, other=0.0) - mean[None, :]
        squares += tl.sum(tl.load(STATS + place + C, mask=inside, other=0.0) + shift * shift * weight[:, None], 0)
    tl.store(MEAN + column, mean, mask=column < C)
    tl.store(INVERSE + column, 1.0 / tl.sqrt(squares / tl.maximum(total, 1.0) + EPS), mask=column < C)
    tl.store(TOTAL + column, total, mask=column == 0)
    if TRACK:
        enough = (column < C) & (total > 1.0)
        old = tl.load(RUNNING_MEAN + column, mask=enough, other=0.0)
        tl.store(RUNNING_MEAN + column, old + MOMENTUM * (mean - old), mask=enough)
        old = tl.load(RUNNING_VAR + column, mask=enough, other=0.0)
        tl.store(RUNNING_VAR + column, old + MOMENTUM * (squares / tl.maximum(total - 1.0, 1.0) - old), mask=enough)
        tl.store(SEEN + column, tl.load(SEEN + column, mask=column == 0, other=0) + 1, mask=enough & (column == 0))


@triton.jit
def norm_relu_kernel(
    Y, CHILD, VALID, GAIN, BIAS, MEAN, INVERSE, Z, BEST, TAP, m,
    C: tl.constexpr, TAPS: tl.constexpr, WIDTH: tl.constexpr, ALL_VALID: tl.constexpr, SUM: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Z = max(0, (Y - MEAN) * INVERSE * GAIN + BIAS); for TAPS = 4 the maximum over each row's children CHILD [m, 4].

    With WIDTH the rows of Y are whole frames of that even width and an even height, and CHILD is not read.
    TAP is the number of the child with the maximum, and BEST its Y.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < m)[:, None] & (column < C)[None, :]
    scale = tl.load(GAIN + column, mask=column < C, other=0.0).to(SUM)
    scale = scale * tl.load(INVERSE + column, mask=column < C, other=0.0).to(SUM)
    mean = tl.load(MEAN + column, mask=column < C, other=0.0).to(SUM)
    bias = tl.load(BIAS + column, mask=column < C, other=0.0).to(SUM)
    place = row[:, None] * C + column[None, :]
    if TAPS == 1:
        valid = inside
        if not ALL_VALID:
            valid = valid & (tl.load(VALID + row, mask=row < m, other=0) != 0)[:, None]
        y = tl.load(Y + place, mask=valid, other=0.0).to(SUM)
        z = tl.where(valid, (y - mean[None, :]) * scale[None, :] + bias[None, :], 0.0)
    else:
        z = tl.full((ROWS, COLUMNS), float("-inf"), SUM)
        best = tl.zeros((ROWS, COLUMNS), SUM)
        tap = tl.zeros((ROWS, COLUMNS), tl.int32)
        for t in tl.static_range(TAPS):
            if WIDTH:
                child = row // (WIDTH // 2) * (2 * WIDTH) + row % (WIDTH // 2) * 2 + t // 2 * WIDTH + t % 2
            else:
                child = tl.load(CHILD + row * TAPS + t, mask=row < m, other=NONE)
            there = inside & (child >= 0)[:, None]
            y = tl.load(Y + child[:, None] * C + column[None, :], mask=there, other=0.0).to(SUM)
            value = (y - mean[None, :]) * scale[None, :] + bias[None, :]
            better = there & ((value > z) | (value != value))  # NaN wins, as in max_pool2d
            z = tl.where(better, value, z)
            best = tl.where(better, y, best)
            tap = tl.where(better, t, tap)
        tl.store(BEST + place, best.to(BEST.dtype.element_ty), mask=inside)
        tl.store(TAP + place, tap.to(tl.int8), mask=inside)
    z = tl.where(z < 0.0, 0.0, z)  # lets NaN through, as ReLU does
    tl.store(Z + place, z.to(Z.dtype.element_ty), mask=inside)


@triton.jit
def norm_grad_sums_kernel(
    GRAD, BEST, Z, MEAN, INVERSE, SUMS, m,
    C: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """SUMS [T, 2, C] per tile of rows: the gradient before the ReLU, and its product with the normalised Y."""
    tile = tl.program_id(0)
    row = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < m)[:, None] & (column < C)[None, :]
    place = row[:, None] * C + column[None, :]
    passed = inside & (tl.load(Z + place, mask=inside, other=0.0) > 0.0)
    grad = tl.load(GRAD + place, mask=passed, other=0.0).to(SUM)
    mean = tl.load(MEAN + column, mask=column < C, other=0.0).to(SUM)
    inverse = tl.load(INVERSE + column, mask=column < C, other=0.0).to(SUM)
    normed = (tl.load(BEST + place, mask=passed, other=0.0).to(SUM) - mean[None, :]) * inverse[None, :]
    tl.store(SUMS + (tile * 2) * C + column, tl.sum(grad, 0), mask=column < C)
    tl.store(SUMS + (tile * 2 + 1) * C + column, tl.sum(grad * normed, 0), mask=column < C)


@triton.jit
def norm_grad_kernel(
    GRAD, Y, Z, TAP, LINK, VALID, GAIN, MEAN, INVERSE, SUMS, COUNT, GRAD_Y, n,
    FIXED: tl.constexpr, C: tl.constexpr, TAPS: tl.constexpr, WIDTH: tl.constexpr, ALL_VALID: tl.constexpr,
    SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """GRAD_Y = GAIN * INVERSE * (g - mean of g - normed * mean of g * normed), g the gradient that arrived at this row.

    The means are SUMS [2, C] over COUNT; with FIXED statistics they drop out. For TAPS = 4 row r of Y is child number
    LINK[r] % 4 of pooled row LINK[r] // 4 (WIDTH gives the same without LINK), and g is zero unless TAP names it.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < n)[:, None] & (column < C)[None, :]
    valid = inside
    if not ALL_VALID:
        valid = valid & (tl.load(VALID + row, mask=row < n, other=0) != 0)[:, None]
    place = row[:, None] * C + column[None, :]
    if TAPS == 1:
        passed = valid & (tl.load(Z + place, mask=valid, other=0.0) > 0.0)
        grad = tl.load(GRAD + place, mask=passed, other=0.0).to(SUM)
    else:
        if WIDTH:
            line = row // WIDTH
            column_of_frame = row % WIDTH
            link = (line // 2 * (WIDTH // 2) + column_of_frame // 2) * TAPS + line % 2 * 2 + column_of_frame % 2
        else:
            link = tl.load(LINK + row, mask=row < n, other=NONE)
        linked = valid & (link >= 0)[:, None]
        parent = (link // TAPS)[:, None] * C + column[None, :]
        is_tap = tl.load(TAP + parent, mask=linked, other=TAPS).to(tl.int32) == (link % TAPS)[:, None]
        passed = linked & is_tap & (tl.load(Z + parent, mask=linked, other=0.0) > 0.0)
        grad = tl.load(GRAD + parent, mask=passed, other=0.0).to(SUM)
    mean = tl.load(MEAN + column, mask=column < C, other=0.0).to(SUM)
    inverse = tl.load(INVERSE + column, mask=column < C, other=0.0).to(SUM)
    gain = tl.load(GAIN + column, mask=column < C, other=0.0).to(SUM) * inverse
    if not FIXED:
        count = tl.maximum(tl.load(COUNT), 1.0)
        grad_mean = tl.load(SUMS + column, mask=column < C, other=0.0) / count
        grad_slope = tl.load(SUMS + C + column, mask=column < C, other=0.0) / count
        normed = (tl.load(Y + place, mask=valid, other=0.0).to(SUM) - mean[None, :]) * inverse[None, :]
        grad = grad - grad_mean[None, :] - normed * grad_slope[None, :]
    tl.store(GRAD_Y + place, tl.where(valid, gain[None, :] * grad, 0.0).to(GRAD_Y.dtype.element_ty), mask=inside)


# Mean [C], 1 / standard deviation [C], and the number of rows in them; None for running statistics.
NormStats = tuple[Tensor, Tensor, Tensor | None]
PASS_ROWS = 32  # rows per block in passes that only read and write
SUM_ROWS = 256  # rows per block in passes that accumulate


def norm_relu_of_sites(
    y: Tensor, tile_stats: Tensor, norm: nn.modules.batchnorm._BatchNorm, sites: Sites, children: Tensor | None = None
) -> Tensor:
    """Batch norm over active rows and ReLU of y [n, C]; with `children` [m, 4] the maximum of each row's, [m, C].

    `tile_stats` are those of `convolve_with_stats`; in evaluation the running statistics are used instead.
    """
    stats = _batch_stats(tile_stats, tables(sites).valid_count, norm) if norm.training else _running_stats(norm)
    return NormRelu.apply(y, norm.weight, norm.bias, *stats, sites.valid, children, 0)


def norm_relu(y: Tensor, norm: nn.modules.batchnorm._BatchNorm, pooled_width: int = 0) -> Tensor:
    """Batch norm over all rows and ReLU of y [n, C], whole frames; given their width, max pooled 2x2, [n / 4, C].

    `pooled_width` 0 does not pool; otherwise width and height are even.
    """
    stats = _row_stats(y.detach(), norm) if norm.training else _running_stats(norm)
    return NormRelu.apply(y, norm.weight, norm.bias, *stats, None, None, pooled_width)


def _row_stats(y: Tensor, norm: Any) -> NormStats:
    """Statistics of all rows of y [n, C]."""
    n, channels = y.shape
    programs, columns = grid(n, SUM_ROWS, channels)
    stats = torch.empty(programs[0], 2, channels, dtype=sum_type(y), device=y.device)
    tile_stats_kernel[programs](y, stats, n, channels, triton_sum_type(y), SUM_ROWS, columns, num_warps=8)
    counts = torch.full((programs[0],), SUM_ROWS, dtype=torch.int32, device=y.device)
    counts[-1:] = n - (programs[0] - 1) * SUM_ROWS
    return _batch_stats(stats, counts, norm)


def _batch_stats(stats: Tensor, counts: Tensor, norm: Any) -> NormStats:
    """Statistics of a batch from the means and squares of its tiles, [T, 2, C]; updates the running ones of `norm`."""
    tiles, _, channels = stats.shape
    mean, inverse, count = stats.new_empty(channels), stats.new_empty(channels), stats.new_empty(())
    track = norm.track_running_stats
    running = (norm.running_mean, norm.running_var, norm.num_batches_tracked) if track else (mean, mean, mean)
    columns = power_of_two(channels, 16)
    batch_stats_kernel[(triton.cdiv(channels, columns),)](
        stats, counts, mean, inverse, count, *running, tiles, norm.eps, norm.momentum, track,
        channels, tl.float64 if stats.dtype == torch.float64 else tl.float32, 512, columns, num_warps=8,
    )  # fmt: skip
    return mean, inverse, count


def _running_stats(norm: Any) -> NormStats:
    return norm.running_mean, (norm.running_var + norm.eps).rsqrt(), None


class NormRelu(torch.autograd.Function):
    """z = max(0, v g + b), v = (y - mean) s;  dy = g s (dz - mean(dz) - v mean(dz v)); dz where z > 0, at the max."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, count: Tensor | None,
        valid: Tensor | None, children: Tensor | None, pooled_width: int,
    ) -> Tensor:  # fmt: skip
        y = y.contiguous()
        n, channels = y.shape
        pooled = children is not None or pooled_width > 0
        m = n // 4 if pooled_width else n if children is None else children.shape[0]
        z = y.new_empty(m, channels)
        best = torch.empty_like(z) if pooled else y
        tap = torch.empty(m if pooled else 0, channels, dtype=torch.int8, device=y.device)
        programs, columns = grid(m, PASS_ROWS, channels)
        norm_relu_kernel[programs](
            y, y if children is None else children, y if valid is None else valid, gain, bias, mean, inverse,
            z, best, tap, m,
            channels, 4 if pooled else 1, pooled_width, valid is None, triton_sum_type(y), PASS_ROWS, columns,
        )  # fmt: skip
        ctx.save_for_backward(y, gain, mean, inverse, count, valid, children, z, best, tap)
        ctx.pooled, ctx.pooled_width = pooled, pooled_width
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, gain, mean, inverse, count, valid, children, z, best, tap = ctx.saved_tensors
        grad = grad.contiguous()
        n, channels = y.shape
        programs, columns = grid(z.shape[0], SUM_ROWS, channels)
        sums = torch.empty(programs[0], 2, channels, dtype=sum_type(y), device=y.device)
        norm_grad_sums_kernel[programs](
            grad,
            best,
            z,
            mean,
            inverse,
            sums,
            z.shape[0],
            channels,
            triton_sum_type(y),
            SUM_ROWS,
            columns,
            num_warps=8,
        )
        sums = sums.sum(0)
        grad_y = torch.empty_like(y)
        programs, columns = grid(n, PASS_ROWS, channels)
        norm_grad_kernel[programs](
            grad, y, z, tap, y if children is None else links(children, n), y if valid is None else valid,
            gain, mean, inverse, sums, sums if count is None else count, grad_y, n,
            count is None, channels, 4 if ctx.pooled else 1, ctx.pooled_width, valid is None,
            triton_sum_type(y), PASS_ROWS, columns,
        )  # fmt: skip
        return grad_y, sums[1].to(gain.dtype), sums[0].to(gain.dtype), *(None,) * 6
