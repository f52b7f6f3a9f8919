"""How the sites that a nucleus left out learn what they would have changed.

A mask of zeros and ones stands in front of a convolution. Forward, it costs nothing to leave out what is multiplied by
zero; but only the gradient at the zeros tells a mask what it is wrong about. It needs nothing but the convolution's own
gradient, read from where the site would have been heard: its neighbours that were selected.

Legend: n rows of candidates sites, m of selected ones, l of those left out; C channels.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mesm_model.sparse.sites import Sites, blocks, rulebook


@dataclass(frozen=True)
class MaskInputs:
    """All rows in front of a mask."""

    x: Tensor  # [n, C], not masked
    gate: Tensor  # [n], which learns how much of each row there should be
    sites: Sites


def add_mask_gradient(y: Tensor, weight: Tensor, candidates: MaskInputs, selected: Sites, way: str) -> Tensor:
    """`y` [m, Cout], the convolution with `weight` [9, Cin, Cout] of the selected rows, as it is.

    Backward, the gate of each row that was left out gets the derivative with respect to the mask in front of it: the
    product of the row with what would have been its gradient. `way` is one of those in conv.py, already chosen.
    """
    return _MaskGradient.apply(y, candidates.gate, candidates.x, weight, candidates.sites, selected, way)


class _MaskGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gate: Tensor, x: Tensor, weight: Tensor, candidates: Sites, selected: Sites, way: str
    ) -> Tensor:
        ctx.save_for_backward(gate, x, weight)
        ctx.candidates, ctx.selected, ctx.way = candidates, selected, way
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, x, weight = ctx.saved_tensors
        left = ctx.candidates.without(ctx.selected)
        rows = (
            left.rows_in(ctx.candidates) if left.valid is None else None
        )  # packed; else they lie as those candidates do
        x = (x if rows is None else x.index_select(0, rows)).to(grad.dtype)
        products = WAYS[ctx.way](x, grad, weight.to(grad.dtype), left, ctx.selected).to(gate.dtype)
        if rows is not None:
            products = torch.zeros_like(gate).index_copy_(0, rows, products)
        return grad, products, *(None,) * 5


def _dense(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, selected: Sites) -> Tensor:
    """The products [l] of rows x [l, Cin] with their gradient, from that of the selected rows, [m, Cout]."""
    kernel = weight.unflatten(0, (3, 3)).permute(3, 2, 0, 1)
    would = left.from_dense(F.conv_transpose2d(selected.to_dense(grad), kernel, padding=1))
    return _dot(x, would)


def _rulebook(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, selected: Sites) -> Tensor:
    products = []
    for rows, pairs in zip(blocks(x), rulebook(left.neighbours_in(selected)), strict=True):
        would = torch.zeros_like(rows)
        for offset, here, there in pairs:
            would.index_add_(0, here, grad.index_select(0, there) @ weight[8 - offset].t())
        products.append(_dot(rows, would))
    return torch.cat(products)


def _triton(x: Tensor, grad: Tensor, weight: Tensor, left: Sites, selected: Sites) -> Tensor:
    from mesm_model.sparse.kernels import conv

    return _dot(x, conv.gradient_in(grad, weight, left, selected))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row by row, added up in at least float32."""
    return (x * y).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))


WAYS = {"dense": _dense, "rulebook": _rulebook, "triton": _triton}
