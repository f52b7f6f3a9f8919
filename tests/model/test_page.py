"""The page of a run: one file that needs nothing else, with every score, threshold and setting on it."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mesm_model.evaluation.page import _thinned
from tests.browser import needs_chromium, open_browser


@pytest.fixture
def run(fe2e_run: Path) -> Path:
    return fe2e_run


def test_the_page_holds_every_score_threshold_and_setting(run: Path) -> None:
    page = (run / "page.html").read_text(encoding="utf-8")
    reports = json.loads((run / "scores.json").read_text())["splits"]
    for report in reports.values():
        for e, emotion in enumerate(report["emotions"]):
            row = re.search(
                rf'<tr><th scope="row">{emotion}</th>(.*?)</tr>', page.partition(f'id="{report["split"]}"')[2], re.S
            )
            assert row
            assert f"<td>{report['thresholds'][e]:.2f}</td>" in row[1]
            for kind in ("acc", "wacc", "f1", "auc"):
                assert f"<td>{100 * report['scores'][kind][e]:.1f} <small>" in row[1]
    assert page.count('<th scope="row">predict nothing</th>') == page.count('<th scope="row">best constant</th>') == 2
    assert "not the paper&#39;s albert-base-v2" in page
    assert "<td>lr</td><td>0.001</td>" in page
    assert page.count("<svg") == 3
    assert f"Dashed: what the best constant decision scores, Acc {_constant(reports['valid'], 'acc')}" in page


def test_the_headline_scores_have_short_labels_and_the_warnings_stand_below_them(run: Path) -> None:
    page = (run / "page.html").read_text(encoding="utf-8")
    report = json.loads((run / "scores.json").read_text())["splits"]["test"]
    labels = re.findall(r"<dt>(.*?)</dt>", page)
    assert [label.partition(",")[0] for label in labels] == ["Acc", "WAcc", "F1", "AUC"]
    assert max(map(len, labels)) < 40
    for warning in report["warnings"]:
        assert f"Warning: {warning}." in html.unescape(page.partition("Curves")[0])


def _constant(report: dict[str, Any], kind: str) -> str:
    values = report["trivial"]["best constant"][kind]
    return f"{100 * sum(values) / len(values):.1f}"


def test_the_page_needs_nothing_else(run: Path) -> None:
    page = (run / "page.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert "<script" not in page
    assert "a &amp; &lt;b&gt;" in page


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it_without_complaint_and_without_scrolling_sideways(
    run: Path, width: int, scheme: str
) -> None:
    with open_browser() as page:
        page.open(run / "page.html", width=width, scheme=scheme)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.querySelectorAll('svg').length") == 3
        lines = (
            "[...document.querySelectorAll('h2 ~ p')].every(line => line.getBoundingClientRect().right <= innerWidth)"
        )
        assert page.run(lines), "what stands above a table is seen whole, whatever the table's width"
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def test_a_long_loss_is_thinned_to_means_of_neighbours() -> None:
    assert _thinned([(1, 4.0), (2, 2.0)]) == [(1.0, 4.0), (2.0, 2.0)]
    points = [(n, float(n)) for n in range(1, 4001)]
    thinned = _thinned(points)
    assert len(thinned) == 400
    assert thinned[0] == (5.5, 5.5)
    assert _thinned([]) == []
