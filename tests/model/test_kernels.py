"""The Triton kernels against plain PyTorch, on a GPU or in Triton's interpreter, and compiled for a GPU not at hand."""

import copy
import importlib.metadata
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mesm_model.models import mesm
from mesm_model.models.common.attention import GRADIENTS, CrossModalAttention, gather_selected
from mesm_model.models.common.nucleus import nucleus_mask, select
from mesm_model.sparse.conv import SubmanifoldBlock, submanifold_conv
from mesm_model.sparse.dense_stem import FirstConv2d, NormRelu
from mesm_model.sparse.mask_gradient import MaskInputs, add_mask_gradient
from mesm_model.sparse.sites import Sites, select_rows
from tests.model.awkward import FORMS, masks, random_mask, spread_rows, with_unused_rows

pytest.importorskip("triton", reason="the triton package is not installed; it comes with torch for GPUs")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
MASKS = masks()
# The interpreter multiplies bfloat16 as if its bits were an integer; float16 takes the same path through the kernels.
PRECISIONS = [(torch.float32, 1e-5), (torch.float16, 5e-3) if DEVICE == "cpu" else (torch.bfloat16, 2e-2)]
EXACT = (torch.float64, 1e-12)

on_a_device = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED,
    reason="needs a GPU; without one test_all_of_this_holds_in_tritons_interpreter runs it in a process of its own",
)
some_cases = pytest.mark.parametrize(
    ("name", "form"),
    [("half the sites of several frames", "packed"), ("few sites of a narrow grid", "packed"), ("one site", "packed"),
     ("all sites", "packed"), ("odd height and width", "with unused rows"), ("no frame", "with unused rows"),
     ("a frame without any site", "with unused rows")],
)  # fmt: skip
precisions = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=[str(dtype) for dtype, _ in PRECISIONS])
ONE = MASKS["a frame without any site"]


def old_interpreter():
    """Until Triton 3.7 the interpreter turned loop bounds into numbers in a way that NumPy 2.3 forbids."""
    triton, numpy = (importlib.metadata.version(name).split(".")[:2] for name in ("triton", "numpy"))
    return list(map(int, triton)) < [3, 7] and list(map(int, numpy)) >= [2, 3]


@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run right here")
@pytest.mark.skipif(old_interpreter(), reason="this Triton's interpreter needs numpy < 2.3 for run-time loop bounds")
def test_all_of_this_holds_in_tritons_interpreter():
    """Triton reads the variable when a kernel is defined, hence the process of its own."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout or "100%" in done.stdout, done.stdout


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE, dtype)


def to_device(sites):
    valid = None if sites.valid is None else sites.valid.to(DEVICE)
    return Sites(sites.index.to(DEVICE), sites.frames, sites.height, sites.width, valid)


def assert_close(found, expected, tolerance):
    """Relative to the largest value of each tensor, in float64."""
    for one, other in zip(found, expected, strict=True):
        one, other = one.detach().double().cpu(), other.detach().double().cpu()
        scale = max(1.0, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    """What is compared to 1e-5 must not be rounded to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


# ---- selection


@on_a_device
@pytest.mark.parametrize("p", [1e-6, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 6, 6), (1, 12, 11)])
@pytest.mark.parametrize("candidates", [0.0, 0.4, 1.0])
def test_the_selection_is_that_of_plain_torch(p, shape, candidates):
    sites = Sites.from_mask(random_mask(*shape, candidates).to(DEVICE))
    for sharpness in (0, 1, 6):
        prob = sites.scatter(sharpness * draw(len(sites.index), dtype=torch.float32), float("-inf")).softmax(-1)
        expected = select(sites, prob, p, "rulebook")
        found = select(sites, prob, p, "triton")
        assert torch.equal(found.mask, expected.mask)
        if p == 1:
            assert found is sites
            continue
        assert torch.equal(found.index[found.valid], expected.index)
        assert torch.equal(found.row_of_place[expected.index], found.valid.nonzero().flatten())


@on_a_device
@pytest.mark.parametrize(("sites", "p", "count"), [(25, 0.2, 5), (25, 0.8, 20), (54, 0.5, 27), (55, 0.6, 33)])
def test_a_uniform_map_gives_exactly_its_share_however_its_sum_rounds(sites, p, count):
    found = select(Sites.all(1, 1, sites, DEVICE), torch.full((1, sites), 1 / sites, device=DEVICE), p, "triton")
    assert found.mask.flatten().nonzero().flatten().tolist() == list(range(count))


@on_a_device
def test_the_buffer_of_a_selection_has_a_size_known_beforehand():
    prob = draw(3, 36, dtype=torch.float32).softmax(-1)
    found = select(Sites.all(3, 6, 6, DEVICE), prob, 0.3, "triton")
    assert found.index.shape == (3 * 11,)
    assert torch.equal(found.frame, torch.arange(3, device=DEVICE).repeat_interleave(11))
    assert found.valid.view(3, 11).sum(1).tolist() == nucleus_mask(prob, 0.3).sum(1).tolist()


@on_a_device
def test_a_selection_after_a_selection_is_that_of_plain_torch():
    """At p = 0.999 the buffer has a row for every place although not every place is active."""
    prob, inner = draw(3, 64, seed=3).softmax(-1), draw(3, 16, seed=4).exp()
    for p in (0.1, 0.5, 0.999):
        masks = []
        for backend in ("triton", "rulebook"):
            sites, _ = select(Sites.all(3, 8, 8, DEVICE), prob, 0.1, backend).pool()
            prob_inside = inner * sites.mask.flatten(1)
            masks.append(select(sites, prob_inside / prob_inside.sum(-1, keepdim=True), p, backend).mask)
        assert torch.equal(*masks)


# ---- convolution


@on_a_device
@some_cases
def test_convolution_and_its_gradients_are_those_of_the_dense_backend(name, form):
    compare_convolutions(FORMS[form](Sites.from_mask(MASKS[name])), 3, 5, *EXACT)


@on_a_device
@precisions
@pytest.mark.parametrize(("cin", "cout"), [(16, 32), (70, 17)])
def test_convolution_keeps_the_precision_of_its_input(dtype, tolerance, cin, cout):
    compare_convolutions(with_unused_rows(Sites.from_mask(ONE)), cin, cout, dtype, tolerance)


def compare_convolutions(sites, cin, cout, dtype, tolerance):
    """Triton in `dtype` with the dense backend in float64, from the same numbers."""
    sites = to_device(sites)
    grid = (draw(sites.frames, cin, sites.height, sites.width) * sites.mask[:, None]).to(dtype)
    weight = (draw(9, cin, cout, seed=2) / cin**0.5).to(dtype)
    results = []
    for backend, kind in (("triton", dtype), ("dense", torch.float64)):
        x, w = sites.from_dense(grid.to(kind)).requires_grad_(), weight.to(kind).detach().requires_grad_()
        y = sites.to_dense(submanifold_conv(x, w, sites, backend))
        y.backward(draw(*y.shape, seed=1).to(kind))
        results.append([y, sites.to_dense(x.grad), w.grad])
    assert_close(*results, tolerance)


@on_a_device
def test_many_tiles_and_split_weight_gradients_add_up():
    """Rows for 8 tiles, so that the weight gradient comes in two parts; channels for several steps and blocks."""
    sites = to_device(Sites.from_mask(random_mask(2, 20, 20, 0.6)))
    x, weight = draw(len(sites.index), 20, dtype=torch.float32), draw(9, 20, 130, dtype=torch.float32) / 13
    results = []
    for backend in ("triton", "rulebook"):
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = submanifold_conv(*leaves, sites, backend)
        results.append([y, *torch.autograd.grad(y.square().mean(), leaves)])
    assert_close(*results, 1e-5)


@on_a_device
def test_the_same_step_twice_gives_the_same_bits():
    sites = to_device(Sites.from_mask(random_mask(3, 12, 12, 0.5)))
    x, weight = draw(len(sites.index), 16, dtype=torch.float32), draw(9, 16, 32, dtype=torch.float32)

    def step():
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        fresh = Sites(sites.index, sites.frames, sites.height, sites.width)
        y = submanifold_conv(*leaves, fresh, "triton")
        return y, *torch.autograd.grad(y.square().sum(), leaves)

    assert all(torch.equal(one, other) for one, other in zip(step(), step(), strict=True))


@on_a_device
def test_the_tiles_of_an_offset_are_found_block_after_block():
    """Thousands of tiles go in blocks of 1024; here eleven go in blocks of 4."""
    from mesm_model.sparse.kernels import tables

    bits = torch.randint(0, 512, (11,), generator=torch.Generator().manual_seed(0)).to(DEVICE, torch.int32)
    tile, count = bits.new_empty(9, 11), bits.new_empty(9)
    tables.offset_kernel[(9,)](bits, tile, count, 11, 4)
    for offset in range(9):
        assert tile[offset, : count[offset]].tolist() == (bits >> offset & 1).nonzero().flatten().tolist()


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU: spconv-triton runs nowhere else")
def test_spconv_triton_finds_the_same():
    spconv = pytest.importorskip("spconv_triton.pytorch")
    mask = random_mask(3, 12, 12, 0.4).to(DEVICE)
    sites = Sites.from_mask(mask)
    x, weight = draw(len(sites.index), 16, dtype=torch.float16), draw(9, 16, 32).div(12).half()
    theirs = spconv.SubMConv2d(16, 32, 3, bias=False).to(DEVICE).half()
    theirs.weight.data = weight.view(3, 3, 16, 32).permute(3, 0, 1, 2).contiguous()
    index = mask.nonzero().int().contiguous()
    with torch.no_grad():
        expected = theirs(spconv.SparseConvTensor(x, index, [12, 12], 3)).features
    assert_close([submanifold_conv(x, weight, sites, "triton")], [expected], 5e-3)


# ---- norm, ReLU, pool


plain_and_pooled = pytest.mark.parametrize("pooled", [False, True], ids=["plain", "pooled"])


@on_a_device
@some_cases
@plain_and_pooled
def test_a_fused_block_is_convolution_then_norm_then_relu_then_pool(name, form, pooled):
    found, expected = run_blocks(FORMS[form](Sites.from_mask(MASKS[name])), torch.float64, pooled, training=True)
    assert_close(found, expected, 1e-11)


@on_a_device
@plain_and_pooled
def test_a_fused_block_uses_the_running_statistics_in_evaluation(pooled):
    found, expected = run_blocks(with_unused_rows(Sites.from_mask(ONE)), torch.float64, pooled, training=False)
    assert_close(found, expected, 1e-11)


@on_a_device
@precisions
def test_a_single_site_becomes_the_bias_whatever_its_convolution_rounds_to(dtype, tolerance):
    """Its variance is 0, so the norm multiplies what differs from the mean by 1 / sqrt(eps) = 100."""
    sites = to_device(Sites.from_mask(MASKS["one site"]))
    block = SubmanifoldBlock(6, 20, "triton")
    nn.init.normal_(block.norm.bias)
    block.to(DEVICE).conv.to(dtype)
    y = block(100 * draw(1, 6, dtype=dtype), sites)
    assert_close([y], [block.norm.bias.relu()[None]], tolerance)


@on_a_device
@precisions
@plain_and_pooled
def test_a_fused_block_keeps_the_precision_of_its_input(dtype, tolerance, pooled):
    """Gradients in float32 only: in less, values within rounding of 0 or each other pass ReLU or pool on one side."""
    found, expected = run_blocks(with_unused_rows(Sites.from_mask(ONE)), dtype, pooled, training=True)
    forward = len(found) if dtype == torch.float32 else 1
    assert_close(found[:forward], expected[:forward], 5 * tolerance)


def run_blocks(sites, dtype, pooled, training):
    """A block by Triton in `dtype` and the dense backend in float64: output, gradients, running statistics."""
    sites = to_device(sites)
    grid = (draw(sites.frames, 6, sites.height, sites.width) * sites.mask[:, None]).to(dtype)
    results = []
    for backend, kind in (("triton", dtype), ("dense", torch.float64)):
        torch.manual_seed(0)
        block = SubmanifoldBlock(6, 20, backend).double().train(training)
        nn.init.normal_(block.norm.weight), nn.init.normal_(block.norm.bias), nn.init.normal_(block.norm.running_mean)
        block.conv.to(dtype).to(kind)
        block.norm.to(torch.promote_types(kind, torch.float32))
        block.to(DEVICE)
        x = sites.from_dense(grid.to(kind)).requires_grad_()
        y, level = block.forward_pooled(x, sites) if pooled else (block(x, sites), sites)
        y = level.to_dense(y)
        y.backward(draw(*y.shape, seed=1).to(kind))
        results.append([y, sites.to_dense(x.grad), *(p.grad for p in block.parameters()), *block.norm.buffers()])
    return results


@on_a_device
@pytest.mark.parametrize(
    ("channels", "frames_type"), [(3, torch.uint8), (1, torch.float16), (1, torch.float32)], ids=str
)
@pytest.mark.parametrize(("dtype", "tolerance"), [EXACT, *PRECISIONS], ids=str)
def test_the_first_convolution_is_normalisation_then_a_convolution(channels, dtype, tolerance, frames_type):
    """Places that fill no whole number of tiles, two blocks of channels."""
    exact = FirstConv2d(channels, 70, *(draw(2, channels, 1, 1, seed=1).exp() * 30)).to(DEVICE, torch.float64)
    ours = copy.deepcopy(exact).to(torch.promote_types(dtype, torch.float32))
    ours.weight.data = ours.weight.to(dtype)
    frames = (100 * draw(2, channels, 13, 9).abs()).clamp(0, 255).to(frames_type)
    exact.weight.data = ours.weight.double()
    results = []
    for layer, given in ((ours, frames), (exact, frames.double().requires_grad_())):
        y = layer(given)
        y.backward(draw(*y.shape, seed=2).to(y.dtype))
        results.append([y, layer.weight.grad])
    assert results[0][0].dtype == dtype
    assert given.grad is not None
    assert_close(*results, tolerance)


@on_a_device
@precisions
@plain_and_pooled
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_the_fused_stem_is_norm_then_relu_then_pool(dtype, tolerance, training, pooled):
    norm, ours = nn.BatchNorm2d(20).double(), NormRelu(20, pooled).double()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    ours.load_state_dict(norm.state_dict())
    norm.train(training).to(DEVICE)
    ours.train(training).to(DEVICE, torch.promote_types(dtype, torch.float32))
    y = (3 * draw(3, 20, 12, 10) + 1).to(dtype)
    exact = y.double().requires_grad_()
    y.requires_grad_()
    found, expected = ours(y), nn.functional.max_pool2d(nn.functional.relu(norm(exact)), 2 if pooled else 1)
    assert_close([found], [expected], tolerance)
    gradient = draw(*found.shape, seed=1)
    found.backward(gradient.to(dtype))
    expected.backward(gradient)
    if dtype not in (torch.float16, torch.bfloat16):
        assert_close([y.grad], [exact.grad], tolerance)
    assert_close([p.grad for p in ours.parameters()], [p.grad for p in norm.parameters()], 5 * tolerance)
    assert_close(ours.buffers(), norm.buffers(), max(tolerance, 1e-6))


@on_a_device
def test_the_statistics_of_tiles_are_those_of_all_their_rows_block_after_block():
    """Tiles of different sizes, one of them empty, in blocks of 2."""
    import triton.language as tl

    from mesm_model.sparse.kernels.norm import batch_stats_kernel

    tiles = [3 * draw(rows, 5, seed=rows) + 1 for rows in (3, 0, 7, 1, 4)]
    means = [rows.sum(0) / max(1, len(rows)) for rows in tiles]
    squares = [(rows - mean).square().sum(0) for rows, mean in zip(tiles, means, strict=True)]
    stats = torch.stack([torch.stack(pair) for pair in zip(means, squares, strict=True)])
    counts = torch.tensor([len(rows) for rows in tiles], dtype=torch.int32, device=DEVICE)
    found = [torch.zeros_like(means[0]) for _ in range(2)] + [torch.zeros_like(means[0][0])]
    norm = nn.BatchNorm1d(5, momentum=0.1).to(DEVICE, torch.float64)
    running = (norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone())
    batch_stats_kernel[(1,)](stats, counts, *found, *running, 5, norm.eps, 0.1, True, 5, tl.float64, 2, 16)
    norm(torch.cat(tiles))
    variance, mean = torch.var_mean(torch.cat(tiles), 0, correction=0)
    assert_close(found, [mean, (variance + norm.eps).rsqrt(), torch.tensor(15.0)], 1e-12)
    assert_close(running, norm.buffers(), 1e-12)


@on_a_device
def test_nan_passes_every_kernel():
    sites = Sites.all(1, 4, 4, DEVICE)
    x = torch.ones(16, 3, device=DEVICE)
    x[5, 1] = float("nan")
    block = SubmanifoldBlock(3, 4, "triton").to(DEVICE).eval()
    assert block(x, sites).isnan().any()
    assert block.forward_pooled(x, sites)[0].isnan().any()


# ---- attention


def candidate_sites(form):
    """Three grids with every place active, or with some after a selection and a pool."""
    everything = Sites.all(3, 10, 8, DEVICE)
    if form == "all":
        return everything
    return select(everything, draw(3, 80, seed=5).softmax(-1), 0.2, "triton").pool()[0]


candidate_forms = pytest.mark.parametrize("form", ["all", "some"])


@on_a_device
@candidate_forms
@pytest.mark.parametrize(("dtype", "tolerance"), [EXACT, *PRECISIONS], ids=str)
def test_attention_and_its_gradients_are_those_of_the_formula(form, dtype, tolerance):
    sites = candidate_sites(form)
    owner = torch.tensor([1, 0, 1], device=DEVICE)
    results = []
    for kind in (dtype, torch.float64):
        torch.manual_seed(0)
        attend = CrossModalAttention(20, 6).to(DEVICE, kind)
        x, query = draw(len(sites.index), 20).to(dtype), draw(2, 6, seed=1).to(dtype)
        x, query = x.to(kind).detach().requires_grad_(), query.to(kind).detach().requires_grad_()
        if kind == dtype:
            found = attend(x, sites, query, owner)
        else:  # equations 1 and 2, place by place
            hidden = torch.tanh(attend.keys(x) + attend.queries(query)[owner[sites.frame]])
            scores = sites.scatter(attend.scores(hidden)[:, 0], float("-inf")).view(sites.frames, -1)
            found = scores.masked_fill(~sites.mask.flatten(1), float("-inf")).softmax(-1)
        (found * draw(*found.shape, seed=2)).sum().backward()
        results.append([found, *(leaf.grad for leaf in (x, query, *attend.parameters()))])
    assert_close(*results, tolerance)


@on_a_device
@pytest.mark.parametrize(
    ("form", "gradient", "p"),
    [("all", "straight-through", 0.4), ("some", "straight-through", 0.4), ("all", "straight-through", 1.0),
     ("all", "gate", 0.4), ("some", "gate", 0.4), ("some", "gate", 1.0)],
)  # fmt: skip
@pytest.mark.parametrize(("dtype", "tolerance"), [EXACT, *PRECISIONS], ids=str)
def test_selected_rows_and_their_gradients_are_those_of_plain_torch(form, gradient, dtype, tolerance, p):
    sites = candidate_sites(form)
    attention = (sites.mask.flatten(1) * draw(3, sites.height * sites.width, seed=3).exp()).float()
    attention = attention / attention.sum(-1, keepdim=True)
    selected = select(sites, attention, p, "triton")
    packed = Sites.from_mask(selected.mask)
    rows = sites.from_dense(draw(3, 20, sites.height, sites.width)).to(dtype)
    results = []
    for kind, to in ((dtype, selected), (torch.float64, packed)):
        x = rows.to(kind).detach().requires_grad_()
        weights = attention.to(torch.promote_types(kind, torch.float32)).detach().requires_grad_()
        y = gather_selected(x, weights, sites, to, gradient)
        assert y.dtype == kind
        y = to.to_dense(y)
        (y * draw(*y.shape, seed=4).to(kind)).sum().backward()
        results.append([y, x.grad, weights.grad])
    assert_close(*results, tolerance)
    if gradient == "straight-through":
        assert torch.equal(results[0][0], selected.to_dense(select_rows(rows, sites, selected)))


@on_a_device
@candidate_forms
@pytest.mark.parametrize(("dtype", "tolerance"), [EXACT, *PRECISIONS], ids=str)
def test_the_gradient_of_a_mask_is_that_of_plain_torch(form, dtype, tolerance):
    sites = candidate_sites(form)
    attention = (sites.mask.flatten(1) * draw(3, sites.height * sites.width, seed=3).exp()).float()
    selected = select(sites, attention, 0.4, "triton")
    rows = sites.from_dense(draw(3, 20, sites.height, sites.width))
    results = []
    for kind, backend, to in ((dtype, "triton", selected), (torch.float64, "dense", Sites.from_mask(selected.mask))):
        gate = sites.gather(attention).to(torch.promote_types(kind, torch.float32)).detach().requires_grad_()
        y = to.from_dense(draw(3, 36, sites.height, sites.width, seed=4)).to(kind).requires_grad_()
        weight = draw(9, 20, 36, seed=5).to(kind)
        out = add_mask_gradient(y, weight, MaskInputs(rows.to(kind), gate, sites), to, backend)
        (out * to.from_dense(draw(3, 36, sites.height, sites.width, seed=6)).to(kind)).sum().backward()
        assert torch.equal(out, y)
        results.append([to.to_dense(y.grad), gate.grad])
    assert results[0][1].abs().sum() > 0
    assert_close(*results, tolerance)


@on_a_device
@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_no_frames_go_through_and_back(gradient, p):
    """A batch without any face."""
    torch.manual_seed(0)
    config = mesm.Config(width=4, attention_gradient=gradient)
    branch = mesm.FrameBranch("v", 6, config).to(DEVICE)
    logits = branch(
        torch.zeros(0, 3, 48, 48, dtype=torch.uint8, device=DEVICE), torch.zeros(2, dtype=torch.int64),
        torch.randn(2, 6, device=DEVICE, requires_grad=True), p, None,
    )  # fmt: skip
    logits.sum().backward()
    assert logits.shape == (2, config.emotions)
    assert all(p.grad is None or not p.grad.isnan().any() for p in branch.parameters())


# ---- all of it together


@on_a_device
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_a_cascade_from_static_buffers_equals_the_dense_one_from_packed_rows(p):
    prob, inner = draw(3, 64, seed=3).softmax(-1), draw(3, 16, seed=4).exp()
    features = draw(3 * 64, 4)
    results = []
    for backend in ("triton", "dense"):
        torch.manual_seed(0)
        blocks = nn.ModuleList(SubmanifoldBlock(cin, 6, backend) for cin in (4, 6, 6)).to(DEVICE, torch.float64)
        x = features.clone().requires_grad_()
        sites = Sites.all(3, 8, 8, DEVICE)
        selected = select(sites, prob, p, backend)
        y, sites = blocks[1].forward_pooled(blocks[0](select_rows(x, sites, selected), selected), selected)
        left = inner * sites.mask.flatten(1)
        selected = select(sites, left / left.sum(-1, keepdim=True), p, backend)
        y, sites = blocks[2].forward_pooled(select_rows(y, sites, selected), selected)
        y = sites.to_dense(y)
        y.backward(draw(*y.shape, seed=1))
        results.append([y, x.grad, *(p.grad for p in blocks.parameters()), *blocks.buffers()])
    assert_close(*results, 1e-12 if DEVICE == "cpu" else 1e-6)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU: CUDA graphs exist nowhere else")
def test_a_whole_step_is_captured_in_a_cuda_graph():
    """Which it could not be if anything waited for the GPU."""
    prob, features = draw(4, 64, dtype=torch.float32).softmax(-1), draw(4 * 64, 16, dtype=torch.bfloat16)
    block = SubmanifoldBlock(16, 32, "triton").to("cuda")
    features.requires_grad_()

    def step():
        sites = Sites.all(4, 8, 8, "cuda")
        selected = select(sites, prob, 0.5, "triton")
        with torch.autocast("cuda", torch.bfloat16):
            y, _ = block.forward_pooled(select_rows(features, sites, selected), selected)
        return torch.autograd.grad(y.float().square().sum(), (features, *block.parameters()))

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        expected = [step() for _ in range(3)][-1]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    torch.cuda.synchronize()
    assert_close(found, expected, 1e-6)


# ---- compiled ahead of time


class Recorder:
    """In place of a kernel: records its launches and runs nothing."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            constants = [value for value in arguments if not isinstance(value, torch.Tensor)]
            self.launches[f"{self.kernel.__name__} {constants}"] = (self.kernel, arguments, options)

        return launch


def launches_of_a_step(monkeypatch, dtype, channels, side):
    """Every kernel with the arguments of its launches in a training step of a level and of the stem."""
    from mesm_model.sparse.kernels import attention, conv, norm, select, stem, tables

    launches = {}
    for module in (attention, conv, norm, select, stem, tables):
        for name, kernel in vars(module).copy().items():
            if name.endswith("_kernel"):
                monkeypatch.setattr(module, name, Recorder(kernel, launches))
    places = side * side
    uniform = torch.full((1, places), 1 / places)
    selected = select.select_nucleus(Sites.all(1, side, side), uniform, 0.5, places // 2, 1e-6)
    for buffer, value in ((selected.cache["row_of_place"], -1), (selected.index, 0), (selected.valid, False)):
        buffer.fill_(value)  # what the kernel would have written
    block = SubmanifoldBlock(channels, channels)
    x = torch.zeros(len(selected.index), channels, dtype=dtype, requires_grad=True)
    _, children = selected.pool()
    y, tile_stats = conv.convolve_with_stats(x, block.conv.weight.to(dtype), selected, True)
    y = norm.norm_relu_of_sites(y, tile_stats, block.norm, selected, children)
    y.backward(torch.zeros_like(y))
    rows = torch.zeros(places, channels, dtype=dtype, requires_grad=True)
    y = norm.norm_relu(rows, block.norm, side)
    y.backward(torch.zeros_like(y))
    attention.attention_scores(rows, rows[:1], block.norm.weight, places).sum().backward()
    for gate, sites in ((True, selected), (False, selected), (False, Sites.all(1, side, side))):
        y = attention.gather_selected_rows(rows, torch.zeros(1, places), torch.ones(1), sites, gate)
        y.backward(torch.zeros_like(y))
    for colours in (1, 3):
        frames, ones = torch.zeros(2, colours, side, side, dtype=torch.uint8), torch.ones(colours)
        for kind in (dtype, torch.float64):
            stem.first_conv(frames, ones.to(kind), ones.to(kind), torch.zeros(20, colours, 5, 5, dtype=kind))
    return launches


def compile_for_hopper(kernel, arguments, options):
    """The PTX of a launch, specialised as Triton does: aligned pointers, and a 1 is a constant."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, aligned = {}, {}, {}
    for position, (parameter, value) in enumerate(zip(kernel.params, arguments, strict=True)):
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + TYPES[value.dtype]
            aligned[(position,)] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value == 1:
            signature[parameter.name], constants[(position,)] = "constexpr", value
        else:
            assert isinstance(value, int), f"{kernel.__name__}: {parameter.name} is {value!r}"
            signature[parameter.name] = "i32"
    source = ASTSource(kernel, signature, constants, aligned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


TYPES = {
    torch.bool: "i1", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64",
    torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.uint8: "u8", torch.float64: "fp64",
}  # fmt: skip
KERNELS = {
    "select_kernel", "code_kernel", "tile_kernel", "offset_kernel", "conv_kernel", "weight_grad_kernel",
    "tile_stats_kernel", "batch_stats_kernel", "norm_relu_kernel", "norm_grad_sums_kernel", "norm_grad_kernel",
    "score_kernel", "score_grad_kernel", "gather_selected_kernel", "gather_selected_grad_kernel", "first_conv_kernel",
}  # fmt: skip


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize(
    ("dtype", "channels", "side"),
    [(torch.bfloat16, 128, 24), (torch.float32, 128, 24), (torch.bfloat16, 17, 6), (torch.float32, 16, 2)],
)
def test_every_kernel_compiles_for_sm_90_as_it_is_launched(monkeypatch, dtype, channels, side):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    launches = launches_of_a_step(monkeypatch, dtype, channels, side)
    assert {name.split()[0] for name in launches} == KERNELS
    code = {name: compile_for_hopper(*launch) for name, launch in launches.items()}
    assert all(".target sm_90" in text for text in code.values())
    assert not [name for name, text in code.items() if re.search(r"\bst\.local", text)]
    for name, text in code.items():
        kind = name.split()[0]
        if channels == 128 and kind in ("conv_kernel", "weight_grad_kernel"):
            assert "wgmma.mma_async" in text, f"{name} does not use the tensor cores of Hopper"
            # In TF32 the weight gradient turns its operands on the way and loads 4 bytes at a time.
            width = "0x4" if (kind, dtype) == ("weight_grad_kernel", torch.float32) else "0x10"
            assert re.search(rf"cp\.async\.c[ag].*{width}", text), f"{name} does not load ahead"


def test_unused_rows_stay_zero():
    packed = Sites.from_mask(random_mask(2, 4, 4, 0.4))
    loose = with_unused_rows(packed)
    features = spread_rows(torch.ones(len(packed.index), 2), loose)
    assert not submanifold_conv(features, torch.ones(9, 2, 2), loose, "dense")[~loose.valid].any()
