"""Gradient of the selection mask at unselected sites.

A nucleus is a mask of zeros and ones in front of a convolution. In the forward pass rows that are multiplied by zero
need not be computed, but the derivative of the loss with respect to the mask is not zero there: it says what an
unselected site would have changed. With y_j = sum_k m_{j_k} x_{j_k} W[k] at the selected sites j, j_k neighbour k of j,

    dL/dm_i = x_i . sum_k W[8 - k] dL/dy_{i_k}

over the selected neighbours i_k of an unselected site i: the transposed convolution of the gradient, read at i. Nothing
but the gradient of the convolution's output is needed.

Legend: n rows of candidate sites, m of selected ones, u of unselected ones; C channels.
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
    """What a selection mask is applied to."""

    x: Tensor  # [n, C], before the mask
    gate: Tensor  # [n], the differentiable value behind each entry of the mask
    sites: Sites


def add_mask_gradient(y: Tensor, weight: Tensor, inputs: MaskInputs, selected: Sites, backend: str) -> Tensor:
    """Identity of `y` [m, Cout], the convolution of the selected rows with `weight` [9, Cin, Cout].

    In the backward pass the gate of each unselected row receives the derivative with respect to its entry of the mask.
    `backend` is dense, rulebook or triton, as `conv.choose` returned it.
    """
    return _MaskGradient.apply(y, inputs.gate, inputs.x, weight, inputs.sites, selected, backend)


class _MaskGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gate: Tensor, x: Tensor, weight: Tensor, candidates: Sites, selected: Sites, backend: str
    ) -> Tensor:
        ctx.save_for_backward(gate, x, weight)
        ctx.candidates, ctx.selected, ctx.backend = candidates, selected, backend
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, x, weight = ctx.saved_tensors
        unselected = ctx.candidates.without(ctx.selected)
        packed = unselected.valid is None  # otherwise its rows are those of the candidates
        rows = unselected.rows_in(ctx.candidates) if packed else None
        x = (x if rows is None else x.index_select(0, rows)).to(grad.dtype)
        products = PRODUCTS[ctx.backend](x, grad, weight.to(grad.dtype), unselected, ctx.selected).to(gate.dtype)
        if rows is not None:
            products = torch.zeros_like(gate).index_copy_(0, rows, products)
        return grad, products, *(None,) * 5


def _dense(x: Tensor, grad: Tensor, weight: Tensor, unselected: Sites, selected: Sites) -> Tensor:
    """Each row of x [u, Cin] times the gradient that it would receive, given that of the selected rows: [u]."""
    kernel = weight.unflatten(0, (3, 3)).permute(3, 2, 0, 1)
    grad_x = unselected.from_dense(F.conv_transpose2d(selected.to_dense(grad), kernel, padding=1))
    return _dot(x, grad_x)


def _rulebook(x: Tensor, grad: Tensor, weight: Tensor, unselected: Sites, selected: Sites) -> Tensor:
    products = []
    for rows, pairs in zip(blocks(x), rulebook(unselected.neighbours_in(selected)), strict=True):
        grad_rows = torch.zeros_like(rows)
        for offset, here, there in pairs:
            grad_rows.index_add_(0, here, grad.index_select(0, there) @ weight[8 - offset].t())
        products.append(_dot(rows, grad_rows))
    return torch.cat(products)


def _triton(x: Tensor, grad: Tensor, weight: Tensor, unselected: Sites, selected: Sites) -> Tensor:
    from mesm_model.sparse.kernels.conv import input_gradient_at

    return _dot(x, input_gradient_at(unselected, grad, weight, selected))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row by row, accumulated in at least float32."""
    return (x * y).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))


PRODUCTS = {"dense": _dense, "rulebook": _rulebook, "triton": _triton}
