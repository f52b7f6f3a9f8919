"""Nucleus selection (paper, eq. 3): the smallest set of sites of a frame whose attention adds up to p."""

import torch
from torch import Tensor

from mesm_model.sparse.conv import require_triton, triton_ready
from mesm_model.sparse.sites import Sites

# A nucleus that reaches p within this many sites' worth of rounding is taken to reach it: 0.1 * 30 is 3, not 4 sites.
ROUNDING = 1e-6


def nucleus_mask(prob: Tensor, p: float, candidates: Tensor | None = None) -> Tensor:
    """bool [N, S]: of each frame the fewest sites of `prob` [N, S], the largest first, that hold a share p of its mass.

    Of equally probable sites the first in site order goes in. Only `candidates` sites, bool [N, S], take part; without it
    those with a positive mass. At least one of them is chosen, at most ceil(p * candidates); p = 1 chooses all of them.
    Raises ValueError for p outside of (0, 1].
    """
    if candidates is None:
        candidates = prob > 0
    if p == 1:
        return candidates
    mass, order = prob.double().where(candidates, -1).sort(dim=-1, descending=True, stable=True)
    there = mass >= 0
    mass = mass.clamp_min(0)
    rank = torch.arange(prob.shape[-1], device=prob.device)
    needed = (mass.cumsum(-1) - mass < p * mass.sum(-1, keepdim=True)) | (rank == 0)
    chosen = there & needed & (rank < largest_nucleus(candidates.sum(-1, keepdim=True), p))
    return torch.zeros_like(chosen).scatter_(-1, order, chosen)


def largest_nucleus(candidates: Tensor, p: float) -> Tensor:
    """ceil(p * candidates): the k most probable of m sites hold at least k / m, so no nucleus needs more."""
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}, expected 0 < p <= 1")
    return (p * candidates.double() - ROUNDING).ceil().clamp_min(1)


def select(sites: Sites, prob: Tensor, p: float, backend: str = "auto") -> Sites:
    """The sites of each frame's nucleus, given the attention `prob` [N, S] over its places. Not differentiable.

    Where the Triton kernels run the rows come in a buffer of fixed size, and the host does not wait for their number.
    At p = 1 they are `sites` themselves.
    """
    if backend == "triton":
        require_triton(prob)
    if p == 1:
        return sites
    if backend == "triton" or (backend == "auto" and triton_ready(prob)):
        from mesm_model.sparse.kernels import select

        most = int(largest_nucleus(torch.tensor(sites.height * sites.width), p))
        return select.select(sites, prob, p, most, ROUNDING)
    chosen = nucleus_mask(prob.detach(), p, sites.mask.flatten(1))
    return sites.keep(sites.gather(chosen))
