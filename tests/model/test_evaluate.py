"""Evaluation freezes what training chose, refuses other data, and tells scores beside what is trivial."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mesm_data.dataset.reader import Dataset, open_dataset
from mesm_data.synth import pointer
from mesm_model.evaluation import metrics, paper
from mesm_model.evaluation.evaluate import evaluate, write_predictions
from mesm_model.evaluation.inference import probabilities
from mesm_model.evaluation.pointing import pointing
from mesm_model.evaluation.scores import from_json, spread, spread_text, to_json, to_text
from mesm_model.loader import open_part
from mesm_model.models import fe2e
from mesm_model.models.common.attention import TracedLevel
from mesm_model.runs.checkpoint import CheckpointError, build_model, load, save
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.folder import seeds_of
from mesm_model.runs.settings import RunConfig, RuntimeOptions, TrainSettings
from mesm_model.training.train import train
from tests.model.narrow import NARROW


@pytest.fixture(scope="module")
def run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained run."""
    out = tmp_path_factory.mktemp("runs") / "fe2e"
    config = fe2e.Config(**NARROW | {"emotions": 4, "text_encoder": "tiny"})
    with init_distributed("cpu") as ranks:
        train(
            small,
            RunConfig("fe2e", config, TrainSettings(epochs=1, batch=16, lr=1e-3)),
            out,
            ranks,
            RuntimeOptions(quiet=True),
        )
    return out


@pytest.fixture
def single() -> Distributed:
    return Distributed(1, 0, torch.device("cpu"))


def test_evaluating_again_gives_what_training_said(run: Path, small: Dataset, single: Distributed) -> None:
    said = json.loads((run / "scores.json").read_text())["parts"]
    for part in ("valid", "test"):
        assert to_json(evaluate(run, small, part, single)[0]) == said[part]


def test_thresholds_stay_frozen_where_others_would_score_better(
    run: Path, small: Dataset, single: Distributed, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    bad = replace(load(run), thresholds=[0.95, 0.95, 0.95, 0.95])
    save(tmp_path / "run" / "best.pt", bad)
    report, part, probability = evaluate(tmp_path / "run", small, "test", single)
    better = metrics.choose_thresholds(probability, part.labels)
    assert metrics.score(probability, part.labels, better).mean("f1") > report.scores.mean("f1")
    assert report.thresholds == (0.95, 0.95, 0.95, 0.95)


def test_other_emotions_are_refused(run: Path, other_emotions: Dataset, single: Distributed) -> None:
    with pytest.raises(
        CheckpointError, match=r"was trained for the emotions anger, happiness, sadness, surprise; .* has joy, grief$"
    ):
        evaluate(run, other_emotions, "test", single)


def test_a_report_tells_scores_beside_trivial_rows_intervals_and_the_encoder(
    run: Path, small: Dataset, single: Distributed
) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    told = to_text(report)
    assert "part test: 20 utterances, per cent. Thresholds frozen: anger 0." in told
    for row in (
        "anger",
        "mean of 4",
        "predict nothing",
        "majority",
        "95 % of the means, by bootstrap over utterances: Acc ",
    ):
        assert row in told
    assert "best reachable with these modalities: Acc 90.4, AUC 96.8" in told
    assert "not the paper's albert-base-v2" in told
    assert "paper:" not in told


def test_a_report_survives_json(run: Path, small: Dataset, single: Distributed) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    absent = np.array([np.nan, 0.5, 0.5, 0.5])
    holed = replace(report, scores=replace(report.scores, f1=absent))
    again = from_json(json.loads(json.dumps(to_json(holed))))
    assert to_text(again) == to_text(holed)
    assert "of so many                      4        4        3        4" in to_text(again)


def test_predictions_are_written_with_decision_and_label(
    run: Path, small: Dataset, single: Distributed, tmp_path: Path
) -> None:
    report, part, probability = evaluate(run, small, "test", single)
    write_predictions(tmp_path / "test.csv", report, part, probability)
    rows = list(csv.DictReader((tmp_path / "test.csv").open()))
    assert [row["id"] for row in rows] == part.ids
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
    for changed, part in (({"split": "random:0"}, "test"), ({}, "valid"), ({"emotions": ["anger"]}, "test")):
        assert paper.rows(Dataset(Path("out"), iemocap | changed), part) == {}
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


def test_seeds_are_told_by_mean_and_spread(run: Path, small: Dataset, single: Distributed) -> None:
    report, _, _ = evaluate(run, small, "test", single)
    other = replace(report, scores=replace(report.scores, acc=report.scores.acc + 0.02))
    mean, deviation = spread({"seed-0": report, "seed-1": other})["acc"]
    assert mean == pytest.approx(report.scores.mean("acc") + 0.01)
    assert deviation == pytest.approx(0.02 / 2**0.5)
    told = spread_text({"seed-0": report, "seed-1": other})
    assert told.startswith(f"2 runs on {small.folder}, part test: 20 utterances, per cent.")
    assert f"{100 * mean:.1f} ± 1.4" in told
    assert "predict nothing" in told
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
    """A model whose nuclei are the places that are told, or the other half of the frame."""

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
    dataset = open_dataset(tmp_path / "pointer")
    part = open_part(dataset, "test", None)
    places = {p["id"]: p for p in map(json.loads, (dataset.folder / "places.jsonl").read_text().splitlines())}
    right = pointing(Knowing(places, True), part, dataset, single)["v level 1"]
    wrong = pointing(Knowing(places, False), part, dataset, single)["v level 1"]
    assert (right.inside, right.covered, right.chance) == (1.0, 1.0, pytest.approx(100 / 576))
    assert (wrong.inside, wrong.covered) == (0.0, 0.0)


def test_probabilities_do_not_depend_on_who_computes_which_batch(
    run: Path, small: Dataset, single: Distributed
) -> None:
    part = open_part(small, "train", run / "text")
    _, _, expected = evaluate(run, small, "train", single)

    class Half:
        """One of two processes, which is handed what the other found."""

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
        probabilities(model, part, Half(1, found), batch_memory_mb=300.0)  # type: ignore[arg-type]
    both = probabilities(model, part, Half(0, found), batch_memory_mb=300.0)  # type: ignore[arg-type]
    assert np.allclose(both, expected, atol=1e-6)
