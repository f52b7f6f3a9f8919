"""FE2E: shapes and sizes of the paper, independence of utterances, gradients, odd batches."""

import itertools
from dataclasses import replace

import pytest
import torch

from mesm_data.errors import DataError
from mesm_model import models
from mesm_model.batch import collate
from mesm_model.runs.declared import check_assignments
from tests.model.narrow import EMOTIONS, batch, build, example

ALL_MODALITIES = ["".join(chosen) for size in (1, 2, 3) for chosen in itertools.combinations("tav", size)]


def test_its_parts_have_the_published_numbers_of_parameters(encoder: str) -> None:
    with torch.device("meta"):
        branches = models.load("fe2e").Model(models.load("fe2e").Config(modalities="av")).frames
    sizes = {
        (modality, part): sum(parameter.numel() for parameter in module.parameters())
        for modality, branch in branches.items()
        for part, module in branch.named_children()
    }
    biases = 5 * 64 + 2 * (128 + 256 + 512)  # of the published convolutions; the norms after them subtract them
    assert sizes["v", "front"] + sizes["v", "blocks"] == 4_803_456 - biases
    assert sizes["a", "front"] + sizes["a", "blocks"] == 4_800_256 - biases
    assert sizes["v", "vectors"] == 4_785_216
    assert sizes["a", "vectors"] == 8_455_232
    assert sizes["v", "transformer"] == sizes["a", "transformer"] == 1_124_608 + 64
    assert sizes["v", "head"] == 64 * 6 + 6


@pytest.mark.parametrize("modalities", ALL_MODALITIES)
def test_only_the_branches_named_are_built_and_logits_have_one_column_per_emotion(
    modalities: str, encoder: str
) -> None:
    model = build("fe2e", encoder, modalities=modalities)
    assert ("t" in modalities) == (model.text is not None)
    assert set(model.frames) == set(modalities) - {"t"}
    assert model(batch((2, 1, 4), (1, 3, 6))).shape == (2, EMOTIONS)


def test_utterances_do_not_influence_each_other(encoder: str) -> None:
    model = build("fe2e", encoder).eval()
    sizes = [(2, 1, 4), (0, 3, 9), (5, 0, 3), (1, 2, 6)]
    examples = [example(seed, *size) for seed, size in enumerate(sizes)]
    together = model(collate(examples))
    alone = torch.cat([model(collate([one])) for one in examples])
    turned = model(collate(examples[::-1])).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, turned, atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient(encoder: str) -> None:
    model = build("fe2e", encoder).train()
    model(batch((2, 3, 5), (3, 1, 4))).square().sum().backward()
    assert unmoved(model) == []


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_batch_without_any_frame_still_gives_finite_logits_and_gradients(mode: str, encoder: str) -> None:
    model = build("fe2e", encoder).train(mode == "train")
    logits = model(batch((0, 0, 4), (0, 0, 5)))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_one_face_is_enough_to_train_on(encoder: str) -> None:
    assert build("fe2e", encoder).train()(batch((1, 1, 3))).isfinite().all()


def test_the_same_seed_gives_the_same_logits_and_gradients_bit_for_bit(encoder: str) -> None:
    runs = []
    for _ in range(2):
        model = build("fe2e", encoder, seed=3).train()
        logits = model(batch((2, 3, 5), (1, 0, 4)))
        logits.sum().backward()
        runs.append([logits, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_bfloat16_autocast_works_and_leaves_the_logits_in_single_precision(encoder: str) -> None:
    model = build("fe2e", encoder).eval()
    stacked = batch((2, 3, 5), (3, 0, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(stacked)
    low.sum().backward()
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, model(stacked), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["fe2e", "mesm"])
def test_weights_may_be_laid_out_channels_last(name: str, encoder: str) -> None:
    model, stacked = build(name, encoder).eval(), batch((2, 3, 5))
    before = model(stacked)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(stacked), before)


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"model 'fe2': expected one of .*fe2e, .*mesm"):
        models.load("fe2")


def test_settings_are_read_by_the_type_of_their_field() -> None:
    given = check_assignments("fe2e", ["width=8", "dropout=0.5", "positional_encoding=False", "modalities=ta"])
    assert given == {"width": 8, "dropout": 0.5, "positional_encoding": False, "modalities": "ta"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "widht=8",
            "setting 'widht': neither fe2e nor its training has it; did you mean width?",
        ),
        ("width", "setting 'width': found no =, expected NAME=VALUE, as width=64"),
        ("width=many", "setting 'width=many': found 'many', expected a whole number"),
        ("width=0", "setting width: found 0, expected more than 0"),
        ("positional_encoding=maybe", "setting 'positional_encoding=maybe': found 'maybe', expected true or false"),
        ("dropout=high", "setting 'dropout=high': found 'high', expected a number"),
        ("dropout=nan", "setting dropout: found nan, expected 0 or more and less than 1"),
        ("heads=5", "setting embed_dim: found 64, expected a multiple of heads, 5"),
        (
            "modalities=x",
            "setting modalities: found 'x', expected one or more of t (text), a (audio), v (vision), each once",
        ),
        ("modalities=tt", "setting modalities: found 'tt'"),
        ("mel=db", "setting mel: found 'db', expected one of log, power"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(setting: str, message: str) -> None:
    with pytest.raises(DataError) as refused:
        models.load("fe2e").Config(**check_assignments("fe2e", [setting]))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("name", ["fe2e", "mesm"])
def test_one_modality_alone_has_no_learned_scale(name: str, encoder: str) -> None:
    model = build(name, encoder, modalities="t").eval()
    stacked = batch((2, 1, 4), (0, 3, 9))
    assert torch.equal(model(stacked), model.text(stacked.tokens, stacked.token_counts)[0])
    assert not [parameter for parameter, _ in model.named_parameters() if "fusion" in parameter]


@pytest.mark.parametrize("name", ["fe2e", "mesm"])
def test_mel_power_is_what_the_stored_logarithm_was_taken_of(name: str, encoder: str) -> None:
    """A model of log mels with the same weights, fed power by hand, gives the same."""
    model = build(name, encoder, modalities="a", mel="power").eval()
    by_hand = build(name, encoder, modalities="a").eval()
    by_hand.load_state_dict(model.state_dict())
    first = by_hand.frames["a"].front.layers[0]
    first.mean.zero_()
    first.deviation.fill_(1)
    stacked = batch((0, 2, 3), (0, 3, 2))
    power = replace(stacked, mels=stacked.mels.float().exp() - 1e-6)
    torch.testing.assert_close(model(stacked), by_hand(power))
    assert not torch.allclose(model(stacked), by_hand(stacked))
    faces = build(name, encoder, modalities="v", mel="power").frames["v"].front
    assert not faces.power


def unmoved(model: torch.nn.Module) -> list[str]:
    """The parameters without a gradient to speak of, but for ALBERT's key bias: the softmax cancels it."""
    named = [(name, p) for name, p in model.named_parameters() if not name.endswith("attention.key.bias")]
    return [name for name, p in named if p.grad is None or p.grad.abs().max() < 1e-8]
