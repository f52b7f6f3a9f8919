"""Triton kernel of the first convolution: normalisation and a 5x5 convolution of raw frames of one or three channels.

No library is efficient for so few channels: cuDNN's convolution with bias took a ninth of a training step of faces, and
a sixth of one of mel chunks, whose output was copied to another layout. Here it is an implicit matrix product over the
25 C values in the window of a place.

Legend: F frames of C channels, H x W places; n = F * H * W rows of the output, K = 25 C, D output channels.
"""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from mesm_model.sparse.kernels.common import power_of_two, product_precision, triton_sum_type
from mesm_model.sparse.sites import channels_last

ROWS = 128  # per block
SIDE = 5


# ---- kernels


@triton.jit
def _window(FRAMES, MEAN, DEVIATION, row, k, n, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, SIDE: tl.constexpr):
    """The normalised values `k` in the window of the places `row`, [k, row]; 0 beyond the border.

    Rows are the last axis, so that the threads of a warp read neighbouring places.
    """
    channel = k // (SIDE * SIDE)
    y = (k % (SIDE * SIDE) // SIDE - SIDE // 2)[:, None] + (row // W % H)[None, :]
    x = (k % SIDE - SIDE // 2)[:, None] + (row % W)[None, :]
    inside = (k < C * SIDE * SIDE)[:, None] & (row < n)[None, :] & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    frame = (row // (H * W))[None, :]
    value = tl.load(FRAMES + ((frame * C + channel[:, None]) * H + y) * W + x, mask=inside, other=0)
    mean = tl.load(MEAN + channel, mask=channel < C, other=0.0)
    scale = 1.0 / tl.load(DEVIATION + channel, mask=channel < C, other=1.0)
    return tl.where(inside, (value.to(mean.dtype) - mean[:, None]) * scale[:, None], 0.0)


@triton.jit
def first_conv_kernel(
    FRAMES, MEAN, DEVIATION, WEIGHT, Y, n,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, D: tl.constexpr, SIDE: tl.constexpr,
    SUM: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Y [n, D] = the window of each place [n, K] times WEIGHT [D, K]^T."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    K: tl.constexpr = C * SIDE * SIDE
    total = tl.zeros((COLUMNS, ROWS), SUM)
    for start in tl.static_range(0, K, CHUNK):
        k = start + tl.arange(0, CHUNK)
        window = _window(FRAMES, MEAN, DEVIATION, row, k, n, H, W, C, SIDE).to(WEIGHT.dtype.element_ty)
        place = column[:, None] * K + k[None, :]
        weight = tl.load(WEIGHT + place, mask=(column < D)[:, None] & (k < K)[None, :], other=0.0)
        total = tl.dot(weight, window, total, input_precision=PRECISION, out_dtype=SUM)
    place = row.to(tl.int64)[:, None] * D + column[None, :]
    tl.store(Y + place, tl.trans(total).to(Y.dtype.element_ty), mask=(row < n)[:, None] & (column < D)[None, :])


# ---- with gradients


def first_conv(frames: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor) -> Tensor:
    """`weight` [D, C, 5, 5] over (frames [F, C, H, W] - mean) / deviation, padded by 0: rows [F * H * W, D].

    The frames, of any dtype, receive no gradient.
    """
    return FirstConv.apply(frames, mean, deviation, weight)


class FirstConv(torch.autograd.Function):
    """The gradient of the weight is computed by cuDNN: a kernel like the one above took 5 times as long."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor) -> Tensor:
        frames, weight = frames.contiguous(), weight.contiguous()
        if weight.dtype == torch.float64:
            frames = frames.double()  # Triton's float64 product does not take operands loaded in a narrower dtype
        number, channels, height, width = frames.shape
        n, out = number * height * width, weight.shape[0]
        y = weight.new_empty(n, out)
        columns = power_of_two(out, 64)
        first_conv_kernel[(triton.cdiv(n, ROWS), triton.cdiv(out, columns))](
            frames, mean, deviation, weight, y, n,
            height, width, channels, out, SIDE, triton_sum_type(weight), product_precision(), ROWS, columns, 32,
            num_warps=8,  # with 4 the compiler spills registers
        )  # fmt: skip
        ctx.save_for_backward(frames, mean, deviation, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, Tensor]:
        frames, mean, deviation, weight = ctx.saved_tensors
        number, _, height, width = frames.shape
        grad = grad.view(number, height, width, weight.shape[0]).permute(0, 3, 1, 2)
        normalised = channels_last(((frames - mean[:, None, None]) / deviation[:, None, None]).to(grad.dtype))
        return None, None, None, conv2d_weight(normalised, weight.shape, grad, padding=SIDE // 2)
