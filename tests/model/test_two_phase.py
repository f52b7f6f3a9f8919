"""What the two-phase models share: standardised inputs, saved with the weights."""

import torch

from mesm_model import models
from mesm_model.models import fe2e
from mesm_model.models.common import two_phase as two_phase_module
from tests.model import two_phase


def test_columns_are_standardised_by_the_given_mean_and_deviation() -> None:
    inputs = two_phase_module.FixedInputs({"a": 2})
    inputs.settle({"a": ([1.0, -1.0], [2.0, 0.5])})
    batch = two_phase.batch((1, 3, 1))
    rows = torch.tensor([[1.0, -1.0], [3.0, 0.0], [-1.0, -1.5]])
    found, counts = inputs(two_phase.Batch(**vars(batch) | {"features": {"a": (rows, torch.tensor([3]))}}), "a")
    assert found.tolist() == [[0, 0], [1, 2], [-1, -1]]
    assert counts.tolist() == [3]


def test_without_mean_and_deviation_columns_are_not_changed() -> None:
    batch = two_phase.batch((2, 1, 1))
    assert torch.equal(two_phase_module.FixedInputs({"t": 12})(batch, "t")[0], batch.features["t"][0])


def test_mean_and_deviation_are_saved_with_the_weights() -> None:
    settled = two_phase.build("lf-lstm").eval()
    other = models.load("lf-lstm").Model(settled.config).double().eval()
    other.load_state_dict(settled.state_dict())
    batch = two_phase.batch(*two_phase.LENGTHS)
    assert torch.equal(settled(batch), other(batch))
    assert other.inputs.deviation_a.tolist() == [2.0] * 8


def test_a_model_without_features_has_nothing_to_settle() -> None:
    two_phase_module.settle(two_phase.build("lf-lstm"), None)
    assert not two_phase_module.is_two_phase(fe2e.Config())


def test_the_work_of_an_lstm_is_that_of_its_weights() -> None:
    lstm = torch.nn.LSTM(5, 4, num_layers=3, bidirectional=True)
    weights = sum(p.numel() for name, p in lstm.named_parameters() if name.startswith("weight"))
    assert two_phase_module.lstm_macs(7, 5, 4, layers=3) == 7 * weights
