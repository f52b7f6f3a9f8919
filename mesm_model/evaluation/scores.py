"""What is told of a model's scores on one part of a dataset: `Report`, as a table, as plain values, and over seeds.

E emotions.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from mesm_model.evaluation import metrics
from mesm_model.evaluation.metrics import NAMES, Scores


@dataclass(frozen=True)
class Report:
    """Scores of one model on one part, beside what they must be read against."""

    run: str
    data: str
    part: str
    emotions: tuple[str, ...]
    thresholds: tuple[float, ...]
    utterances: int
    scores: Scores
    trivial: dict[str, Scores]
    intervals: dict[str, np.ndarray]  # for each score [2, E + 1], the average last
    encoder: str | None  # the text encoder, in words
    features: dict[str, str] | None = None  # of a two-phase model: "words" and "folder"
    paper: dict[str, Scores] = field(default_factory=dict)
    bayes_optimal: dict[str, float | None] | None = None  # of made-up data: the best reachable accuracy and AUC
    pointing: dict[str, "Pointing"] = field(default_factory=dict)


@dataclass(frozen=True)
class Pointing:
    """How a layer's nucleus lies to the places that the text names, over all frames; shares of 1."""

    inside: float  # of the kept sites, in the true place
    chance: float  # of all sites, in the true place: `inside` of a nucleus that knows nothing
    covered: float  # of the sites of the true place, kept


def to_text(report: Report) -> str:
    """The report as a table, the trivial rows and the paper's under it."""
    lines = [
        f"{report.run} on {report.data}, part {report.part}: {report.utterances} utterances, per cent. "
        "Thresholds frozen: "
        + ", ".join(f"{e} {t:.2f}" for e, t in zip(report.emotions, report.thresholds, strict=True)),
        metrics.table(report.scores, report.trivial | report.paper, report.emotions),
        "95 % of the means, by bootstrap over utterances: "
        + ", ".join(f"{NAMES[name]} {_percent(low)} to {_percent(high)}" for name, (low, high) in _means(report)),
    ]
    lines += _remarks(report)
    for name, found in report.pointing.items():
        lines.append(
            f"nucleus, {name}: {100 * found.inside:.0f} % of it in the place that the text names (chance "
            f"{100 * found.chance:.0f} %), which it covers by {100 * found.covered:.0f} %"
        )
    return "\n".join(lines)


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values; None where a score is not defined."""
    return {
        "run": report.run,
        "data": report.data,
        "part": report.part,
        "utterances": report.utterances,
        "emotions": list(report.emotions),
        "thresholds": list(report.thresholds),
        "means": {name: _plain(report.scores.mean(name)) for name in NAMES},
        "scores": _scores_to_json(report.scores),
        "trivial": {name: _scores_to_json(scores) for name, scores in report.trivial.items()},
        "bayes_optimal": report.bayes_optimal,
        "paper": {name: _scores_to_json(scores) for name, scores in report.paper.items()},
        "intervals": {name: _plain(bounds) for name, bounds in report.intervals.items()},
        "pointing": {name: asdict(found) for name, found in report.pointing.items()},
        "encoder": report.encoder,
        "features": report.features,
    }


def from_json(stored: Mapping[str, Any]) -> Report:
    """The report that `to_json` was given."""
    return Report(
        run=stored["run"],
        data=stored["data"],
        part=stored["part"],
        emotions=tuple(stored["emotions"]),
        thresholds=tuple(stored["thresholds"]),
        utterances=stored["utterances"],
        scores=_scores_from_json(stored["scores"]),
        trivial={name: _scores_from_json(scores) for name, scores in stored["trivial"].items()},
        intervals={name: np.array(bounds, float) for name, bounds in stored["intervals"].items()},
        encoder=stored["encoder"],
        features=stored["features"],
        paper={name: _scores_from_json(scores) for name, scores in stored["paper"].items()},
        bayes_optimal=stored["bayes_optimal"],
        pointing={name: Pointing(**found) for name, found in stored["pointing"].items()},
    )


def spread_text(reports: Mapping[str, Report]) -> str:
    """Mean and standard deviation of the averages over runs that differ in their seed."""
    first = next(iter(reports.values()))
    rows = [f"{len(reports)} runs on {first.data}, part {first.part}: {first.utterances} utterances, per cent."]
    rows += [f"{'':<18}" + "".join(f"{title:>15}" for title in NAMES.values())]
    for name, report in reports.items():
        rows.append(f"{name:<18}" + "".join(f"{_percent(report.scores.mean(kind)):>15}" for kind in NAMES))
    cells = "".join(
        f"{f'{_percent(mean)} ± {_percent(deviation)}':>15}" for mean, deviation in spread(reports).values()
    )
    rows.append(f"{f'mean of {len(reports)} ± sd':<18}{cells}")
    for name, row in (first.trivial | first.paper).items():
        rows.append(f"{name:<18}" + "".join(f"{_percent(row.mean(kind)):>15}" for kind in NAMES))
    return "\n".join([*rows, *_remarks(first)])


def spread(reports: Mapping[str, Report]) -> dict[str, tuple[float, float]]:
    """For each score the mean over runs of its average over emotions, and their standard deviation (0 for one run)."""
    values = {kind: np.array([report.scores.mean(kind) for report in reports.values()]) for kind in NAMES}
    return {kind: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for kind, v in values.items()}


def _remarks(report: Report) -> list[str]:
    """What could be reached, and what the text came through."""
    lines = []
    if report.bayes_optimal is not None:
        known = {"Acc": report.bayes_optimal["accuracy"], "AUC": report.bayes_optimal["auc"]}
        reachable = ", ".join(f"{title} {100 * value:.1f}" for title, value in known.items() if value is not None)
        lines.append(f"best reachable with these modalities: {reachable}")
    if report.encoder is not None:
        lines.append(f"text encoder: {report.encoder}")
    if report.features is not None:
        lines.append(report.features["words"])
    return lines


def _means(report: Report) -> list[tuple[str, np.ndarray]]:
    return [(name, bounds[:, -1]) for name, bounds in report.intervals.items()]


def _scores_to_json(scores: Scores) -> dict[str, Any]:
    return {field.name: _plain(getattr(scores, field.name)) for field in fields(scores)}


def _scores_from_json(stored: Mapping[str, Any]) -> Scores:
    return Scores(**{name: np.array(values, float) for name, values in stored.items()})


def _plain(values: Any) -> Any:
    """Lists and numbers for arrays and numpy's numbers, None for nan, which is no JSON."""
    if isinstance(values, np.ndarray):
        return [_plain(value) for value in values]
    return None if np.isnan(values) else float(values)


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}"
