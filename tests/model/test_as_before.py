"""Datasets and losses are those recorded in tests/recorded.json before the packages were reorganised.

A change that should not change results leaves this test green. One that should says so in its commit message, with the
new figures and the reason.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_data.build import Settings, build
from mesm_data.dataset.reader import Dataset, load
from mesm_data.synth import iemocap, planted
from mesm_data.synth.synthetic_dataset import default_sizes
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.folder import read_log
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train
from tests.model.conftest import with_features

RECORDED = json.loads((Path(__file__).parents[1] / "recorded.json").read_text(encoding="utf-8"))
LIGHT = ("id", "split", "speaker", "group", "start", "end", "text", "labels", "votes", "face_times", "sample_rate")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 planted utterances to train on, with features."""
    folder = tmp_path_factory.mktemp("as_before")
    planted.write_planted(folder / "planted", default_sizes(24))
    return with_features(load(folder / "planted"), folder / "features")


def test_a_planted_dataset_has_the_same_values(dataset: Dataset) -> None:
    assert dataset.index["content"] == RECORDED["planted"]["content"]


def test_a_built_dataset_has_the_same_values(tmp_path: Path) -> None:
    """All but faces and mels to the bit.

    Those come from a neural face detector, video decoders and a Fourier transform, whose last bits differ between
    processors and library versions: of them the means must agree. (On the recording machine all bits do: its content
    digest is in recorded.json too.)
    """
    iemocap.write_iemocap(tmp_path / "raw")
    build("iemocap", tmp_path / "raw", tmp_path / "out", Settings(scheme="random", max_issues=0.6))
    expected, built = RECORDED["iemocap"], load(tmp_path / "out")
    assert digest_of_rows(built.rows(LIGHT)) == expected["light"]
    for name, (value, tolerance) in expected["summary"].items():
        assert summary(built)[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("name", RECORDED["losses"])
def test_three_steps_have_the_same_losses(name: str, dataset: Dataset, tmp_path: Path) -> None:
    given = {"epochs": 1, "batch": 8, "seed": 1, "lr": 1e-3}
    given |= {"fe2e": {"width": 8}, "mesm": {"width": 8, "top_p": 0.5}}.get(name, {})
    with init_distributed("cpu") as distributed:
        train(dataset, resolve_config(dataset, name, given), tmp_path, distributed, RuntimeOptions(quiet=True))
    losses = [line["loss"] for line in read_log(tmp_path) if "step" in line]
    assert losses == pytest.approx(RECORDED["losses"][name], rel=1e-5)


def digest_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of these columns, sorted by id."""
    plain = sorted(({name: row[name] for name in LIGHT} for row in rows), key=lambda row: row["id"])
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def summary(dataset: Dataset) -> dict[str, float]:
    """Means over all faces, mel chunks and boxes, and how many there are."""
    items = list(dataset)
    faces, mels = (np.concatenate([getattr(item, name) for item in items]).astype(float) for name in ("faces", "mels"))
    boxes = np.concatenate([item.clip.face_boxes for item in items])
    return {
        "faces": float(len(faces)),
        "faces_found": float(sum(item.clip.face_found.sum() for item in items)),
        "mels": float(len(mels)),
        "grey": float(faces.mean()),
        "contrast": float(faces.std()),
        "mel": float(mels.mean()),
        "mel_deviation": float(mels.std()),
        "box": float(boxes.mean()),
    }
