"""Triton kernels around a nucleus: the scores of the attention, and gathering the selected rows.

In plain PyTorch each is a dozen passes over all rows of a level, which took as long as the convolutions that sparsity
saves. Here it is one pass forward and one backward. Rows are whole frames: row r is place r.

Legend: F frames of S places, n = F * S rows, m selected rows, C channels.
"""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_model.sparse.kernels.common import sum_type, triton_sum_type
from mesm_model.sparse.kernels.select import NONE
from mesm_model.sparse.sites import Sites

ROWS = 32  # per block
STEPS = 6  # blocks that one program accumulates in the backward pass, at most


# ---- kernels


@triton.jit
def _tanh(x):
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit
def score_kernel(
    KEYS, QUERIES, WEIGHT, SCORES, S, C: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """SCORES [F, S] = tanh(KEYS [n, C] + QUERIES [F, C] of the frame) . WEIGHT [C]."""
    frame = tl.program_id(0)
    place = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    row = frame.to(tl.int64) * S + place
    inside = (place < S)[:, None] & (column < C)[None, :]
    query = tl.load(QUERIES + frame * C + column, mask=column < C, other=0.0).to(SUM)
    weight = tl.load(WEIGHT + column, mask=column < C, other=0.0).to(SUM)
    keys = tl.load(KEYS + row[:, None] * C + column[None, :], mask=inside, other=0.0).to(SUM)
    score = tl.sum(_tanh(keys + query[None, :]) * weight[None, :], 1)
    tl.store(SCORES + row, score, mask=place < S)


@triton.jit
def score_grad_kernel(
    KEYS, QUERIES, WEIGHT, GRAD, GRAD_KEYS, PARTS, S,
    C: tl.constexpr, SUM: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """GRAD_KEYS [n, C]; PARTS [F, P, 2, C]: gradients of query and weight from STEPS blocks of rows of a frame."""
    frame = tl.program_id(0)
    part = tl.program_id(1)
    column = tl.arange(0, COLUMNS)
    query = tl.load(QUERIES + frame * C + column, mask=column < C, other=0.0).to(SUM)
    weight = tl.load(WEIGHT + column, mask=column < C, other=0.0).to(SUM)
    grad_query = tl.zeros((ROWS, COLUMNS), SUM)  # summed over rows once, at the end
    grad_weight = tl.zeros((ROWS, COLUMNS), SUM)
    for step in range(STEPS):
        place = (part * STEPS + step) * ROWS + tl.arange(0, ROWS)
        row = frame.to(tl.int64) * S + place
        inside = (place < S)[:, None] & (column < C)[None, :]
        keys = tl.load(KEYS + row[:, None] * C + column[None, :], mask=inside, other=0.0).to(SUM)
        grad = tl.load(GRAD + row, mask=place < S, other=0.0).to(SUM)
        activation = _tanh(keys + query[None, :])
        grad_keys = grad[:, None] * weight[None, :] * (1.0 - activation * activation)
        tl.store(GRAD_KEYS + row[:, None] * C + column[None, :], grad_keys.to(GRAD_KEYS.dtype.element_ty), mask=inside)
        grad_query += grad_keys
        grad_weight += grad[:, None] * activation
    at = (frame * tl.num_programs(1) + part) * 2 * C + column
    tl.store(PARTS + at, tl.sum(grad_query, 0), mask=column < C)
    tl.store(PARTS + at + C, tl.sum(grad_weight, 0), mask=column < C)


@triton.jit
def gather_selected_kernel(
    X, INDEX, VALID, ATTENTION, COUNT, Y, m, S,
    GATE: tl.constexpr, ALL_VALID: tl.constexpr, C: tl.constexpr, SUM: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Y [m, C]: rows INDEX [m] of X [n, C], 0 for one that is not VALID; with GATE times ATTENTION [n] * COUNT [F]."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    valid = at < m
    if not ALL_VALID:
        valid = valid & (tl.load(VALID + at, mask=valid, other=0) != 0)
    row = tl.load(INDEX + at, mask=valid, other=0)
    across = (column < C)[None, :]
    x = tl.load(X + row[:, None] * C + column[None, :], mask=valid[:, None] & across, other=0.0)
    if GATE:
        weight = tl.load(ATTENTION + row, mask=valid, other=0.0).to(SUM) * tl.load(COUNT + row // S).to(SUM)
        x = x.to(SUM) * weight[:, None]
    place = at.to(tl.int64)[:, None] * C + column[None, :]
    tl.store(Y + place, x.to(Y.dtype.element_ty), mask=(at < m)[:, None] & across)


@triton.jit
def gather_selected_grad_kernel(
    GRAD, X, ROW_OF_PLACE, ATTENTION, COUNT, GRAD_X, GRAD_ATTENTION, n, S,
    GATE: tl.constexpr, C: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """GRAD_X [n, C], GRAD_ATTENTION [n] from GRAD [m, C]; ROW_OF_PLACE [n] is the row of each place in GRAD, or -1."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    at = tl.load(ROW_OF_PLACE + row, mask=row < n, other=NONE)
    selected = at >= 0
    inside = selected[:, None] & (column < C)[None, :]
    place = row[:, None] * C + column[None, :]
    grad = tl.load(GRAD + at[:, None] * C + column[None, :], mask=inside, other=0.0).to(SUM)
    x = tl.load(X + place, mask=inside, other=0.0).to(SUM)
    count = tl.load(COUNT + row // S, mask=row < n, other=0.0).to(SUM)
    tl.store(GRAD_ATTENTION + row, tl.sum(grad * x, 1) * count, mask=row < n)
    if GATE:
        grad = grad * (tl.load(ATTENTION + row, mask=selected, other=0.0).to(SUM) * count)[:, None]
    tl.store(GRAD_X + place, grad.to(GRAD_X.dtype.element_ty), mask=(row < n)[:, None] & (column < C)[None, :])


def _columns(channels: int) -> int:
    """Columns per block: all channels."""
    return triton.next_power_of_2(channels)


def _warps(columns: int) -> int:
    """Warps per program, so that a block of rows stays in registers."""
    return 4 if columns < 256 else 8


# ---- with gradients


def attention_scores(keys: Tensor, queries: Tensor, weight: Tensor, places: int) -> Tensor:
    """tanh(keys + query of the frame) . weight: keys [n, C], queries [F, C], weight [C] -> [F, S], at least float32."""
    return Scores.apply(keys, queries, weight, places)


def gather_selected_rows(x: Tensor, attention: Tensor, count: Tensor, selected: Sites, gate: bool) -> Tensor:
    """The rows [m, C] of x [n, C] at the sites `selected`, each of which has a row; `attention` is [F, S].

    With `gate` each is multiplied by its attention times count [F]. The gradient of attention is the same without.
    """
    return GatherSelected.apply(x, attention, count, selected, gate)


class Scores(torch.autograd.Function):
    """s = tanh(k + q) . w;  dk = ds w (1 - tanh^2), dq its sum over a frame, dw = the sum of ds tanh."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, queries: Tensor, weight: Tensor, places: int) -> Tensor:
        keys, queries, weight = keys.contiguous(), queries.contiguous(), weight.contiguous()
        frames, channels = queries.shape
        found = torch.empty(frames, places, dtype=sum_type(keys), device=keys.device)
        score_kernel[(frames, triton.cdiv(places, ROWS))](
            keys, queries, weight, found, places, channels, triton_sum_type(keys), ROWS, _columns(channels)
        )
        ctx.save_for_backward(keys, queries, weight)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        keys, queries, weight = ctx.saved_tensors
        frames, places = grad.shape
        channels = keys.shape[1]
        grad_keys, columns = torch.empty_like(keys), _columns(channels)
        steps = min(STEPS, triton.cdiv(places, ROWS))
        parts = triton.cdiv(places, ROWS * max(1, steps))
        sums = torch.empty(frames, parts, 2, channels, dtype=sum_type(keys), device=keys.device)
        score_grad_kernel[(frames, parts)](
            keys, queries, weight, grad.contiguous(), grad_keys, sums, places,
            channels, triton_sum_type(keys), steps, ROWS, columns, num_warps=_warps(columns),
        )  # fmt: skip
        of_frames = sums.sum(1)  # [F, 2, C]
        return grad_keys, of_frames[:, 0].to(queries.dtype), of_frames[:, 1].sum(0).to(weight.dtype), None


class GatherSelected(torch.autograd.Function):
    """y = x, or x a N of the frame, at the selected rows;  dx = dy, or dy a N;  da = N dy . x;  0 at the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, attention: Tensor, count: Tensor, selected: Sites, gate: bool) -> Tensor:
        x, attention = x.contiguous(), attention.contiguous()
        ctx.save_for_backward(x, attention, count)
        ctx.selected, ctx.gate = selected, gate
        if selected.all_active and not gate:
            return x.view_as(x)
        rows, channels = len(selected.index), x.shape[1]
        valid = selected.index if selected.valid is None else selected.valid
        y = x.new_empty(rows, channels)
        gather_selected_kernel[(triton.cdiv(rows, ROWS),)](
            x, selected.index, valid, attention, count, y, rows, attention.shape[1],
            gate, selected.valid is None, channels, triton_sum_type(x), ROWS, _columns(channels),
        )  # fmt: skip
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, attention, count = ctx.saved_tensors
        n, channels = x.shape
        grad_x, grad_attention, columns = torch.empty_like(x), torch.empty_like(attention), _columns(channels)
        gather_selected_grad_kernel[(triton.cdiv(n, ROWS),)](
            grad.contiguous(), x, ctx.selected.row_of_place, attention, count, grad_x, grad_attention, n,
            attention.shape[1], ctx.gate, channels, triton_sum_type(x), ROWS, columns, num_warps=_warps(columns),
        )  # fmt: skip
        return grad_x, grad_attention, None, None, None
