"""LF-TRANS: its published size, heads that fit any feature, masks, and that it learns."""

from pathlib import Path

import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.synth.planted import planted_bayes_optimal
from mesm_model import models
from tests.model import two_phase

SMALL = {"feed_forward": 16, "layers": 2}


def test_it_has_the_published_number_of_parameters() -> None:
    model = models.load("lf-trans").Model(models.load("lf-trans").Config())
    assert sum(p.numel() for p in model.parameters()) == 4_898_702


def test_logits_have_a_column_per_emotion_whatever_the_modalities() -> None:
    two_phase.hold_shapes("lf-trans", **SMALL)


def test_neither_padding_nor_other_utterances_change_a_result() -> None:
    two_phase.hold_independence("lf-trans", **SMALL)


def test_every_parameter_gets_a_gradient() -> None:
    two_phase.hold_gradients("lf-trans", **SMALL)


def test_its_work_is_counted_without_padding() -> None:
    two_phase.hold_work("lf-trans", **SMALL)


def test_features_of_an_odd_size_get_fewer_heads() -> None:
    model = two_phase.build("lf-trans", audio_size=7, **SMALL)
    heads = {m: branch.transformer.encoder.layers[0].self_attn.num_heads for m, branch in model.branches.items()}
    assert heads == {"t": 4, "a": 1, "v": 5}


def test_the_order_of_rows_counts_only_with_positions() -> None:
    rows = two_phase.example(0, 5, 5, 5)
    reversed_rows = {m: own.flip(0) for m, own in rows.features.items()}
    for positions in (False, True):
        model = two_phase.build("lf-trans", positional_encoding=positions, **SMALL).eval()
        one, other = (
            model(two_phase.collate([two_phase.Example(**vars(rows) | {"features": features})]))
            for features in (rows.features, reversed_rows)
        )
        assert torch.allclose(one, other) != positions


def test_it_learns_what_is_planted_to_within_seven_points_of_the_ceiling(learnable: Dataset, tmp_path: Path) -> None:
    auc = two_phase.learned(learnable, tmp_path / "run", "lf-trans", "epochs=4", "lr=0.002", "batch=16")
    assert auc > planted_bayes_optimal([0.75, 0.6], 0.9).auc - 0.07
