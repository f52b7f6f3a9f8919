"""Triton kernels: submanifold convolution as an implicit matrix product.

No kernel of this folder waits for the host: buffers have sizes known in advance (a nucleus over S sites holds at most
ceil(p * S)), unused rows stay 0, and every count stays on the device, so that a step can be captured in a CUDA graph.

Rows are processed in the order of their 9-bit neighbour code, so that the rows of a tile lack the same neighbours and
whole offsets are skipped. It is one flat loop over (offset, channel chunk): with two nested loops the compiler neither
prefetched nor kept the sums in registers (1 KB of stack for sm_90); flat it uses wgmma, asynchronous copies and no
stack. Weight gradients are summed from a fixed number of parts: the same in every run. Row numbers are multiplied in
int64: the stem's rows of 14,563 faces fill an int32.

Legend: N frames of S = H * W places, n rows of which some may be unused, T tiles of ROWS rows, C channels.
"""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_model.sparse.kernels.common import power_of_two, product_precision, sum_type, triton_sum_type
from mesm_model.sparse.kernels.tables import ROWS, Tables, make_tables, tables
from mesm_model.sparse.sites import Sites


@triton.jit
def conv_kernel(
    X, WEIGHT, Y, STATS, ROW, NEIGHBOUR, COUNT, OFFSETS, VALID_COUNT, padded,
    CIN: tl.constexpr, COUT: tl.constexpr, FLIP: tl.constexpr, STATISTICS: tl.constexpr,
    SUM: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Y[i] = sum over offsets k of X[neighbour k of i] WEIGHT[k].

    With FLIP it is the gradient of the input from that of the output, with the same weight, here [9, COUT, CIN]. With
    STATISTICS the mean over the tile's rows and the sum of squared deviations go to STATS [T, 2, COUT].
    """
    ACROSS: tl.constexpr = (COUT + COLUMNS - 1) // COLUMNS
    tile = tl.program_id(0) // ACROSS  # on one axis of the grid: the others are limited to 65,535
    at = tile * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % ACROSS) * COLUMNS + tl.arange(0, COLUMNS)
    CHUNKS: tl.constexpr = (CIN + CHUNK - 1) // CHUNK
    offsets = tl.load(OFFSETS + tile)
    total = tl.zeros((ROWS, COLUMNS), SUM)
    for step in range(0, tl.load(COUNT + tile) * CHUNKS):
        offset = ((offsets >> (4 * (step // CHUNKS))) & 15).to(tl.int32)
        channel = (step % CHUNKS) * CHUNK + tl.arange(0, CHUNK)
        there = tl.load(NEIGHBOUR + offset * padded + at).to(tl.int64)
        x_mask = (there >= 0)[:, None]
        if CIN % CHUNK != 0:
            x_mask = x_mask & (channel < CIN)[None, :]
        x = tl.load(X + there[:, None] * CIN + channel[None, :], mask=x_mask, other=0.0)
        if FLIP:
            pointer = WEIGHT + (8 - offset) * (COUT * CIN) + column[:, None] * CIN + channel[None, :]
            if (CIN % CHUNK != 0) or (COUT % COLUMNS != 0):
                weight = tl.load(pointer, mask=(column < COUT)[:, None] & (channel < CIN)[None, :], other=0.0)
            else:
                weight = tl.load(pointer)
            weight = tl.trans(weight)
        else:
            pointer = WEIGHT + offset * (CIN * COUT) + channel[:, None] * COUT + column[None, :]
            if (CIN % CHUNK != 0) or (COUT % COLUMNS != 0):
                weight = tl.load(pointer, mask=(channel < CIN)[:, None] & (column < COUT)[None, :], other=0.0)
            else:
                weight = tl.load(pointer)
        total = tl.dot(x, weight, total, input_precision=PRECISION, out_dtype=SUM)
    row = tl.load(ROW + at).to(tl.int64)
    y = total.to(Y.dtype.element_ty)
    tl.store(Y + row[:, None] * COUT + column[None, :], y, mask=(row >= 0)[:, None] & (column < COUT)[None, :])
    if STATISTICS:
        total = y.to(SUM)  # as stored: in a channel that hardly varies, what varies is the rounding
        valid = tl.load(NEIGHBOUR + 4 * padded + at) >= 0
        mean = tl.sum(total, 0) / tl.maximum(tl.load(VALID_COUNT + tile), 1)
        centred = tl.where(valid[:, None], total - mean[None, :], 0.0)
        tl.store(STATS + (tile * 2) * COUT + column, mean, mask=column < COUT)
        tl.store(STATS + (tile * 2 + 1) * COUT + column, tl.sum(centred * centred, 0), mask=column < COUT)


@triton.jit
def weight_grad_kernel(
    X, GRAD, PART, ROW, NEIGHBOUR, TILE, TILE_COUNT, padded, tiles,
    CIN: tl.constexpr, COUT: tl.constexpr, PARTS: tl.constexpr, SUM: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr,
):  # fmt: skip
    """PART[s, k] = sum of X[neighbour k of i]^T GRAD[i] over the rows i of part s of the tiles that hold offset k."""
    offset = tl.program_id(1)
    part = tl.program_id(2)
    ACROSS: tl.constexpr = (COUT + BLOCK_OUT - 1) // BLOCK_OUT
    cin = (tl.program_id(0) // ACROSS) * BLOCK_IN + tl.arange(0, BLOCK_IN)
    cout = (tl.program_id(0) % ACROSS) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    count = tl.load(TILE_COUNT + offset)
    share = (count + PARTS - 1) // PARTS
    total = tl.zeros((BLOCK_IN, BLOCK_OUT), SUM)
    for step in range(part * share, tl.minimum(count, (part + 1) * share)):
        at = tl.load(TILE + offset * tiles + step) * ROWS + tl.arange(0, ROWS)
        there = tl.load(NEIGHBOUR + offset * padded + at).to(tl.int64)
        row = tl.load(ROW + at).to(tl.int64)
        present = (there >= 0)[:, None]
        x = tl.load(X + there[:, None] * CIN + cin[None, :], mask=present & (cin < CIN)[None, :], other=0.0)
        grad = tl.load(GRAD + row[:, None] * COUT + cout[None, :], mask=present & (cout < COUT)[None, :], other=0.0)
        total = tl.dot(tl.trans(x), grad, total, input_precision=PRECISION, out_dtype=SUM)
    tl.store(
        PART + (part * 9 + offset) * (CIN * COUT) + cin[:, None] * COUT + cout[None, :],
        total,
        mask=(cin < CIN)[:, None] & (cout < COUT)[None, :],
    )


@dataclass(frozen=True)
class Tiling:
    """The shape of one product: output columns, channels per loop step, warps, stages of the load pipeline."""

    columns: int
    chunk: int
    warps: int
    stages: int


def convolve(x: Tensor, weight: Tensor, sites: Sites) -> Tensor:
    """`submanifold_conv`: [n, Cin] with [9, Cin, Cout] -> [n, Cout]."""
    return convolve_with_stats(x, weight, sites, False)[0]


def convolve_with_stats(x: Tensor, weight: Tensor, sites: Sites, statistics: bool) -> tuple[Tensor, Tensor]:
    """The same, and mean and squared deviations of each tile of rows [T, 2, Cout]; empty without `statistics`."""
    return Convolution.apply(x, weight, sites, statistics)


def input_gradient_at(unselected: Sites, grad: Tensor, weight: Tensor, selected: Sites) -> Tensor:
    """The gradient that inputs at `unselected` sites would receive from that of the `selected`, [m, Cout]: [u, Cin]."""
    return product(grad, weight, make_tables(unselected, selected), len(unselected.index), True, False)[0]


def tiling(cin: int, cout: int, element_size: int) -> Tiling:
    """A tile shape that compiles to wgmma without a stack for the channel counts of MESM.

    On an H100, in bfloat16 at p = 0.5, within 13 % of the fastest of 24 with as many rows.
    """
    columns = power_of_two(cout, 128)
    chunk = power_of_two(cin, (256 if cin >= 512 else 128) // element_size)  # twice as long: 0.75 to 0.97 of the time
    return Tiling(columns, chunk, warps=4, stages=3)


def product(x: Tensor, weight: Tensor, made: Tables, rows: int, flip: bool, statistics: bool) -> tuple[Tensor, Tensor]:
    """`rows` output rows in the order of the tables, and tile statistics; the launcher of `conv_kernel`.

    With `flip` x is the gradient of the output, and the result that of the input, with the same weight.
    """
    x, weight = x.contiguous(), weight.contiguous()
    cin, cout = x.shape[1], weight.shape[1 if flip else 2]
    y = x.new_empty(rows, cout)
    stats = torch.empty(made.tiles if statistics else 0, 2, cout, dtype=sum_type(x), device=x.device)
    shape = tiling(cin, cout, x.element_size())
    conv_kernel[(triton.cdiv(cout, shape.columns) * made.tiles,)](
        x, weight, y, stats, made.row, made.neighbour, made.count, made.offsets, made.valid_count, made.tiles * ROWS,
        cin, cout, flip, statistics, triton_sum_type(x), product_precision(), ROWS, shape.columns, shape.chunk,
        num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return y, stats


def _weight_grad(x: Tensor, grad: Tensor, weight: Tensor, made: Tables) -> Tensor:
    """Summed in order from a fixed number of parts, enough to occupy all multiprocessors of a large GPU."""
    cin, cout = weight.shape[1:]
    block_in, block_out = power_of_two(cin, 64), power_of_two(cout, 64)
    blocks = triton.cdiv(cin, block_in) * triton.cdiv(cout, block_out)
    parts = max(1, min(made.tiles // 4, 1024 // (9 * blocks)))
    part = torch.empty(parts, *weight.shape, dtype=sum_type(x), device=x.device)
    weight_grad_kernel[(blocks, 9, parts)](
        x, grad, part, made.row, made.neighbour, made.tile, made.tile_count, made.tiles * ROWS, made.tiles,
        cin, cout, parts, triton_sum_type(x), product_precision(), ROWS, block_in, block_out, num_warps=4, num_stages=3,
    )  # fmt: skip
    return part.sum(0).to(weight.dtype)


class Convolution(torch.autograd.Function):
    """y[i] = sum_k x[i_k] W[k];  dx[i] = sum_k dy[i_k] W[8-k]^T;  dW[k] = sum_i x[i_k]^T dy[i];  i_k: neighbour k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sites: Sites, statistics: bool) -> tuple[Tensor, Tensor]:
        y, stats = product(x, weight, tables(sites), len(x), False, statistics)
        ctx.save_for_backward(x, weight)
        ctx.sites = sites
        ctx.mark_non_differentiable(stats)
        ctx.set_materialize_grads(False)
        return y, stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        made = tables(ctx.sites)
        grad_x = product(grad, weight, made, len(grad), True, False)[0] if ctx.needs_input_grad[0] else None
        grad_weight = _weight_grad(x.contiguous(), grad, weight, made) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, None, None
