"""Training: exact after any interruption, the same for any number of processes, and it learns what can be learned."""

import random
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError
from mesm_data.files import exclusive
from mesm_data.synth import planted, synthetic_dataset
from mesm_model.evaluation import metrics
from mesm_model.models import fe2e, mesm
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.folder import claim_run, read_log, read_run, read_scores
from mesm_model.runs.settings import RunConfig, RuntimeOptions, TrainSettings, resolve_config
from mesm_model.training.memory import too_large
from mesm_model.training.running_statistics import RunningStatistics
from mesm_model.training.step import Stepper, positive_weight
from mesm_model.training.train import selection_score, train
from tests.model import processes
from tests.model.narrow import NARROW, batch, build

QUIET = RuntimeOptions(quiet=True)
ONCE = TrainSettings(epochs=1, batch=16, lr=1e-3)
CONFIG = fe2e.Config(**NARROW | {"emotions": 4, "text_encoder": "tiny"})


def run(
    dataset: Dataset, out: Path, settings: TrainSettings = ONCE, config: Any = CONFIG, name: str = "fe2e"
) -> dict[str, Any]:
    """One run in this process; its scores.json."""
    with init_distributed("cpu") as ranks:
        return train(dataset, RunConfig(name, config, settings), out, ranks, QUIET)


def same_scores(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """True when two scores.json differ in the run's name and the seconds only."""
    stored = [
        {split: report | {"run": ""} for split, report in scores["splits"].items()} | {"best": scores["best_epoch"]}
        for scores in (one, other)
    ]
    return stored[0] == stored[1]


# ---- interruption


@pytest.fixture(scope="module")
def undisturbed(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    processes.finish(processes.start(small.folder, out))
    return out


@pytest.mark.parametrize(("world", "kills"), [(1, 5), (2, 3)])
def test_kill_9_at_any_moment_and_the_same_command_again_end_with_the_same_bits(
    world: int, kills: int, small: Dataset, undisturbed: Path, tmp_path: Path
) -> None:
    draw = random.Random()
    moments = sorted(draw.sample(range(1, processes.STEPS + 2), kills))
    out = tmp_path / "killed"
    for moment in moments:
        processes.kill_at(processes.start(small.folder, out, world), out / "log.jsonl", moment)
    processes.finish(processes.start(small.folder, out, world))
    assert (out / "log.jsonl").read_text() == (undisturbed / "log.jsonl").read_text(), f"killed at {moments}"
    for name in ("best.pt", "last.pt"):
        ended, expected = checkpoints.load(out / name), checkpoints.load(undisturbed / name)
        assert ended.thresholds == expected.thresholds
        figures = [key for key in expected.weights if not key.endswith("num_batches_tracked")]
        assert all(torch.equal(ended.weights[key], expected.weights[key]) for key in figures)
    assert same_scores(read_scores(out), read_scores(undisturbed))


def test_under_torchrun_the_same_command_gives_the_same_run(small: Dataset, undisturbed: Path, tmp_path: Path) -> None:
    values = {**vars(processes.CONFIG), **vars(processes.SETTINGS)}
    del values["emotions"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "mesm_model",
    ]
    command += ["train", str(small.folder), "--model", "mesm", "--device", "cpu", "--out", str(tmp_path / "two")]
    command += [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=900, capture_output=True)
    assert (tmp_path / "two" / "log.jsonl").read_text() == (undisturbed / "log.jsonl").read_text()


def test_no_process_scores_before_the_best_epoch_is_on_the_disk(small: Dataset, tmp_path: Path) -> None:
    processes.finish(processes.start(small.folder, tmp_path / "two", world=2, epochs=1))
    processes.finish(processes.start(small.folder, tmp_path / "one", epochs=1))
    two, one = (read_scores(tmp_path / name) for name in ("two", "one"))
    assert same_scores(two, one)


def test_processes_that_cannot_share_a_step_are_refused_with_what_to_give(small: Dataset, tmp_path: Path) -> None:
    with (
        init_distributed("cpu") as ranks,
        pytest.raises(DataError, match=r"2 processes cannot share evenly .* --set grad_accumulation=2"),
    ):
        train(small, RunConfig("fe2e", CONFIG, ONCE), tmp_path / "run", replace(ranks, world=2), QUIET)


def test_running_statistics_of_a_step_do_not_depend_on_the_order_of_its_batches() -> None:
    data = [torch.randn(8, 3, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    seen = []
    for order in ([0, 1, 2], [2, 0, 1]):
        norm = torch.nn.BatchNorm1d(3)
        figures = RunningStatistics(norm, len(order), world=1)
        for n in order:
            with figures.of_one_batch():
                norm(data[n])
        with init_distributed("cpu") as ranks:
            figures.settle(ranks)
        assert norm.running_mean is not None
        seen.append(norm.running_mean)
    expected = 0.1 * torch.stack([d.mean(0) for d in data]).mean(0)
    assert all(torch.allclose(figure, expected, atol=1e-7) for figure in seen)


# ---- the folder


def test_a_finished_run_is_not_trained_again(small: Dataset, tmp_path: Path) -> None:
    first = run(small, tmp_path / "run")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir() if path.name != "lock"}
    assert run(small, tmp_path / "run") == first
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_another_run_into_the_same_folder_is_refused_naming_the_field(small: Dataset, tmp_path: Path) -> None:
    run(small, tmp_path / "run")
    for settings, config, message in (
        (replace(ONCE, lr=0.5), CONFIG, "settings.lr 0.001, now asked for with 0.5;"),
        (ONCE, replace(CONFIG, modalities="ta"), 'config.modalities "tav", now asked for with "ta";'),
    ):
        with pytest.raises(
            DataError, match=f"holds a run with {message} give another --out, or delete .* to start over"
        ):
            run(small, tmp_path / "run", settings, config)
    planted.write_planted(tmp_path / "other", {"train": 4, "valid": 2}, seed=9)
    with pytest.raises(DataError, match=r"holds a run with data.content"):
        run(load(tmp_path / "other"), tmp_path / "run")


def test_a_run_without_a_checkpoint_is_overwritten(small: Dataset, tmp_path: Path) -> None:
    about = {"model": "fe2e", "config": {}, "settings": {}, "data": {}}
    with init_distributed("cpu") as ranks, claim_run(tmp_path / "run", about, ranks):
        pass
    assert run(small, tmp_path / "run")["epochs"] == 1


@pytest.mark.parametrize("left", ["last.pt", "best.pt", "scores.json"])
def test_a_run_is_not_overwritten_while_any_result_is_left(left: str, small: Dataset, tmp_path: Path) -> None:
    run(small, tmp_path / "run")
    for name in {"last.pt", "best.pt", "scores.json"} - {left}:
        (tmp_path / "run" / name).unlink()
    with pytest.raises(DataError, match=r"holds a run with settings.seed 0, now asked for with 7"):
        run(small, tmp_path / "run", replace(ONCE, seed=7))


def test_a_run_that_ended_while_another_waited_is_not_resumed(small: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"

    @dataclass(frozen=True)
    class Behind(Distributed):
        """One that is held up until another run has come and gone."""

        def wait(self) -> None:
            if not out.exists():
                run(small, out, replace(ONCE, seed=7))

    about = {"model": "fe2e", "config": {}, "settings": {"seed": 0}, "data": {}}
    with (
        pytest.raises(DataError, match="holds a run with"),
        claim_run(out, about, Behind(1, 0, torch.device("cpu"))),
    ):
        pass
    assert read_run(out)["settings"]["seed"] == 7


def test_what_the_first_process_writes_does_not_make_another_refuse_the_folder(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Behind(Distributed):
        """The second of two, held up until the first has long begun."""

        def wait(self) -> None:
            (tmp_path / "run" / "text").mkdir(parents=True, exist_ok=True)

    with claim_run(tmp_path / "run", {"model": "fe2e"}, Behind(2, 1, torch.device("cpu"))):
        assert (tmp_path / "run" / "text").is_dir()


def test_a_folder_with_other_things_or_another_process_in_it_is_left_alone(small: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(
        DataError, match=r"mine: not empty and no run of this program \(no run.json\); give another --out"
    ):
        run(small, tmp_path / "mine")
    (tmp_path / "run").mkdir()
    with (
        exclusive(tmp_path / "run", "trains"),
        pytest.raises(DataError, match="another process trains in this folder; wait for it, or give another --out"),
    ):
        run(small, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run.json", r"run.json: not JSON \(.*\); .*delete .*run to start over"),
        (
            "scores.json",
            r"scores.json: not JSON \(.*\); delete it, and the same `mesm train` makes it again",
        ),
    ],
)
def test_a_damaged_file_in_the_folder_is_one_line_with_the_way_out(
    name: str, message: str, small: Dataset, tmp_path: Path
) -> None:
    run(small, tmp_path / "run")
    whole = read_scores(tmp_path / "run")
    (tmp_path / "run" / name).write_text("{")
    with pytest.raises(DataError, match=message):
        run(small, tmp_path / "run")
    if name == "scores.json":
        (tmp_path / "run" / name).unlink()
        assert same_scores(run(small, tmp_path / "run"), whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"epochs": 1, "best_epoch": 1, "splits": {}}', "splits lacks valid"),
        (
            '{"epochs": 1, "best_epoch": 1, "splits": {"valid": {"means": 1}}}',
            "splits.valid lacks data, split, features",
        ),
        ("[1]", "found a list of 1, expected an object"),
    ],
)
def test_scores_that_lack_something_deep_inside_are_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(DataError, match=f"scores.json: {message}; delete it, and the same `mesm train` makes it again"):
        read_scores(tmp_path)


@pytest.mark.parametrize("line", ['{"epoch": 1}', "[]", '{"step": "1", "loss": 0.5, "gradient": 1}', "{", "\0\0"])
def test_a_damaged_line_of_the_log_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5, "gradient": null}\n' + line + "\n")
    with pytest.raises(DataError, match=r"log.jsonl:2: .*; delete .* to start over"):
        read_log(tmp_path)


def test_a_log_that_lost_its_end_is_resumed_without_it_and_never_padded(
    small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = run(small, tmp_path / "run", replace(ONCE, epochs=2)), tmp_path / "run"
    (out / "scores.json").unlink()
    lines = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    (out / "log.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:7])
    assert same_scores(run(small, out, replace(ONCE, epochs=2)), whole)
    assert (out / "log.jsonl").read_bytes() == b"".join(lines[:2])
    assert f"log.jsonl: cut short by {sum(map(len, lines[2:]))} bytes" in capsys.readouterr().err
    (out / "log.jsonl").write_bytes(lines[0] + b"\0\0\n" + lines[1])
    with pytest.raises(DataError, match=r"log.jsonl:2: not JSON .*; delete .*run to start over"):
        read_log(out)


def test_an_epoch_that_a_constant_decision_equals_is_never_the_best() -> None:
    assert selection_score(0.7, 0.5) == selection_score(0.7, 0.4) == selection_score(None, 0.9) == 0.0
    assert selection_score(0.3, 0.6) == selection_score(0.3, None) == 0.3


def test_the_best_epoch_beats_a_constant_decision_wherever_one_does(small: Dataset, tmp_path: Path) -> None:
    scores = run(small, tmp_path / "run", replace(ONCE, epochs=5, lr=1e-4), replace(CONFIG, modalities="t"))
    epochs = [line for line in read_log(tmp_path / "run") if "epoch" in line]
    ranked = sorted(epochs, key=lambda line: (line["valid"]["auc"] > 0.5, line["valid"]["f1"], -line["epoch"]))
    assert scores["best_epoch"] == ranked[-1]["epoch"]


def test_a_run_that_learned_nothing_says_so(
    small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesm_model.evaluation.metrics.CONSTANT_AUC", 1.0)
    with init_distributed("cpu") as distributed:
        train(small, RunConfig("fe2e", replace(CONFIG, modalities="t"), ONCE), tmp_path / "run", distributed)
    assert "no epoch beat a constant decision on valid (AUC 0.5)" in capsys.readouterr().err


def test_a_damaged_last_checkpoint_is_refused_and_the_run_starts_over_without_it(
    small: Dataset, tmp_path: Path
) -> None:
    whole, out = run(small, tmp_path / "run"), tmp_path / "run"
    log = (out / "log.jsonl").read_text()
    (out / "scores.json").unlink()
    (out / "last.pt").write_bytes((out / "last.pt").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last.pt: not a whole checkpoint of mesm \(.*\); delete it to start over"):
        run(small, out)
    (out / "last.pt").unlink()
    assert same_scores(run(small, out), whole)
    assert (out / "log.jsonl").read_text() == log


def test_a_run_leaves_its_log_its_scores_and_both_checkpoints(small: Dataset, tmp_path: Path) -> None:
    scores = run(small, tmp_path / "run", replace(ONCE, epochs=2))
    log = read_log(tmp_path / "run")
    assert [line["step"] for line in log if "step" in line] == list(range(1, 7))
    epochs = [line for line in log if "epoch" in line]
    losses = [line["loss"] for line in log if "step" in line]
    assert epochs[1]["loss"] == pytest.approx(np.mean(losses[3:]))
    best = max(epochs, key=lambda line: (line["valid"]["auc"] > 0.5, line["valid"]["f1"]))
    assert (scores["best_epoch"], scores["splits"]["valid"]["means"]["f1"]) == (best["epoch"], best["valid"]["f1"])
    assert checkpoints.load(tmp_path / "run").resume is None
    assert checkpoints.load(tmp_path / "run" / "last.pt").epoch == 2


def test_the_log_is_there_for_tensorboard_too_where_that_is_installed(small: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(small, tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_thresholds_are_those_that_are_best_on_valid_and_the_same_for_test(small: Dataset, tmp_path: Path) -> None:
    reports = run(small, tmp_path / "run")["splits"]
    best = checkpoints.load(tmp_path / "run")
    assert reports["valid"]["thresholds"] == reports["test"]["thresholds"] == best.thresholds
    assert all(threshold in metrics.GRID for threshold in best.thresholds)


def test_training_stops_when_valid_gets_no_better(small: Dataset, tmp_path: Path) -> None:
    stuck = replace(ONCE, epochs=30, patience=2, lr=1e-12)
    scores = run(small, tmp_path / "run", stuck, replace(CONFIG, modalities="t"))
    assert scores["epochs"] == scores["best_epoch"] + 2 < 30


def test_a_plateau_reduces_the_learning_rate_in_a_resumed_run_too(small: Dataset, tmp_path: Path) -> None:
    stuck = replace(ONCE, epochs=5, lr=1e-12, lr_schedule="plateau", plateau_patience=0, patience=9)
    text = RunConfig("fe2e", replace(CONFIG, modalities="t"), stuck)

    def stop(epoch: int, score: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with init_distributed("cpu") as distributed:
        train(small, text, tmp_path / "whole", distributed, QUIET)
        with pytest.raises(KeyboardInterrupt):
            train(small, text, tmp_path / "splits", distributed, QUIET, stop)
        train(small, text, tmp_path / "splits", distributed, QUIET)
    states = [checkpoints.load(tmp_path / name / "last.pt").resume["state"] for name in ("whole", "splits")]  # type: ignore[index]
    assert states[0]["plateau"] == states[1]["plateau"]
    assert states[0]["plateau"]["factor"] == pytest.approx(1e-4)


def test_the_loss_of_probabilities_is_the_training_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 4, generator=draw), torch.randint(0, 2, (6, 4), generator=draw).float()
    with init_distributed("cpu") as distributed:
        stepper = Stepper(build("fe2e", "tiny", modalities="v"), ONCE, labels.numpy(), distributed)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=stepper.positive_weight)
    assert stepper.loss(logits.sigmoid().numpy(), labels.numpy()) == pytest.approx(float(expected), rel=1e-6)


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0.0}, "setting lr: found 0.0, expected more than 0"),
        ({"precision": "fp8"}, "setting precision: found 'fp8', expected one of fp32, bf16, fp16"),
        ({"grad_clip_norm": -1.0}, "setting grad_clip_norm: found -1.0, expected 0 or more"),
        ({"seed": -1}, "setting seed: found -1, expected 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainSettings(**wrong)


def test_rare_emotions_weigh_by_negatives_per_positive_and_absent_ones_by_one() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]], np.float32)
    assert positive_weight(labels).tolist() == [3.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "changed", [{"precision": "bf16"}, {"deterministic": True}, {"grad_accumulation": 3, "grad_clip_norm": 0.1}]
)
def test_every_way_of_training_runs_and_gives_numbers(changed: dict[str, Any], small: Dataset, tmp_path: Path) -> None:
    try:
        means = run(small, tmp_path / "run", replace(ONCE, **changed))["splits"]["test"]["means"]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(0 <= value <= 1 for value in means.values())


def test_the_log_has_the_norm_before_clipping(small: Dataset, tmp_path: Path) -> None:
    """Adam is invariant to the scale of gradients, so the log is where clipping shows."""
    run(small, tmp_path / "run", replace(ONCE, grad_clip_norm=1e-3))
    norms = [line["gradient"] for line in read_log(tmp_path / "run") if "step" in line]
    assert min(norms) > 1e-3


def test_out_of_memory_says_what_was_in_the_batch_and_which_option_helps() -> None:
    message = too_large(batch((2, 1, 4), (3, 2, 3)), TrainSettings(batch=8))
    assert "in a batch of 2 utterances with 5 faces, 3 mel chunks and 7 tokens" in message
    assert "lower --batch (now 8) or --set batch_memory_mb=... (now 8000 megabytes)" in message
    assert "--precision bf16 or --set recompute_front=true" in message


def test_a_model_that_does_not_fit_in_memory_is_one_line(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out of memory: a fe2e of these sizes does not fit; lower --set width"):
        run(small, tmp_path / "run", config=replace(CONFIG, width=9_999_999))


def test_an_optimiser_that_does_not_fit_in_memory_is_one_line(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.optim.Adam, "step", full)
    with pytest.raises(
        DataError, match=r"out of memory: Adam keeps twice the weights of this model; lower --set width"
    ):
        run(small, tmp_path / "run")


def test_recompute_front_changes_nothing_but_memory(small: Dataset, tmp_path: Path) -> None:
    config = mesm.Config(**NARROW | {"emotions": 4, "text_encoder": "tiny", "dropout": 0.0})
    plain = run(small, tmp_path / "plain", config=config, name="mesm")
    again = run(small, tmp_path / "again", config=replace(config, recompute_front=True), name="mesm")
    assert same_scores(plain, again)


def test_utterances_without_frames_or_without_sound_are_trained_on_and_scored(tmp_path: Path) -> None:
    def sample(rng: np.random.Generator) -> synthetic_dataset.Sample:
        faces, chunks = rng.integers(0, 2, 2) * 2
        return synthetic_dataset.Sample(
            (1, 0, 1, 0),
            "Well.",
            rng.integers(0, 256, (faces, 48, 48, 3), np.uint8),
            rng.standard_normal((chunks, 128, 32)).astype(np.float16),
        )

    sizes = {"train": 12, "valid": 6, "test": 6}
    synthetic_dataset.write_samples(
        tmp_path / "holes", "holes", synthetic_dataset.EMOTIONS, sizes, {"seed": 0}, sample, {}
    )
    holes = load(tmp_path / "holes")
    counts = {(len(row["faces"]), len(row["mels"])) for row in holes.rows(["faces", "mels"], "train")}
    assert counts == {(0, 0), (0, 2), (2, 0), (2, 2)}
    config = mesm.Config(**NARROW | {"emotions": 4, "text_encoder": "tiny"})
    scores = run(holes, tmp_path / "run", replace(ONCE, batch=2), config, "mesm")
    assert scores["splits"]["test"]["utterances"] == 6
    assert all(line["gradient"] is not None for line in read_log(tmp_path / "run") if "step" in line)


# ---- learning, held against what can be learned

EVIDENCE = {"T": 1.0, "A": 1.0, "V": 1.0}
LEARNABLE = {"train": 1500, "valid": 200, "test": 600}
SMALL = ["width=4", "epochs=4", "lr=1.5e-3"]  # a sixteenth of the paper's width


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("data") / "learnable"
    planted.write_planted(out, LEARNABLE, evidence=EVIDENCE)
    return load(out)


def learn(dataset: Dataset, out: Path, name: str, *settings: str) -> dict[str, float]:
    """Mean scores on test of a model, with the settings that the dataset suggests and these."""
    choice = resolve_config(dataset, name, {}, list(settings))
    torch.set_num_threads(1)
    return run(dataset, out, choice.settings, choice.config, name)["splits"]["test"]["means"]


@pytest.mark.parametrize("modalities", ["T", "A", "V"])
def test_a_model_comes_close_to_the_best_reachable_accuracy(
    modalities: str, learnable: Dataset, tmp_path: Path
) -> None:
    """One short run of a very narrow FE2E each."""
    found = learn(learnable, tmp_path / "run", "fe2e", f"modalities={modalities.lower()}", *SMALL)
    is_close(found, planted.planted_bayes_optimal([1.0] * (modalities != "T"), 1.0 * (modalities == "T")), within=0.05)


def test_mesm_at_half_the_attention_stays_within_three_points_of_fe2e(tmp_path: Path) -> None:
    """From faces alone. Over five seeds accuracy was 0.9, -0.1, 0.2, 1.9 and 2.4 points lower, AUC at most 1.6."""
    sizes = {"train": 1200, "valid": 200, "test": 600}
    bayes_optimal = planted.write_planted(tmp_path / "data", sizes, evidence=EVIDENCE | {"V": 1.5})["V"]
    dataset = load(tmp_path / "data")
    small = ("modalities=v", "width=4", "epochs=8", "lr=3e-3", "batch=8")
    dense = learn(dataset, tmp_path / "fe2e", "fe2e", *small)
    sparse = learn(dataset, tmp_path / "mesm", "mesm", "top_p=0.5", *small)
    is_close(dense, bayes_optimal, within=0.04)
    is_close(sparse, bayes_optimal, within=0.05)
    assert sparse["acc"] > dense["acc"] - 0.03
    assert sparse["auc"] > dense["auc"] - 0.03


def is_close(found: dict[str, float], best: synthetic_dataset.BayesOptimal, within: float) -> None:
    assert best.accuracy - within < found["acc"] < best.accuracy + 0.02
    assert best.auc is not None
    assert best.auc - within < found["auc"] < best.auc + 0.02


def test_a_modality_that_carries_nothing_scores_as_chance(tmp_path: Path) -> None:
    planted.write_planted(tmp_path / "data", {"train": 300, "valid": 100, "test": 800}, evidence=EVIDENCE | {"V": 0.0})
    found = learn(load(tmp_path / "data"), tmp_path / "run", "fe2e", "modalities=v", *SMALL, "epochs=2")
    assert found["auc"] == pytest.approx(0.5, abs=0.04)
    assert found["acc"] == pytest.approx(0.5, abs=0.04)
