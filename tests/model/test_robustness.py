"""Damage: as much as it should be, the same every time, and applied to what the model reads."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mesm_data.clip import Recipe
from mesm_data.dataset.reader import Dataset
from mesm_model.cli import main
from mesm_model.evaluation.evaluate import open_run
from mesm_model.experiments import robustness as trying
from mesm_model.experiments.robustness import CLEAN, Damage, add_noise, black_out, damaged_split, damages, drop_words
from mesm_model.features.extract import FeatureSpec
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train
from tests.model.conftest import with_features

RECIPE = Recipe()


@pytest.fixture(scope="module")
def ranks() -> Iterator[Distributed]:
    with init_distributed("cpu") as found:
        yield found


@pytest.fixture
def end_to_end(fe2e_run: Path) -> Path:
    return fe2e_run


@pytest.fixture(scope="module")
def two_phase(learnable: Dataset, ranks: Distributed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lf-trans"
    choice = resolve_config(learnable, "lf-trans", {}, ("epochs=4", "lr=0.002", "batch=16"))
    train(learnable, choice, out, ranks, RuntimeOptions(quiet=True))
    return out


# ---- damage


def test_a_share_of_the_frames_is_blacked_out_the_more_the_larger_it_is() -> None:
    chosen = [black_out(8, share, "u7") for share in (0.25, 0.5, 1.0)]
    assert [int(one.sum()) for one in chosen] == [2, 4, 8]
    assert (chosen[0] <= chosen[1]).all()
    assert np.array_equal(black_out(8, 0.5, "u7"), chosen[1])
    assert any(not np.array_equal(black_out(8, 0.5, f"u{n}"), chosen[1]) for n in range(6))


def test_words_are_dropped_where_they_stand_and_the_others_keep_their_order() -> None:
    text = "one two three four five six seven eight"
    left = drop_words(text, 0.5, "u7").split()
    assert len(left) == 4
    assert left == [word for word in text.split() if word in left]
    assert set(drop_words(text, 0.75, "u7").split()) <= set(left)
    assert drop_words("", 0.5, "u7") == ""


@pytest.mark.parametrize("decibels", [20.0, 10.0, 0.0])
def test_noise_is_so_many_decibels_softer_than_the_sound_and_leaves_the_padding(decibels: float) -> None:
    draw = np.random.default_rng(0)
    mels = np.log(draw.gamma(2, 3, (3, 128, 32)) + 1e-6)
    mels[2, :, 10:] = np.log(1e-6)
    noisy = add_noise(mels, decibels, "u7", 16_000, RECIPE)
    noise = np.exp(noisy) - np.exp(mels)
    assert 10 * np.log10((np.exp(mels) - 1e-6).sum() / noise.sum()) == pytest.approx(decibels, abs=1e-3)
    assert np.array_equal(noisy[2, :, 10:], mels[2, :, 10:])
    assert (noise[:2] >= 0).all()


def test_noise_on_silence_and_on_nothing_is_nothing() -> None:
    silent = np.full((1, 128, 32), np.log(1e-6), np.float16)
    assert np.array_equal(add_noise(silent, 0.0, "u7", 16_000, RECIPE), silent)
    assert add_noise(silent[:0], 0.0, "u7", 16_000, RECIPE).shape == (0, 128, 32)


def test_only_what_a_model_reads_is_damaged() -> None:
    assert {damage.modality for damage in damages("ta")} == {"t", "a"}
    assert [str(damage) for damage in damages("v")] == [f"faces blacked out, {n} %" for n in (25, 50, 75, 100)]
    assert [str(damage) for damage in damages("tav")][-3:] == ["no text", "no audio", "no vision"]


# ---- of what a model reads


def test_an_end_to_end_model_reads_damaged_faces_mels_and_words(
    end_to_end: Path, small: Dataset, ranks: Distributed
) -> None:
    opened = open_run(end_to_end, small, "test", ranks)
    whole = opened.split_data[3]

    def read(kind: str, modality: str, level: float = 0.0) -> Any:
        return damaged_split(opened, end_to_end, Damage(kind, modality, level))[3]

    assert not read("faces blacked out", "v", 1.0).faces.any()
    assert len(read("faces blacked out", "v", 1.0).faces) == len(whole.faces)
    assert torch.equal(read("faces blacked out", "v", 0.5).mels, whole.mels)
    assert (read("noise", "a", 0.0).mels >= whole.mels).all()
    assert read("noise", "a", 0.0).mels.dtype == whole.mels.dtype
    assert len(read("words dropped", "t", 0.5).tokens) < len(whole.tokens)
    gone = [read("missing", modality) for modality in "tav"]
    assert len(gone[0].tokens) < 4
    assert (len(gone[1].mels), len(gone[2].faces)) == (0, 0)


def test_a_two_phase_model_reads_features_of_the_damaged_clip(
    two_phase: Path, learnable: Dataset, ranks: Distributed
) -> None:
    opened = open_run(two_phase, learnable, "test", ranks)
    whole = opened.split_data[3].features

    def read(kind: str, modality: str, level: float = 0.0) -> Any:
        return damaged_split(opened, two_phase, Damage(kind, modality, level))[3].features

    black = read("faces blacked out", "v", 1.0)
    assert black["v"].shape == whole["v"].shape
    assert torch.equal(black["v"][0], black["v"][-1])  # one black picture is like another
    assert not torch.equal(black["v"], whole["v"])
    assert torch.equal(black["a"], whole["a"])
    assert (read("noise", "a", 0.0)["a"][:, :21] > whole["a"][:, :21]).all()  # louder in every Bark band
    assert 0 < len(read("words dropped", "t", 0.5)["t"]) < len(whole["t"])
    for modality in "tav":
        assert len(read("missing", modality)[modality]) == 0


def test_more_damage_costs_more_and_without_damage_nothing(
    two_phase: Path, learnable: Dataset, ranks: Distributed
) -> None:
    rows, skipped = trying.robustness(two_phase, learnable, "test", ranks)
    auc = {str(row.damage): row.scores.mean("auc") for row in rows}
    assert rows[0].damage == CLEAN
    assert skipped == []
    assert auc["none, 0 %"] > auc["noise, 0 dB"] + 0.02
    assert auc["noise, 20 dB"] > auc["noise, 0 dB"]
    for modality in ("text", "audio", "vision"):
        assert auc["none, 0 %"] > auc[f"no {modality}"]


def test_imported_features_cannot_be_made_anew_and_that_is_told(
    small: Dataset, ranks: Distributed, tmp_path: Path
) -> None:
    names = [row["id"] for row in small.rows(["id"])]
    (tmp_path / "smile.csv").write_text("name;x;y\n" + "".join(f"{name};{n % 3};1\n" for n, name in enumerate(names)))
    dataset = with_features(small, tmp_path / "f", a=FeatureSpec("opensmile", tmp_path / "smile.csv"))
    choice = resolve_config(dataset, "lf-lstm", {}, ("epochs=1", "modalities=av"))
    train(dataset, choice, tmp_path / "run", ranks, RuntimeOptions(quiet=True))
    result = CliRunner().invoke(main, ["robustness", str(tmp_path / "run"), str(small.folder), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "noise, 10 dB: impossible for imported features, skipped" in result.output
    assert "no audio" in result.output


def test_the_command_writes_a_table_and_one_picture(end_to_end: Path, small: Dataset, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["robustness", str(end_to_end), str(small.folder), "--out", str(tmp_path / "r.svg"), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert "undamaged" in result.output
    with (tmp_path / "r.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 1 + len(damages("tav")) + 1
    assert {row["damage"] for row in rows} == {"none", *trying.LEVELS, "best constant"}
    assert re.search(r"^best constant +\d", result.output, re.MULTILINE)
    assert ElementTree.parse(tmp_path / "r.svg").getroot().tag.endswith("svg")
    refused = CliRunner().invoke(main, ["robustness", str(end_to_end), str(small.folder), "--out", "r.pdf"])
    assert refused.exit_code == 2
    assert "r.pdf: expected a name that ends with .svg or .png" in refused.output
