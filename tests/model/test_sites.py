"""Sites against the plain mask they stand for."""

import pytest
import torch
import torch.nn.functional as F

from mesm_model.sparse.sites import Sites, links, select_rows
from tests.model.awkward import FORMS, every_case, masks, random_mask, spread_rows, with_unused_rows

MASKS = masks()
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def rows(sites, channels=3):
    """Features whose every value names its site and channel; 0 in unused rows."""
    values = (sites.index[:, None] * channels + torch.arange(channels) + 1).double()
    return values if sites.valid is None else values * sites.valid[:, None]


@every_mask
def test_the_mask_comes_back(mask):
    assert torch.equal(Sites.from_mask(mask).mask, mask)


@every_mask
def test_rows_are_sorted_by_frame_then_y_then_x(mask):
    sites = Sites.from_mask(mask)
    assert torch.equal(sites.index, sites.index.sort().values)
    frame, y, x = mask.nonzero().t()
    assert torch.equal(sites.index, (frame * mask.shape[1] + y) * mask.shape[2] + x)
    assert torch.equal(sites.frame, frame)


def test_all_sites_are_those_of_a_mask_of_ones():
    everything, ones = Sites.all(2, 3, 4), Sites.from_mask(torch.ones(2, 3, 4, dtype=torch.bool))
    assert torch.equal(everything.index, ones.index)
    assert everything.all_active
    assert everything.density == 1.0


@every_case
def test_features_go_to_the_grid_and_back(mask, form):
    sites = form(Sites.from_mask(mask))
    features = rows(sites)
    grid = sites.to_dense(features)
    assert grid.shape == (mask.shape[0], 3, *mask.shape[1:])
    assert torch.equal(grid != 0, mask[:, None].expand_as(grid))
    assert torch.equal(sites.from_dense(grid), features)
    named = torch.arange(mask.numel()).view(mask.shape) * 3 + 1
    assert torch.equal(grid[:, 0], torch.where(mask, named, 0).double())


def test_the_grid_of_all_sites_is_the_same_memory():
    sites = Sites.all(2, 4, 4)
    features = rows(sites)
    assert sites.to_dense(features).data_ptr() == features.data_ptr()
    assert sites.from_dense(sites.to_dense(features)).data_ptr() == features.data_ptr()


@every_case
def test_one_value_per_row_is_scattered_and_gathered(mask, form):
    sites = form(Sites.from_mask(mask))
    values = rows(sites)[:, 0]
    grid = sites.scatter(values, float("-inf"))
    assert torch.equal(grid.isfinite(), mask.flatten(1))
    found = sites.gather(grid)
    valid = torch.ones_like(found, dtype=torch.bool) if sites.valid is None else sites.valid
    assert torch.equal(found[valid], values[valid])


@every_case
def test_neighbours_are_those_of_the_padded_mask(mask, form):
    sites = form(Sites.from_mask(mask))
    numbers = F.pad(sites.row_of_place.view(mask.shape), (1, 1, 1, 1), value=-1)
    height, width = mask.shape[1:]
    shifted = [numbers[:, dy : dy + height, dx : dx + width].flatten() for dy in range(3) for dx in range(3)]
    expected = torch.stack(shifted, 1)[sites.index]
    if sites.valid is not None:
        expected[~sites.valid] = -1
    assert torch.equal(sites.neighbours, expected)


@every_case
def test_the_rulebook_lists_every_pair_of_neighbours_once_block_by_block(mask, form, monkeypatch):
    monkeypatch.setattr("mesm_model.sparse.sites.BLOCK", 7)
    sites = form(Sites.from_mask(mask))
    found = [
        (7 * block + row, offset, neighbour)
        for block, pairs in enumerate(sites.rulebook)
        for offset, here, there in pairs
        for row, neighbour in zip(here.tolist(), there.tolist(), strict=True)
    ]
    table = sites.neighbours.tolist()
    pairs = {(row, k, table[row][k]) for row in range(len(table)) for k in range(9) if k != 4 and table[row][k] >= 0}
    assert set(found) == pairs
    assert len(found) == len(pairs)
    assert len(sites.rulebook) == max(1, -(-len(table) // 7))


@every_case
def test_neighbours_in_other_sites_are_their_rows_around_mine(mask, form):
    sites, others = form(Sites.from_mask(mask)), form(Sites.from_mask(mask.flip(0, 1, 2)))
    around = F.pad(others.row_of_place.view(mask.shape), (1, 1, 1, 1), value=-1)
    height, width = mask.shape[1:]
    shifted = [around[:, dy : dy + height, dx : dx + width].flatten() for dy in range(3) for dx in range(3)]
    expected = torch.stack(shifted, 1)[sites.index]
    if sites.valid is not None:
        expected[~sites.valid] = -1
    assert torch.equal(sites.neighbours_in(others), expected)


@every_case
def test_without_returns_the_sites_that_the_others_lack(mask, form):
    sites, others = Sites.from_mask(mask), Sites.from_mask(mask & mask.flip(0, 1, 2))
    for mine, theirs in ((form(sites), others), (sites, form(others)), (form(sites), form(others))):
        rest = mine.without(theirs)
        assert torch.equal(rest.mask, mask & ~mask.flip(0, 1, 2))
        if rest.valid is not None:  # rows stay where they are
            assert torch.equal(rest.index, mine.index)


@every_case
def test_pooling_keeps_a_place_where_any_of_its_four_was_active(mask, form):
    sites = form(Sites.from_mask(mask))
    pooled, children = sites.pool()
    frames, height, width = mask.shape[0], mask.shape[1] // 2, mask.shape[2] // 2
    four = mask[:, : 2 * height, : 2 * width].reshape(frames, height, 2, width, 2)
    assert torch.equal(pooled.mask, four.any(4).any(2))
    row_of_place = sites.row_of_place.view(mask.shape)[:, : 2 * height, : 2 * width].reshape(
        frames, height, 2, width, 2
    )
    assert torch.equal(children, row_of_place.permute(0, 1, 3, 2, 4).reshape(-1, 4)[pooled.index])


@every_case
def test_links_lead_back_from_the_pooled_rows(mask, form):
    sites = form(Sites.from_mask(mask))
    _, children = sites.pool()
    link = links(children, len(sites.index)).tolist()
    family = {child: number for number, child in enumerate(children.flatten().tolist()) if child >= 0}
    assert link == [family.get(row, -1) for row in range(len(sites.index))]


@every_case
def test_keeping_rows_keeps_their_sites(mask, form):
    sites = form(Sites.from_mask(mask))
    chosen = random_mask(*mask.shape, 0.5, seed=1)
    selected = sites.keep(sites.gather(chosen.flatten(1)))
    assert selected.valid is None
    assert torch.equal(selected.mask, mask & chosen)


@pytest.mark.parametrize("name", ["half the sites of several frames", "no frame"])
@pytest.mark.parametrize("candidate_form", FORMS.values(), ids=[f"from {name}" for name in FORMS])
@pytest.mark.parametrize("selected_form", FORMS.values(), ids=[f"to {name}" for name in FORMS])
def test_selecting_rows_takes_those_of_the_selected_sites(name, candidate_form, selected_form):
    mask = MASKS[name]
    packed = Sites.from_mask(mask)
    sites = candidate_form(packed)
    selected = selected_form(packed.keep(packed.gather(random_mask(*mask.shape, 0.5, seed=1).flatten(1))))
    features = rows(sites).requires_grad_()
    taken = select_rows(features, sites, selected)
    assert torch.equal(taken, rows(selected))
    (taken * taken).sum().backward()
    assert torch.equal(sites.to_dense(features.grad), selected.to_dense(2 * taken.detach()))


def test_unused_rows_add_nothing_to_the_grid():
    packed = Sites.from_mask(random_mask(2, 4, 4, 0.4))
    loose = with_unused_rows(packed)
    features = rows(packed)
    assert torch.equal(loose.to_dense(spread_rows(features, loose)), packed.to_dense(features))
    assert loose.density > packed.density
