"""Cross-modal attention over the active sites of each frame, gathering of the selected rows, and the `Trace` of both.

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
    "straight-through": "hard mask; in the backward pass as if every row were multiplied by its attention",
    "none": "no gradient: hard mask, and the attention keeps its initial weights",
    "gate": "selected rows are multiplied by their attention",
}


@dataclass(frozen=True)
class TracedLevel:
    """Input and output of one cross-modal attention layer. On the CPU, without gradients."""

    modality: str  # "a" or "v"
    level: int  # 1 to 3
    attention: Tensor  # float32 [F, H, W], sums to 1 over each frame
    candidates: Tensor  # bool [F, H, W], the active sites of the softmax
    selected: Tensor  # bool [F, H, W], the nucleus
    pairs: Tensor  # int64 [F], pairs of neighbouring selected sites in 3x3, each site with itself included


@dataclass
class Trace:
    """The attention layers of a forward pass, in the order of computation; pass an empty one to `forward`."""

    levels: list[TracedLevel] = field(default_factory=list)

    def add(self, modality: str, level: int, attention: Tensor, candidates: Sites, selected: Sites) -> None:
        """Record one layer; `attention` is [F, S]."""
        neighbours = (selected.neighbours >= 0).sum(1)
        pairs = neighbours.new_zeros(selected.frames).index_add(0, selected.frame, neighbours)
        shaped = attention.detach().float().view(selected.mask.shape)
        tensors = (shaped, candidates.mask, selected.mask, pairs)
        self.levels.append(TracedLevel(modality, level, *(tensor.cpu() for tensor in tensors)))


class CrossModalAttention(nn.Module):
    """Attention of a query over the sites of each frame: softmax(w . tanh(W_m M + b + W_q q)); section 4.3, eq. 1-2.

    The published scoring layer has a bias, which the softmax cancels; it is omitted here.
    """

    def __init__(self, channels: int, query: int) -> None:
        super().__init__()
        self.keys = nn.Linear(channels, channels)
        self.queries = nn.Linear(query, channels, bias=False)
        self.scores = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor, sites: Sites, query: Tensor, owner: Tensor) -> Tensor:
        """Attention [F, S] of rows `x` [n, C], 0 at inactive places; `owner` [F] is the row in `query` [B, Q]."""
        queries = self.queries(query) + self.keys.bias  # the bias is added here, where there are the fewest rows
        queries = queries.index_select(0, owner)  # [F, C]
        if not sites.covers_grid:
            keys = F.linear(x, self.keys.weight)  # [n, C]
            queries = queries.to(keys.dtype).index_select(0, sites.frame)
            hidden = keys.add_(queries).tanh_()  # in place, here and below, for less memory traffic
            scores = sites.scatter(self.scores(hidden).squeeze(-1), float("-inf"))  # [F, S]
        else:
            keys = F.linear(x.unflatten(0, (sites.frames, sites.height * sites.width)), self.keys.weight)  # [F, S, C]
            queries = queries.to(keys.dtype)
            if triton_ready(keys):
                from mesm_model.sparse.kernels.attention import attention_scores

                scores = attention_scores(keys.flatten(0, 1), queries, self.scores.weight[0], keys.shape[1])
            else:
                scores = self.scores(keys.add_(queries[:, None]).tanh_()).squeeze(-1)  # [F, S]
            if not sites.all_active:
                scores = scores.masked_fill(~sites.mask.flatten(1), float("-inf"))
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def scale_gradient(x: Tensor, share: float) -> Tensor:
    """Identity in the forward pass; scales the gradient by `share`."""
    return x if share == 1 else _ScaleGradient.apply(x, share)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.share, None


def gather_selected(x: Tensor, attention: Tensor, candidates: Sites, selected: Sites, gradient: str) -> Tensor:
    """The rows [m, C] of `x` [n, C] at the selected sites (section 4.3, eq. 4).

    `gradient`, one of GRADIENTS, decides how `attention` [F, S] receives a gradient. Attention is used as a multiple
    of its mean over the candidates, so that it does not depend on their number.
    """
    if gradient == "none":
        return select_rows(x, candidates, selected)
    if candidates.covers_grid and triton_ready(x):
        from mesm_model.sparse.kernels.attention import gather_selected_rows

        return gather_selected_rows(x, attention, candidates.counts_per_frame, selected, gradient == "gate")
    x = select_rows(x, candidates, selected)
    weight = selected.gather(attention * candidates.counts_per_frame[:, None])[:, None]  # [m, 1]
    if gradient == "straight-through":
        weight = 1 + (weight - weight.detach())  # the difference is exactly 0
    return x * weight.to(x.dtype)


def mask_inputs(x: Tensor, attention: Tensor, candidates: Sites, selected: Sites, gradient: str) -> MaskInputs | None:
    """The inputs of the selection mask, for `add_mask_gradient`; None if unselected sites get no gradient.

    From selected rows alone the attention receives only whether more or less of them would be better. Once the layers
    that read them have converged that is zero on average, and the attention stays close to its initial state.
    """
    if gradient != "straight-through" or selected is candidates or not attention.requires_grad:
        return None
    return MaskInputs(x.detach(), candidates.gather(attention * candidates.counts_per_frame[:, None]), candidates)
