"""`import mesm_model`: train, load, evaluate and predict from Python, with the results of the commands."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mesm_model
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.models import SettingError
from mesm_model.runs.checkpoint import CheckpointError
from mesm_model.runs.folder import read_scores
from tests.model.processes import TINY


@pytest.fixture(scope="module")
def run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> mesm_model.LoadedRun:
    out = tmp_path_factory.mktemp("api") / "mesm"
    return mesm_model.train(small, model="mesm", top_p=0.5, epochs=1, out=str(out), device="cpu", quiet=True, **TINY)


def test_train_returns_the_run_and_loads_a_finished_one(run: mesm_model.LoadedRun, small: Dataset) -> None:
    before = (run.folder / "scores.json").stat().st_mtime_ns
    again = mesm_model.train(small.folder, top_p=0.5, epochs=1, out=run.folder, device="cpu", **TINY)
    assert (run.folder / "scores.json").stat().st_mtime_ns == before
    assert repr(again) == repr(run)
    assert run.model == "mesm"
    assert run.modalities == "tav"
    assert set(run.thresholds) == set(small.emotions)


def test_evaluate_takes_one_split_of_a_dataset_and_scores_as_training_did(
    run: mesm_model.LoadedRun, small: Dataset
) -> None:
    trained = read_scores(run.folder)["splits"]
    for split in ("test", "valid"):
        report = run.evaluate(small.split(split))
        assert report.split == split
        assert report.to_pandas().loc["mean", "f1"] == pytest.approx(trained[split]["means"]["f1"])
    assert mesm_model.evaluate(str(run.folder), str(small.folder)).split == "test"
    with pytest.raises(DataError, match="no split 'dev', expected one of train, valid, test"):
        run.evaluate(small, "dev")


def test_load_takes_a_folder_or_its_checkpoint_and_prints_on_one_screen(run: mesm_model.LoadedRun) -> None:
    for path in (run.folder, str(run.folder), run.folder / "best.pt"):
        loaded = mesm_model.load(path, device="cpu")
        assert loaded.emotions == run.emotions
        assert "mesm on text, audio, vision, trained on planted" in repr(loaded)
        assert len(repr(loaded)) < 400
    with pytest.raises(CheckpointError, match=r"last.pt is for resuming and has no thresholds; give best.pt"):
        mesm_model.load(run.folder / "last.pt")
    with pytest.raises(CheckpointError, match="not found; expected the folder of a run"):
        mesm_model.load(run.folder / "text")


def test_predict_needs_a_video_and_words(run: mesm_model.LoadedRun, shared: Path) -> None:
    video = next((shared / "media" / "grid").glob("*.mpg"))
    with pytest.raises(DataError, match="this mesm reads text, and there is none"):
        run.predict(video)
    table = run.predict(str(video), text="Bin blue at F two now.").to_pandas()
    assert len(table) == 1
    assert set(run.emotions) <= set(table.columns)


def test_what_cannot_be_set_is_one_line(small: Dataset, tmp_path: Path) -> None:
    for settings, message in (
        ({"widht": 3}, "setting 'widht': neither mesm nor its training has it; did you mean width?"),
        ({"width": 0}, "setting width: found 0, expected more than 0"),
        ({"model": "mesmer"}, "model 'mesmer': expected one of"),
        ({"lr": "fast"}, "setting lr: found 'fast', expected a number"),
    ):
        with pytest.raises(SettingError, match=message):
            mesm_model.train(small, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, mesm_model; dir(mesm_model); print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", mesm_model.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(mesm_model, name))
    assert name in dir(mesm_model)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fit'; public are Batch, LoadedRun, evaluate"):
        mesm_model.fit  # noqa: B018
