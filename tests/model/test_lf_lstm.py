"""LF-LSTM: its published size, the LSTM of torch on each utterance alone, and that it learns."""

from pathlib import Path

import torch
from torch import nn

from mesm_data.dataset.reader import Dataset
from mesm_data.synth.planted import planted_bayes_optimal
from mesm_model import models
from mesm_model.models.common.two_phase import final_states
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train
from tests.model import two_phase


def test_it_has_the_published_number_of_parameters() -> None:
    model = models.load("lf-lstm").Model(models.load("lf-lstm").Config())
    assert sum(p.numel() for p in model.parameters()) == 2_026_336


def test_logits_have_a_column_per_emotion_whatever_the_modalities() -> None:
    two_phase.hold_shapes("lf-lstm")


def test_neither_padding_nor_other_utterances_change_a_result() -> None:
    two_phase.hold_independence("lf-lstm")


def test_every_parameter_gets_a_gradient() -> None:
    two_phase.hold_gradients("lf-lstm")


def test_its_work_is_counted_without_padding() -> None:
    two_phase.hold_work("lf-lstm")


def test_its_states_are_those_of_torchs_lstm_on_every_utterance_alone() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 4, num_layers=2, batch_first=True, bidirectional=True).double()
    rows, counts = torch.randn(9, 5, dtype=torch.float64), torch.tensor([3, 0, 1, 5])
    states = final_states(lstm, rows, counts)
    for own, state in zip(rows.split(counts.tolist()), states, strict=True):
        alone = lstm(own[None])[1][0][-2:, 0] if len(own) else torch.zeros(2, 4, dtype=torch.float64)
        torch.testing.assert_close(state, alone)


def test_shrinking_a_nucleus_does_not_keep_a_model_without_one_from_stopping(featured: Dataset, tmp_path: Path) -> None:
    settings = ("epochs=6", "top_p_anneal=0.9", "patience=1", "lr=1e-12")  # nothing gets better
    choice = resolve_config(featured, "lf-lstm", {}, settings)
    with init_distributed("cpu") as ranks:
        scores = train(featured, choice, tmp_path, ranks, RuntimeOptions(quiet=True))
    assert scores["epochs"] == 2


def test_it_learns_what_is_planted_to_within_ten_points_of_the_ceiling(learnable: Dataset, tmp_path: Path) -> None:
    auc = two_phase.learned(learnable, tmp_path / "run", "lf-lstm", "epochs=3", "lr=0.003", "batch=16")
    assert auc > planted_bayes_optimal([0.75, 0.6], 0.9).auc - 0.10
