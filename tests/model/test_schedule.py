"""Learning rates and p follow from the position in a run alone."""

import random
from dataclasses import asdict

import pytest
import torch

from mesm_model.training.schedule import Plateau, annealed_top_p, lr_factor


def test_a_plateau_reduces_as_torch_does_and_survives_a_checkpoint() -> None:
    draw = random.Random(0)
    losses = [draw.uniform(0.9, 1.1) * max(0.3, 1 - n / 20) for n in range(200)]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="min", factor=0.1, patience=5, eps=0)
    ours = Plateau()
    for loss in losses:
        theirs.step(loss)
        ours = Plateau(**asdict(ours))
        ours.step(loss, patience=5)
        assert ours.factor == pytest.approx(optimiser.param_groups[0]["lr"])
    assert ours.factor < 0.02


def test_a_cosine_falls_from_one_to_zero_and_constant_stays() -> None:
    assert [lr_factor("cosine", done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert lr_factor("constant", 0.7) == lr_factor("plateau", 0.7) == 1


def test_p_shrinks_from_one_over_a_share_of_the_epochs() -> None:
    assert [annealed_top_p(0.5, 0.5, epoch, 8) for epoch in range(6)] == pytest.approx(
        [1, 0.875, 0.75, 0.625, 0.5, 0.5]
    )
    assert annealed_top_p(0.5, 0.0, 0, 8) == 0.5
