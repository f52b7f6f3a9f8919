"""Many runs for one question: a line per run, the picture, and nothing trained twice."""

import csv
import os
import signal
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.evaluation import paper
from mesm_model.experiments import sweep as many
from mesm_model.runs.settings import RunConfig, RuntimeOptions, resolve_config, with_values

QUIET = RuntimeOptions(quiet=True)
TINY = ["width=2", "hidden=8", "embed_dim=4", "heads=1", "feed_forward=8", "epochs=1"]


def choice(small: Dataset, name: str) -> RunConfig:
    return resolve_config(small, name, {}, TINY)


def written(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("best.pt")}


def test_a_sweep_writes_a_line_per_run_and_one_picture_and_trains_nothing_twice(small: Dataset, tmp_path: Path) -> None:
    rows = many.sweep(small, choice(small, "mesm"), [0.3, 1.0], 2, tmp_path, "cpu", QUIET, workers=1)
    lines = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [(line["top_p"], line["seed"]) for line in lines] == [("0.3", "0"), ("0.3", "1"), ("1", "0"), ("1", "1")]
    assert float(lines[0]["of_fe2e"]) < 0.5 < float(lines[2]["of_fe2e"])
    assert ElementTree.parse(tmp_path / "sweep.svg").getroot().tag.endswith("svg")
    message = many.to_text(rows, small)
    assert "per cent on test, mean and standard deviation over 2 seeds" in message
    names = [line.split("  ")[0] for line in message.splitlines()[1:6]]
    assert names == ["0.3", "1", "predict nothing", "predict everything", "best constant"]
    assert "not the paper's albert-base-v2" in message
    picture = (tmp_path / "sweep.svg").read_text()
    assert "Acc, predict nothing" in picture
    assert "not the paper's albert-base-v2" in picture
    assert all(f"<!-- {kind} -->" in picture for kind in ("Acc", "WAcc", "F1"))
    assert "the paper" not in picture.replace("not the paper's albert", "")  # its figures are of another corpus
    before = written(tmp_path)
    assert len(before) == 4
    assert many.sweep(small, choice(small, "mesm"), [0.3, 1.0], 2, tmp_path, "cpu", QUIET, workers=1) == rows
    assert written(tmp_path) == before
    assert (tmp_path / "sweep.svg").read_text() == picture


def test_the_papers_curves_are_drawn_beside_its_own_corpora(small: Dataset, tmp_path: Path) -> None:
    rows = [many.Row(f"{p:g}", 0, {"acc": 0.8, "wacc": 0.7, "f1": 0.5, "auc": 0.8}, 1.0, p) for p in (0.5, 1.0)]
    for corpus, curves in (("iemocap", 2), ("mosei", 1)):
        emotions = paper.figures()["scores"][corpus]["emotions"]
        index = small.index | {"corpus": corpus, "split": "paper", "emotions": emotions}
        many.draw(tmp_path / "sweep.svg", rows, Dataset(small.folder, index))
        assert (tmp_path / "sweep.svg").read_text().count("<!-- WAcc, the paper's Figure 5 -->") == curves - 1
        assert (tmp_path / "sweep.svg").read_text().count("<!-- the paper -->") == 1


def test_a_run_that_dies_each_time_is_named_and_the_same_command_resumes_it(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_values(choice(small, "fe2e"), modalities="t")
    spec = many.RunSpec("fe2e-t", tmp_path / "run", small, run, "cpu", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(many, "run_one", die)
        with pytest.raises(DataError, match=r"run: the worker process died .*; the same command resumes here"):
            many.run_all([spec], workers=2)
    assert set(many.run_all([spec], workers=1)) == {spec.out}


def die(spec: many.RunSpec) -> None:
    """As the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_at_p_1_the_work_is_that_of_fe2e_but_for_borders_and_attention(small: Dataset, tmp_path: Path) -> None:
    (row,) = many.sweep(small, choice(small, "mesm"), [1.0], 1, tmp_path, "cpu", QUIET, workers=1)
    assert row.of_fe2e == pytest.approx(0.95, abs=0.05)


def test_only_a_model_with_a_nucleus_can_be_swept(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="model fe2e: it has no top_p to sweep over; take mesm"):
        many.sweep(small, choice(small, "fe2e"), [0.5], 1, tmp_path, "cpu", QUIET, workers=1)


def test_an_ablation_takes_every_model_with_every_set_of_modalities(small: Dataset, tmp_path: Path) -> None:
    rows = many.ablate(small, [choice(small, "mesm"), choice(small, "fe2e")], 1, tmp_path, "cpu", QUIET, workers=1)
    assert [row.name for row in rows] == [f"{m}-{s}" for m in ("mesm", "fe2e") for s in many.SUBSETS]
    lines = list(csv.DictReader((tmp_path / "ablate.csv").open()))
    assert len(lines) == 14
    assert all(0 <= float(line["acc"]) <= 1 and line["gflop"] == "" for line in lines)
    assert many.paper_table(small, ["mesm"]) == ""


def test_the_papers_table_5_stands_beside_its_own_data() -> None:
    emotions = ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]
    index = {"corpus": "iemocap", "split": "paper", "emotions": emotions}
    message = many.paper_table(Dataset(Path("out"), index), ["mesm", "fe2e"]).splitlines()
    assert message[1].split() == ["mesm-tav", "84.4", "57.3"]
    assert len(message) == 1 + 3 + 7


def test_two_runs_at_once_give_what_one_after_the_other_gives(small: Dataset, tmp_path: Path) -> None:
    one = many.sweep(small, choice(small, "mesm"), [0.5], 2, tmp_path / "one", "cpu", QUIET, workers=1)
    two = many.sweep(small, choice(small, "mesm"), [0.5], 2, tmp_path / "two", "cpu", QUIET, workers=2)
    for a, b in zip(one, two, strict=True):
        assert a.means == pytest.approx(b.means, abs=1e-3)
