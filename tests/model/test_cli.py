"""The command `mesm`, as a user types it."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesm_data.dataset.reader import Dataset
from mesm_model.cli import main

NARROW = [
    "--set",
    "width=2",
    "--set",
    "hidden=8",
    "--set",
    "embed_dim=4",
    "--set",
    "heads=1",
    "--set",
    "feed_forward=8",
]
SHORT = ["--epochs", "1", "--device", "cpu"]


def mesm(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "mesm"
    done = mesm("train", small.folder, "--model", "mesm", "--top-p", "0.5", "--out", out, *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    return out


def test_train_prints_the_table_and_says_where_the_page_is(small: Dataset, tmp_path: Path) -> None:
    done = mesm(
        "train", small.folder, "--model", "fe2e", "--modalities", "TA", "--out", tmp_path / "run", *NARROW, *SHORT
    )
    assert done.exit_code == 0, done.output
    assert "mean of 4" in done.stdout
    assert "predict nothing" in done.stdout
    assert f"Pages: {tmp_path / 'run' / 'page.html'}" in done.stdout
    assert "suggests, and gets: text_encoder=tiny" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["modalities"] == "ta"


def test_a_finished_run_says_so_and_prints_its_scores_again(run: Path, small: Dataset) -> None:
    again = mesm("train", small.folder, "--model", "mesm", "--top-p", "0.5", "--out", run, *NARROW, *SHORT)
    assert again.exit_code == 0
    assert "this run is finished" in again.stderr
    assert "mean of 4" in again.stdout


def test_several_seeds_give_mean_and_spread(small: Dataset, tmp_path: Path) -> None:
    words = ["--model", "fe2e", "--modalities", "t", "--seeds", "2", "--out", tmp_path / "many"]
    done = mesm("train", small.folder, *words, *SHORT)
    assert done.exit_code == 0, done.output
    assert "mean of 2 ± sd" in done.stdout
    assert (tmp_path / "many" / "seed-1" / "scores.json").is_file()
    evaluated = mesm("evaluate", tmp_path / "many", small.folder)
    assert "mean of 2 ± sd" in evaluated.stdout
    refused = mesm("evaluate", tmp_path / "many", small.folder, "--predictions", tmp_path / "p.csv")
    assert refused.exit_code == 2


def test_evaluate_prints_what_training_printed_as_text_json_and_csv(run: Path, small: Dataset, tmp_path: Path) -> None:
    text = mesm("evaluate", run, small.folder, "--split", "test")
    assert "20 utterances, per cent; thresholds were chosen on valid" in text.stdout
    values = json.loads(mesm("evaluate", run, small.folder, "--json").stdout)
    said = json.loads((run / "scores.json").read_text())["parts"]["test"]
    assert values["means"] == pytest.approx(said["means"])
    mesm("evaluate", run, small.folder, "--predictions", tmp_path / "new" / "test.csv")
    assert len(list(csv.reader((tmp_path / "new" / "test.csv").open()))) == 21


def test_sweep_reads_a_range_and_says_where_picture_and_table_are(small: Dataset, tmp_path: Path) -> None:
    done = mesm("sweep", small.folder, "--top-p", "0.5:1.0:0.5", "--out", tmp_path / "sweep", *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    assert f"Written to {tmp_path / 'sweep' / 'sweep.csv'} and {tmp_path / 'sweep' / 'sweep.svg'}" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["0.5", "1"]


def test_ablate_takes_several_models(small: Dataset, tmp_path: Path) -> None:
    done = mesm("ablate", small.folder, "--model", "fe2e", "--out", tmp_path / "ablate", *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:8]] == [
        f"fe2e-{s}" for s in ("tav", "ta", "tv", "av", "t", "a", "v")
    ]
    assert "" not in done.stdout.splitlines()


def test_flops_counts_the_papers_sizes_whatever_the_dataset_suggests(small: Dataset) -> None:
    done = mesm(
        "flops", "--model", "fe2e", small.folder, "--device", "cpu", "--split", "valid", "--set", "modalities=v"
    )
    assert done.exit_code == 0, done.output
    assert "0.478" in done.stdout
    assert "attention as it is drawn" in done.stdout


def test_a_run_is_counted_beside_fe2e_of_its_own_sizes_whatever_stands_above_it(run: Path, small: Dataset) -> None:
    done = mesm(
        "flops", "--model", "mesm", "--top-p", "0.5,0.7", "--run", run, small.folder, *NARROW, "--split", "valid"
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    shares = [
        line.split() for line in lines[lines.index(next(row for row in lines if "share of FE2E" in row)) + 1 :][:3]
    ]
    assert [row[:2] for row in shares[:2]] == [["mesm", "p=0.5"], ["mesm", "p=0.7"]]
    assert [row[-1] for row in shares] == ["0.50", "0.60", "0.50"]
    assert float(shares[0][2]) < float(shares[1][2]) < 1
    assert shares[2][0] == str(run)
    assert 0.3 < float(shares[2][1]) < 1
    assert "attention as it is drawn, that of a run as it was learned" in done.stdout
    assert "not the paper's albert-base-v2" in done.stdout


def test_models_lists_every_model_with_its_settings() -> None:
    shown = mesm("models").stdout
    assert "fe2e" in shown
    assert "top_p=0.7" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "mesmer"], "model 'mesmer': expected one of"),
        (["--model", "fe2e", "--top-p", "0.5"], "setting 'top_p': neither fe2e nor its training has it"),
        (["--model", "fe2e", "--set", "widht=3"], "setting 'widht': neither fe2e nor its training has it"),
        (["--model", "fe2e", "--set", "width"], "setting 'width': found no =, expected NAME=VALUE, as width=64"),
        (["--model", "fe2e", "--features", "."], "fe2e: reads words, sound and faces, not features; leave --features"),
        (["--model", "fe2e", "--set", "width=wide"], "setting 'width=wide': found 'wide', expected a whole number"),
        (["--model", "fe2e", "--set", "emotions=3"], "setting 'emotions': neither"),
        (["--model", "fe2e", "--modalities", "tx"], "setting modalities: found 'tx'"),
        (["--model", "fe2e", "--device", "tpu9"], "device 'tpu9': expected auto, cpu, cuda or cuda:N"),
        (["--model", "fe2e", "--out", "/dev/null"], "/dev/null: File exists"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(words: list[str], told: str, small: Dataset, tmp_path: Path) -> None:
    done = mesm("train", small.folder, "--out", tmp_path / "run", *words)
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mesm: ")]
    assert told in line


def test_a_folder_that_is_no_dataset_and_a_run_that_is_none_are_told(tmp_path: Path, small: Dataset) -> None:
    done = mesm("train", tmp_path, "--model", "fe2e", "--out", tmp_path / "run")
    assert (done.exit_code, "index.json: not found" in done.stderr) == (1, True)
    done = mesm("evaluate", tmp_path, small.folder)
    assert (done.exit_code, "best.pt: not found; expected the folder of a run" in done.stderr) == (1, True)


def test_evaluating_on_other_emotions_names_both(run: Path, other_emotions: Dataset) -> None:
    done = mesm("evaluate", run, other_emotions.folder)
    assert done.exit_code == 1
    assert "was trained for the emotions anger, happiness, sadness, surprise;" in done.stderr
    assert done.stderr.endswith("other has joy, grief\n")


@pytest.mark.parametrize("wrong", ["0.5:1.0", "0:1:0.1", "1.5", "a,b", "0.1:1:0"])
def test_values_of_p_that_cannot_be_are_a_usage_error(wrong: str, small: Dataset, tmp_path: Path) -> None:
    done = mesm("sweep", small.folder, "--top-p", wrong, "--out", tmp_path / "sweep")
    assert done.exit_code == 2
