"""EmoEmbs: its published size, logits by hand, fixed and learned emotion vectors, and that it learns."""

from pathlib import Path

import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.synth.planted import planted_bayes_optimal
from mesm_model import models
from mesm_model.models.common import two_phase as two_phase_module
from tests.model import two_phase

SMALL = {"audio_hidden": 6, "vision_hidden": 5, "layers": 2, "learned_emotions": True}


def test_it_has_the_published_number_of_parameters() -> None:
    model = models.load("emoembs").Model(models.load("emoembs").Config())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 5_455_903


def test_logits_have_a_column_per_emotion_whatever_the_modalities() -> None:
    two_phase.hold_shapes("emoembs", **SMALL)


def test_neither_padding_nor_other_utterances_change_a_result() -> None:
    two_phase.hold_independence("emoembs", **SMALL)


def test_every_parameter_gets_a_gradient() -> None:
    two_phase.hold_gradients("emoembs", **SMALL)


def test_its_work_is_counted_without_padding() -> None:
    model = two_phase.build("emoembs", **SMALL)
    once = two_phase.batch(two_phase.LENGTHS[0])
    twice = two_phase.batch(two_phase.LENGTHS[0], two_phase.LENGTHS[0])
    mapping = 12 * 3 * (6 + 5)  # of the emotions' vectors, once a batch
    macs = [sum(work.macs for work in model.macs(batch)) - mapping for batch in (once, twice)]
    assert macs[1] == 2 * macs[0] > 0


def test_a_logit_is_the_final_state_along_the_emotions_vector() -> None:
    model = two_phase.build("emoembs", **SMALL | {"modalities": "a", "layers": 1}).eval()
    rows = two_phase.example(0, 1, 4, 1).features["a"].double()
    branch = model.branches["a"]
    states = branch.lstm(((rows - 0.5) / 2)[None])[1][0][:, 0]  # [2, H]
    by_hand = [(states.sum(0) * branch.mapping(vector)).sum() for vector in model.emotions]
    torch.testing.assert_close(model(two_phase.batch((1, 4, 1)))[0], torch.stack(by_hand))


def test_given_vectors_of_emotions_are_used_and_not_trained() -> None:
    vectors = torch.randn(3, 12, dtype=torch.float64)
    model = two_phase.build("emoembs", **SMALL | {"learned_emotions": False})
    sets = {m: {"mean": [0.0] * size, "deviation": [1.0] * size} for m, size in two_phase.SIZES.items()}
    two_phase_module.settle(model, {"sets": sets, "emotions": vectors.tolist()})
    torch.testing.assert_close(model.emotions.detach(), vectors)
    model(two_phase.batch(*two_phase.LENGTHS)).sum().backward()
    assert model.emotions.grad is None
    assert model.branches["a"].mapping.weight.grad is not None


def test_it_learns_what_is_planted_to_within_seven_points_of_the_ceiling(learnable: Dataset, tmp_path: Path) -> None:
    auc = two_phase.learned(learnable, tmp_path / "run", "emoembs", "epochs=2", "lr=0.003", "batch=16", "layers=1")
    assert auc > planted_bayes_optimal([0.75, 0.6], 0.9).auc - 0.07
