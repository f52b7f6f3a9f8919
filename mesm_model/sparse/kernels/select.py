"""Triton kernel: nucleus selection without a sort, one program per frame."""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

import torch
import triton
import triton.language as tl
from torch import Tensor

from mesm_model.sparse.sites import Sites

NONE = tl.constexpr(-1)


@triton.jit
def select_kernel(
    PROB, CANDIDATES, INDEX, VALID, ROW_OF_PLACE, CAP,
    P: tl.constexpr, ROUNDING: tl.constexpr, S: tl.constexpr, PAD: tl.constexpr,
):  # fmt: skip
    """One frame. A site is selected if the mass of those before it, by falling probability, then place, is below p.

    Nothing is sorted: the probability of the last selected site is found by bisection over the bits of a float, which
    order like its values. It is the smallest with less mass than p, and fewer sites than a nucleus may hold, above it.
    """
    frame = tl.program_id(0)
    here = tl.arange(0, PAD)
    candidates = tl.load(CANDIDATES + frame * S + here, mask=here < S, other=0) != 0
    prob = tl.abs(tl.load(PROB + frame * S + here, mask=candidates, other=0.0).to(tl.float32))
    bits = tl.where(candidates, prob.to(tl.int32, bitcast=True), NONE)
    target = P * tl.sum(prob, 0)
    most = tl.ceil(tl.sum(candidates.to(tl.int32), 0).to(tl.float64) * P - ROUNDING).to(tl.int32)
    low = tl.sum(here * 0, 0)
    high = low + 0x7FFFFFFF
    for _ in range(31):
        middle = low + (high - low) // 2
        mass = tl.sum(tl.where(bits > middle, prob, 0.0), 0)
        count = tl.sum((bits > middle).to(tl.int32), 0)
        too_low = (count > 0) & ((mass >= target) | (count >= most))
        low = tl.where(too_low, middle + 1, low)
        high = tl.where(too_low, high, middle)
    mass = tl.sum(tl.where(bits > high, prob, 0.0), 0)
    count = tl.sum((bits > high).to(tl.int32), 0)
    last = bits == high
    nth = tl.cumsum(last.to(tl.int32), 0) - 1  # of equally probable sites
    needed = (mass + nth * prob < target) & (count + nth < most)
    is_selected = (bits > high) | (last & (needed | (count + nth == 0)))
    count_selected = tl.sum(is_selected.to(tl.int32), 0)
    row = frame * CAP + tl.cumsum(is_selected.to(tl.int32), 0) - 1
    tl.store(ROW_OF_PLACE + frame * S + here, tl.where(is_selected, row, NONE), mask=here < S)
    tl.store(INDEX + row, frame * S + here, mask=is_selected)
    tl.store(INDEX + frame * CAP + here, frame * S + tl.zeros_like(here), mask=(here >= count_selected) & (here < CAP))
    tl.store(VALID + frame * CAP + here, here < count_selected, mask=here < CAP)


def select_nucleus(sites: Sites, prob: Tensor, p: float, most: int, rounding: float) -> Sites:
    """`nucleus_mask` for p < 1, one program per frame: sites in a buffer of `most` rows per frame, without a sync."""
    frames, places = prob.shape
    device = prob.device
    index = torch.empty(frames * most, dtype=torch.int64, device=device)
    valid = torch.empty(frames * most, dtype=torch.bool, device=device)
    row_of_place = torch.empty(frames * places, dtype=torch.int64, device=device)
    select_kernel[(frames,)](
        prob.detach().contiguous(), sites.mask, index, valid, row_of_place, most,
        p, rounding, places, triton.next_power_of_2(places),
    )  # fmt: skip
    selected = Sites(index, sites.frames, sites.height, sites.width, valid)
    selected.cache["row_of_place"] = row_of_place
    return selected
