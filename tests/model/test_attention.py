"""Cross-modal attention: the paper's equations by hand, its gradients, and what a trace records."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_model.models.common.attention import GRADIENTS, CrossModalAttention, Trace, gather_selected, scale_gradient
from mesm_model.models.common.nucleus import select
from mesm_model.sparse.sites import Sites, select_rows
from tests.model.awkward import FORMS, spread_rows

FRAMES, HEIGHT, WIDTH, CHANNELS, QUERY = 3, 4, 6, 5, 7
OWNER = torch.tensor([0, 1, 1])


@pytest.fixture
def attend() -> CrossModalAttention:
    torch.manual_seed(0)
    return CrossModalAttention(CHANNELS, QUERY).double()


def some_sites() -> Sites:
    """A third of the places of each frame, at least one."""
    mask = torch.rand(FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) < 0.3
    mask[:, 1, 2] = True
    return Sites.from_mask(mask)


def rows_of(sites: Sites) -> Tensor:
    return torch.randn(len(sites.index), CHANNELS, generator=torch.Generator().manual_seed(2)).double()


def query() -> Tensor:
    return torch.randn(2, QUERY, generator=torch.Generator().manual_seed(3)).double()


@pytest.mark.parametrize("sites", [Sites.all(FRAMES, HEIGHT, WIDTH), some_sites()], ids=["all sites", "some sites"])
def test_attention_is_the_papers_softmax_over_the_active_sites_of_each_frame(
    attend: CrossModalAttention, sites: Sites
) -> None:
    x, asked = rows_of(sites), query()
    found = attend(x, sites, asked, OWNER)
    expected = torch.zeros(FRAMES, HEIGHT * WIDTH, dtype=torch.float64)
    for frame in range(FRAMES):
        mine = sites.frame == frame
        hidden = torch.tanh(
            x[mine] @ attend.keys.weight.T + attend.keys.bias + attend.queries.weight @ asked[OWNER[frame]]
        )
        places = sites.index[mine] - frame * HEIGHT * WIDTH
        expected[frame, places] = torch.softmax(hidden @ attend.scores.weight[0], 0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_attention_and_its_gradients_do_not_depend_on_how_the_rows_lie(attend: CrossModalAttention, form: Any) -> None:
    packed, results = some_sites(), []
    for sites in (packed, form(packed)):
        x = rows_of(packed) if sites.valid is None else spread_rows(rows_of(packed), sites)
        found = attend(x, sites, query(), OWNER)
        results.append([found, *torch.autograd.grad(found.square().sum(), list(attend.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_no_frames_give_no_attention(attend: CrossModalAttention) -> None:
    sites = Sites.all(0, HEIGHT, WIDTH)
    assert attend(torch.zeros(0, CHANNELS).double(), sites, query(), OWNER[:0]).shape == (0, HEIGHT * WIDTH)


def through(attend: CrossModalAttention, gradient: str, weigh: Tensor) -> tuple[Tensor, Sites, Sites, Tensor]:
    """Rows through attention and selection, and back: the selected rows, both sites, the gradient of the input."""
    sites = some_sites()
    x = rows_of(sites).requires_grad_()
    attention = attend(x, sites, query(), OWNER)
    selected = select(sites, attention, 0.6)
    out = gather_selected(x, attention, sites, selected, gradient)
    attend.zero_grad()
    (out * weigh[: len(out)]).sum().backward()
    assert x.grad is not None
    return out.detach(), sites, selected, x.grad


WEIGH = torch.randn(FRAMES * HEIGHT * WIDTH, CHANNELS, generator=torch.Generator().manual_seed(4)).double()


def test_only_gate_changes_the_selected_rows_and_the_others_are_the_hard_mask_bit_for_bit(
    attend: CrossModalAttention,
) -> None:
    out = {gradient: through(attend, gradient, WEIGH)[0] for gradient in GRADIENTS}
    sites = some_sites()
    selected = through(attend, "none", WEIGH)[2]
    assert torch.equal(out["none"], select_rows(rows_of(sites), sites, selected))
    assert torch.equal(out["straight-through"], out["none"])
    assert not torch.allclose(out["gate"], out["none"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_straight_through_is_bit_equal_in_low_precision_too(dtype: torch.dtype) -> None:
    sites = Sites.all(2, 24, 24)
    x = torch.randn(len(sites.index), CHANNELS).to(dtype)
    attention = (torch.randn(2, 576) * 9).softmax(1).requires_grad_()
    out = gather_selected(x, attention, sites, sites, "straight-through")
    assert out.dtype == dtype
    assert torch.equal(out, x)


def test_gate_multiplies_rows_by_attention_times_the_number_of_active_sites(attend: CrossModalAttention) -> None:
    out, sites, selected, _ = through(attend, "gate", WEIGH)
    attention = attend(rows_of(sites), sites, query(), OWNER)
    rows = select_rows(rows_of(sites), sites, selected)
    for row, frame in enumerate(selected.frame.tolist()):
        active = int((sites.frame == frame).sum())
        torch.testing.assert_close(out[row], rows[row] * attention.flatten()[selected.index[row]] * active)


def test_straight_through_has_the_gradients_of_rows_multiplied_by_attention(attend: CrossModalAttention) -> None:
    learned = {}
    for gradient in ("straight-through", "gate"):
        through(attend, gradient, WEIGH)
        learned[gradient] = [parameter.grad.clone() for parameter in attend.parameters()]  # type: ignore[union-attr]
    for one, other in zip(*learned.values(), strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


def test_scale_gradient_is_the_identity_forward_and_a_share_backward() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    for share in (1.0, 0.25, 0.0):
        out = scale_gradient(x, share)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        assert torch.equal(out, x)
        torch.testing.assert_close(gradient, share * 2 * x)


def test_with_no_gradient_the_attention_keeps_its_initial_weights(attend: CrossModalAttention) -> None:
    through(attend, "none", WEIGH)
    assert [parameter.grad for parameter in attend.parameters()] == [None] * 4


def test_a_trace_records_candidates_selected_sites_and_pairs() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 0, :3] = True  # a row of three
    mask[1, 3, 3] = mask[1, 0, 0] = True  # two far apart
    candidates = Sites.all(2, 4, 4)
    attention = torch.full((2, 16), 1 / 16, requires_grad=True)
    trace = Trace()
    trace.add("v", 2, attention, candidates, Sites.from_mask(mask))
    (level,) = trace.levels
    assert (level.modality, level.level) == ("v", 2)
    assert torch.equal(level.selected, mask)
    assert level.candidates.all()
    assert level.attention.shape == (2, 4, 4)
    assert not level.attention.requires_grad
    by_convolution = F.conv2d(mask[:, None].float(), torch.ones(1, 1, 3, 3), padding=1)[:, 0] * mask
    assert level.pairs.tolist() == by_convolution.sum((1, 2)).tolist() == [7, 2]


def test_attention_with_a_gradient_finds_what_the_query_points_at_and_without_it_does_not() -> None:
    learned, untrained = (pointing_accuracy(gradient) for gradient in ("straight-through", "none"))
    assert learned > 0.9
    assert untrained < 0.72  # the sum of all four signs is right in 0.69 of the cases


class Pointer(nn.Module):
    """One level of attention over 8x8 sites and a classifier of the selected rows; the query is one of four words."""

    def __init__(self, gradient: str) -> None:
        super().__init__()
        self.gradient = gradient
        self.words, self.attend = nn.Embedding(4, 32), CrossModalAttention(16, 32)
        self.read, self.head = nn.Linear(16, 16), nn.Sequential(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 1))
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, x: Tensor, word: Tensor, top_p: float) -> Tensor:
        """Logits [B] of grids `x` [B, 64, 16]."""
        sites, rows = Sites.all(len(x), 8, 8), x.flatten(0, 1)
        attention = self.attend(rows, sites, self.words(word), torch.arange(len(x)))
        selected = select(sites, attention, top_p)
        out = gather_selected(rows, attention, sites, selected, self.gradient)
        return self.head(selected.to_dense(self.read(out).relu()).flatten(1)).squeeze(1)


def pointing_accuracy(gradient: str) -> float:
    """Accuracy for a label that is at one of four marked places, named by the word; the other three are decoys."""
    torch.manual_seed(0)
    reader = Pointer(gradient)
    optimiser = torch.optim.Adam(reader.parameters(), 4e-3)
    x, word, label = pointed_at(1500, seed=1)
    for epoch in range(10):
        top_p = max(0.5, 1 - epoch / 10)  # annealed, as in training
        for rows in torch.randperm(len(x)).split(32):
            loss = F.binary_cross_entropy_with_logits(reader(x[rows], word[rows], top_p), label[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    x, word, label = pointed_at(500, seed=2)
    return float(((reader(x, word, 0.5) > 0) == (label > 0.5)).float().mean())


def pointed_at(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grids [n, 64, 16] with a mark and a sign in each quarter, the word of one mark, and its sign as 0 or 1."""
    draw = torch.Generator().manual_seed(seed)
    marks = torch.rand(count, 4, generator=draw).argsort(1)
    signs = torch.randint(0, 2, (count, 4), generator=draw).float()
    grid = torch.zeros(count, 2, 4, 2, 4, 16)
    signal = torch.cat([F.one_hot(marks, 4).float(), 3 * (2 * signs - 1)[:, :, None], torch.ones(count, 4, 1)], 2)
    spread = torch.randn(6, 16, generator=torch.Generator().manual_seed(9))  # of the signal over the channels
    grid[:, :, 1:3, :, 1:3] = (signal @ spread).relu().view(count, 2, 1, 2, 1, 16)
    word = torch.randint(0, 4, (count,), generator=draw)
    label = (signs * (marks == word[:, None])).sum(1)
    return grid.view(count, 64, 16) + 0.1 * torch.randn(count, 64, 16, generator=draw), word, label
