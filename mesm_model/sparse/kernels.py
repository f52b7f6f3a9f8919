"""Triton kernels: nucleus selection, submanifold convolution as an implicit matrix product, and the passes around it.

Nothing here waits for the GPU: buffers have sizes known beforehand (a nucleus over S sites holds at most ceil(p * S)),
unused rows stay 0, and every count lives on the device, so a step can be captured in a CUDA graph.

The convolution walks the rows in the order of their 9-bit neighbour code, so that the rows of a tile lack the same
neighbours and whole offsets are skipped. It is one flat loop over (offset, channel chunk): with two nested loops the
compiler neither loaded ahead nor kept the sums in registers (1 KB of stack for sm_90); flat it uses wgmma, asynchronous
copies and no stack. Gradients of weights are summed from a fixed number of parts: the same in every run. Row numbers
are multiplied in int64: the front's rows of 14,563 faces fill an int32.

Legend: N frames of S = H * W places, n rows of which some may be unused, T tiles of ROWS rows, C channels.
"""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

import os
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mesm_model.sparse.left_out import Offered, learn_from_left_out
from mesm_model.sparse.sites import Sites, links

UNUSED = tl.constexpr(512)  # the code of a row without a site: sorts behind the 9-bit codes
NONE = tl.constexpr(-1)


# ---- kernels: which sites, and who neighbours whom


@triton.jit
def select_kernel(
    PROB, OFFERED, INDEX, LIVE, SLOT, CAP,
    P: tl.constexpr, ROUNDING: tl.constexpr, S: tl.constexpr, PAD: tl.constexpr,
):  # fmt: skip
    """One frame. A site is chosen if the mass of those before it, in falling order and then site order, is below p.

    Nothing is sorted: the probability of the last one chosen is found by bisection over the bits of a float, which are
    in the order of what they mean. It is the smallest with less than p, and fewer sites than a nucleus holds, above it.
    """
    frame = tl.program_id(0)
    here = tl.arange(0, PAD)
    offered = tl.load(OFFERED + frame * S + here, mask=here < S, other=0) != 0
    prob = tl.abs(tl.load(PROB + frame * S + here, mask=offered, other=0.0).to(tl.float32))
    bits = tl.where(offered, prob.to(tl.int32, bitcast=True), NONE)
    wanted = P * tl.sum(prob, 0)
    most = tl.ceil(tl.sum(offered.to(tl.int32), 0).to(tl.float64) * P - ROUNDING).to(tl.int32)
    low = tl.sum(here * 0, 0)
    high = low + 0x7FFFFFFF
    for _ in range(31):
        middle = low + (high - low) // 2
        mass = tl.sum(tl.where(bits > middle, prob, 0.0), 0)
        count = tl.sum((bits > middle).to(tl.int32), 0)
        too_low = (count > 0) & ((mass >= wanted) | (count >= most))
        low = tl.where(too_low, middle + 1, low)
        high = tl.where(too_low, high, middle)
    mass = tl.sum(tl.where(bits > high, prob, 0.0), 0)
    count = tl.sum((bits > high).to(tl.int32), 0)
    last = bits == high
    nth = tl.cumsum(last.to(tl.int32), 0) - 1  # of equally probable sites
    needed = (mass + nth * prob < wanted) & (count + nth < most)
    chosen = (bits > high) | (last & (needed | (count + nth == 0)))
    taken = tl.sum(chosen.to(tl.int32), 0)
    row = frame * CAP + tl.cumsum(chosen.to(tl.int32), 0) - 1
    tl.store(SLOT + frame * S + here, tl.where(chosen, row, NONE), mask=here < S)
    tl.store(INDEX + row, frame * S + here, mask=chosen)
    tl.store(INDEX + frame * CAP + here, frame * S + tl.zeros_like(here), mask=(here >= taken) & (here < CAP))
    tl.store(LIVE + frame * CAP + here, here < taken, mask=here < CAP)


@triton.jit
def code_kernel(INDEX, SLOT, LIVE, CODE, n, H, W, BLOCK: tl.constexpr, ALL_LIVE: tl.constexpr):
    """CODE[r], int16: bit k tells whether row r has a neighbour at offset k; UNUSED for a row without a site."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = row < n
    if not ALL_LIVE:
        live = live & (tl.load(LIVE + row, mask=live, other=0) != 0)
    index = tl.load(INDEX + row, mask=live, other=0)
    place = index % (H * W)
    y = place // W
    x = place % W
    code = tl.zeros((BLOCK,), tl.int32)
    for k in tl.static_range(9):
        inside = live & (y + k // 3 >= 1) & (y + k // 3 <= H) & (x + k % 3 >= 1) & (x + k % 3 <= W)
        there = tl.load(SLOT + index + (k // 3 - 1) * W + (k % 3 - 1), mask=inside, other=NONE)
        code = code | tl.where(there >= 0, 1 << k, 0)
    tl.store(CODE + row, tl.where(live, code, UNUSED).to(tl.int16), mask=row < n)


@triton.jit
def tile_kernel(
    INDEX, SLOT, CODE, ORDER, ROW, NEIGHBOUR, BITS, COUNT, OFFSETS, LIVE_COUNT, n, padded, W, ROWS: tl.constexpr
):  # fmt: skip
    """One tile of rows in code order: their numbers, their neighbours [9, padded], and the offsets any of them has.

    OFFSETS holds those offsets, COUNT of them, 4 bits each; BITS the same as a 9-bit mask.
    """
    tile = tl.program_id(0)
    at = tile * ROWS + tl.arange(0, ROWS)
    row = tl.load(ORDER + at, mask=at < n, other=NONE)
    code = tl.load(CODE + at, mask=at < n, other=UNUSED).to(tl.int32)
    tl.store(ROW + at, row.to(tl.int32))
    live = code < UNUSED
    index = tl.load(INDEX + row, mask=live, other=0)
    bits = tl.max(tl.where(live, code & 1, 0), 0) * 0
    count = bits
    packed = bits.to(tl.int64)
    for k in tl.static_range(9):
        present = live & (((code >> k) & 1) != 0)
        there = tl.load(SLOT + index + (k // 3 - 1) * W + (k % 3 - 1), mask=present, other=NONE)
        tl.store(NEIGHBOUR + k * padded + at, there.to(tl.int32))
        any_here = tl.max(present.to(tl.int32), 0)
        bits += any_here << k
        packed += (any_here * k).to(tl.int64) << (4 * count).to(tl.int64)
        count += any_here
    tl.store(BITS + tile, bits)
    tl.store(COUNT + tile, count)
    tl.store(OFFSETS + tile, packed)
    tl.store(LIVE_COUNT + tile, tl.sum(live.to(tl.int32), 0))


@triton.jit
def offset_kernel(BITS, TILE, TILE_COUNT, tiles, BLOCK: tl.constexpr):
    """One offset: the tiles that hold it, ascending, TILE [9, tiles], and how many they are."""
    offset = tl.program_id(0)
    found = tl.sum(tl.zeros((BLOCK,), tl.int32), 0)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        bits = tl.load(BITS + tile, mask=tile < tiles, other=0)
        holds = (bits >> offset) & 1
        tl.store(TILE + offset * tiles + found + tl.cumsum(holds, 0) - 1, tile, mask=holds != 0)
        found += tl.sum(holds, 0)
    tl.store(TILE_COUNT + offset, found)


# ---- kernels: convolution


@triton.jit
def conv_kernel(
    X, WEIGHT, Y, STATS, ROW, NEIGHBOUR, COUNT, OFFSETS, LIVE_COUNT, padded,
    CIN: tl.constexpr, COUT: tl.constexpr, FLIP: tl.constexpr, STATISTICS: tl.constexpr,
    SUM: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Y[i] = sum over offsets k of X[neighbour k of i] WEIGHT[k].

    With FLIP it is the gradient of the input from that of the output, with the same weight, here [9, COUT, CIN]. With
    STATISTICS the mean over the tile's rows and the sum of squares around it go to STATS [T, 2, COUT].
    """
    ACROSS: tl.constexpr = (COUT + COLUMNS - 1) // COLUMNS
    tile = tl.program_id(0) // ACROSS  # on one axis of the grid: the others end at 65,535
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
        total = y.to(SUM)  # as it will be read: in a channel that hardly varies the rounding is what varies
        live = tl.load(NEIGHBOUR + 4 * padded + at) >= 0
        mean = tl.sum(total, 0) / tl.maximum(tl.load(LIVE_COUNT + tile), 1)
        away = tl.where(live[:, None], total - mean[None, :], 0.0)
        tl.store(STATS + (tile * 2) * COUT + column, mean, mask=column < COUT)
        tl.store(STATS + (tile * 2 + 1) * COUT + column, tl.sum(away * away, 0), mask=column < COUT)


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


# ---- kernels: normalisation, ReLU, pooling


@triton.jit
def stats_kernel(Y, STATS, n, C: tl.constexpr, SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Mean and sum of squares around it, [T, 2, C], of every ROWS rows of Y [n, C]."""
    tile = tl.program_id(0)
    row = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < n)[:, None] & (column < C)[None, :]
    y = tl.load(Y + row[:, None] * C + column[None, :], mask=inside, other=0.0).to(SUM)
    mean = tl.sum(y, 0) / tl.minimum(n - tile * ROWS, ROWS)
    away = tl.where(inside, y - mean[None, :], 0.0)
    tl.store(STATS + (tile * 2) * C + column, mean, mask=column < C)
    tl.store(STATS + (tile * 2 + 1) * C + column, tl.sum(away * away, 0), mask=column < C)


@triton.jit
def figures_kernel(
    STATS, COUNTS, MEAN, INVERSE, TOTAL, RUNNING_MEAN, RUNNING_VAR, SEEN, tiles, EPS: tl.constexpr,
    MOMENTUM: tl.constexpr, TRACK: tl.constexpr, C: tl.constexpr, SUM: tl.constexpr,
    BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """MEAN, 1 / standard deviation and number of all rows from STATS [T, 2, C] and COUNTS [T] (Chan et al. 1983).

    With TRACK the running figures follow; with fewer than two rows there is no variance and they stay as they are.
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
        away = tl.load(STATS + place, mask=inside, other=0.0) - mean[None, :]
        squares += tl.sum(tl.load(STATS + place + C, mask=inside, other=0.0) + away * away * weight[:, None], 0)
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
    Y, CHILD, LIVE, GAIN, BIAS, MEAN, INVERSE, Z, BEST, TAP, m,
    C: tl.constexpr, TAPS: tl.constexpr, WIDTH: tl.constexpr, ALL_LIVE: tl.constexpr, SUM: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Z = max(0, (Y - MEAN) * INVERSE * GAIN + BIAS); for TAPS = 4 the best of each row's children CHILD [m, 4].

    With WIDTH the rows of Y are whole frames so wide, both sides even, and who is whose child is known without CHILD.
    TAP says which child was the best, and BEST its Y.
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
        live = inside
        if not ALL_LIVE:
            live = live & (tl.load(LIVE + row, mask=row < m, other=0) != 0)[:, None]
        y = tl.load(Y + place, mask=live, other=0.0).to(SUM)
        z = tl.where(live, (y - mean[None, :]) * scale[None, :] + bias[None, :], 0.0)
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
    """SUMS [T, 2, C], of each tile of rows: the gradient past the ReLU, and its product with the normed value."""
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
    GRAD, Y, Z, TAP, LINK, LIVE, GAIN, MEAN, INVERSE, SUMS, COUNT, GRAD_Y, n,
    FIXED: tl.constexpr, C: tl.constexpr, TAPS: tl.constexpr, WIDTH: tl.constexpr, ALL_LIVE: tl.constexpr,
    SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """GRAD_Y = GAIN * INVERSE * (g - mean of g - normed * mean of g * normed), g the gradient that reached this row.

    The means are SUMS [2, C] over COUNT; with FIXED figures they drop out. For TAPS = 4 row r of Y is child number
    LINK[r] % 4 of pooled row LINK[r] // 4, known without LINK if WIDTH is given, and g is its if TAP names it.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < n)[:, None] & (column < C)[None, :]
    live = inside
    if not ALL_LIVE:
        live = live & (tl.load(LIVE + row, mask=row < n, other=0) != 0)[:, None]
    place = row[:, None] * C + column[None, :]
    if TAPS == 1:
        passed = live & (tl.load(Z + place, mask=live, other=0.0) > 0.0)
        grad = tl.load(GRAD + place, mask=passed, other=0.0).to(SUM)
    else:
        if WIDTH:
            line = row // WIDTH
            column_of_frame = row % WIDTH
            link = (line // 2 * (WIDTH // 2) + column_of_frame // 2) * TAPS + line % 2 * 2 + column_of_frame % 2
        else:
            link = tl.load(LINK + row, mask=row < n, other=NONE)
        linked = live & (link >= 0)[:, None]
        above = (link // TAPS)[:, None] * C + column[None, :]
        mine = tl.load(TAP + above, mask=linked, other=TAPS).to(tl.int32) == (link % TAPS)[:, None]
        passed = linked & mine & (tl.load(Z + above, mask=linked, other=0.0) > 0.0)
        grad = tl.load(GRAD + above, mask=passed, other=0.0).to(SUM)
    mean = tl.load(MEAN + column, mask=column < C, other=0.0).to(SUM)
    inverse = tl.load(INVERSE + column, mask=column < C, other=0.0).to(SUM)
    gain = tl.load(GAIN + column, mask=column < C, other=0.0).to(SUM) * inverse
    if not FIXED:
        count = tl.maximum(tl.load(COUNT), 1.0)
        grad_mean = tl.load(SUMS + column, mask=column < C, other=0.0) / count
        grad_slope = tl.load(SUMS + C + column, mask=column < C, other=0.0) / count
        normed = (tl.load(Y + place, mask=live, other=0.0).to(SUM) - mean[None, :]) * inverse[None, :]
        grad = grad - grad_mean[None, :] - normed * grad_slope[None, :]
    tl.store(GRAD_Y + place, tl.where(live, gain[None, :] * grad, 0.0).to(GRAD_Y.dtype.element_ty), mask=inside)


# ---- launchers

# Mean [C], 1 / standard deviation [C], and the rows that they were taken over; None where they are fixed.
Figures = tuple[Tensor, Tensor, Tensor | None]
OLDEST = (8, 0)  # Ampere; Triton promises nothing for older ones, and they have no bfloat16
ROWS = 64  # rows of a tile: at 128 the tiles execute .73-.79 of the nine offsets, at 64 .69-.73
PASS_ROWS, PASS_COLUMNS = 32, 64  # of a block of the passes that only read and write
SUM_ROWS = 256  # of a block of the passes that add up


@dataclass(frozen=True)
class Tables:
    """How the rows of one level are walked; built once, shared by all convolutions over the same sites."""

    tiles: int
    row: Tensor  # int32 [tiles * ROWS], rows in code order, -1 behind the last
    neighbour: Tensor  # int32 [9, tiles * ROWS], their neighbours, or -1
    count: Tensor  # int32 [tiles], how many of the nine offsets the tile needs
    offsets: Tensor  # int64 [tiles], which ones, 4 bits each
    live_count: Tensor  # int32 [tiles], rows that hold a site
    tile: Tensor  # int32 [9, tiles], the tiles that need each offset, ascending
    tile_count: Tensor  # int32 [9], how many those are


@dataclass(frozen=True)
class Tiling:
    """The shape of one product: columns of the output, channels of a loop step, warps, stages of the load pipeline."""

    columns: int
    chunk: int
    warps: int
    stages: int


def available(x: Tensor) -> bool:
    """True where the kernels can run on `x`: on a GPU that Triton compiles for, or anywhere in its interpreter."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True
    return x.is_cuda and torch.cuda.get_device_capability(x.device) >= OLDEST


def select(sites: Sites, prob: Tensor, p: float, most: int, rounding: float) -> Sites:
    """`nucleus_mask` for p < 1, one program a frame: sites in a buffer of `most` rows a frame, their number unasked."""
    frames, places = prob.shape
    device = prob.device
    index = torch.empty(frames * most, dtype=torch.int64, device=device)
    live = torch.empty(frames * most, dtype=torch.bool, device=device)
    slot = torch.empty(frames * places, dtype=torch.int64, device=device)
    select_kernel[(frames,)](
        prob.detach().contiguous(), sites.mask, index, live, slot, most,
        p, rounding, places, triton.next_power_of_2(places),
    )  # fmt: skip
    kept = Sites(index, sites.frames, sites.height, sites.width, live)
    kept.cache["slot"] = slot
    return kept


def tables(sites: Sites) -> Tables:
    """The tables of `sites`, made on first use."""
    if "tables" not in sites.cache:
        sites.cache["tables"] = _make_tables(sites, sites)
    return sites.cache["tables"]


def convolve(x: Tensor, weight: Tensor, sites: Sites) -> Tensor:
    """`submanifold_conv`: [n, Cin] with [9, Cin, Cout] -> [n, Cout]."""
    return Convolution.apply(x, weight, sites, False)[0]


def conv_norm_relu(
    x: Tensor, weight: Tensor, norm: nn.modules.batchnorm._BatchNorm, sites: Sites, children: Tensor | None = None,
    offered: Offered | None = None,
) -> Tensor:  # fmt: skip
    """Convolution, norm over active rows, ReLU, [n, Cin] -> [n, Cout]; with `children` [m, 4] their max, [m, Cout].

    `offered` is what the rows were chosen from, if their mask is to learn from what it left out.
    """
    y, stats = Convolution.apply(x, weight, sites, norm.training)
    if offered is not None:
        y = learn_from_left_out(y, weight, offered, sites, "triton")
    figures = _batch_figures(stats, tables(sites).live_count, norm) if norm.training else _running_figures(norm)
    return NormRelu.apply(y, norm.weight, norm.bias, *figures, sites.live, children, 0)


def norm_relu(y: Tensor, norm: nn.modules.batchnorm._BatchNorm, pooled_width: int = 0) -> Tensor:
    """Norm over all rows and ReLU of y [n, C]; with a width, even like the height, their max over 2x2, [n / 4, C]."""
    figures = _row_figures(y.detach(), norm) if norm.training else _running_figures(norm)
    return NormRelu.apply(y, norm.weight, norm.bias, *figures, None, None, pooled_width)


def gradient_in(grad: Tensor, weight: Tensor, rows: Sites, kept: Sites) -> Tensor:
    """What would be the gradient at `rows`, sites that `kept` lacks, if they had been read: [m, Cout] -> [n, Cin]."""
    return _product(grad, weight, _make_tables(rows, kept), len(rows.index), True, False)[0]


def tiling(cin: int, cout: int, element_size: int) -> Tiling:
    """A shape that compiles to wgmma without a stack for the channel counts of MESM.

    On an H100, in bfloat16 at p = 0.5, within 13 % of the fastest of 24 with as many rows.
    """
    columns = _power(cout, 128)
    chunk = _power(cin, (256 if cin >= 512 else 128) // element_size)  # twice as long: 0.75 to 0.97 of the time
    return Tiling(columns, chunk, warps=4, stages=3)


def _make_tables(sites: Sites, others: Sites) -> Tables:
    """How the rows of `sites` read those of `others`, sites of the same grid."""
    n, device = sites.index.numel(), sites.index.device
    tiles = triton.cdiv(n, ROWS)
    padded = tiles * ROWS
    live = sites.index if sites.live is None else sites.live
    code = torch.empty(n, dtype=torch.int16, device=device)
    code_kernel[(triton.cdiv(n, 256),)](
        sites.index, others.slot, live, code, n, sites.height, sites.width, 256, sites.live is None
    )
    code, order = code.sort(stable=True)
    made = Tables(
        tiles,
        row=torch.empty(padded, dtype=torch.int32, device=device),
        neighbour=torch.empty(9, padded, dtype=torch.int32, device=device),
        count=torch.empty(tiles, dtype=torch.int32, device=device),
        offsets=torch.empty(tiles, dtype=torch.int64, device=device),
        live_count=torch.empty(tiles, dtype=torch.int32, device=device),
        tile=torch.empty(9, tiles, dtype=torch.int32, device=device),
        tile_count=torch.empty(9, dtype=torch.int32, device=device),
    )
    bits = torch.empty(tiles, dtype=torch.int32, device=device)
    tile_kernel[(tiles,)](
        sites.index, others.slot, code, order, made.row, made.neighbour, bits, made.count, made.offsets,
        made.live_count, n, padded, sites.width, ROWS,
    )  # fmt: skip
    offset_kernel[(9,)](bits, made.tile, made.tile_count, tiles, 1024)
    return made


def _row_figures(y: Tensor, norm: Any) -> Figures:
    """Those of the rows of y [n, C]."""
    n, channels = y.shape
    grid, columns = _grid(n, SUM_ROWS, channels)
    stats = torch.empty(grid[0], 2, channels, dtype=_sum_type(y), device=y.device)
    stats_kernel[grid](y, stats, n, channels, _triton_sum_type(y), SUM_ROWS, columns, num_warps=8)
    counts = torch.full((grid[0],), SUM_ROWS, dtype=torch.int32, device=y.device)
    counts[-1:] = n - (grid[0] - 1) * SUM_ROWS
    return _batch_figures(stats, counts, norm)


def _batch_figures(stats: Tensor, counts: Tensor, norm: Any) -> Figures:
    """Those of a batch from the means and squares of its tiles, [T, 2, C]; the running figures of `norm` follow."""
    tiles, _, channels = stats.shape
    mean, inverse, count = stats.new_empty(channels), stats.new_empty(channels), stats.new_empty(())
    track = norm.track_running_stats
    running = (norm.running_mean, norm.running_var, norm.num_batches_tracked) if track else (mean, mean, mean)
    columns = _power(channels, 16)
    figures_kernel[(triton.cdiv(channels, columns),)](
        stats, counts, mean, inverse, count, *running, tiles, norm.eps, norm.momentum, track,
        channels, tl.float64 if stats.dtype == torch.float64 else tl.float32, 512, columns, num_warps=8,
    )  # fmt: skip
    return mean, inverse, count


def _running_figures(norm: Any) -> Figures:
    return norm.running_mean, (norm.running_var + norm.eps).rsqrt(), None


def _convolve(x: Tensor, weight: Tensor, sites: Sites, flip: bool, statistics: bool) -> tuple[Tensor, Tensor]:
    """Output rows and tile statistics; with `flip` the gradient of the input from that of the output, same weight."""
    return _product(x, weight, tables(sites), x.shape[0], flip, statistics)


def _product(x: Tensor, weight: Tensor, made: Tables, rows: int, flip: bool, statistics: bool) -> tuple[Tensor, Tensor]:
    """So many output rows, walked as the tables say, and tile statistics."""
    x, weight = x.contiguous(), weight.contiguous()
    cin, cout = x.shape[1], weight.shape[1 if flip else 2]
    y = x.new_empty(rows, cout)
    stats = torch.empty(made.tiles if statistics else 0, 2, cout, dtype=_sum_type(x), device=x.device)
    shape = tiling(cin, cout, x.element_size())
    conv_kernel[(triton.cdiv(cout, shape.columns) * made.tiles,)](
        x, weight, y, stats, made.row, made.neighbour, made.count, made.offsets, made.live_count, made.tiles * ROWS,
        cin, cout, flip, statistics, _triton_sum_type(x), _precision(), ROWS, shape.columns, shape.chunk,
        num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return y, stats


def _weight_grad(x: Tensor, grad: Tensor, weight: Tensor, sites: Sites) -> Tensor:
    """In a fixed number of parts, so many that all processors of a large GPU have work, added up in order."""
    made = tables(sites)
    cin, cout = weight.shape[1:]
    block_in, block_out = _power(cin, 64), _power(cout, 64)
    blocks = triton.cdiv(cin, block_in) * triton.cdiv(cout, block_out)
    parts = max(1, min(made.tiles // 4, 1024 // (9 * blocks)))
    part = torch.empty(parts, *weight.shape, dtype=_sum_type(x), device=x.device)
    weight_grad_kernel[(blocks, 9, parts)](
        x, grad, part, made.row, made.neighbour, made.tile, made.tile_count, made.tiles * ROWS, made.tiles,
        cin, cout, parts, _triton_sum_type(x), _precision(), ROWS, block_in, block_out, num_warps=4, num_stages=3,
    )  # fmt: skip
    return part.sum(0).to(weight.dtype)


def _grid(n: int, rows: int, channels: int) -> tuple[tuple[int, int], int]:
    """Programs for blocks of `rows` rows and some columns, and those columns."""
    columns = _power(channels, PASS_COLUMNS)
    return (triton.cdiv(n, rows), triton.cdiv(channels, columns)), columns


def _power(channels: int, most: int) -> int:
    """The block for so many channels: a power of two, at least the 16 that a matrix product needs."""
    return max(16, min(most, triton.next_power_of_2(channels)))


def _sum_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _triton_sum_type(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _precision() -> str:
    """What PyTorch allows its own convolutions in float32."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


# ---- with gradients


class Convolution(torch.autograd.Function):
    """y[i] = sum_k x[i_k] W[k];  dx[i] = sum_k dy[i_k] W[8-k]^T;  dW[k] = sum_i x[i_k]^T dy[i];  i_k: neighbour k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sites: Sites, statistics: bool) -> tuple[Tensor, Tensor]:
        y, stats = _convolve(x, weight, sites, False, statistics)
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
        grad_x = _convolve(grad, weight, ctx.sites, True, False)[0] if ctx.needs_input_grad[0] else None
        grad_weight = _weight_grad(x.contiguous(), grad, weight, ctx.sites) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, None, None


class NormRelu(torch.autograd.Function):
    """z = max(0, v g + b), v = (y - mean) s;  dy = g s (dz - mean(dz) - v mean(dz v)), dz where z > 0 and y is best."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gain: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, count: Tensor | None,
        live: Tensor | None, children: Tensor | None, pooled_width: int,
    ) -> Tensor:  # fmt: skip
        y = y.contiguous()
        n, channels = y.shape
        pooled = children is not None or pooled_width > 0
        m = n // 4 if pooled_width else n if children is None else children.shape[0]
        z = y.new_empty(m, channels)
        best = torch.empty_like(z) if pooled else y
        tap = torch.empty(m if pooled else 0, channels, dtype=torch.int8, device=y.device)
        grid, columns = _grid(m, PASS_ROWS, channels)
        norm_relu_kernel[grid](
            y, y if children is None else children, y if live is None else live, gain, bias, mean, inverse,
            z, best, tap, m,
            channels, 4 if pooled else 1, pooled_width, live is None, _triton_sum_type(y), PASS_ROWS, columns,
        )  # fmt: skip
        ctx.save_for_backward(y, gain, mean, inverse, count, live, children, z, best, tap)
        ctx.pooled, ctx.pooled_width = pooled, pooled_width
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, gain, mean, inverse, count, live, children, z, best, tap = ctx.saved_tensors
        grad = grad.contiguous()
        n, channels = y.shape
        sum_type = _triton_sum_type(y)
        grid, columns = _grid(z.shape[0], SUM_ROWS, channels)
        sums = torch.empty(grid[0], 2, channels, dtype=_sum_type(y), device=y.device)
        norm_grad_sums_kernel[grid](
            grad, best, z, mean, inverse, sums, z.shape[0], channels, sum_type, SUM_ROWS, columns, num_warps=8
        )
        sums = sums.sum(0)
        grad_y = torch.empty_like(y)
        grid, columns = _grid(n, PASS_ROWS, channels)
        norm_grad_kernel[grid](
            grad, y, z, tap, y if children is None else links(children, n), y if live is None else live,
            gain, mean, inverse, sums, sums if count is None else count, grad_y, n,
            count is None, channels, 4 if ctx.pooled else 1, ctx.pooled_width, live is None,
            sum_type, PASS_ROWS, columns,
        )  # fmt: skip
        return grad_y, sums[1].to(gain.dtype), sums[0].to(gain.dtype), *(None,) * 6
