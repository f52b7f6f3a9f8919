"""The scores of a run on one split: `Report`, as text, as plain values, as a pandas frame, and over seeds.

E emotions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mesm_data.errors import DataError
from mesm_data.state import check_shape
from mesm_model.evaluation.metrics import BEST_CONSTANT, NAMES, Scores, at_end_of_grid, beats_constant
from mesm_model.evaluation.tables import aligned, mean_and_deviation, percent

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Report:
    """Scores of one run on one split, with the baselines and intervals to read them by."""

    run: str
    data: str
    split: str
    emotions: tuple[str, ...]
    thresholds: tuple[float, ...]  # of each emotion, chosen on valid
    utterances: int
    scores: Scores
    trivial: dict[str, Scores]  # what no model is needed for, see `metrics.trivial`
    intervals: dict[str, np.ndarray]  # of each score [2, E + 1], the average last
    encoder: str | None  # the text encoder, in words
    features: dict[str, str] | None = None  # of a two-phase model: "words" and "folder"
    paper: dict[str, Scores] = field(default_factory=dict)  # the paper's models, on its own split only
    planted: "Planted | None" = None  # of a planted dataset: what is known of its signal

    @property
    def constant(self) -> dict[str, float]:
        """What the best constant decision scores, a mean over emotions: the line to draw below a curve."""
        return {name: self.trivial[BEST_CONSTANT].mean(name) for name in NAMES}

    @property
    def warnings(self) -> list[str]:
        """What should keep a reader from trusting the scores; empty where nothing does."""
        return [*_constant_warning(self), *_threshold_warning(self), *_undefined_warning(self)]

    def to_pandas(self) -> "DataFrame":
        """A row per emotion and one of their mean; scores as shares of 1, nan where one is not defined.

        Columns: positives, threshold, and for each of acc, wacc, f1 and auc the score, the bounds of its 95 % interval
        (`_low`, `_high`) and what the best constant decision scores (`_constant`).
        """
        import pandas

        columns: dict[str, Any] = {
            "positives": [*self.scores.positives, self.scores.positives.sum()],
            "threshold": [*self.thresholds, np.nan],
        }
        for name in NAMES:
            low, high = self.intervals[name]
            constant = self.trivial[BEST_CONSTANT]
            columns[name] = [*getattr(self.scores, name), self.scores.mean(name)]
            columns |= {f"{name}_low": low, f"{name}_high": high}
            columns[f"{name}_constant"] = [*getattr(constant, name), constant.mean(name)]
        return pandas.DataFrame(columns, index=pandas.Index([*self.emotions, "mean"], name="emotion"))


@dataclass(frozen=True)
class Planted:
    """What is known of a planted dataset, and of no other."""

    reachable: dict[str, float | None] | None = None  # the best possible accuracy and AUC with the model's modalities
    pointing: dict[str, "Pointing"] = field(default_factory=dict)  # by modality and level of a model with nuclei


@dataclass(frozen=True)
class Pointing:
    """How a level's nucleus lies to the places that the text names, over all frames; shares of 1."""

    inside: float  # of the selected sites, in the true place
    chance: float  # of all sites, in the true place: `inside` of a nucleus that knows nothing
    covered: float  # of the sites of the true place, selected


# ---- as text


def to_text(report: Report) -> str:
    """The scores of every emotion, their means, the baselines, and what to keep in mind."""
    return "\n".join(
        [
            f"{report.run} on {report.data}, {report.split}: {report.utterances} utterances, per cent; thresholds were "
            "chosen on valid",
            _table(report),
            "95 % intervals of the means, by bootstrap over utterances: "
            + ", ".join(
                f"{NAMES[name]} {percent(low)} to {percent(high)}"
                for name, (low, high) in ((name, bounds[:, -1]) for name, bounds in report.intervals.items())
            ),
            *_remarks(report),
            *(f"warning: {warning}" for warning in report.warnings),
        ]
    )


def spread_text(reports: Mapping[str, Report]) -> str:
    """Mean and standard deviation of the means over emotions, for runs that differ in their seed."""
    first = next(iter(reports.values()))
    rows = [["", *NAMES.values()]]
    rows += [_means(name, report.scores) for name, report in reports.items()]
    spread_cells = [mean_and_deviation([report.scores.mean(kind) for report in reports.values()]) for kind in NAMES]
    rows.append([f"mean of {len(reports)} ± sd", *spread_cells])
    rows += [_means(name, scores) for name, scores in (first.trivial | first.paper).items()]
    heading = f"{len(reports)} runs on {first.data}, {first.split}: {first.utterances} utterances, per cent"
    warnings = [f"warning: {name}: {warning}" for name, report in reports.items() for warning in report.warnings]
    return "\n".join([heading, aligned(rows), *_remarks(first), *warnings])


def spread(reports: Mapping[str, Report]) -> dict[str, tuple[float, float]]:
    """For each score the mean over runs of its mean over emotions, and their standard deviation (0 for one run)."""
    values = {kind: np.array([report.scores.mean(kind) for report in reports.values()]) for kind in NAMES}
    return {kind: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for kind, v in values.items()}


def _table(report: Report) -> str:
    scores = report.scores
    averaged = [scores.averaged(name) for name in NAMES]
    alike = len(set(averaged)) == 1
    rows = [["", "present", "threshold", *NAMES.values()]]
    for e, emotion in enumerate(report.emotions):
        cells = (percent(getattr(scores, name)[e]) for name in NAMES)
        rows.append([emotion, str(int(scores.positives[e])), f"{report.thresholds[e]:.2f}", *cells])
    name, *means = _means(f"mean of {averaged[0]}" if alike else "mean", scores)
    rows.append([name, "", "", *means])
    if not alike:
        rows.append(["emotions averaged", "", "", *map(str, averaged)])
    for name, *means in (_means(name, other) for name, other in (report.trivial | report.paper).items()):
        rows.append([name, "", "", *means])
    return aligned(rows)


def _means(name: str, scores: Scores) -> list[str]:
    return [name, *(percent(scores.mean(kind)) for kind in NAMES)]


def _remarks(report: Report) -> list[str]:
    """The text encoder or the features, and what is known of a planted dataset."""
    lines = []
    if report.encoder is not None:
        lines.append(f"text encoder: {report.encoder}")
    if report.features is not None:
        lines.append(report.features["words"])
    if report.planted is None:
        return lines
    if report.planted.reachable is not None:
        known = {"Acc": report.planted.reachable["accuracy"], "AUC": report.planted.reachable["auc"]}
        best = ", ".join(f"{title} {percent(value)}" for title, value in known.items() if value is not None)
        lines.append(f"best possible with these modalities: {best}")
    for name, found in report.planted.pointing.items():
        lines.append(
            f"nucleus, {name}: {100 * found.inside:.0f} % of it lies in the place that the text names (chance "
            f"{100 * found.chance:.0f} %) and covers {100 * found.covered:.0f} % of that place"
        )
    return lines


# ---- warnings


def _constant_warning(report: Report) -> list[str]:
    auc = report.scores.mean("auc")
    if beats_constant(auc):
        return []
    return [
        f"mean AUC {percent(auc)} on {report.split} is not above the 50.0 of a constant decision: no sign that the "
        "model learned anything, whatever F1 and WAcc are"
    ]


def _threshold_warning(report: Report) -> list[str]:
    """Of thresholds at an end of the grid: there a model may decide the same for every utterance."""
    ends = [f"{report.emotions[e]} {report.thresholds[e]:.2f}" for e in at_end_of_grid(report.thresholds)]
    if not ends:
        return []
    return [
        f"threshold at the end of its range for {_listed(ends)}: compare its scores with the row {BEST_CONSTANT!r}, "
        "which says yes or no to every utterance"
    ]


def _undefined_warning(report: Report) -> list[str]:
    """Of emotions that no utterance or every utterance of the split has."""
    present = report.scores.positives
    kinds = {
        f"no utterance of {report.split} has": [e for e, count in enumerate(present) if count == 0],
        f"every utterance of {report.split} has": [e for e, count in enumerate(present) if count == report.utterances],
    }
    return [
        f"{what} {_listed([report.emotions[e] for e in found])}: scores that need both kinds are not defined there and "
        "are not averaged"
        for what, found in kinds.items()
        if found
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


# ---- as plain values

_NUMBERS = [(float, None)]
_SCORES = {field.name: _NUMBERS for field in fields(Scores)}
SHAPE = {  # of `to_json`, for read_state; what is not read again is left out
    "run": str, "data": str, "split": str, "utterances": int, "emotions": [str], "thresholds": [float],
    "scores": _SCORES, "trivial": {str: _SCORES}, "paper": {str: _SCORES},
    "intervals": {name: [_NUMBERS] for name in NAMES}, "encoder": (str, None),
    "features": ({"words": str, "folder": str}, None),
    "planted?": {
        "reachable": ({"accuracy": float, "auc": (float, None)}, None),
        "pointing": {str: {"inside": float, "chance": float, "covered": float}},
    },
}  # fmt: skip


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values; None where a score is not defined."""
    stored = {
        "run": report.run,
        "data": report.data,
        "split": report.split,
        "utterances": report.utterances,
        "emotions": list(report.emotions),
        "thresholds": list(report.thresholds),
        "means": {name: _plain(report.scores.mean(name)) for name in NAMES},
        "scores": _scores_to_json(report.scores),
        "trivial": {name: _scores_to_json(scores) for name, scores in report.trivial.items()},
        "paper": {name: _scores_to_json(scores) for name, scores in report.paper.items()},
        "intervals": {name: _plain(bounds) for name, bounds in report.intervals.items()},
        "encoder": report.encoder,
        "features": report.features,
        "warnings": report.warnings,
    }
    return stored if report.planted is None else stored | {"planted": asdict(report.planted)}


def from_json(stored: Mapping[str, Any]) -> Report:
    """The report that `to_json` was given. Raises DataError for anything else."""
    run = stored.get("run", "") if isinstance(stored, Mapping) else ""
    where, mend = str(Path(str(run), "scores.json")), "delete the file, and the same `mesm train` writes it again"
    check_shape(stored, SHAPE, where, mend)
    try:
        report = _from_checked(stored)
    except (OverflowError, ValueError) as error:  # of numpy: rows of several lengths, numbers beyond float64
        raise DataError(f"{where}: {error}; {mend}") from None
    if problem := _size_problem(report):
        raise DataError(f"{where}: {problem}; {mend}")
    return report


def _from_checked(stored: Mapping[str, Any]) -> Report:
    planted = stored.get("planted")
    return Report(
        run=stored["run"],
        data=stored["data"],
        split=stored["split"],
        emotions=tuple(stored["emotions"]),
        thresholds=tuple(map(float, stored["thresholds"])),
        utterances=stored["utterances"],
        scores=_scores_from_json(stored["scores"]),
        trivial={name: _scores_from_json(scores) for name, scores in stored["trivial"].items()},
        intervals={name: np.array(stored["intervals"][name], float) for name in NAMES},
        encoder=stored["encoder"],
        features=stored["features"],
        paper={name: _scores_from_json(scores) for name, scores in stored["paper"].items()},
        planted=planted and _planted_from_json(planted),
    )


def _size_problem(report: Report) -> str | None:
    """What is not about as many emotions as there are, in words; None where everything is."""
    count = len(report.emotions)
    rows = [report.scores, *report.trivial.values(), *report.paper.values()]
    shapes = {getattr(scores, field.name).shape for scores in rows for field in fields(scores)}
    bounds = {values.shape for values in report.intervals.values()}
    if not count or shapes != {(count,)} or bounds != {(2, count + 1)} or len(report.thresholds) != count:
        return f"its scores are not those of {count} emotions"
    if BEST_CONSTANT not in report.trivial:
        return f"trivial lacks {BEST_CONSTANT}"
    return None if np.isfinite(report.scores.positives).all() else "a number of positives is no number"


def _planted_from_json(stored: Mapping[str, Any]) -> Planted:
    named = stored["pointing"]
    pointing = {name: Pointing(found["inside"], found["chance"], found["covered"]) for name, found in named.items()}
    return Planted(reachable=stored["reachable"], pointing=pointing)


def _scores_to_json(scores: Scores) -> dict[str, Any]:
    return {field.name: _plain(getattr(scores, field.name)) for field in fields(scores)}


def _scores_from_json(stored: Mapping[str, Any]) -> Scores:
    return Scores(**{field.name: np.array(stored[field.name], float) for field in fields(Scores)})


def _plain(values: Any) -> Any:
    """Lists and numbers for arrays and numpy's numbers, None for nan, which JSON has not."""
    if isinstance(values, np.ndarray):
        return [_plain(value) for value in values]
    return None if np.isnan(values) else float(values)
