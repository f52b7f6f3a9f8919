"""Search for settings: on valid alone, the same however often it is interrupted, within what a model declares."""

import csv
import os
import shutil
import statistics
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner

from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError
from mesm_data.files import exclusive
from mesm_model import models
from mesm_model.cli import main
from mesm_model.experiments import tune
from mesm_model.features import store
from mesm_model.loader import open_split
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RunConfig, RuntimeOptions, TrainSettings, resolve_config

QUICK = ("epochs=2", "feed_forward=16", "layers=1")
FIXED = ("epochs", "layers")


def search(dataset: Dataset, out: Path, trials: int, choice: RunConfig | None = None, **more: Any) -> list[tune.Trial]:
    chosen = choice or resolve_config(dataset, "lf-trans", {}, QUICK)
    with init_distributed("cpu") as ranks:
        return tune.tune(dataset, chosen, trials, out, ranks, RuntimeOptions(quiet=True), **{"fixed": FIXED} | more)


@pytest.fixture(scope="module")
def searched(featured: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tune.Trial]]:
    """A search of six trials."""
    out = tmp_path_factory.mktemp("tune") / "whole"
    return out, search(featured, out, 6)


def test_the_best_on_valid_comes_first_and_every_value_is_within_the_space(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset
) -> None:
    out, trials = searched
    assert [trial.f1 for trial in trials] == sorted((trial.f1 for trial in trials), reverse=True)
    assert sorted(trial.folder for trial in trials) == [f"trial-{n:03d}" for n in range(6)]
    space = models.load("lf-trans").SPACE
    for trial in trials:
        assert set(trial.values) == set(space) - set(FIXED)
        assert space["lr"].low <= trial.values["lr"] <= space["lr"].high
        assert trial.values["batch"] in space["batch"].values
    with (out / "tune.csv").open(newline="") as table:
        assert [row["trial"] for row in csv.DictReader(table)] == [trial.folder for trial in trials]


def test_the_test_split_is_neither_read_nor_there_to_be_read(small: Dataset, featured: Dataset, tmp_path: Path) -> None:
    own = Path(shutil.copytree(small.folder, tmp_path / "own", ignore=shutil.ignore_patterns(".cache")))
    made = Path(shutil.copytree(featured.index["features"]["folder"], tmp_path / "made"))
    hidden = [path for folder in (own, made) for path in folder.rglob("test-*.parquet")]
    assert len(hidden) == 4
    for path in hidden:
        path.write_bytes(b"nobody may look at this")
    dataset = store.attach(load(own), made)
    assert len(search(dataset, tmp_path / "out", 1)) == 1
    assert not list((own / ".cache").glob("test-*"))
    assert (tmp_path / "out" / "trial-000" / "scores.json").read_text().count('"split": "valid"') == 1
    with pytest.raises(DataError, match="no split 'test', expected one of train, valid"):
        open_split(tune.without_test(dataset), "test", None)
    assert set(tune.without_test(dataset).index["counts"]) == {"train", "valid"}


def test_more_trials_continue_the_search(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path
) -> None:
    for trials in (2, 2, 6):
        found = search(featured, tmp_path / "again", trials)
        assert len(found) == trials
    assert found == searched[1]


def test_a_killed_trial_is_resumed_and_the_search_ends_the_same(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    epochs = 0

    def die(self: tune._Epochs, epoch: int, f1: float) -> None:
        nonlocal epochs
        epochs += 1
        if epochs in (3, 4, 7):  # in the middle and at the end of a trial, without a word to the study
            raise KeyboardInterrupt
        tell(self, epoch, f1)

    tell = tune._Epochs.__call__
    monkeypatch.setattr(tune._Epochs, "__call__", die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            search(featured, out, 6)
    assert search(featured, out, 6) == searched[1]


def test_a_search_killed_while_it_wrote_its_plan_begins_again(featured: Dataset, tmp_path: Path) -> None:
    (tmp_path / "plan.json.tmp").write_text("half of it")
    assert len(search(featured, tmp_path, 1)) == 1


def test_a_study_cut_short_loses_its_last_line_and_one_that_is_none_is_refused(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(searched[0], tmp_path / "cut"))
    study = out / "study.log"
    study.write_bytes(study.read_bytes()[:-9])  # in the middle of what the last trial came to
    assert search(featured, out, 6) == searched[1]
    study.write_text("a line\n" + study.read_text())
    with pytest.raises(DataError, match=r"study.log:1: not JSON .*; expected the lines of Optuna; give another --out"):
        search(featured, out, 6)


@pytest.mark.parametrize("change", [('"op_code"', '"op_cod"'), ('"folder"', '"f"')])
def test_a_study_whose_lines_were_changed_is_one_line(
    change: tuple[str, str], searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(searched[0], tmp_path / "changed"))
    study = out / "study.log"
    assert change[0] in study.read_text()
    study.write_text(study.read_text().replace(*change))
    with pytest.raises(
        DataError, match=r"study.log: not a study that Optuna wrote \(.*\); give another --out, or delete"
    ):
        search(featured, out, 6)


def test_the_lock_of_a_killed_search_on_its_study_is_removed(featured: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(featured, out, 1)
    (out / "study.log.lock").symlink_to("out/study.log")  # killed while it wrote, with a relative --out
    assert len(search(featured, out, 2)) == 2


def test_settings_of_a_trial_killed_twice_are_not_drawn_again(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suggest, train = tune._suggest, tune.train
    left = 10**9  # settings to suggest before the process is killed

    def dying(*of: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return suggest(*of)

    def die(*of: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "_suggest", dying)
    monkeypatch.setattr(tune, "train", die)
    for left in (10**9, 1, 2):  # noqa: B007  (dying reads it)
        with pytest.raises(KeyboardInterrupt):
            search(featured, tmp_path / "out", 1)
    left = 10**9
    monkeypatch.setattr(tune, "train", train)
    assert search(featured, tmp_path / "out", 6) == searched[1]


def test_a_trial_killed_when_it_was_to_be_stopped_is_stopped(
    featured: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = resolve_config(featured, "lf-trans", {}, ("epochs=4", "feed_forward=16", "layers=1"))
    whole = search(featured, tmp_path / "whole", 7, choice)
    stop = tune._Epochs._stop_if_worse

    def die(self: tune._Epochs) -> None:
        try:
            stop(self)
        except optuna.TrialPruned:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(tune._Epochs, "_stop_if_worse", die)
    with pytest.raises(KeyboardInterrupt):
        search(featured, tmp_path / "killed", 7, choice)
    monkeypatch.setattr(tune._Epochs, "_stop_if_worse", stop)
    log = max((tmp_path / "killed").glob("trial-*")) / "log.jsonl"
    with log.open("ab") as file:
        file.write(b'{"step": 1')  # and its last line is torn
    assert search(featured, tmp_path / "killed", 7, choice) == whole


def test_a_trial_that_is_worse_than_most_is_stopped_early(featured: Dataset, tmp_path: Path) -> None:
    choice = resolve_config(featured, "lf-trans", {}, ("epochs=4", "feed_forward=16", "layers=1"))
    trials = search(featured, tmp_path / "pruned", 7, choice)
    stopped = [trial for trial in trials if trial.pruned]
    assert stopped
    assert all(trial.f1 <= statistics.median(other.f1 for other in trials) for trial in stopped)
    assert all(not (tmp_path / "pruned" / trial.folder / "scores.json").exists() for trial in stopped)
    assert "stopped early" in tune.to_text(trials)


def test_every_model_declares_settings_that_it_has_with_values_that_can_be() -> None:
    for name in models.names():
        module = models.load(name)
        known = {field.name for kind in (module.Config, TrainSettings) for field in fields(kind)}
        assert set(module.SPACE) <= known, name
        for setting, one in module.SPACE.items():
            values = one.values if isinstance(one, OneOf) else (one.low, one.high)
            assert isinstance(one, OneOf | Between)
            for value in values:
                kind = module.Config if hasattr(module.Config, setting) else TrainSettings
                assert getattr(kind(**{setting: value}), setting) == value


def test_another_search_in_the_folder_and_one_at_work_are_refused(
    searched: tuple[Path, list[tune.Trial]], featured: Dataset, tmp_path: Path
) -> None:
    out, _ = searched
    with pytest.raises(
        DataError, match=r"plan.json: this folder holds a search with settings.epochs 2, now asked for with 3; give an"
    ):
        search(featured, out, 6, resolve_config(featured, "lf-trans", {}, ("epochs=3", "feed_forward=16", "layers=1")))
    (tmp_path / "mine.txt").write_text("mine")
    other = Path(featured.index["features"]["folder"])  # which has a plan.json too
    for folder, message in (
        (tmp_path, "not empty and no search of this"),
        (other, r"no plan of a search; give another"),
    ):
        with pytest.raises(DataError, match=message):
            search(featured, folder, 1)
    with exclusive(out, "searches"), pytest.raises(DataError, match="another process searches in this folder"):
        search(featured, out, 6)
    with pytest.raises(DataError, match="every setting that could be searched for is given; leave one out"):
        search(featured, tmp_path / "none", 1, fixed=list(models.load("lf-trans").SPACE))


def test_the_command_searches_what_the_user_has_not_set_and_says_how_to_train(
    featured: Dataset, tmp_path: Path
) -> None:
    folder = featured.index["features"]["folder"]
    arguments = ["tune", str(featured.folder), "--model", "lf-trans", "--features", folder, "--trials", "1"]
    arguments += [
        "--epochs",
        "1",
        "--lr",
        "0.001",
        "--set",
        "layers=1",
        "--out",
        str(tmp_path / "t"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "chosen on valid alone, test was not read" in result.output
    following = next(line for line in result.output.splitlines() if line.startswith("Next: mesm train"))
    for setting in (f"--features {folder}", "--set lr=0.001", "--set epochs=1", "--set layers=1", "--set dropout="):
        assert following.count(setting) == 1, following
    assert os.listdir(tmp_path / "t" / "trial-000").count("last.pt") == 1
