"""MESM: equal to FE2E at p = 1, gradients to the attention, frames apart from each other, odd batches."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mesm_data.errors import DataError
from mesm_model import models
from mesm_model.batch import Batch, collate
from mesm_model.models.common.attention import GRADIENTS, Trace
from mesm_model.runs.declared import check_assignments
from mesm_model.sparse.conv import from_conv2d
from tests.model.narrow import EMOTIONS, batch, build, example
from tests.model.test_fe2e import ALL_MODALITIES, unmoved

SIZES = [(2, 1, 4), (0, 3, 9), (4, 0, 3), (1, 2, 6)]


def twins(encoder: str) -> tuple[Any, Any]:
    """FE2E, and MESM at p = 1 with its weights, both in double precision.

    MESM's norms take the settings of FE2E's.
    """
    dense, sparse = build("fe2e", encoder, seed=1, dropout=0.0), build("mesm", encoder, seed=2, dropout=0.0, top_p=1.0)
    missing, unexpected = sparse.load_state_dict(dense.state_dict(), strict=False)
    assert all(".levels." in name for name in missing)
    assert all(".blocks." in name for name in unexpected)
    for modality in "av":
        for level, block in zip(sparse.frames[modality].levels, dense.frames[modality].blocks, strict=True):
            for part, conv, norm in ((level.first, block[0], block[1]), (level.second, block[2], block[3])):
                part.conv.weight.data = from_conv2d(conv.weight.data).clone()
                part.norm.eps, part.norm.momentum = norm.eps, norm.momentum
    return dense.double(), sparse.double()


def in_double(stacked: Batch) -> Batch:
    return replace(stacked, mels=stacked.mels.double(), labels=stacked.labels.double())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_at_p_1_it_equals_fe2e_with_the_same_weights(mode: str, encoder: str) -> None:
    dense, sparse = (model.train(mode == "train") for model in twins(encoder))
    stacked = in_double(batch(*SIZES))
    expected, found = dense(stacked), sparse(stacked)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_at_p_1_all_gradients_equal_fe2es_but_those_of_the_attention(mode: str, encoder: str) -> None:
    dense, sparse = (model.train(mode == "train") for model in twins(encoder))
    for branch in sparse.frames.values():
        for level in branch.levels:
            level.gradient = "none"
    for model in (dense, sparse):
        model(in_double(batch(*SIZES))).square().sum().backward()
    ours = dict(sparse.named_parameters())
    for name, parameter in dense.named_parameters():
        if ".blocks." not in name:
            torch.testing.assert_close(ours[name].grad, parameter.grad, atol=1e-9, rtol=1e-6, msg=name)
    for modality in "av":
        for level, block in zip(sparse.frames[modality].levels, dense.frames[modality].blocks, strict=True):
            for part, conv, norm in ((level.first, block[0], block[1]), (level.second, block[2], block[3])):
                torch.testing.assert_close(part.conv.weight.grad, from_conv2d(conv.weight.grad))
                torch.testing.assert_close(part.norm.weight.grad, norm.weight.grad)
                torch.testing.assert_close(part.norm.bias.grad, norm.bias.grad)


def test_straight_through_and_none_give_the_same_logits_bit_for_bit_and_gate_others(encoder: str) -> None:
    stacked = batch(*SIZES)
    logits = {mode: build("mesm", encoder, attention_gradient=mode, top_p=0.5)(stacked) for mode in GRADIENTS}
    assert torch.equal(logits["straight-through"], logits["none"])
    assert not torch.allclose(logits["gate"], logits["none"])


@pytest.mark.parametrize("settings", [{}, {"attention_gradient": "gate"}, {"modalities": "av"}, {"modalities": "tv"}])
def test_every_parameter_gets_a_gradient(settings: dict, encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5, **settings).train()
    model(batch((2, 3, 5), (3, 1, 4))).square().sum().backward()
    assert unmoved(model) == []


def test_at_p_1_attention_gets_a_gradient_but_its_inputs_get_none_from_it(encoder: str) -> None:
    """The text, the front and the blocks get the gradients that they would get without any attention."""
    gradients = {}
    for mode in ("straight-through", "none"):
        model = build("mesm", encoder, top_p=1.0, attention_gradient=mode).eval()
        model(batch((2, 3, 5), (3, 1, 4))).square().sum().backward()
        gradients[mode] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, gradient in gradients["none"].items():
        torch.testing.assert_close(gradients["straight-through"][name], gradient, msg=name)
    learned = {name for name in gradients["straight-through"] if name not in gradients["none"]}
    assert len(learned) == 2 * 3 * 4
    assert all(gradients["straight-through"][name].abs().sum() > 0 for name in learned if "keys.bias" not in name)


def test_with_no_gradient_the_attention_requires_none(encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5, attention_gradient="none").eval()
    model(batch((2, 3, 5), (3, 1, 4))).square().sum().backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert still == {name for name, _ in model.named_parameters() if ".levels." in name and ".attention." in name}
    assert len(still) == 2 * 3 * 4
    assert not any(dict(model.named_parameters())[name].requires_grad for name in still)


def test_text_gets_a_gradient_from_the_attention_alone(encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5).eval()
    model.fusion.weight.data[-1] = 0  # of the text's logits
    model(batch((2, 3, 5), (3, 1, 4))).square().sum().backward()
    assert model.text.encoder.embeddings.word_embeddings.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("modalities", ALL_MODALITIES)
def test_any_modalities_can_be_left_out(modalities: str, encoder: str) -> None:
    model = build("mesm", encoder, modalities=modalities, top_p=0.5)
    assert model(batch((2, 1, 4), (1, 3, 6))).shape == (2, EMOTIONS)
    assert ("query" in dict(model.named_parameters())) == ("t" not in modalities)


def test_utterances_do_not_influence_each_other(encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5).eval()
    examples = [example(seed, *size) for seed, size in enumerate(SIZES)]
    together = model(collate(examples))
    alone = torch.cat([model(collate([one])) for one in examples])
    turned = model(collate(examples[::-1])).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, turned, atol=1e-5, rtol=1e-4)


def test_attention_of_a_frame_depends_on_nothing_but_the_frame_and_the_text_of_its_utterance(encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5).eval()
    examples = [example(seed, *size) for seed, size in enumerate(SIZES)]
    together, alone = Trace(), [Trace() for _ in examples]
    model(collate(examples), together)
    for one, own in zip(examples, alone, strict=True):
        model(collate([one]), own)
    for position, level in enumerate(together.levels):
        seen = [own.levels[position] for own in alone]
        torch.testing.assert_close(level.attention, torch.cat([own.attention for own in seen]))
        assert torch.equal(level.selected, torch.cat([own.selected for own in seen]))
        assert torch.equal(level.pairs, torch.cat([own.pairs for own in seen]))


def test_no_loop_runs_over_frames_or_utterances(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesm_model.sparse.sites.BLOCK", 1 << 30)  # the convolutions' blocks of rows are for the cache

    class Operations(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            self.count += 1
            return function(*arguments, **(named or {}))

    model = build("mesm", encoder, top_p=0.5, backend="rulebook").eval()
    counts = []
    for stacked in (batch((2, 1, 4), (1, 3, 6)), batch(*[(5, 9, 4), (7, 3, 8)] * 5)):
        with Operations() as operations:
            model(stacked)
        counts.append(operations.count)
    assert counts[0] == counts[1] > 100


def test_the_trace_follows_the_sites_through_all_levels_of_both_modalities(encoder: str) -> None:
    model, trace = build("mesm", encoder, top_p=0.5).eval(), Trace()
    stacked = batch(*SIZES)
    assert torch.equal(model(stacked, trace), model(stacked))
    assert [(level.modality, level.level) for level in trace.levels] == list(itertools.product("av", (1, 2, 3)))
    shapes = [tuple(level.attention.shape[1:]) for level in trace.levels]
    assert shapes == [(64, 16), (32, 8), (16, 4), (24, 24), (12, 12), (6, 6)]
    for level in trace.levels:
        inside = (level.attention * level.selected).sum((1, 2))
        torch.testing.assert_close(level.attention.sum((1, 2)), torch.ones(len(inside)))
        assert (inside >= 0.5 - 1e-5).all()
        assert (level.selected <= level.candidates).all()
        assert (level.attention[~level.candidates] == 0).all()
        assert (level.selected.sum((1, 2)) <= (0.5 * level.candidates.sum((1, 2))).ceil()).all()
    for before, after in itertools.pairwise(trace.levels):
        if before.modality == after.modality:
            pooled = torch.nn.functional.max_pool2d(before.selected.float(), 2).bool()
            assert torch.equal(after.candidates, pooled)


def test_p_may_be_changed_between_steps(encoder: str) -> None:
    model, selected = build("mesm", encoder, top_p=0.9).eval(), []
    for top_p in (1.0, 0.9, 0.5, 0.1):
        trace = Trace()
        model.top_p = top_p
        model(batch((2, 2, 4)), trace)
        selected.append(int(sum(level.selected.sum() for level in trace.levels)))
    assert selected == sorted(selected, reverse=True)
    assert selected[-1] < selected[0] / 5


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("modalities", ["tav", "av"])
def test_a_batch_without_any_frame_still_gives_finite_logits_and_gradients(
    mode: str, modalities: str, encoder: str
) -> None:
    model = build("mesm", encoder, modalities=modalities).train(mode == "train")
    logits = model(batch((0, 0, 4), (0, 0, 5)))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_one_face_and_a_nucleus_of_one_site_are_enough_to_train_on(encoder: str) -> None:
    model, trace = build("mesm", encoder, top_p=1e-6).train(), Trace()
    logits = model(batch((1, 1, 3)), trace)
    logits.sum().backward()
    assert [int(level.selected.sum()) for level in trace.levels] == [1] * 6
    assert logits.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_the_same_seed_gives_the_same_logits_and_gradients_bit_for_bit(encoder: str) -> None:
    runs = []
    for _ in range(2):
        model = build("mesm", encoder, seed=3, top_p=0.5).train()
        logits = model(batch((2, 3, 5), (1, 0, 4)))
        logits.sum().backward()
        runs.append([logits, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_recomputing_the_front_changes_nothing_but_memory(encoder: str) -> None:
    runs = []
    for recompute in (False, True):
        model = build("mesm", encoder, top_p=0.5, dropout=0.0, recompute_front=recompute).train()
        model(batch((2, 3, 5))).square().sum().backward()
        runs.append([*(parameter.grad for parameter in model.parameters()), *model.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize("backend", ["auto", "dense", "rulebook"])
def test_every_backend_gives_the_same_logits(backend: str, encoder: str) -> None:
    stacked = batch((2, 3, 5))
    expected = build("mesm", encoder, top_p=0.5).eval()(stacked)
    torch.testing.assert_close(build("mesm", encoder, top_p=0.5, backend=backend).eval()(stacked), expected)


def test_bfloat16_autocast_trains_and_leaves_the_logits_in_single_precision(encoder: str) -> None:
    model = build("mesm", encoder, top_p=1.0).eval()  # below 1 rounding may move a site over the edge of a nucleus
    stacked = batch((2, 3, 5), (3, 0, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(stacked)
        model.top_p = 0.5
        model.train()(stacked).sum().backward()
    assert low.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.top_p = 1.0
    torch.testing.assert_close(low, build("mesm", encoder, top_p=1.0).eval()(stacked), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("top_p=0", "setting top_p: found 0.0, expected more than 0 and at most 1"),
        ("top_p=1.5", "setting top_p: found 1.5, expected more than 0 and at most 1"),
        (
            "attention_gradient=soft",
            "setting attention_gradient: found 'soft', expected one of straight-through, none, gate",
        ),
        ("backend=cuda", "setting backend: found 'cuda', expected one of auto, dense, rulebook, triton"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(setting: str, message: str) -> None:
    with pytest.raises(DataError) as refused:
        models.load("mesm").Config(**check_assignments("mesm", [setting]))
    assert str(refused.value) == message
