"""Red lies exactly where attention selected a site, and what it spared agrees with the count of multiply-adds."""

import numpy as np
import pytest
import torch

from mesm_model.evaluation import flops as counting
from mesm_model.models import mesm
from mesm_model.models.common import flops
from mesm_model.models.common.attention import Trace, TracedLevel
from mesm_model.prediction.overlay import (
    RED,
    STRENGTH,
    depth,
    grey_mel,
    of_modality,
    saved_share,
    selected_share,
    side_by_side,
    tinted,
)
from tests.model.narrow import NARROW, batch, build


def level(number: int, selected: torch.Tensor, candidates: torch.Tensor | None = None) -> TracedLevel:
    candidates = torch.ones_like(selected) if candidates is None else candidates
    return TracedLevel("v", number, selected.float(), candidates, selected, selected.sum((1, 2)))


def test_a_site_is_as_deep_as_the_layers_that_kept_it() -> None:
    first = torch.zeros(1, 4, 4, dtype=torch.bool)
    first[0, 0, :2] = True
    second = torch.tensor([[[True, False], [False, True]]])
    assert depth([level(1, first), level(2, second)])[0].tolist() == [
        [2, 2, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]


def test_a_picture_is_red_where_a_coarser_mask_is_true_and_as_it_was_elsewhere() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    mask = np.array([[True, False], [False, False]])
    shown = tinted(picture, mask)
    np.testing.assert_array_equal(shown[4:], 100)
    np.testing.assert_array_equal(shown[:4, 4:], 100)
    np.testing.assert_allclose(shown[0, 0], 100 + STRENGTH * (RED - 100), atol=0.5)


def test_chunks_lie_side_by_side_in_time_with_low_tones_below() -> None:
    chunks = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    assert side_by_side(chunks).tolist() == [[4, 5, 10, 11], [2, 3, 8, 9], [0, 1, 6, 7]]


def test_loud_is_bright_and_silence_stays_dark() -> None:
    mels = np.full((1, 128, 32), np.log(1e-6), np.float16)
    assert grey_mel(mels).max() < 60
    mels[0, 5, 7] = 2.0
    shown = grey_mel(mels)
    assert shown.shape == (128, 32, 3)
    assert np.argwhere(shown[..., 0] == 255).tolist() == [[127 - 5, 7]]


@pytest.mark.parametrize("top_p", [0.3, 0.7])
def test_what_a_layer_spares_is_what_the_flops_count_says(encoder: str, top_p: float) -> None:
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


def test_keeping_everything_spares_nothing_but_costs_the_looking(encoder: str) -> None:
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
