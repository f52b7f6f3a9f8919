"""Sites count as selected by the layers that selected them, and what a layer saved agrees with the count of MACs."""

import pytest
import torch

from mesm_model.evaluation import flops as counting
from mesm_model.models import mesm
from mesm_model.models.common import flops
from mesm_model.models.common.attention import Trace, TracedLevel
from mesm_model.prediction.overlay import (
    depth,
    of_modality,
    saved_share,
    selected_by_layers,
    selected_share,
)
from tests.model.narrow import NARROW, batch, build


def level(number: int, selected: torch.Tensor, candidates: torch.Tensor | None = None) -> TracedLevel:
    candidates = torch.ones_like(selected) if candidates is None else candidates
    return TracedLevel("v", number, selected.float(), candidates, selected, selected.sum((1, 2)))


def test_a_site_is_as_deep_as_the_layers_that_selected_it() -> None:
    first = torch.zeros(1, 4, 4, dtype=torch.bool)
    first[0, 0, :2] = True
    second = torch.tensor([[[True, False], [False, True]]])
    layers = [level(1, first), level(2, second)]
    assert depth(layers)[0].tolist() == [[2, 2, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert selected_by_layers(layers)[0, 0].tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("top_p", [0.3, 0.7])
def test_what_a_layer_saves_is_what_the_flops_count_says(encoder: str, top_p: float) -> None:
    model = build("mesm", encoder, top_p=top_p).eval()
    one = batch((2, 3, 5))
    trace = Trace()
    with torch.no_grad():
        model(one, trace)
    work = counting.count(model, [one])
    for modality, frames in (("v", 2), ("a", 3)):
        levels = of_modality(trace.levels, modality)
        assert [found.level for found in levels] == [1, 2, 3]
        dense = [
            sum(
                flops.convolution(*found.selected.shape[1:], cin, 2 * NARROW["width"] << found.level - 1)[1]
                for cin in (NARROW["width"] << found.level - 1, 2 * NARROW["width"] << found.level - 1)
            )
            for found in levels
        ]
        spent = sum(
            cost * (1 - saved_share(found, NARROW["width"], model.query_size)).sum()
            for cost, found in zip(dense, levels, strict=True)
        )
        queries = sum(flops.attention(0, 1, NARROW["width"] << n, model.query_size) for n in range(3))
        assert spent + queries == pytest.approx(work.macs(modality, ("attention", "convolution")))
        assert all(len(selected_share(found)) == frames for found in levels)


def test_selecting_everything_saves_nothing_and_costs_the_attention(encoder: str) -> None:
    model = build("mesm", encoder, top_p=1.0).eval()
    trace = Trace()
    with torch.no_grad():
        model(batch((1, 1, 3)), trace)
    assert isinstance(model.config, mesm.Config)
    for found in trace.levels:
        assert selected_share(found).tolist() == [1.0]
        assert -0.2 < saved_share(found, NARROW["width"], model.query_size)[0] < 0


def test_an_utterance_without_frames_has_no_shares() -> None:
    nothing = level(1, torch.zeros(0, 4, 4, dtype=torch.bool))
    assert selected_share(nothing).shape == saved_share(nothing, 4, 8).shape == (0,)
