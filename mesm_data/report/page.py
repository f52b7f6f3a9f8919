"""A dataset on one HTML page that needs nothing else: figures, charts, leaks, Issues, and utterances to look at."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset, open_dataset
from mesm_data.errors import DOUBTFUL, LEFT_OUT, NOTED, PAPER_DROPS, Issue
from mesm_data.files import write_text
from mesm_data.report import charts
from mesm_data.report.picture import data_uri
from mesm_data.report.sheet import SLOT, Example, Piece, examples, pieces
from mesm_data.splits.expected import corpora_of_the_paper
from mesm_data.splits.leaks import Leaks, leaks
from mesm_data.splits.split import Member
from mesm_data.splits.split_report import SplitReport, verdict
from mesm_data.splits.stats import COLUMNS, count, word_count
from mesm_data.splits.verify import verify_rows
from mesm_data.utterance import Vote
from mesm_data.votes import agreement, by_rater, only_named

SHOWN = 48  # utterances on each contact sheet: about 5 MB a page
SECONDS = 12.0  # of an utterance on a contact sheet
LEDGER = 5000  # Issues that are listed; more make the page slow
ALPHAS = (0.667, 0.8)  # what Krippendorff asks for: tentative conclusions, and reliable ones
LIGHT = ("id", "split", "text", "labels", "votes", "start", "end", "speaker", "group", "face_found", "quality")


@dataclass(frozen=True)
class Chart:
    """A chart and what it says, in words."""

    title: str
    svg: Markup
    words: str


@dataclass(frozen=True)
class Headline:
    """A figure that the page begins with."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Shown:
    """An utterance on a contact sheet."""

    example: Example
    pieces: list[Piece]
    cut: bool  # only the first `SECONDS` are shown
    votes: list[tuple[str, str]]  # rater, what they said


def write_report(dataset: Path, out: Path, seed: int = 0) -> None:
    """Write the page of a dataset to `out`. The same dataset and seed give the same bytes.

    Raises ShardError where there is no dataset, or its ledger of Issues is missing.
    """
    opened = open_dataset(dataset)
    rows = list(opened.rows(LIGHT))
    issues = opened.issues
    sample, doubtful = _sample(rows, seed), _most_doubtful(rows)
    votes = [[Vote(**vote) for vote in row["votes"]] for row in rows]
    named = only_named(votes)
    cards = {example.id: _shown(example, named) for example in examples(opened, {*sample, *doubtful})}
    tables = _tables(opened, rows)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            dataset=opened,
            name=dataset.resolve().name,
            version=version("mesm"),
            seed=seed,
            slot=SLOT,
            seconds=SECONDS,
            columns=COLUMNS,
            headlines=_headlines(opened, rows, issues, tables["leaks"].speakers),
            **tables,
            charts=_charts(opened, rows, votes),
            kinds=_kinds(issues),
            issues=issues[:LEDGER],
            all_issues=len(issues),
            sheets=[
                ("sample", f"A random sample (seed {seed})", [cards[name] for name in sample], len(rows)),
                ("doubtful", "The most doubtful", [cards[name] for name in doubtful], sum(map(_is_doubtful, rows))),
            ],
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mesm_data.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"jpeg": data_uri, "told": _told_figure, "code": _with_code}
    return environment


# ---- figures and tables


def _headlines(
    dataset: Dataset, rows: Sequence[Mapping[str, Any]], issues: Sequence[Issue], speakers: int | None
) -> list[Headline]:
    parts = Counter(row["split"] for row in rows)
    taken = sum(len(row["face_found"]) for row in rows)
    found = sum(sum(row["face_found"]) for row in rows)
    left_out = {issue.utterance for issue in issues if issue.left_out}
    paper = {issue.utterance for issue in issues if issue.kind in PAPER_DROPS}
    doubtful = sum(bool(row["quality"]) for row in rows)
    return [
        Headline(f"{len(rows):,}", "utterances: " + ", ".join(f"{parts[part]:,} {part}" for part in dataset.splits)),
        Headline(_duration(sum(row["end"] - row["start"] for row in rows)), "of speech"),
        *([Headline(f"{speakers:,}", "speakers")] if speakers is not None else []),
        Headline(f"{len({row['group'] for row in rows}):,}", "dialogues or videos"),
        Headline(f"{100 * found / taken:.1f} %" if taken else "–", f"faces found, of {taken:,} pictures"),
        Headline(f"{len(left_out):,}", f"left out, {len(paper & left_out):,} of them by the paper's own rules"),
        Headline(f"{doubtful:,}", "doubtful, but kept"),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _tables(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template needs for the tables; a corpus that the paper has not is only counted."""
    if dataset.corpus in corpora_of_the_paper():
        report = verify_rows(dataset.corpus, rows, dataset.emotions, scheme=dataset.index["split"])
        return {"report": report, "verdict": verdict(report), "cells": _cells(report), "leaks": report.leaks}
    known = [_member(row) for row in rows]
    cells = {
        (emotion, column): value
        for emotion, row in count(known, dataset.emotions).table.items()
        for column, value in row.items()
    }
    found: Leaks = leaks(known, **corpora.leak_rules(dataset.corpus))
    return {"report": None, "verdict": None, "cells": cells, "leaks": found}


def _cells(report: SplitReport) -> dict[tuple[str, str], Any]:
    return {(cell.row, cell.column): cell for cell in report.cells}


def _member(row: Mapping[str, Any]) -> Member:
    labels, seconds = tuple(row["labels"]), row["end"] - row["start"]
    return Member(row["id"], row["split"], row["text"] or None, labels, seconds, row["speaker"], row["group"])


def _told_figure(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _kinds(issues: Sequence[Issue]) -> list[tuple[str, int, str, str]]:
    """Kind, how many, what that means for the utterance, what it is about; in the order of the tables in errors.py."""
    counts = Counter(issue.kind for issue in issues)
    fates = (
        ("left out, as in the paper", PAPER_DROPS),
        ("left out", LEFT_OUT),
        ("doubtful, kept", DOUBTFUL),
        ("note", NOTED),
    )
    return [(kind, counts[kind], fate, text) for fate, kinds in fates for kind, text in kinds.items() if counts[kind]]


# ---- charts


def _charts(dataset: Dataset, rows: Sequence[Mapping[str, Any]], votes: Sequence[Sequence[Vote]]) -> list[Chart]:
    if not rows:
        return []
    seconds = [row["end"] - row["start"] for row in rows]
    words = [word_count(row["text"]) for row in rows]
    return [
        _label_chart(dataset, rows),
        _agreement_chart(votes, corpora.about(dataset.index)["self_reports"]),
        _size_chart("Duration", "durations", seconds, "seconds"),
        _size_chart("Words", "words", words, "words (NLTK tokens)"),
        _face_chart(rows),
    ]


def _label_chart(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> Chart:
    counts = {
        part: np.array([[*row["labels"], not any(row["labels"])] for row in rows if row["split"] == part])
        for part in dataset.splits
    }
    names = [*dataset.emotions, "none of them"]
    shares = {
        name: {part: float(labels[:, n].mean()) for part, labels in counts.items() if len(labels)}
        for n, name in enumerate(names)
        if n < len(dataset.emotions) or any(labels[:, n].any() for labels in counts.values() if len(labels))
    }
    words = "Share of the utterances of each part that are labelled with an emotion."
    return Chart("Label balance", Markup(charts.grouped_bars("labels", shares)), words)


def _size_chart(title: str, name: str, values: Sequence[float], unit: str) -> Chart:
    span = f"From {min(values):.3g} to {max(values):.3g}, mean {float(np.mean(values)):.2f}."
    words = f"{span} What lies beyond the axis is counted in the last bar."
    return Chart(title, Markup(charts.histogram(name, values, unit)), words)


def _face_chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    steps = {"all": 1.0, "75 to 99 %": 0.75, "50 to 74 %": 0.5, "25 to 49 %": 0.25, "1 to 24 %": 1e-9, "none": 0.0}
    counts = dict.fromkeys(steps, 0)
    for row in rows:
        share = sum(row["face_found"]) / max(1, len(row["face_found"]))
        counts[next(name for name, least in steps.items() if share >= least)] += 1
    labels = [f"{n:,} ({100 * n / len(rows):.1f} %)" for n in counts.values()]
    words = "Utterances by the share of their pictures in which a face was found."
    return Chart("Faces found", Markup(charts.bars("faces", counts, labels)), words)


def _agreement_chart(votes: Sequence[Sequence[Vote]], self_reports: Sequence[str]) -> Chart:
    found = agreement(votes, self_reports)
    if not found:
        words = "No alpha: no two raters of one utterance are known, or they never differ."
        return Chart("Rater agreement", Markup(""), words)
    values = {one.name: one.alpha for one in found}
    labels = [f"{one.alpha:.2f}" for one in found]
    levels = {"nominal": "Named or not", "interval": "Given a number"}
    lists = {text: ", ".join(one.name for one in found if one.level == level) for level, text in levels.items()}
    words = (
        f"Krippendorff's alpha over {max(one.utterances for one in found):,} utterances with two raters or more; 1 is "
        f"perfect, 0 is chance. He asks for 0.8, and 0.667 at the least. Self-reports do not count. "
        + " ".join(f"{text}: {names}." for text, names in lists.items() if names)
    )
    return Chart("Rater agreement", Markup(charts.bars("agreement", values, labels, ALPHAS)), words)


# ---- contact sheets


def _sample(rows: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    ids = sorted(row["id"] for row in rows)
    return sorted(random.Random(seed).sample(ids, min(SHOWN, len(ids))))


def _most_doubtful(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Most kinds of doubt first, then fewest faces found, then by id."""
    ranked = sorted(
        (-len(row["quality"]), sum(row["face_found"]) / max(1, len(row["face_found"])), row["id"])
        for row in rows
        if _is_doubtful(row)
    )
    return [name for _, _, name in ranked[:SHOWN]]


def _is_doubtful(row: Mapping[str, Any]) -> bool:
    return bool(row["quality"]) or not all(row["face_found"])


def _shown(example: Example, named: set[str]) -> Shown:
    return Shown(example, pieces(example, SECONDS), example.seconds > SECONDS, by_rater(example.votes, named))


def _with_code(text: str) -> Markup:
    """Text of which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
