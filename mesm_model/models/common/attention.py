"""Cross-modal attention over the active sites of each frame, what it lets through, and the `Trace` of both.

B utterances, F frames of the whole batch, S places of a frame, n rows of active sites, C channels, Q size of the query.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_model.sparse.conv import triton_ready
from mesm_model.sparse.mask_gradient import MaskInputs
from mesm_model.sparse.sites import Sites, select_rows

GRADIENTS = {
    "straight-through": "forward the hard mask; backward attention learns as if it weighted every row, selected or not",
    "none": "the hard mask only, so that the attention stays as it was drawn: the published code",
    "gate": "selected rows are weighted by their attention",
}


@dataclass(frozen=True)
class TracedLevel:
    """What one cross-modal attention layer saw and selected. On the CPU, without gradients."""

    modality: str  # "a" or "v"
    level: int  # 1 to 3
    attention: Tensor  # float32 [F, H, W], sums to 1 over a frame
    candidates: Tensor  # bool [F, H, W], the active sites that the softmax ran over
    selected: Tensor  # bool [F, H, W], the nucleus
    pairs: Tensor  # int64 [F], pairs of a selected site and a selected site of the 3x3 around it, itself included


@dataclass
class Trace:
    """Pass one to `forward` to have it filled, in the order of computation."""

    levels: list[TracedLevel] = field(default_factory=list)

    def add(self, modality: str, level: int, attention: Tensor, candidates: Sites, selected: Sites) -> None:
        """One layer; `attention` is [F, S]."""
        neighbours = (selected.neighbours >= 0).sum(1)
        pairs = neighbours.new_zeros(selected.frames).index_add(0, selected.frame, neighbours)
        shaped = attention.detach().float().view(selected.mask.shape)
        seen = (shaped, candidates.mask, selected.mask, pairs)
        self.levels.append(TracedLevel(modality, level, *(tensor.cpu() for tensor in seen)))


class CrossModalAttention(nn.Module):
    """The attention of a query over the sites of each frame (eq. 1 and 2): softmax of w . tanh(W_m M + b + W_q q).

    The published scoring layer adds a bias, which the softmax cancels: left out, one parameter less a layer.
    """

    def __init__(self, channels: int, query: int) -> None:
        super().__init__()
        self.keys = nn.Linear(channels, channels)
        self.queries = nn.Linear(query, channels, bias=False)
        self.scores = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor, sites: Sites, query: Tensor, owner: Tensor) -> Tensor:
        """Attention [F, S] of rows `x` [n, C], 0 where no site is; `owner` [F]: each frame's row of `query` [B, Q]."""
        queries = self.queries(query) + self.keys.bias  # the bias is added here, where there are fewest rows
        queries = queries.index_select(0, owner)  # [F, C]
        if not sites.covers_grid:
            keys = F.linear(x, self.keys.weight)  # [n, C]
            queries = queries.to(keys.dtype).index_select(0, sites.frame)
            hidden = keys.add_(queries).tanh_()  # in place, here and below: less memory to go through
            scores = sites.scatter(self.scores(hidden).squeeze(-1), float("-inf"))  # [F, S]
        else:
            keys = F.linear(x.unflatten(0, (sites.frames, sites.height * sites.width)), self.keys.weight)  # [F, S, C]
            queries = queries.to(keys.dtype)
            if triton_ready(keys):
                from mesm_model.sparse.kernels import attention as attention_module

                scores = attention_module.scores(keys.flatten(0, 1), queries, self.scores.weight[0], keys.shape[1])
            else:
                scores = self.scores(keys.add_(queries[:, None]).tanh_()).squeeze(-1)  # [F, S]
            if not sites.all_active:
                scores = scores.masked_fill(~sites.mask.flatten(1), float("-inf"))
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def scale_gradient(x: Tensor, share: float) -> Tensor:
    """`x` itself; only this share of its gradient goes back."""
    lessening: Any = _ScaleGradient.apply
    return x if share == 1 else lessening(x, share)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.share, None


def gather_selected(x: Tensor, attention: Tensor, candidates: Sites, selected: Sites, gradient: str) -> Tensor:
    """The rows [m, C] of `x` [n, C] at the selected ones of the candidates sites, on their way on.

    `gradient`, one of GRADIENTS, is how `attention` [F, S] learns from them. Attention counts as a multiple of its mean
    over the candidates sites, so that it does not shrink with their number.
    """
    if gradient == "none":
        return select_rows(x, candidates, selected)
    if candidates.covers_grid and triton_ready(x):
        from mesm_model.sparse.kernels import attention as attention_module

        return attention_module.gather_selected(x, attention, candidates.counts_per_frame, selected, gradient == "gate")
    x = select_rows(x, candidates, selected)
    weight = selected.gather(attention * candidates.counts_per_frame[:, None])[:, None]  # [m, 1]
    if gradient == "straight-through":
        weight = 1 + (weight - weight.detach())  # the inner difference is exactly 0
    return x * weight.to(x.dtype)


def mask_inputs(x: Tensor, attention: Tensor, candidates: Sites, selected: Sites, gradient: str) -> MaskInputs | None:
    """What the first convolution behind the mask shall teach the attention about the sites that were left out, if any.

    With the gradient of the selected rows alone, attention hears only how much more of them would be good. Once what reads
    them has settled, that is nothing on average: it takes as much as it needs from whatever there is.
    """
    if gradient != "straight-through" or selected is candidates or not attention.requires_grad:
        return None
    return MaskInputs(x.detach(), candidates.gather(attention * candidates.counts_per_frame[:, None]), candidates)
