"""Every backend on active sites against the dense masked computation, outputs and gradients."""

import os
import subprocess
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mesm_data.errors import DataError
from mesm_model.models.common.nucleus import select
from mesm_model.sparse.conv import (
    SparseBatchNorm,
    SparseMaxPool2d,
    SubmanifoldBlock,
    SubmanifoldConv2d,
    choose,
    from_conv2d,
    submanifold_conv,
    to_conv2d,
)
from mesm_model.sparse.sites import Sites, select_rows
from tests.model.awkward import FORMS, cases, every_case, masks, random_mask, spread_rows

MASKS = masks()
both_backends = pytest.mark.parametrize("backend", ["dense", "rulebook"])
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def masked_conv2d(grid, weight, mask):
    """The reference: torch's own convolution over the whole grid, 0 at the places that are not active."""
    return F.conv2d(grid * mask, to_conv2d(weight), padding=1) * mask


def gradients(output, inputs, seed=1):
    return torch.autograd.grad(output, inputs, draw(*output.shape, dtype=output.dtype, seed=seed))


def assert_close(found, expected, tolerance):
    """Relative to the largest value: what a sum of many products can promise."""
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


# ---- convolution


@every_case
@both_backends
def test_outputs_and_gradients_are_those_of_the_masked_conv2d(mask, form, backend):
    compare_with_conv2d(mask, form, backend, (3, 5), torch.float64, 1e-12)


@pytest.mark.parametrize("form", list(FORMS.values())[:2], ids=list(FORMS)[:2])
@both_backends
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
def test_outputs_and_gradients_keep_the_precision_of_the_input(form, backend, dtype, tolerance):
    compare_with_conv2d(MASKS["a frame without any site"], form, backend, (8, 4), dtype, tolerance)


def compare_with_conv2d(mask, form, backend, channels, dtype, tolerance):
    """A backend in `dtype` with torch's convolution in float64, from the same numbers."""
    cin, cout = channels
    sites = form(Sites.from_mask(mask))
    grid = (draw(mask.shape[0], cin, *mask.shape[1:]) * mask[:, None]).to(dtype)
    weight = draw(9, cin, cout, seed=2).to(dtype)
    exact_grid, exact_weight = grid.double().requires_grad_(), weight.double().requires_grad_()
    expected = masked_conv2d(exact_grid, exact_weight, mask[:, None])
    grid.requires_grad_(), weight.requires_grad_()
    found = sites.to_dense(submanifold_conv(sites.from_dense(grid), weight, sites, backend))
    assert found.dtype == dtype
    assert_close([found.double()], [expected], tolerance)
    pairs = zip(gradients(found, (grid, weight)), gradients(expected, (exact_grid, exact_weight)), strict=True)
    for one, other in pairs:
        assert_close([one.double()], [other], tolerance)


@both_backends
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_gradients_pass_the_numerical_check(backend, share):
    sites = Sites.from_mask(random_mask(2, 3, 4, share))
    x, weight = draw(len(sites.index), 2).requires_grad_(), draw(9, 2, 3).requires_grad_()
    torch.autograd.gradcheck(lambda x, weight: submanifold_conv(x, weight, sites, backend), (x, weight))


@both_backends
def test_with_all_sites_active_it_is_conv2d(backend):
    grid, conv2d = draw(2, 3, 6, 6), nn.Conv2d(3, 4, 3, padding=1, bias=False, dtype=torch.float64)
    sites = Sites.all(2, 6, 6)
    found = submanifold_conv(sites.from_dense(grid), from_conv2d(conv2d.weight), sites, backend)
    assert_close([sites.to_dense(found)], [conv2d(grid)], 1e-12)


def test_weights_go_to_the_layout_of_conv2d_and_back():
    weight = draw(9, 3, 4)
    assert torch.equal(from_conv2d(to_conv2d(weight)), weight)
    assert to_conv2d(weight).shape == (4, 3, 3, 3)
    assert to_conv2d(weight)[1, 2, 0, 2] == weight[2, 2, 1]


@both_backends
def test_a_frame_does_not_depend_on_the_others(backend):
    mask = random_mask(3, 6, 6, 0.4)
    weight, grid = draw(9, 3, 4), draw(3, 3, 6, 6)
    changed, changed_mask = draw(3, 3, 6, 6, seed=5), random_mask(3, 6, 6, 0.7, seed=5)
    changed[1], changed_mask[1] = grid[1], mask[1]

    def frame_1(grid, mask):
        sites = Sites.from_mask(mask)
        return sites.to_dense(submanifold_conv(sites.from_dense(grid), weight, sites, backend))[1]

    torch.testing.assert_close(frame_1(changed, changed_mask), frame_1(grid, mask), rtol=0, atol=1e-14)


@both_backends
def test_permuting_frames_permutes_outputs(backend):
    mask, weight, grid = random_mask(4, 6, 6, 0.4), draw(9, 3, 4), draw(4, 3, 6, 6)
    order = torch.tensor([2, 0, 3, 1])

    def outputs(grid, mask):
        sites = Sites.from_mask(mask)
        return sites.to_dense(submanifold_conv(sites.from_dense(grid), weight, sites, backend))

    torch.testing.assert_close(outputs(grid[order], mask[order]), outputs(grid, mask)[order], rtol=0, atol=1e-14)


@both_backends
def test_it_follows_autocast_as_conv2d_does(backend):
    sites = Sites.from_mask(random_mask(2, 6, 6, 0.5))
    layer = SubmanifoldConv2d(4, 6, backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(draw(len(sites.index), 4, dtype=torch.float32), sites)
        expected = nn.Conv2d(4, 6, 3)(torch.zeros(1, 4, 6, 6))
    assert found.dtype == expected.dtype == torch.bfloat16
    found.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


# ---- norm


@forms
@pytest.mark.parametrize("training", [True, False])
def test_norm_takes_its_statistics_from_the_active_rows(form, training):
    packed = Sites.from_mask(random_mask(3, 6, 6, 0.4))
    sites = form(packed)
    x = draw(len(packed.index), 5) * 3 + 1
    ours, theirs = SparseBatchNorm(5).double().train(training), nn.BatchNorm1d(5, 1e-4, 0.01).double().train(training)
    for norm in (ours, theirs):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(1))
    rows = (x if sites.valid is None else spread_rows(x, sites)).requires_grad_()
    x.requires_grad_()
    found, expected = ours(rows, sites), theirs(x)
    assert_close([sites.to_dense(found)], [packed.to_dense(expected)], 1e-12)
    assert sites.valid is None or not found[~sites.valid].any()
    expected_gradients = torch.autograd.grad(packed.to_dense(expected).square().sum(), (x, *theirs.parameters()))
    found_gradients = torch.autograd.grad(sites.to_dense(found).square().sum(), (rows, *ours.parameters()))
    assert_close([sites.to_dense(found_gradients[0])], [packed.to_dense(expected_gradients[0])], 1e-12)
    assert_close(found_gradients[1:], expected_gradients[1:], 1e-12)
    assert_close(ours.state_dict().values(), theirs.state_dict().values(), 1e-7)


def test_norm_reads_the_state_of_a_dense_batch_norm():
    dense = nn.BatchNorm2d(4)
    SparseBatchNorm(4).load_state_dict(dense.state_dict(), strict=True)


@forms
@pytest.mark.parametrize("active", [0, 1])
def test_norm_of_fewer_than_two_rows_gives_the_bias_and_leaves_the_running_statistics(form, active):
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, :active] = True
    sites = form(Sites.from_mask(mask))
    norm = SparseBatchNorm(3)
    nn.init.normal_(norm.bias)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.ones(len(sites.index), 3, requires_grad=True)
    found = norm(x, sites)
    found.sum().backward()
    assert_close([sites.to_dense(found)[0, :, 0, :active]], [norm.bias[:, None].expand(3, active)], 1e-7)
    assert not x.grad.any()
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert norm.eval()(x, sites).shape == x.shape


# ---- pooling


# max_pool2d refuses a grid of one place
@pytest.mark.parametrize(("mask", "form"), cases("a single place, active", "a single place, not active"))
def test_pooling_is_max_pool2d_over_the_active_sites(mask, form):
    sites = form(Sites.from_mask(mask))
    grid = (draw(mask.shape[0], 3, *mask.shape[1:]) * mask[:, None]).requires_grad_()
    exact = grid.detach().masked_fill(~mask[:, None], float("-inf")).requires_grad_()
    expected = F.max_pool2d(exact, 2)
    expected = expected.masked_fill(expected == float("-inf"), 0)
    pooled, coarse = SparseMaxPool2d()(sites.from_dense(grid), sites)
    found = coarse.to_dense(pooled)
    assert torch.equal(found, expected)
    (found_gradient,), (expected_gradient,) = gradients(found, (grid,)), gradients(expected, (exact,))
    assert torch.equal(found_gradient * mask[:, None], expected_gradient * mask[:, None])


def test_of_equal_values_the_first_gets_the_gradient_as_in_max_pool2d():
    sites = Sites.all(1, 2, 2)
    x = torch.ones(4, 1, requires_grad=True)
    SparseMaxPool2d()(x, sites)[0].sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


def test_a_grid_of_one_place_pools_to_nothing():
    x = torch.ones(1, 2, requires_grad=True)
    pooled, coarse = SparseMaxPool2d()(x, Sites.all(1, 1, 1))
    pooled.sum().backward()
    assert pooled.shape == (0, 2)
    assert coarse.to_dense(pooled).shape == (1, 2, 0, 0)
    assert not x.grad.any()


def test_pooling_does_not_hide_a_value_that_is_not_a_number():
    x = torch.ones(4, 1)
    x[2] = float("nan")
    assert SparseMaxPool2d()(x, Sites.all(1, 2, 2))[0].isnan().all()


# ---- all of it together


def two_levels(features, blocks, prob, p, form):
    """Nucleus, two blocks, pool, nucleus of the pooled sites, a block, pool: rows in, grid out."""
    frames, places = prob.shape
    side = int(places**0.5)
    sites = Sites.all(frames, side, side)
    selected = form(select(sites, prob, p, "rulebook"))
    x = blocks[0](select_rows(features, sites, selected), selected)
    x, sites = blocks[1].forward_pooled(x, selected)
    prob = prob.view(frames, side, side)[:, ::2, ::2].flatten(1) * sites.mask.flatten(1)
    selected = select(sites, prob, p, "rulebook")
    x, sites = blocks[2].forward_pooled(select_rows(x, sites, selected), selected)
    return sites.to_dense(x)


@forms
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_cascade_of_levels_is_the_same_with_every_backend(form, p):
    prob = draw(3, 64, seed=3).softmax(-1)
    features = draw(3 * 64, 4).requires_grad_()
    results = []
    for backend in ("dense", "rulebook"):
        torch.manual_seed(0)
        blocks = nn.ModuleList(SubmanifoldBlock(cin, 6, backend) for cin in (4, 6, 6)).double()
        output = two_levels(features, blocks, prob, p, form)
        results.append([output, *gradients(output, (features, *blocks.parameters())), *blocks.buffers()])
    assert_close(results[1], results[0], 1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["auto", "dense", "rulebook"])
def test_at_p_of_1_blocks_are_those_of_the_dense_network(backend, training):
    dense = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-4, momentum=0.01), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-4, momentum=0.01), nn.ReLU(),
        nn.MaxPool2d(2),
    ).double().train(training)  # fmt: skip
    blocks = [
        SubmanifoldBlock(4, 6, backend).double().train(training),
        SubmanifoldBlock(6, 6, backend).double().train(training),
    ]
    for block, (convolution, norm) in zip(blocks, ((dense[0], dense[1]), (dense[3], dense[4])), strict=True):
        block.conv.weight.data = from_conv2d(convolution.weight.data).clone()
        block.norm.load_state_dict(norm.state_dict())
    grid = draw(2, 4, 8, 8).requires_grad_()
    sites = Sites.all(2, 8, 8)
    selected = select(sites, draw(2, 64).softmax(-1), 1.0)
    x = blocks[0](select_rows(sites.from_dense(grid), sites, selected), selected)
    x, pooled = blocks[1].forward_pooled(x, selected)
    found, expected = pooled.to_dense(x), dense(grid)
    assert_close([found], [expected], 1e-12)
    assert_close(gradients(found, (grid,)), gradients(expected, (grid,)), 1e-12)
    assert_close(blocks[1].norm.buffers(), dense[4].buffers(), 1e-12)


# ---- the choice


@pytest.mark.parametrize(
    ("side", "share", "way"),
    [(24, 0.5, "rulebook"), (24, 0.75, "dense"), (12, 0.75, "rulebook"), (12, 0.95, "dense"), (6, 1.0, "rulebook")],
)
def test_auto_goes_by_the_density_of_the_level(side, share, way):
    sites = Sites.from_mask(random_mask(2, side, side, share))
    assert choose(torch.zeros(1), sites) == way


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
def test_a_gpu_computes_sparsely_whatever_the_density(monkeypatch, share):
    monkeypatch.setattr("mesm_model.sparse.conv.triton_ready", lambda x: True)
    sites = Sites.from_mask(random_mask(2, 24, 24, share))
    assert choose(types.SimpleNamespace(device=torch.device("cuda")), sites) == "triton"


def test_a_gpu_that_triton_does_not_know_computes_densely(monkeypatch):
    """A Tesla V100, say: the rulebook of plain PyTorch is the CPU's way."""
    x = types.SimpleNamespace(device=torch.device("cuda"), is_cuda=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert choose(x, Sites.from_mask(random_mask(2, 6, 6, 0.3))) == "dense"


def test_an_unknown_backend_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="backend is 'fast', expected one of auto, dense, rulebook, triton"):
        choose(torch.zeros(1), Sites.all(1, 2, 2), "fast")


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs on any device")
def test_triton_on_the_cpu_is_refused_with_the_way_out():
    with pytest.raises(DataError, match="needs the triton package and a GPU of 2020 or later, found cpu; use 'auto'"):
        choose(torch.zeros(1), Sites.all(1, 2, 2), "triton")


def test_without_triton_everything_else_works(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sites = Sites.from_mask(random_mask(2, 6, 6, 0.5))
    assert choose(torch.zeros(1), sites) == "rulebook"
    assert SubmanifoldBlock(3, 4)(torch.ones(len(sites.index), 3), sites).shape == (len(sites.index), 4)
    with pytest.raises(DataError, match="needs the triton package"):
        choose(torch.zeros(1), sites, "triton")


# ---- independent peers

PEER = """
import numpy, spconv.pytorch as spconv, torch
mask, grid, weight = torch.load({inputs!r})
index = mask.nonzero().int().contiguous()
x = grid.permute(0, 2, 3, 1)[mask].contiguous()
layer = spconv.SubMConv2d(weight.shape[1], weight.shape[2], 3, bias=False, algo=spconv.ConvAlgo.Native)
layer.weight.data = weight.view(3, 3, *weight.shape[1:]).permute(3, 0, 1, 2).contiguous()
if tuple(layer.weight.shape) != (weight.shape[2], 3, 3, weight.shape[1]):
    raise SystemExit("the layout of spconv's weights has changed")
with torch.no_grad():
    y = layer(spconv.SparseConvTensor(x, index, list(mask.shape[1:]), mask.shape[0]))
torch.save((y.indices, y.features), {outputs!r})
"""


def test_spconv_finds_the_same(tmp_path):
    """In a process with one thread: with two, 57 of 60 results of its CPU code had wrong rows."""
    pytest.importorskip("spconv")
    mask, grid, weight = random_mask(3, 12, 12, 0.4), draw(3, 8, 12, 12).float(), draw(9, 8, 16).float()
    inputs, outputs = str(tmp_path / "inputs.pt"), str(tmp_path / "outputs.pt")
    torch.save((mask, grid, weight), inputs)
    code = PEER.format(inputs=inputs, outputs=outputs)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    index, features = torch.load(outputs)
    sites = Sites.from_mask(mask)
    frame, y, x = index.long().t()
    theirs = torch.zeros(mask.numel(), 16).index_copy(0, (frame * 12 + y) * 12 + x, features)
    ours = submanifold_conv(sites.from_dense(grid), weight, sites, "rulebook")
    assert_close([ours], [theirs[sites.index]], 1e-5)
