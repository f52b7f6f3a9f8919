"""The shared layers: shapes, masks, positions, and a front that can be recomputed."""

import copy

import pytest
import torch

from mesm_data.clip import Recipe
from mesm_model.batch import LOG_FLOOR
from mesm_model.models.common.layers import Front, Fusion, UtteranceTransformer, mel_power, sinusoids


def transformer(positional_encoding: bool = True) -> UtteranceTransformer:
    torch.manual_seed(0)
    return UtteranceTransformer(
        embed_dim=8, layers=2, heads=2, feed_forward=16, dropout=0.0, positional_encoding=positional_encoding
    ).double()


def test_the_front_halves_the_frames_and_normalises_faces_by_the_published_values() -> None:
    front = Front("v", width=4).eval()
    faces = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    by_hand = (faces.float() - torch.tensor([159.0, 111, 102]).view(3, 1, 1)) / torch.tensor([37.0, 33, 32]).view(
        3, 1, 1
    )
    assert front(faces).shape == (2, 4, 24, 24)
    torch.testing.assert_close(front.layers[0].normalised(faces), by_hand)
    torch.testing.assert_close(front.layers[0](faces), torch.conv2d(by_hand, front.layers[0].weight, padding=2))


def test_silence_and_speech_are_of_the_size_of_one_after_normalisation() -> None:
    seen = Front("a", width=4).layers[0].normalised(torch.tensor([-13.8, -8.0, 2.0]).half().view(3, 1, 1, 1))
    torch.testing.assert_close(seen.flatten(), torch.tensor([-1.16, 0.0, 2.0]), atol=1e-3, rtol=0)


def test_recomputing_the_front_changes_neither_gradients_nor_running_statistics() -> None:
    kept = Front("v", width=4)
    recomputed = copy.deepcopy(kept)
    recomputed.recompute = True
    faces = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    for front in (kept, recomputed):
        front(faces).square().sum().backward()
    for one, other in zip(kept.parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    for name, buffer in kept.named_buffers():
        assert torch.equal(buffer, recomputed.get_buffer(name)), name
    assert recomputed.layers[1].num_batches_tracked == 1


def test_the_transformer_gives_each_utterance_what_it_would_alone() -> None:
    encoder = transformer()
    rows = torch.randn(6, 8, dtype=torch.float64)
    together = encoder(rows, torch.tensor([1, 0, 5]))
    alone = [encoder(own, torch.tensor([len(own)])) for own in rows.split([1, 0, 5])]
    torch.testing.assert_close(together, torch.cat(alone))


def test_an_utterance_without_frames_sees_only_its_cls() -> None:
    encoder = transformer(positional_encoding=False)
    state = encoder(torch.randn(2, 8, dtype=torch.float64), torch.tensor([0, 2]))
    torch.testing.assert_close(state[:1], encoder.encoder(encoder.cls[None])[0])


@pytest.mark.parametrize(("positional_encoding", "same"), [(True, False), (False, True)])
def test_the_order_of_frames_counts_only_with_positions(positional_encoding: bool, same: bool) -> None:
    encoder = transformer(positional_encoding)
    rows = torch.randn(4, 8, dtype=torch.float64)
    forward, backward = (encoder(order, torch.tensor([4])) for order in (rows, rows.flip(0)))
    assert torch.allclose(forward, backward) == same


def test_positions_are_those_of_the_formula() -> None:
    found = sinusoids(5, 6)
    assert found.shape == (5, 6)
    for place in range(5):
        for pair in range(3):
            angle = torch.tensor(place / 10_000 ** (2 * pair / 6))
            torch.testing.assert_close(found[place, 2 * pair : 2 * pair + 2], torch.stack([angle.sin(), angle.cos()]))
    assert sinusoids(5, 7).shape == (5, 7)


def test_power_is_within_what_float16_keeps_of_its_logarithm_and_silence_is_zero() -> None:
    power = torch.tensor([0.0, 1e-3, 1.0, 7.6e4])
    stored = (power + Recipe().log_floor).log().half()
    assert Recipe().log_floor == LOG_FLOOR
    torch.testing.assert_close(mel_power(stored)[1:], power[1:], rtol=0.004, atol=0)
    assert mel_power(stored)[0] < 1e-8
    with torch.autocast("cpu", torch.float16):
        assert mel_power(stored).max() == 65_504


def test_the_logits_of_one_modality_are_not_scaled() -> None:
    logits = torch.randn(2, 3)
    assert Fusion(1)([logits]) is logits
    assert list(Fusion(1).parameters()) == []
    assert Fusion(1)([logits.bfloat16()]).dtype == torch.float32


def test_fusion_starts_as_the_mean_of_the_modalities() -> None:
    logits = [torch.randn(2, 3) for _ in range(3)]
    torch.testing.assert_close(Fusion(3)(logits), sum(logits) / 3)
