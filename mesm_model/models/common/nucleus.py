"""Nucleus selection (paper, section 4.3, eq. 3): the smallest set of sites of a frame whose attention sums to p."""

import torch
from torch import Tensor

from mesm_model.sparse.conv import require_triton, triton_ready
from mesm_model.sparse.sites import Sites

# A number of sites within this rounding error of an integer is that integer: 0.1 * 30 is 3, not 4 sites.
ROUNDING = 1e-6


def nucleus_mask(prob: Tensor, p: float, candidates: Tensor | None = None) -> Tensor:
    """bool [N, S]: for each frame the smallest set of sites of `prob` [N, S] that holds a share p of its mass.

    Of equally probable sites the first is selected first. Only `candidates`, bool [N, S], can be selected; by default
    those of positive mass. At least one of them is, at most ceil(p * candidates); p = 1 selects all of them. Raises
    ValueError unless 0 < p <= 1.
    """
    if candidates is None:
        candidates = prob > 0
    if p == 1:
        return candidates
    mass, order = prob.double().where(candidates, -1).sort(dim=-1, descending=True, stable=True)
    is_candidate = mass >= 0
    mass = mass.clamp_min(0)
    rank = torch.arange(prob.shape[-1], device=prob.device)
    needed = (mass.cumsum(-1) - mass < p * mass.sum(-1, keepdim=True)) | (rank == 0)
    chosen = is_candidate & needed & (rank < largest_nucleus(candidates.sum(-1, keepdim=True), p))
    return torch.zeros_like(chosen).scatter_(-1, order, chosen)


def largest_nucleus(candidates: Tensor, p: float) -> Tensor:
    """ceil(p * candidates): the k most probable of m sites hold at least k / m, so that no nucleus needs more."""
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}, expected 0 < p <= 1")
    return (p * candidates.double() - ROUNDING).ceil().clamp_min(1)


def select(sites: Sites, prob: Tensor, p: float, backend: str = "auto") -> Sites:
    """The sites of each frame's nucleus, given the attention `prob` [N, S]. Not differentiable.

    Where the Triton kernels run, the rows are in a buffer of fixed size, so that the host need not wait for their
    number. At p = 1 the result is `sites` itself.
    """
    if backend == "triton":
        require_triton(prob)
    if p == 1:
        return sites
    if backend == "triton" or (backend == "auto" and triton_ready(prob)):
        from mesm_model.sparse.kernels.select import select_nucleus

        most = int(largest_nucleus(torch.tensor(sites.height * sites.width), p))
        return select_nucleus(sites, prob, p, most, ROUNDING)
    chosen = nucleus_mask(prob.detach(), p, sites.mask.flatten(1))
    return sites.keep(sites.gather(chosen))
