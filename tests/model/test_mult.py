"""MulT: the sizes of the original and of the paper's copy, its layer against torch's own, masks, and that it learns."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.synth.planted import planted_bayes_optimal
from mesm_model import models
from mesm_model.models.common.layers import sinusoids
from mesm_model.models.mult import Config, Encoder, Layer
from tests.model import two_phase

SMALL = {"channels": 8, "heads": 2, "layers": 1}
ORIGINAL = {
    "channels": 30, "heads": 5, "layers": 5, "text_kernel": 1, "audio_kernel": 1, "vision_kernel": 1,
}  # fmt: skip


@pytest.mark.parametrize(("settings", "size"), [({}, 1_594_046), (ORIGINAL, 1_076_676)])
def test_it_has_the_published_numbers_of_parameters(settings: dict[str, int], size: int) -> None:
    model = models.load("mult").Model(Config(**settings))  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == size


def test_three_modalities_have_six_crossmodal_transformers_and_two_have_two() -> None:
    assert sorted(two_phase.build("mult", **SMALL).crossings) == ["at", "av", "ta", "tv", "va", "vt"]
    assert sorted(two_phase.build("mult", modalities="ta", **SMALL).crossings) == ["at", "ta"]


def test_logits_have_a_column_per_emotion_whatever_the_modalities() -> None:
    two_phase.hold_shapes("mult", **SMALL)


def test_neither_padding_nor_other_utterances_change_a_result() -> None:
    two_phase.hold_independence("mult", **SMALL)


def test_every_parameter_gets_a_gradient() -> None:
    two_phase.hold_gradients("mult", **SMALL)


def test_its_work_is_counted_without_padding() -> None:
    two_phase.hold_work("mult", **SMALL)


def test_reading_itself_a_layer_is_torchs_own_with_the_norm_first() -> None:
    torch.manual_seed(0)
    ours = Layer(8, Config(**SMALL), 0.0).double().eval()  # type: ignore[arg-type]
    theirs = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True, norm_first=True).double().eval()
    theirs.self_attn.load_state_dict(ours.attention.state_dict())
    for mine, other in ((ours.norm, theirs.norm1), (ours.forward_norm, theirs.norm2)):
        mine.weight.data.normal_()
        other.load_state_dict(mine.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[3].state_dict())
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    absent = torch.tensor([[False] * 5, [False, False, True, True, True]])
    torch.testing.assert_close(ours(x, x, absent), theirs(x, src_key_padding_mask=absent))


def test_reading_another_modality_a_layer_is_the_formula_of_the_paper() -> None:
    """softmax(Q K' / sqrt(d of a head)) V of what is normed, Tsai et al. equation 1; then two linear maps."""
    torch.manual_seed(0)
    layer = Layer(8, Config(**SMALL), 0.0).double().eval()  # type: ignore[arg-type]
    x, source = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 5, 8, dtype=torch.float64)
    maps = layer.attention.in_proj_weight.chunk(3)
    q, k, v = (
        (layer.norm(own) @ weight.T).view(-1, 2, 4).transpose(0, 1)
        for own, weight in zip((x, source, source), maps, strict=True)
    )
    heads = (q @ k.transpose(1, 2) / 4**0.5).softmax(-1) @ v  # [2, 3, 4]
    read = x + layer.attention.out_proj(heads.transpose(0, 1).reshape(1, 3, 8))
    expected = read + layer.feed_forward(layer.forward_norm(read))
    torch.testing.assert_close(layer(x, source, torch.zeros(1, 5, dtype=torch.bool)), expected)


def test_an_encoder_scales_what_it_reads_adds_positions_and_norms_at_the_end() -> None:
    encoder = Encoder(8, 1, Config(**SMALL), 0.0).double().eval()  # type: ignore[arg-type]
    x, source = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 5, 8, dtype=torch.float64)
    absent = torch.zeros(1, 5, dtype=torch.bool)
    placed = [8**0.5 * own + sinusoids(own.shape[1], 8).double() for own in (x, source)]
    torch.testing.assert_close(encoder(x, absent, source), encoder.norm(encoder.layers[0](*placed, absent)))


def test_attention_to_audio_and_faces_has_no_dropout_as_in_the_published_code() -> None:
    model = two_phase.build("mult", **SMALL)
    dropouts = {name: encoder.layers[0].attention.dropout for name, encoder in model.crossings.items()}
    assert dropouts == {"at": 0.25, "vt": 0.25, "ta": 0.0, "va": 0.0, "tv": 0.0, "av": 0.0}
    assert {encoder.layers[0].attention.dropout for encoder in model.memories.values()} == {0.25}


def test_a_layer_reads_all_of_the_other_modality_and_nothing_of_its_padding() -> None:
    layer = Layer(8, Config(**SMALL), 0.0).double().eval()  # type: ignore[arg-type]
    x, source = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 4, 8, dtype=torch.float64)
    absent = torch.tensor([[False, False, True, True]])
    torch.testing.assert_close(layer(x, source, absent), layer(x, source[:, :2], absent[:, :2]))
    assert not torch.allclose(layer(x, source, absent), layer(x, source[:, :1], absent[:, :1]))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="setting channels: found 40, expected a multiple of heads, 7"):
        Config(heads=7)
    with pytest.raises(DataError, match="setting audio_kernel: found 4, expected an odd number"):
        Config(audio_kernel=4)


def test_it_learns_what_is_planted_to_within_seven_points_of_the_ceiling(learnable: Dataset, tmp_path: Path) -> None:
    small = ("channels=20", "heads=4", "embedding_dropout=0.1", "layers=1")
    auc = two_phase.learned(learnable, tmp_path / "run", "mult", "epochs=3", "lr=0.003", "batch=16", *small)
    assert auc > planted_bayes_optimal([0.75, 0.6], 0.9).auc - 0.07
