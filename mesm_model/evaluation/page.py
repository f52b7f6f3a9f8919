"""The HTML page of a run, self-contained: curves, scores per emotion, thresholds, settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mesm_data.files import write_text
from mesm_data.report import charts
from mesm_data.report.render import render
from mesm_model.evaluation.metrics import NAMES
from mesm_model.evaluation.scores import Report
from mesm_model.evaluation.tables import percent
from mesm_model.runs.checkpoint import Checkpoint

POINTS = 400  # of the loss curve; with more, the line only gets thicker


def write_run(
    out: Path,
    about: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    reports: Mapping[str, Report],
    best: Checkpoint,
) -> None:
    """Write the page of a run: `about` is its run.json, `log` the lines of its log, `reports` are by split."""
    epochs = [line for line in log if "epoch" in line]
    text = render(
        "run.html",
        {"percent": percent},
        "mesm_model",
        name=out.parent.name,
        about=about,
        reports=reports,
        shown=reports.get("test") or next(iter(reports.values())),
        best=best,
        epochs=epochs,
        charts=_charts(log, epochs, reports, best.epoch),
        scores=NAMES,
    )
    write_text(out, text)


def _charts(
    log: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]], reports: Mapping[str, Report], best: int
) -> list[tuple[str, Markup, str]]:
    """Title, drawing and caption of each chart."""
    valid_report = reports["valid"]
    loss = _thinned([(line["step"], line["loss"]) for line in log if "step" in line and line["loss"] is not None])
    valid = {
        title: [(line["epoch"], 100 * line["valid"][name]) for line in epochs if line["valid"][name] is not None]
        for name, title in NAMES.items()
        if name != "wacc"
    }
    levels = {title: 100 * valid_report.constant[name] for name, title in NAMES.items() if title in valid}
    constant = ", ".join(f"{title} {level:.1f}" for title, level in levels.items())
    f1 = {
        emotion: {split: float(np.nan_to_num(report.scores.f1[e])) for split, report in reports.items()}
        for e, emotion in enumerate(next(iter(reports.values())).emotions)
    }
    return [
        (
            "Loss on train",
            Markup(charts.lines("loss", {"loss": loss}, "step", "loss")),
            "Binary cross entropy of each step, mean over utterances and emotions"
            f"{'; each point is the mean of several steps' if len(loss) == POINTS else ''}.",
        ),
        (
            "Scores on valid",
            Markup(charts.lines("valid", valid, "epoch", "per cent", best, levels)),
            f"Means over emotions after each epoch. The checkpoint is that of epoch {best} (dotted), with the best F1. "
            f"Dashed: what the best constant decision scores, {constant}.",
        ),
        (
            "F1 of each emotion",
            Markup(charts.grouped_bars("f1", f1)),
            "With the thresholds chosen on valid, which flatters valid. Best constant decision: "
            + ", ".join(f"{percent(report.constant['f1'])} on {split}" for split, report in reports.items())
            + ", mean over emotions.",
        ),
    ]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of neighbouring ones."""
    pieces = np.array_split(np.array(points, float).reshape(-1, 2), min(POINTS, max(len(points), 1)))
    return [(float(x), float(y)) for piece in pieces if len(piece) for x, y in [piece.mean(0)]]
