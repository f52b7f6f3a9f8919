"""Nucleus selection: the smallest set of sites that reaches p, and what that means at the edges."""

import math

import pytest
import torch

from mesm_model.models.common.nucleus import nucleus_mask, select
from mesm_model.sparse.sites import Sites
from tests.model.awkward import random_mask

every_p = pytest.mark.parametrize("p", [0.01, 0.3, 0.7, 0.999])


def attention(frames, sites, sharpness, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(frames, sites, generator=generator)).softmax(-1).to(dtype)


@every_p
@pytest.mark.parametrize("sharpness", [0.01, 1, 8], ids=["flat", "random", "sharp"])
@pytest.mark.parametrize("sites", [1, 36, 1024])
def test_the_nucleus_reaches_p_and_without_its_smallest_member_does_not(p, sharpness, sites):
    prob = attention(20, sites, sharpness).double()
    chosen = nucleus_mask(prob, p)
    mass = (prob * chosen).sum(-1)
    smallest = prob.masked_fill(~chosen, 2).amin(-1)
    assert (mass >= p - 1e-6).all()
    assert (mass - smallest < p).all()
    largest_unselected = prob.masked_fill(chosen, 0).amax(-1)
    assert (smallest >= largest_unselected).all()


@every_p
@pytest.mark.parametrize("sharpness", [0, 0.01, 1], ids=["uniform", "flat", "random"])
def test_a_nucleus_holds_at_most_its_share_of_the_candidates(p, sharpness):
    for sites in range(1, 80):
        chosen = nucleus_mask(attention(3, sites, sharpness), p)
        assert chosen.sum(-1).max() <= math.ceil(round(p * sites, 6))


@pytest.mark.parametrize(("p", "count"), [(0.1, 3), (0.5, 15), (0.51, 16), (0.001, 1)])
def test_a_uniform_map_gives_exactly_its_share_and_the_first_sites(p, count):
    chosen = nucleus_mask(torch.full((2, 30), 1 / 30), p)
    assert torch.equal(chosen, torch.arange(30).expand(2, 30) < count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_uniform_map_gives_exactly_its_share_however_its_sum_rounds(dtype):
    for sites in range(1, 400):
        for tenths in range(1, 10):
            chosen = nucleus_mask(torch.full((1, sites), 1 / sites, dtype=dtype), tenths / 10)
            assert chosen.sum() == -(-tenths * sites // 10), f"{sites} sites, p = {tenths / 10}"


def test_of_equal_sites_the_first_is_selected():
    prob = torch.tensor([[0.1, 0.2, 0.2, 0.2, 0.2, 0.1]])
    assert nucleus_mask(prob, 0.35).tolist() == [[False, True, True, False, False, False]]


def test_p_of_one_selects_every_candidate_however_small():
    prob = torch.tensor([[1.0, 1e-30, 0.0]])
    assert nucleus_mask(prob, 1).tolist() == [[True, True, False]]
    candidates = torch.tensor([[True, True, True]])
    assert nucleus_mask(prob, 1, candidates).tolist() == [[True, True, True]]


@pytest.mark.parametrize("p", [0.01, 0.5, 1.0])
def test_what_is_no_candidate_is_never_selected(p):
    candidates = random_mask(1, 5, 6, 0.5).flatten(1)
    prob = attention(1, 30, 1)
    assert not (nucleus_mask(prob, p, candidates) & ~candidates).any()
    assert not (nucleus_mask(prob * candidates, p) & ~candidates).any()


@pytest.mark.parametrize("p", [1e-9, 0.5, 1.0])
def test_a_frame_with_sites_is_never_left_empty(p):
    candidates = torch.tensor([[False, True, True], [False, False, False]])
    without_mass = torch.zeros(2, 3)
    assert nucleus_mask(without_mass, p, candidates).any(-1).tolist() == [True, False]


def test_a_frame_without_sites_has_no_nucleus_whatever_its_attention_says():
    assert not nucleus_mask(torch.full((1, 4), float("nan")), 0.5, torch.zeros(1, 4, dtype=torch.bool)).any()


def test_the_share_is_that_of_the_total_mass():
    prob = attention(5, 40, 1)
    assert torch.equal(nucleus_mask(prob, 0.5), nucleus_mask(prob * 8, 0.5))


def test_frames_do_not_influence_each_other():
    prob = attention(6, 50, 1)
    chosen = nucleus_mask(prob, 0.5)
    assert torch.equal(nucleus_mask(prob[2:3], 0.5), chosen[2:3])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nucleus_mask(prob[order], 0.5), chosen[order])


@pytest.mark.parametrize("p", [0, -0.5, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match=r"expected 0 < p <= 1"):
        nucleus_mask(torch.ones(1, 3), p)


def test_selecting_returns_the_nucleus_of_the_active_sites():
    sites = Sites.from_mask(random_mask(3, 6, 6, 0.5))
    prob = sites.scatter(torch.randn(len(sites.index), generator=torch.Generator().manual_seed(0)), float("-inf"))
    prob = prob.softmax(-1)
    selected = select(sites, prob, 0.5)
    assert torch.equal(selected.mask.flatten(1), nucleus_mask(prob, 0.5))
    assert (selected.mask <= sites.mask).all()
