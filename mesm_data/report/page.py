"""A dataset on one self-contained HTML page: counts, charts, leaks, Issues, and utterances with faces and audio."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DOUBTFUL, LEFT_OUT, NOTED, PAPER_DROPS, Issue
from mesm_data.files import write_text
from mesm_data.report import charts
from mesm_data.report.picture import data_uri
from mesm_data.report.render import counted, render
from mesm_data.report.sheet import SLOT, Example, Piece, examples, pieces
from mesm_data.splits.expected import corpora_of_the_paper
from mesm_data.splits.leaks import leaks
from mesm_data.splits.split import Member
from mesm_data.splits.split_report import verdict
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
    """A number at the top of the page."""

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
    opened = load(dataset)
    rows = list(opened.rows(LIGHT))
    issues = opened.issues
    sample, doubtful = _sample(rows, seed), _most_doubtful(rows)
    votes = [[Vote(**vote) for vote in row["votes"]] for row in rows]
    named = only_named(votes)
    cards = {example.id: _shown(example, named) for example in examples(opened, {*sample, *doubtful})}
    tables = _tables(opened, rows)
    page = render(
        "report.html",
        {"jpeg": data_uri, "figure": _figure, "code": _with_code},
        dataset=opened,
        title=corpora.about(opened.index)["title"],
        name=dataset.resolve().name,
        version=version("mesm"),
        slot=SLOT,
        seconds=SECONDS,
        columns=COLUMNS,
        headlines=_headlines(opened, rows, issues, tables["leaks"].speakers),
        **tables,
        charts=_charts(opened, rows, votes),
        has_faces=any(row["face_found"] for row in rows),
        kinds=_kinds(issues),
        issues=issues[:LEDGER],
        all_issues=len(issues),
        sheets=[
            ("sample", f"A random sample (seed {seed})", [cards[name] for name in sample], len(rows)),
            ("doubtful", "The most doubtful", [cards[name] for name in doubtful], sum(map(_is_doubtful, rows))),
        ],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)


# ---- numbers and tables


def _headlines(
    dataset: Dataset, rows: Sequence[Mapping[str, Any]], issues: Sequence[Issue], speakers: int | None
) -> list[Headline]:
    by_split = Counter(row["split"] for row in rows)
    taken = sum(len(row["face_found"]) for row in rows)
    found = sum(sum(row["face_found"]) for row in rows)
    left_out = {issue.utterance for issue in issues if issue.left_out}
    paper = {issue.utterance for issue in issues if issue.kind in PAPER_DROPS}
    doubtful = sum(bool(row["quality"]) for row in rows)
    splits = ", ".join(f"{by_split[split]:,} {split}" for split in dataset.splits)
    by_rule = f", {len(paper & left_out):,} of them by the paper's own rules" if paper & left_out else ""
    return [
        _counted(len(rows), "utterance", remark=f": {splits}"),
        Headline(_duration(sum(row["end"] - row["start"] for row in rows)), "of speech"),
        *([_counted(speakers, "speaker")] if speakers is not None else []),
        _counted(len({row["group"] for row in rows}), "dialogue or video", "dialogues or videos"),
        *([Headline(f"{100 * found / taken:.1f} %", f"faces found, in {taken:,} frames")] if taken else []),
        Headline(f"{len(left_out):,}", f"dropped{by_rule}"),
        Headline(f"{doubtful:,}", "doubtful, but kept"),
    ]


def _counted(number: int, one: str, many: str = "", remark: str = "") -> Headline:
    value, _, noun = counted(number, one, many).partition(" ")
    return Headline(value, noun + remark)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _tables(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template needs for the tables: counts, and for a corpus of the paper the check of its splits.

    `report` is None for a corpus that the paper does not have.
    """
    known = [_member(row) for row in rows]
    counts = count(known, dataset.emotions)
    cells = {(emotion, column): value for emotion, row in counts.table.items() for column, value in row.items()}
    cells |= {("utterances", split): number for split, number in counts.utterances.items()}
    tables: dict[str, Any] = {"report": None, "verdict": None, "cells": cells, "checked": {}}
    if dataset.corpus not in corpora_of_the_paper():
        return tables | {"leaks": leaks(known, **corpora.leak_rules(dataset.corpus))}
    report = verify_rows(dataset.corpus, rows, dataset.emotions, scheme=dataset.index["split"])
    checked = {(cell.row, cell.column): cell for cell in report.cells}
    return tables | {"report": report, "verdict": verdict(report), "checked": checked, "leaks": report.leaks}


def _member(row: Mapping[str, Any]) -> Member:
    labels, seconds = tuple(row["labels"]), row["end"] - row["start"]
    return Member(row["id"], row["split"], row["text"] or None, labels, seconds, row["speaker"], row["group"])


def _figure(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _kinds(issues: Sequence[Issue]) -> list[tuple[str, int, str, str]]:
    """Kind, count, whether the utterance was dropped, meaning; in the order of the tables in errors.py."""
    counts = Counter(issue.kind for issue in issues)
    fates = (
        ("dropped, as in the paper", PAPER_DROPS),
        ("dropped", LEFT_OUT),
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
    charts = [
        _label_chart(dataset, rows),
        _agreement_chart(votes, corpora.about(dataset.index)["self_reports"]) if any(votes) else None,
        _size_chart("Duration", "durations", seconds, "seconds"),
        _size_chart("Words", "words", words, "words (NLTK tokens)") if any(words) else None,
        _face_chart(rows) if any(row["face_found"] for row in rows) else None,
    ]
    return [chart for chart in charts if chart]


def _label_chart(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> Chart:
    counts = {
        split: np.array([[*row["labels"], not any(row["labels"])] for row in rows if row["split"] == split])
        for split in dataset.splits
    }
    names = [*dataset.emotions, "none of them"]
    shares = {
        name: {split: float(labels[:, n].mean()) for split, labels in counts.items() if len(labels)}
        for n, name in enumerate(names)
        if n < len(dataset.emotions) or any(labels[:, n].any() for labels in counts.values() if len(labels))
    }
    words = "Share of the utterances of each split that are labelled with an emotion."
    return Chart("Label balance", Markup(charts.grouped_bars("labels", shares)), words)


def _size_chart(title: str, name: str, values: Sequence[float], unit: str) -> Chart:
    span = f"From {min(values):.3g} to {max(values):.3g}, mean {float(np.mean(values)):.2f}."
    words = f"{span} The last bar also counts what lies beyond the axis."
    return Chart(title, Markup(charts.histogram(name, values, unit)), words)


def _face_chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    steps = {"all": 1.0, "75 to 99 %": 0.75, "50 to 74 %": 0.5, "25 to 49 %": 0.25, "1 to 24 %": 1e-9, "none": 0.0}
    counts = dict.fromkeys(steps, 0)
    for row in rows:
        share = sum(row["face_found"]) / max(1, len(row["face_found"]))
        counts[next(name for name, least in steps.items() if share >= least)] += 1
    labels = [f"{n:,} ({100 * n / len(rows):.1f} %)" for n in counts.values()]
    words = "Utterances by the share of their frames in which a face was found."
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
        f"perfect, 0 is chance. He asks for 0.8, and for at least 0.667. Self-reports do not count. "
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
    """Text in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
