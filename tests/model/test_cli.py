"""The command `mesm`, as a user types it."""

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from mesm_data.dataset.reader import Dataset
from mesm_data.synth import planted
from mesm_model import models
from mesm_model.cli import main

NARROW = [
    word for name in ("width=2", "hidden=8", "embed_dim=4", "heads=1", "feed_forward=8") for word in ("--set", name)
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


# ---- train


def test_train_prints_the_table_and_says_where_the_page_is(small: Dataset, tmp_path: Path) -> None:
    words = ["--model", "FE2E", "--modalities", "TA", "--out", tmp_path / "run", *NARROW, *SHORT]
    done = mesm("train", small.folder, *words)
    assert done.exit_code == 0, done.output
    assert "mean of 4" in done.stdout
    assert "predict everything" in done.stdout
    assert f"Pages: {tmp_path / 'run' / 'page.html'}" in done.stdout
    assert "suggests text_encoder=tiny" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["modalities"] == "ta"


def test_train_as_typed_takes_the_one_dataset_below_out_and_trains_mesm_into_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = mesm("train")
    assert nothing.exit_code == 1
    assert nothing.stderr.startswith("mesm: no dataset below ./out: `mesm-data build CORPUS --raw FOLDER` makes one")
    assert "`mesm-data synth planted --out out/planted`" in nothing.stderr
    both = mesm("train", "--model", "mult")
    assert both.stderr.count("\n") == 1
    assert "no dataset below ./out" in both.stderr
    assert "no features, which mult takes: `mesm features DATASET --out features`, then --features" in both.stderr
    planted.write_planted(tmp_path / "out" / "planted", {"train": 8, "valid": 8, "test": 8})
    done = mesm("train", *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    assert "dataset: out/planted" in done.stderr
    assert json.loads(Path("runs/mesm/run.json").read_text())["model"] == "mesm"
    planted.write_planted(tmp_path / "out" / "more" / "planted", {"train": 2, "valid": 2})
    several = mesm("train")
    assert several.stderr == "mesm: 2 datasets below ./out (out/more/planted, out/planted): give one of them\n"


def test_a_real_dataset_without_a_network_gets_one_line(small: Dataset, tmp_path: Path) -> None:
    words = ["train", small.folder, "--text-encoder", "nobody/has-this", "--out", tmp_path / "run", *SHORT]
    code = f"from mesm_model.cli import main; main({[str(word) for word in words]!r})"
    offline = {"HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline, cwd=Path.cwd())
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mesm: ")]
    assert "--text-encoder FOLDER, or --text-encoder tiny" in line


def test_a_finished_run_says_so_and_prints_its_scores_again(run: Path, small: Dataset) -> None:
    again = mesm("train", small.folder, "--model", "mesm", "--top-p", "0.5", "--out", run, *NARROW, *SHORT)
    assert again.exit_code == 0
    assert "this run is finished" in again.stderr
    assert "mean of 4" in again.stdout


def test_the_published_preset_overrides_what_the_dataset_suggests(small: Dataset, tmp_path: Path) -> None:
    words = ["--model", "mesm", "--preset", "published", "--text-encoder", "tiny", "--out", tmp_path / "run"]
    done = mesm("train", small.folder, *words, *NARROW, *SHORT, "--batch", "16")
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    published = models.preset("mesm", "published", "planted")
    assert about["settings"]["lr"] == published["lr"]
    assert about["config"]["attention_gradient"] == published["attention_gradient"]
    assert (about["settings"]["batch"], about["config"]["width"]) == (16, 2)


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


# ---- the other commands


def test_evaluate_prints_what_training_printed_as_text_json_and_csv(run: Path, small: Dataset, tmp_path: Path) -> None:
    text = mesm("evaluate", run, small.folder, "--split", "test")
    assert "thresholds were chosen on valid" in text.stdout
    values = json.loads(mesm("evaluate", run, small.folder, "--json").stdout)
    trained = json.loads((run / "scores.json").read_text())["splits"]["test"]
    assert values["means"] == pytest.approx(trained["means"])
    mesm("evaluate", run, small.folder, "--predictions", tmp_path / "new" / "test.csv")
    assert len(list(csv.reader((tmp_path / "new" / "test.csv").open()))) == 21


def test_compare_prints_json(run: Path, tmp_path: Path) -> None:
    done = mesm("compare", run, "--json", "--csv", tmp_path / "compare.csv", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["split"] == "test"
    assert f"Written to {tmp_path / 'compare.csv'}" in done.stderr


def test_sweep_reads_a_range_and_says_where_picture_and_table_are(small: Dataset, tmp_path: Path) -> None:
    done = mesm("sweep", small.folder, "--top-p", "0.5:1.0:0.5", "--out", tmp_path / "sweep", *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    assert f"Written to {tmp_path / 'sweep' / 'sweep.csv'} and {tmp_path / 'sweep' / 'sweep.svg'}" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["0.5", "1"]


def test_ablate_takes_several_models(small: Dataset, tmp_path: Path) -> None:
    done = mesm("ablate", small.folder, "--model", "fe2e", "--out", tmp_path / "ablate", *NARROW, *SHORT)
    assert done.exit_code == 0, done.output
    subsets = ("tav", "ta", "tv", "av", "t", "a", "v")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:8]] == [f"fe2e-{subset}" for subset in subsets]


def test_flops_counts_the_papers_sizes_whatever_the_dataset_suggests(small: Dataset) -> None:
    words = ["--model", "fe2e", "--split", "valid", "--set", "modalities=v", "--device", "cpu"]
    done = mesm("flops", small.folder, *words)
    assert done.exit_code == 0, done.output
    assert "0.478" in done.stdout
    assert "untrained models with their initial attention." in done.stdout
    assert list(json.loads(mesm("flops", small.folder, *words, "--json").stdout)) == ["fe2e"]


def test_a_run_is_counted_beside_fe2e_of_its_own_sizes_whatever_stands_above_it(run: Path, small: Dataset) -> None:
    words = ["--model", "mesm", "--top-p", "0.5,0.7", "--run", run, small.folder, *NARROW, "--split", "valid"]
    done = mesm("flops", *words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    heading = next(n for n, line in enumerate(lines) if "share of FE2E" in line)
    shares = [line.split() for line in lines[heading + 1 :][:3]]
    assert [row[:2] for row in shares[:2]] == [["mesm", "p=0.5"], ["mesm", "p=0.7"]]
    assert [row[-1] for row in shares] == ["0.50", "0.60", "0.50"]
    assert float(shares[0][2]) < float(shares[1][2]) < 1
    assert shares[2][0] == str(run)
    assert 0.3 < float(shares[2][1]) < 1
    assert "initial attention; runs as trained." in done.stdout
    assert "not the paper's albert-base-v2" in done.stdout


def test_models_lists_every_model_with_its_settings() -> None:
    shown = mesm("models").stdout
    assert [line.split()[0] for line in shown.splitlines()[::2]] == [*models.names(), "training"]
    assert "top_p=0.7" in shown
    assert "lr_schedule=constant" in shown


def test_the_help_of_every_command_and_its_line_in_the_list_are_whole() -> None:
    listed = CliRunner().invoke(main, ["-h"], terminal_width=80).output.partition("Commands:")[2].strip().splitlines()
    assert [line.split()[0] for line in listed] == sorted(main.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []
    for name in main.commands:
        assert f"\n  mesm {name} " in mesm(name, "-h").output or name == "models"


# ---- wrong usage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "mesmer"], "'mesmer' is not one of 'emoembs', 'fe2e',"),
        (["--model", "fe2e", "--top-p", "0.5"], "setting 'top_p': neither fe2e nor its training has it"),
        (["--set", "widht=3"], "setting 'widht': neither mesm nor its training has it; did you mean width?"),
        (["--set", "width"], "setting 'width': found no =, expected NAME=VALUE, as width=64"),
        (["--set", "width=wide"], "setting 'width=wide': found 'wide', expected a whole number"),
        (["--set", "emotions=3"], "setting 'emotions': neither"),
        (["--modalities", "tx"], "setting modalities: found 'tx', expected one or more of t (text)"),
        (["--preset", "paper"], "'paper' is not one of 'default', 'published'"),
    ],
)
def test_wrong_usage_is_refused_at_once_with_exit_code_2(words: list[str], message: str, small: Dataset) -> None:
    begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    code = f"from mesm_model.cli import main; main({['train', str(small.folder), *words]!r})"
    imported = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
    done = subprocess.run([sys.executable, "-c", imported + code], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == "False\n"  # torch was not imported
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun < 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "dropout=2"], 2, "setting dropout: found 2.0, expected 0 or more and less than 1"),
        (["--features", "."], 1, "mesm: mesm: reads text, audio and faces, not features; leave --features out"),
        (["--device", "tpu9"], 1, "mesm: device 'tpu9': expected auto, cpu, cuda or cuda:N"),
        (["--out", "/dev/null"], 1, "mesm: /dev/null: "),
    ],
)
def test_what_fails_later_is_one_line(
    words: list[str], code: int, message: str, small: Dataset, tmp_path: Path
) -> None:
    done = mesm("train", small.folder, "--out", tmp_path / "run", *words)
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_dataset_and_a_run_that_is_none_are_refused(tmp_path: Path, small: Dataset) -> None:
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


# ---- shell completion


def test_the_shell_completes_commands_models_and_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planted.write_planted(Path("out/planted"), {"train": 1, "valid": 1})
    shell = ShellComplete(main, {}, "mesm", "_MESM_COMPLETE")

    def completed(words: list[str], begun: str) -> list[str]:
        return [item.value for item in shell.get_completions(words, begun)]

    assert completed([], "tr") == ["train"]
    assert completed(["train", "--model"], "lf") == ["lf-lstm", "lf-trans"]
    assert completed(["ablate", "--model"], "mesm,f") == ["mesm,fe2e"]
    assert completed(["train"], "o") == ["out/planted"]
    assert "--preset" in completed(["train"], "--pr")
