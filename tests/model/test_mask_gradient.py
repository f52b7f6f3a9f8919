"""The gradient of a mask at unselected sites: the derivative of the convolution with respect to the mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_model.models import mesm
from mesm_model.models.common.attention import scale_gradient
from mesm_model.models.common.nucleus import select
from mesm_model.sparse.conv import submanifold_conv, to_conv2d
from mesm_model.sparse.mask_gradient import MaskInputs, add_mask_gradient
from mesm_model.sparse.sites import Sites
from tests.model.awkward import every_case, random_mask

CIN, COUT = 3, 5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_case
@pytest.mark.parametrize("backend", ["dense", "rulebook"])
def test_the_gate_of_an_unselected_row_gets_the_derivative_of_the_mask(backend, mask, form, monkeypatch):
    monkeypatch.setattr("mesm_model.sparse.sites.BLOCK", 7)
    sites = Sites.from_mask(mask)
    chosen = mask & random_mask(*mask.shape, 0.5, seed=1)
    candidates, selected = form(sites), form(Sites.from_mask(chosen))
    grid, weight = draw(mask.shape[0], CIN, *mask.shape[1:]) * mask[:, None], draw(9, CIN, COUT, seed=2)
    weigh = draw(mask.shape[0], COUT, *mask.shape[1:], seed=3)

    y = submanifold_conv(selected.from_dense(grid), weight, selected, "rulebook").requires_grad_()
    gate = torch.ones(len(candidates.index), dtype=torch.float64, requires_grad=True)
    x = candidates.from_dense(grid)
    out = add_mask_gradient(y, weight, MaskInputs(x, gate, candidates), selected, backend)
    (selected.to_dense(out) * weigh * chosen[:, None]).sum().backward()

    soft = chosen.double().requires_grad_()
    dense = F.conv2d(grid * soft[:, None], to_conv2d(weight), padding=1) * chosen[:, None]
    (dense * weigh).sum().backward()
    expected = candidates.gather((soft.grad * (mask & ~chosen)).flatten(1))
    assert torch.equal(out, y)
    torch.testing.assert_close(y.grad, selected.from_dense(weigh))
    torch.testing.assert_close(gate.grad, expected if candidates.valid is None else expected * candidates.valid)


@pytest.mark.parametrize("backend", ["dense", "rulebook"])
@pytest.mark.parametrize("candidates", [1.0, 0.7], ids=["all sites", "some sites"])
def test_a_level_gets_the_gradients_of_every_row_weighted_by_attention(candidates, backend):
    """Forward a mask of zeros and ones, backward one of attention times the number of sites."""
    torch.manual_seed(0)
    level = mesm.SparseLevel("v", 1, 4, 6, mesm.Config(backend=backend)).double()
    sites = Sites.from_mask(random_mask(4, 6, 8, candidates))
    owner, rows, asked = torch.tensor([0, 1, 1, 0]), draw(len(sites.index), 4), draw(2, 6, seed=1)
    results = []
    for ours in (True, False):
        x, query = rows.clone().requires_grad_(), asked.clone().requires_grad_()
        y = level(x, sites, query, owner, 0.5, None)[0] if ours else by_the_formula(level, x, sites, query, owner)
        level.zero_grad()
        (y * draw(*y.shape, seed=2)).sum().backward()
        results.append([y, x.grad, query.grad, *(p.grad.clone() for p in level.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def by_the_formula(level: mesm.SparseLevel, x: Tensor, sites: Sites, query: Tensor, owner: Tensor) -> Tensor:
    """A level at p = 0.5 that computes everywhere."""
    attention = level.attention(scale_gradient(x, 0.5), sites, scale_gradient(query, 0.5), owner)
    selected = select(sites, attention, 0.5, "dense")
    hard = selected.mask.flatten(1).double()
    soft = attention * sites.mask.flatten(1).sum(1, keepdim=True)
    mask = sites.gather(hard + soft - soft.detach())[:, None]
    held = sites.gather(hard)[:, None]
    masked = x * held + x.detach() * (mask - held)  # masked rows receive no gradient
    y = selected.from_dense(F.conv2d(sites.to_dense(masked), to_conv2d(level.first.conv.weight), padding=1))
    return level.second.forward_pooled(F.relu(level.first.norm(y, selected)), selected)[0]


def test_a_mask_that_selected_the_wrong_site_gets_a_gradient_from_the_right_one():
    """Of two places the unselected one holds the target; the gradient of the selected rows alone does not say so."""
    sites = Sites.all(64, 1, 2)
    target = draw(64).sign()
    x = torch.stack([torch.ones(64, dtype=torch.float64), target], 1).flatten()[:, None]
    selected = sites.keep(torch.tensor([True, False]).repeat(64))
    weight = torch.ones(9, 1, 1, dtype=torch.float64)
    y = submanifold_conv(selected.from_dense(sites.to_dense(x)), weight, selected, "rulebook").requires_grad_()
    gate = torch.ones(128, dtype=torch.float64, requires_grad=True)
    out = add_mask_gradient(y, weight, MaskInputs(x, gate, sites), selected, "rulebook")
    (out[:, 0] - 1 - target).square().mean().backward()
    selected_gradient = (y.grad[:, 0] * x[::2, 0]).mean()
    unselected_gradient = gate.grad.view(64, 2)[:, 1].mean()
    assert unselected_gradient < 0  # more of it would lower the loss
    assert unselected_gradient.abs() > 5 * selected_gradient.abs()
