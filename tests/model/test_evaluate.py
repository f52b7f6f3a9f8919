"""Evaluation keeps the thresholds of training, refuses other data, and shows scores beside trivial baselines."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mesm_data
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.synth import pointer
from mesm_model.evaluation import metrics, paper
from mesm_model.evaluation.evaluate import evaluate, write_predictions
from mesm_model.evaluation.inference import probabilities
from mesm_model.evaluation.pointing import pointing
from mesm_model.evaluation.scores import from_json, spread, spread_text, to_json, to_text
from mesm_model.loader import open_split
from mesm_model.models.common.attention import TracedLevel
from mesm_model.runs.checkpoint import CheckpointError, build_model, load, save
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import seeds_of


@pytest.fixture
def run(fe2e_run: Path) -> Path:
    return fe2e_run


@pytest.fixture
def single() -> Distributed:
    return Distributed(1, 0, torch.device("cpu"))


def test_evaluating_again_gives_the_scores_of_training(run: Path, small: Dataset, single: Distributed) -> None:
    stored = json.loads((run / "scores.json").read_text())["splits"]
    for split in ("valid", "test"):
        assert to_json(evaluate(run, small, split, single)[0]) == stored[split]


def test_thresholds_stay_those_of_valid_where_others_would_score_better(
    run: Path, small: Dataset, single: Distributed, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    bad = replace(load(run), thresholds=[0.95, 0.95, 0.95, 0.95])
    save(tmp_path / "run" / "best.pt", bad)
    report, split_data, probability = evaluate(tmp_path / "run", small, "test", single)
    better = metrics.choose_thresholds(probability, split_data.labels)
    assert metrics.score(probability, split_data.labels, better).mean("f1") > report.scores.mean("f1")
    assert report.thresholds == (0.95, 0.95, 0.95, 0.95)


def test_other_emotions_are_refused(run: Path, other_emotions: Dataset, single: Distributed) -> None:
    with pytest.raises(
        CheckpointError, match=r"was trained for the emotions anger, happiness, sadness, surprise; .* has joy, grief$"
    ):
        evaluate(run, other_emotions, "test", single)


def test_a_report_shows_scores_beside_baselines_intervals_and_the_encoder(
    run: Path, small: Dataset, single: Distributed
) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    told = to_text(report)
    assert f"{run} on {small.folder}, test: 20 utterances, per cent; thresholds were chosen on valid" in told
    assert re.search(r"^anger +\d+ +0\.\d\d +\d", told, re.MULTILINE)
    for row in (
        "anger",
        "mean of 4",
        "predict nothing",
        "predict everything",
        "best constant",
        "95 % intervals of the means, by bootstrap over utterances: Acc ",
    ):
        assert row in told
    assert "best possible with these modalities: Acc 90.4, AUC 96.8" in told
    assert "not the paper's albert-base-v2" in told
    assert "paper:" not in told


def test_a_report_survives_json(run: Path, small: Dataset, single: Distributed) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    absent = np.array([np.nan, 0.5, 0.5, 0.5])
    holed = replace(report, scores=replace(report.scores, f1=absent))
    again = from_json(json.loads(json.dumps(to_json(holed))))
    assert to_text(again) == to_text(holed)
    assert re.search(r"^emotions averaged +4 +4 +3 +4$", to_text(again), re.MULTILINE)


def test_only_a_planted_dataset_adds_what_is_known_of_its_signal(
    run: Path, small: Dataset, single: Distributed
) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    assert to_json(report)["planted"] == {
        "reachable": {"accuracy": pytest.approx(0.904, abs=1e-3), "auc": pytest.approx(0.968, abs=1e-3)},
        "pointing": {},
    }
    real = replace(report, planted=None)
    assert "planted" not in to_json(real)
    assert from_json(json.loads(json.dumps(to_json(real)))).planted is None
    assert "best possible" not in to_text(real)


def test_a_damaged_file_beside_a_planted_dataset_is_reported(
    run: Path, small: Dataset, single: Distributed, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(small.folder, tmp_path / "copy"))
    for text, message in (
        ('{"TAV": {"accuracy"', "not JSON"),
        ('{"TAV": {"accuracy": 0.9}}', "TAV lacks auc"),
        ("[]", "found a list of 0, expected an object"),
    ):
        (copy / "bayes_optimal.json").write_text(text)
        with pytest.raises(DataError, match=rf"bayes_optimal.json: {message}.*; delete .*copy and make it again"):
            evaluate(run, mesm_data.load(copy), "test", single)


@pytest.mark.parametrize("damage", ["emotions", "scores", "trivial", "intervals", "thresholds", "whole"])
def test_scores_of_another_shape_are_refused_in_one_line(
    run: Path, small: Dataset, single: Distributed, damage: str
) -> None:
    stored = to_json(evaluate(run, small, "test", single)[0])
    for value in (None, 7, "text", [], {"acc": "x"}):
        changed: Any = value if damage == "whole" else {**stored, damage: value}
        with pytest.raises(
            DataError, match=r"scores.json: .*; delete the file, and the same `mesm train` writes it again$"
        ):
            from_json(changed)


def test_a_report_as_a_pandas_frame_has_a_row_per_emotion_and_the_mean(
    run: Path, small: Dataset, single: Distributed
) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    frame = report.to_pandas()
    assert list(frame.index) == [*small.emotions, "mean"]
    assert frame.loc["mean", "f1"] == report.scores.mean("f1")
    assert frame.loc["anger", "threshold"] == report.thresholds[0]
    assert (frame["acc_low"] <= frame["acc"]).all()
    assert (frame["acc"] <= frame["acc_high"]).all()
    assert frame["f1_constant"].to_list() == [*report.trivial["predict everything"].f1, report.constant["f1"]]


def test_a_model_that_learned_nothing_is_warned_of(run: Path, small: Dataset, single: Distributed) -> None:
    report, split_data, _ = evaluate(run, small, "test", single)
    yes = np.full((len(split_data), 4), 0.5)
    constant = replace(
        report, scores=metrics.score(yes, split_data.labels, np.full(4, 0.05)), thresholds=(0.05, 0.5, 0.5, 0.95)
    )
    told = to_text(constant)
    assert "warning: mean AUC 50.0 on test is not above the 50.0 of a constant decision" in told
    assert "warning: threshold at the end of its range for anger 0.05, surprise 0.95: compare its scores" in told
    assert constant.scores.mean("f1") == constant.constant["f1"]
    assert to_json(constant)["warnings"] == constant.warnings
    learned = replace(report, scores=replace(report.scores, auc=np.full(4, 0.9)), thresholds=(0.1, 0.5, 0.5, 0.9))
    assert learned.warnings == []


def test_an_emotion_that_nobody_or_everybody_has_is_named(run: Path, small: Dataset, single: Distributed) -> None:
    report, split_data, probability = evaluate(run, small, "test", single)
    labels = split_data.labels.copy()
    labels[:, 1], labels[:, 2] = 0, 1
    one_sided = replace(report, scores=metrics.score(probability, labels, np.array(report.thresholds)))
    told = to_text(one_sided)
    assert "warning: no utterance of test has happiness: scores that need both kinds are not defined there" in told
    assert "warning: every utterance of test has sadness: scores that need" in told


def test_predictions_are_written_with_decision_and_label(
    run: Path, small: Dataset, single: Distributed, tmp_path: Path
) -> None:
    report, split_data, probability = evaluate(run, small, "test", single)
    write_predictions(tmp_path / "test.csv", report, split_data, probability)
    rows = list(csv.DictReader((tmp_path / "test.csv").open()))
    assert [row["id"] for row in rows] == split_data.ids
    decided = np.array([int(row["anger decided"]) for row in rows])
    labels = np.array([int(row["anger label"]) for row in rows])
    assert (decided == labels).mean() == report.scores.acc[0]
    assert float(rows[3]["sadness probability"]) == pytest.approx(probability[3, 2], abs=1e-6)


def test_the_paper_stands_beside_its_own_data_only(small: Dataset) -> None:
    iemocap = {"corpus": "iemocap", "split": "paper", "emotions": paper.figures()["scores"]["iemocap"]["emotions"]}
    rows = paper.rows(Dataset(Path("out"), iemocap), "test")
    assert rows["paper: FE2E"].mean("acc") == pytest.approx(0.845, abs=0.001)
    assert rows["paper: MESM (p=0.7)"].mean("f1") == pytest.approx(0.574, abs=0.001)
    assert np.isnan(rows["paper: FE2E"].mean("auc"))
    for changed, split in (({"split": "random:0"}, "test"), ({}, "valid"), ({"emotions": ["anger"]}, "test")):
        assert paper.rows(Dataset(Path("out"), iemocap | changed), split) == {}
    assert paper.rows(small, "test") == {}


@pytest.mark.parametrize(
    ("table", "corpus", "kind"), [("table3_iemocap", "iemocap", "acc"), ("table4_mosei", "mosei", "wacc")]
)
def test_the_papers_figures_are_those_of_its_tables(table: str, corpus: str, kind: str, shared: Path) -> None:
    printed = json.loads((shared / "published" / "paper_tables.json").read_text())[table]
    ours = paper.figures()["scores"][corpus]["models"]
    assert len(ours) == len(printed) - 1
    for name, row in ours.items():
        figures = [printed.get(name) or printed["MESM (0.5)"]][0]
        columns = dict(zip(printed["columns"], figures, strict=True))
        assert row[kind] == [
            value for column, value in columns.items() if column.endswith(f"_{kind}") and "avg" not in column
        ]
        assert row["f1"] == [
            value for column, value in columns.items() if column.endswith("_f1") and "avg" not in column
        ]


def test_seeds_are_shown_with_mean_and_deviation(run: Path, small: Dataset, single: Distributed) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    other = replace(report, scores=replace(report.scores, acc=report.scores.acc + 0.02))
    mean, deviation = spread({"seed-0": report, "seed-1": other})["acc"]
    assert mean == pytest.approx(report.scores.mean("acc") + 0.01)
    assert deviation == pytest.approx(0.02 / 2**0.5)
    told = spread_text({"seed-0": report, "seed-1": other})
    assert told.startswith(f"2 runs on {small.folder}, test: 20 utterances, per cent\n")
    assert f"{100 * mean:.1f} ± 1.4" in told
    assert re.search(r"^best constant +\d", told, re.MULTILINE)
    assert "not the paper's albert-base-v2" in told
    unknown = replace(report, scores=replace(report.scores, auc=np.full(4, np.nan)))
    assert "nan" not in spread_text({"seed-0": unknown, "seed-1": unknown})


def test_the_folder_of_several_seeds_stands_for_all_of_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / "many" / f"seed-{seed}").mkdir(parents=True)
        (tmp_path / "many" / f"seed-{seed}" / "run.json").write_text("{}")
    assert seeds_of(tmp_path / "many") == {f"seed-{n}": tmp_path / "many" / f"seed-{n}" for n in (0, 1)}
    assert seeds_of(tmp_path / "one") == {"one": tmp_path / "one"}


class Knowing(torch.nn.Module):
    """A model whose nuclei are the true places, or everything else."""

    top_p = 0.5

    def __init__(self, places: dict[str, Any], right: bool) -> None:
        super().__init__()
        self.places, self.right = places, right

    def forward(self, batch: Any, trace: Any) -> None:
        selected = torch.zeros(int(batch.face_counts.sum()), 24, 24, dtype=torch.bool)
        frame = 0
        for name, count in zip(batch.ids, batch.face_counts.tolist(), strict=True):
            left, top, right, bottom = (side // 2 for side in self.places[name]["v"])
            place = torch.zeros(24, 24, dtype=torch.bool)
            place[top:bottom, left:right] = True
            selected[frame : frame + count] = place if self.right else ~place
            frame += count
        pairs = torch.zeros(len(selected), dtype=torch.int64)
        trace.levels.append(TracedLevel("v", 1, selected.float(), torch.ones_like(selected), selected, pairs))


def test_the_overlap_of_nucleus_and_true_place_is_all_or_nothing_when_it_should_be(
    tmp_path: Path, single: Distributed
) -> None:
    pointer.write_pointer(tmp_path / "pointer", {"train": 2, "test": 12})
    dataset = mesm_data.load(tmp_path / "pointer")
    split_data = open_split(dataset, "test", None)
    places = {p["id"]: p for p in map(json.loads, (dataset.folder / "places.jsonl").read_text().splitlines())}
    right = pointing(Knowing(places, True), split_data, dataset, single)["v level 1"]
    wrong = pointing(Knowing(places, False), split_data, dataset, single)["v level 1"]
    assert (right.inside, right.covered, right.chance) == (1.0, 1.0, pytest.approx(100 / 576))
    assert (wrong.inside, wrong.covered) == (0.0, 0.0)


def test_a_damaged_file_of_places_is_reported_and_a_line_ends_at_its_end_only(
    tmp_path: Path, single: Distributed
) -> None:
    pointer.write_pointer(tmp_path / "pointer", {"train": 2, "test": 12})
    dataset = mesm_data.load(tmp_path / "pointer")
    path, split_data = dataset.folder / "places.jsonl", open_split(dataset, "test", None)
    lines = path.read_text().splitlines(keepends=True)
    model = Knowing({place["id"]: place for place in map(json.loads, lines)}, True)
    expected = pointing(model, split_data, dataset, single)
    path.write_text("".join(lines) + '{"id": "a\u2028b\u0085c", "v": [0, 0, 1, 1], "a": [0, 0, 1, 1]}\n')
    assert pointing(model, split_data, dataset, single) == expected
    for text, message in (
        (lines[0] + "[]\n", "places.jsonl:2: found a list of 0, expected an object"),
        ('{"id": "x", "v": [1, 2, 3], "a": [0, 0, 1, 1]}\n', r"places.jsonl:1: v: found 3 elements, expected 4"),
        ("".join(lines[:-1]), r"places.jsonl: lacks pointer-test-00011, which the shards have"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"{message}; delete .*pointer and make it again with `mesm-data"):
            pointing(model, split_data, dataset, single)


def test_probabilities_do_not_depend_on_who_computes_which_batch(
    run: Path, small: Dataset, single: Distributed
) -> None:
    split_data = open_split(small, "train", run / "text")
    _, _, expected = evaluate(run, small, "train", single)

    class Half:
        """One of two processes, which receives what the other found."""

        def __init__(self, rank: int, found: list[Any]) -> None:
            self.world, self.rank, self.device, self.is_main, self.found = (
                2,
                rank,
                torch.device("cpu"),
                rank == 0,
                found,
            )

        def gather(self, value: Any) -> list[Any]:
            self.found[self.rank] = value
            return self.found

    model, found = build_model(load(run), run), [[], []]
    with pytest.raises(IndexError):
        probabilities(model, split_data, Half(1, found), batch_memory_mb=300.0)  # type: ignore[arg-type]
    both = probabilities(model, split_data, Half(0, found), batch_memory_mb=300.0)  # type: ignore[arg-type]
    assert np.allclose(both, expected, atol=1e-6)
