"""A run on one HTML page that needs nothing else: curves, scores per emotion, thresholds, settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mesm_data.files import write_text
from mesm_data.report import charts
from mesm_model.evaluation.metrics import NAMES
from mesm_model.evaluation.scores import Report
from mesm_model.runs.checkpoint import Checkpoint

POINTS = 400  # of the loss that are drawn; more would only be thicker


def write_run(
    out: Path,
    about: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    reports: Mapping[str, Report],
    best: Checkpoint,
) -> None:
    """Write the page of a run: `about` is its run.json, `log` the lines of its log, `reports` are by part."""
    epochs = [line for line in log if "epoch" in line]
    template = environment().get_template("run.html")
    text = template.render(
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
    """Title, drawing and words of each chart."""
    loss = _thinned([(line["step"], line["loss"]) for line in log if "step" in line and line["loss"] is not None])
    valid = {
        title: [(line["epoch"], 100 * line["valid"][name]) for line in epochs if line["valid"][name] is not None]
        for name, title in NAMES.items()
        if name != "wacc"
    }
    f1 = {
        emotion: {part: float(np.nan_to_num(report.scores.f1[e])) for part, report in reports.items()}
        for e, emotion in enumerate(next(iter(reports.values())).emotions)
    }
    return [
        (
            "Loss on train",
            Markup(charts.lines("loss", {"loss": loss}, "step", "loss")),
            "Binary cross entropy of each step, a mean over utterances and emotions"
            f"{'; each point is the mean of several steps' if len(loss) == POINTS else ''}.",
        ),
        (
            "Scores on valid",
            Markup(charts.lines("valid", valid, "epoch", "per cent", best)),
            f"Means over emotions after each epoch. Epoch {best}, the dotted line, has the best F1 and is kept.",
        ),
        (
            "F1 of each emotion",
            Markup(charts.grouped_bars("f1", f1)),
            "With the thresholds chosen on valid, which is why valid looks better than it is.",
        ),
    ]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of its neighbours."""
    pieces = np.array_split(np.array(points, float).reshape(-1, 2), min(POINTS, max(len(points), 1)))
    return [(float(x), float(y)) for piece in pieces if len(piece) for x, y in [piece.mean(0)]]


def environment() -> Environment:
    """Of the templates of both packages."""
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("mesm_model"), PackageLoader("mesm_data.report")]
        ),  # report.css is the data side's
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": lambda share: "-" if share is None or share != share else f"{100 * share:.1f}"}
    return environment
