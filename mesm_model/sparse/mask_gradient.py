"""How the sites that a nucleus left out learn what they would have changed.

A mask of zeros and ones stands in front of a convolution. Forward, it costs nothing to leave out what is multiplied by
zero; but only the gradient at the zeros tells a mask what it is wrong about. It needs nothing but the convolution's own
gradient, read from where the site would have been heard: its neighbours that were kept.

Legend: n rows of offered sites, m of kept ones, l of those left out; C channels.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_model.sparse.sites import Sites, blocks, rulebook


@dataclass(frozen=True)
class Offered:
    """All rows in front of a mask."""

    x: Tensor  # [n, C], not masked
    amount: Tensor  # [n], which learns how much of each row there should be
    sites: Sites


def learn_from_left_out(y: Tensor, weight: Tensor, offered: Offered, kept: Sites, way: str) -> Tensor:
    """`y` [m, Cout], the convolution with `weight` [9, Cin, Cout] of the kept rows, as it is.

    Backward, the amount of each row that was left out gets the derivative with respect to the mask in front of it: the
    product of the row with what would have been its gradient. `way` is one of those in conv.py, already chosen.
    """
    return _LeftOut.apply(y, offered.amount, offered.x, weight, offered.sites, kept, way)


class _LeftOut(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, amount: Tensor, x: Tensor, weight: Tensor, offered: Sites, kept: Sites, way: str
    ) -> Tensor:
        ctx.save_for_backward(amount, x, weight)
        ctx.offered, ctx.kept, ctx.way = offered, kept, way
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        amount, x, weight = ctx.saved_tensors
        left = ctx.offered.without(ctx.kept)
        rows = left.rows_in(ctx.offered) if left.live is None else None  # packed; else they lie as those offered do
        x = (x if rows is None else x.index_select(0, rows)).to(grad.dtype)
        products = WAYS[ctx.way](x, grad, weight.to(grad.dtype), left, ctx.kept).to(amount.dtype)
        if rows is not None:
            products = torch.zeros_like(amount).index_copy_(0, rows, products)
        return grad, products, *(None,) * 5


def _dense(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, kept: Sites) -> Tensor:
    """The products [l] of rows x [l, Cin] with their gradient, from that of the kept rows, [m, Cout]."""
    kernel = weight.unflatten(0, (3, 3)).permute(3, 2, 0, 1)
    would = left.from_dense(F.conv_transpose2d(kept.to_dense(grad), kernel, padding=1))
    return _dot(x, would)


def _rulebook(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, kept: Sites) -> Tensor:
    products = []
    for rows, pairs in zip(blocks(x), rulebook(left.neighbours_in(kept)), strict=True):
        would = torch.zeros_like(rows)
        for offset, here, there in pairs:
            would.index_add_(0, here, grad.index_select(0, there) @ weight[8 - offset].t())
        products.append(_dot(rows, would))
    return torch.cat(products)


def _triton(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, kept: Sites) -> Tensor:
    from mesm_model.sparse.kernels import conv

    return _dot(x, conv.gradient_in(grad, weight, left, kept))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row by row, added up in at least float32."""
    return (x * y).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))


WAYS = {"dense": _dense, "rulebook": _rulebook, "triton": _triton}
