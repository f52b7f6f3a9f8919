"""Comparing runs: p-values and intervals against known ones, every form of the table, and runs that do not fit."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.cli import main
from mesm_model.evaluation import paper
from mesm_model.evaluation.metrics import score
from mesm_model.experiments import compare as comparing
from mesm_model.experiments import compare_tables as tables
from mesm_model.experiments.compare import Comparison, compare, find_runs, holm, permutation_test
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.settings import RuntimeOptions, resolve_config, with_values
from mesm_model.training.train import train
from tests.browser import needs_chromium, open_browser

IEMOCAP = ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]
SMALL = ("epochs=1", "lr=0.003", "feed_forward=16")


@pytest.fixture(scope="module")
def ranks() -> Iterator[Distributed]:
    with init_distributed("cpu") as found:
        yield found


@pytest.fixture(scope="module")
def runs(featured: Dataset, ranks: Distributed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two seeds, a single one of less, and a folder that is no run."""
    folder = tmp_path_factory.mktemp("runs")
    quick = resolve_config(featured, "lf-trans", {}, SMALL)
    for name, choice in (
        ("all/seed-0", quick),
        ("all/seed-1", with_values(quick, seed=1)),
        ("sound_only", with_values(quick, modalities="a")),
    ):
        train(featured, choice, folder / name, ranks, RuntimeOptions(quiet=True))
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="module")
def found(runs: Path, ranks: Distributed) -> Comparison:
    return compare([runs / "all", runs / "sound_only"], "test", ranks)


# ---- p-values


def test_the_p_value_is_that_of_all_exchanges_tried_one_by_one() -> None:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 2, (6, 2)).astype(bool)
    first, second = (draw.integers(0, 2, (1, 6, 2)).astype(bool) for _ in range(2))

    def difference(exchanged: tuple[int, ...]) -> float:
        swap = np.array(exchanged, bool)[:, None]
        sides = (np.where(swap, second[0], first[0]), np.where(swap, first[0], second[0]))
        accuracies = [float((side == labels).mean()) for side in sides]
        return accuracies[0] - accuracies[1]

    differences = np.array([difference(one) for one in product((0, 1), repeat=6)])
    exact = (np.abs(differences) >= abs(differences[0]) - 1e-9).mean()
    told, chances = permutation_test(first, second, labels, draws=20_000)
    assert told["acc"] == pytest.approx(differences[0])
    assert chances["acc"] == pytest.approx(exact, abs=0.015)


def test_differences_are_those_of_the_scores_averaged_over_seeds() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (40, 3))
    first, second = draw.random((2, 2, 40, 3))
    told, _ = permutation_test(first > 0.5, second > 0.5, labels.astype(bool), draws=1)
    for kind in comparing.TESTED:
        one, other = (np.mean([score(p, labels, np.full(3, 0.5)).mean(kind) for p in side]) for side in (first, second))
        assert told[kind] == pytest.approx(one - other)


def test_without_any_positive_nothing_is_shown_to_differ() -> None:
    decided = np.array([[[True], [False], [True]]])
    _, chances = permutation_test(decided, ~decided, np.zeros((3, 1), bool), draws=50)
    assert chances["f1"] == 1


def test_alike_models_rarely_and_a_better_one_surely_differ() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, (200, 4)).astype(bool)

    def decided(right: float) -> np.ndarray:
        return np.where(draw.random((1, 200, 4)) < right, labels, ~labels)

    alike = [permutation_test(decided(0.7), decided(0.7), labels, 200, seed)[1]["f1"] for seed in range(40)]
    assert 0.3 < np.mean(alike) < 0.7
    assert np.mean([chance < 0.05 for chance in alike]) <= 0.15
    assert permutation_test(decided(0.8), decided(0.7), labels, 999)[1]["f1"] == 0.001
    same = decided(0.7)
    assert permutation_test(same, same, labels, 50)[1] == {"acc": 1.0, "wacc": 1.0, "f1": 1.0}


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# ---- a comparison


def test_rows_hold_means_over_seeds_and_what_a_model_costs(found: Comparison) -> None:
    both, sound = found.entries
    assert (both.name, both.model, both.modalities, sound.name, sound.modalities) == (
        "all", "lf-trans", "tav", "sound_only", "a",
    )  # fmt: skip
    assert both.inputs == "features hash, bark_mfcc, face_geometry_pca, not the paper's"
    assert both.decided.shape == (2, 20, 4)
    assert both.mean("f1") == np.mean([one.mean("f1") for one in both.scores])
    assert (both.spread("f1") is None, sound.spread("f1") is None) == (False, True)
    for entry in found.entries:
        for kind, (low, high) in entry.intervals.items():
            assert low <= entry.mean(kind) <= high
    assert both.gflop > sound.gflop > 0
    assert both.parameters > sound.parameters > 0
    assert both.seconds > 0


def test_the_rows_that_need_no_model_are_there_and_the_papers_only_for_its_own_data(found: Comparison) -> None:
    assert list(found.others) == ["predict nothing", "predict everything", "best constant"]
    index = found.dataset.index | {"corpus": "iemocap", "split": "paper", "emotions": IEMOCAP}
    theirs = replace(found, paper=paper.rows(replace(found.dataset, index=index), "test"))
    assert re.search(r"^paper: LF-LSTM +71\.8 +- +49\.[45] +-$", tables.to_text(theirs), re.MULTILINE)
    assert re.search(r"^paper: MulT,.*,0.569", tables.to_csv(theirs), re.MULTILINE)
    assert "paper: FE2E" in tables.to_html(theirs)
    assert "paper: FE2E & 84.5 & - & 58.8 & -" in tables.to_latex(theirs)


def test_the_numbers_of_the_text_the_csv_and_the_latex_are_the_same(found: Comparison) -> None:
    text, latex = tables.to_text(found), tables.to_latex(found)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(tables.to_csv(found)))}
    assert list(rows) == ["all", "sound_only", "predict nothing", "predict everything", "best constant"]
    for entry in found.entries:
        f1 = f"{100 * entry.mean('f1'):.1f}"
        assert float(rows[entry.name]["f1"]) == pytest.approx(entry.mean("f1"), abs=1e-5)
        assert re.search(rf"^{entry.name} .*{f1}", text, re.MULTILINE)
        assert rf"{entry.name} &".replace("_", r"\_") in latex
        assert f1 in latex
    assert (rows["all"]["f1_sd"] != "", rows["sound_only"]["f1_sd"] != "") == (True, False)
    assert rows["best constant"]["gflop"] == ""
    assert re.search(r"^all - sound_only +[+-]\d", text, re.MULTILINE)


def test_json_and_the_pandas_frame_have_the_same_numbers(found: Comparison) -> None:
    data, frame = json.loads(json.dumps(tables.to_json(found), allow_nan=False)), tables.to_pandas(found)
    assert [row["name"] for row in data["runs"]] == ["all", "sound_only"]
    assert [row["name"] for row in data["baselines"]] == ["predict nothing", "predict everything", "best constant"]
    for row in data["runs"]:
        assert row["f1"] == frame.loc[row["name"], "f1"]
        assert (row["f1_sd"] is None) == np.isnan(frame.loc[row["name"], "f1_sd"])
    (pair,) = data["pairs"]
    assert (pair["first"], pair["second"], pair["seeds"]) == ("all", "sound_only", 1)
    assert pair["verdict"] == ("differs" if pair["holm"] < 0.05 else "no evidence")
    assert data["split"] == "test"


def test_names_that_latex_would_read_are_escaped(found: Comparison) -> None:
    entry = replace(found.entries[0], name=r"a\b~c^d_e&f%g$h#i{j}")
    latex = tables.to_latex(replace(found, entries=(entry,)))
    escaped = r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\_e\&f\%g\$h\#i\{j\} & "
    assert escaped in latex


def test_a_difference_that_is_not_significant_is_no_evidence(found: Comparison) -> None:
    for holm_p, words in ((0.2, "no evidence"), (0.01, "differs")):
        changed = replace(found, pairs=(replace(found.pairs[0], holm=holm_p),))
        assert f"<td>{words}</td>" in tables.to_html(changed)
        assert re.search(rf"^all - sound_only .*{words}$", tables.to_text(changed), re.MULTILINE)
    assert "not shown" not in tables.to_html(changed)


def test_a_model_named_like_its_run_is_named_once(found: Comparison) -> None:
    entry = replace(found.entries[0], name="lf-trans")
    assert tables.described(entry).startswith("lf-trans: modalities tav, ")
    assert tables.described(found.entries[0]).startswith("all: lf-trans, modalities tav, ")


def test_a_model_that_is_no_better_than_a_constant_has_a_warning(found: Comparison) -> None:
    for auc, count in ((0.5, 1), (0.75, 0)):
        first = found.entries[0]
        scores, intervals = replace(first.scores[0], auc=np.full(4, auc)), first.intervals | {"auc": (0.4, 0.9)}
        entry = replace(first, scores=(scores,), intervals=intervals)
        changed = replace(found, entries=(entry,), pairs=())
        words = f"all: mean AUC {100 * auc:.1f} is not above the 50.0 of a constant decision"
        assert " ".join(tables.to_text(changed).split()).count(f"warning: {words}") == count
        assert tables.to_html(changed).count(f"Warning: {words}") == count


def test_the_page_needs_nothing_else_and_is_well_formed(found: Comparison) -> None:
    page = tables.to_html(found)
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            if tag not in ("meta", "link"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attributes: object) -> None:
            """Of the drawings."""

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []
    assert page.count("<svg") == 4
    for entry in found.entries:
        assert f"{100 * entry.mean('f1'):.1f}" in page


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_the_page_without_complaint_and_without_scrolling_sideways(
    found: Comparison, tmp_path: Path, width: int, scheme: str
) -> None:
    out = tmp_path / "compare.html"
    out.write_text(tables.to_html(found), encoding="utf-8")
    with open_browser() as page:
        page.open(out, width=width, scheme=scheme)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def test_a_score_that_is_not_defined_is_a_dash(found: Comparison) -> None:
    nothing = np.full(4, math.nan)
    entry = replace(found.entries[1], scores=(replace(found.entries[1].scores[0], auc=nothing),))
    assert re.search(r"^sound_only .* -  ", tables.to_text(replace(found, entries=(entry,), pairs=())), re.MULTILINE)


# ---- the command


def test_the_command_leaves_out_what_is_no_run_and_writes_every_form(runs: Path, tmp_path: Path) -> None:
    arguments = ["compare", *map(str, sorted(runs.iterdir())), "--device", "cpu"]
    for option in ("out", "csv", "latex"):
        arguments += [f"--{option}", str(tmp_path / "new" / option)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "notes: no finished run, skipped" in result.output
    assert "sound_only" in result.output
    beginnings = {"out": "<!doctype html>", "csv": "name,model", "latex": r"\begin{tabular}"}
    for option, beginning in beginnings.items():
        assert (tmp_path / "new" / option).read_text().startswith(beginning)


def test_a_run_whose_name_a_spreadsheet_would_run_is_written_so_that_none_does(found: Comparison) -> None:
    first = replace(found.entries[0], name="=1+1")
    rows = csv.DictReader(io.StringIO(tables.to_csv(replace(found, entries=(first, *found.entries[1:])))))
    assert next(rows)["name"] == "'=1+1"


def test_nothing_but_other_folders_is_told(runs: Path) -> None:
    result = CliRunner().invoke(main, ["compare", str(runs / "notes")])
    assert result.exit_code == 1
    assert "notes: not the folder of a finished run; expected what `mesm train --out` was given" in result.output


def test_a_run_that_is_not_finished_is_left_out(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "all", tmp_path / "all")
    (tmp_path / "all" / "seed-1" / "scores.json").unlink()
    assert find_runs([tmp_path / "all", runs / "all"]) == ([runs / "all"], [tmp_path / "all"])


def test_a_run_given_twice_counts_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_runs([runs / "all", runs / "all"]) == ([runs / "all"], [])
    monkeypatch.chdir(runs)
    assert find_runs([Path("all"), runs / "all", runs / "all" / ".." / "all"]) == ([Path("all")], [])


def test_scores_that_are_cut_short_are_told(runs: Path, ranks: Distributed, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs / "sound_only", tmp_path / "run"))
    (run / "scores.json").write_text('{"splits": ')
    with pytest.raises(DataError, match=r"scores.json: not JSON .*; delete it, and the same `mesm train` makes"):
        compare([run], "test", ranks)


def test_runs_of_one_name_are_told_apart_by_their_folders(runs: Path, ranks: Distributed) -> None:
    names = comparing._names([Path("one/runs/mesm"), Path("two/runs/mesm"), Path("two/runs/fe2e")])
    assert list(names.values()) == ["one/runs/mesm", "two/runs/mesm", "fe2e"]


def test_runs_of_other_data_and_data_or_features_that_moved_are_told(
    runs: Path, learnable: Dataset, ranks: Distributed, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"all.seed-0 was trained on another dataset"):
        compare([runs / "all"], "test", ranks, data=learnable.folder)
    shutil.copytree(runs / "sound_only", tmp_path / "moved")
    path = tmp_path / "moved" / "scores.json"
    path.write_text(re.sub(r'"folder": "[^"]*"', '"folder": "/gone/features"', path.read_text()))
    with pytest.raises(DataError, match=r"/gone/features: not found, the features of .*moved; give --features"):
        compare([tmp_path / "moved"], "test", ranks)
    path.write_text(re.sub(r'"data": "[^"]*"', '"data": "/gone/data"', path.read_text()))
    with pytest.raises(DataError, match=r"/gone/data: not found, where .*moved was scored; give --data"):
        compare([tmp_path / "moved"], "test", ranks)
