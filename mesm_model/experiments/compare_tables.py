"""A comparison as text, CSV, LaTeX, JSON, a pandas frame, and one self-contained HTML page."""

import math
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mesm_data import corpora
from mesm_data.files import csv_text
from mesm_data.report import charts
from mesm_data.report.render import counted, render
from mesm_model.evaluation.metrics import BEST_CONSTANT, NAMES, beats_constant
from mesm_model.evaluation.tables import aligned, percent
from mesm_model.experiments.compare import DRAWS, TESTED, Comparison, Entry, Pair

if TYPE_CHECKING:
    from pandas import DataFrame

PLUS_MINUS = r" \pm "  # of LaTeX
SIGNIFICANT = 0.05  # a corrected p-value below this is evidence of a difference
WIDE = 118  # letters per line of text
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def to_text(found: Comparison) -> str:
    """The table, and the pairs below it."""
    lines = [_table(found), *(described(entry) for entry in found.entries), textwrap.fill(about(found), WIDE)]
    lines += [textwrap.fill(f"warning: {warning}", WIDE) for warning in warnings(found)]
    if found.pairs:
        lines += ["", _pairs(found), textwrap.fill(about_tests(found), WIDE)]
    return "\n".join(lines)


def _table(found: Comparison) -> str:
    rows = [["", *NAMES.values(), "95 % of F1", "GFLOP", "parameters", "ms"]]
    for entry in found.entries:
        low, high = entry.intervals["f1"]
        scores = [_with_spread(entry, kind, " ± ") for kind in NAMES]
        costs = [f"{entry.gflop:.4g}", f"{entry.parameters:,}", f"{1000 * entry.seconds:.2f}"]
        rows.append([entry.name, *scores, f"{percent(low)} to {percent(high)}", *costs])
    for name, other in found.others.items():
        rows.append([name, *(percent(other.mean(kind)) for kind in NAMES), "", "", "", ""])
    return aligned(rows)


def _pairs(found: Comparison) -> str:
    rows = [["", *(f"{NAMES[kind]} {what}" for kind in TESTED for what in ("more", "p")), "Holm", ""]]
    for pair in found.pairs:
        cells = [
            cell for kind in TESTED for cell in (f"{100 * pair.differences[kind]:+.1f}", f"{pair.p_values[kind]:.4f}")
        ]
        rows.append([f"{pair.first} - {pair.second}", *cells, f"{pair.holm:.4f}", verdict(pair)])
    return aligned(rows)


def to_html(found: Comparison) -> str:
    """The page, self-contained."""
    return render(
        "compare.html",
        {"percent": percent},
        "mesm_model",
        found=found,
        corpus=corpora.about(found.dataset.index)["title"],
        scores=NAMES,
        tested=TESTED,
        bars={f"{title}, 95 % of the mean over emotions": _bars(found, kind) for kind, title in NAMES.items()},
        about=about(found),
        warnings=warnings(found),
        words=about_tests(found),
        inputs=inputs,
        verdict=verdict,
    )


def described(entry: Entry) -> str:
    """The name of an entry and what it is."""
    return f"{entry.name}: {inputs(entry)}"


def inputs(entry: Entry) -> str:
    """The model of an entry, unless its name says it, and what it reads."""
    model = [] if entry.name == entry.model else [entry.model]
    return ", ".join([*model, f"modalities {entry.modalities}", entry.inputs])


def about(found: Comparison) -> str:
    """What the numbers of the table are."""
    seeds = sorted({len(entry.scores) for entry in found.entries})
    over = " or ".join(map(str, seeds))
    return (
        f"{found.dataset.folder}, {found.split}: {found.utterances} utterances, per cent, means over "
        f"{len(found.dataset.emotions)} emotions and {over} seed{'s' if seeds != [1] else ''} ± standard deviation "
        "over seeds. 95 % intervals by bootstrap over utterances. GFLOP (2 per multiply-add) and milliseconds "
        f"(batched, on {found.device}, reading included) are per utterance, of the whole model."
    )


def about_tests(found: Comparison) -> str:
    """What the numbers of the pairs are."""
    return (
        "Paired permutation tests: by how many per cent the first scores more than the second, and the two-sided "
        f"p-value from {DRAWS} exchanges of their decisions. Holm: the p-value of F1 corrected for "
        f"{counted(len(found.pairs), 'pair')}. With unequal numbers of seeds the first ones are compared."
    )


def warnings(found: Comparison) -> list[str]:
    """Sentences on entries that are no better than a decision that ignores its input."""
    return [
        f"{entry.name}: mean AUC {percent(entry.mean('auc'))} is not above the 50.0 of a constant decision: no sign "
        "that the model learned anything"
        for entry in found.entries
        if not beats_constant(entry.mean("auc"))
    ]


def verdict(pair: Pair) -> str:
    """Whether F1 differs; a test that finds no difference does not show that there is none."""
    return "differs" if pair.holm < SIGNIFICANT else "no evidence"


def to_pandas(found: Comparison) -> "DataFrame":
    """A row per entry and baseline, by name: the columns of the CSV file, scores as shares of 1, nan where unknown."""
    import pandas

    return pandas.DataFrame(_rows(found)).set_index("name")


def to_csv(found: Comparison) -> str:
    """A line per entry and baseline, scores as shares of 1; empty where something is not known."""
    rows = _rows(found)
    return csv_text([rows[0], *([_digits(value) for value in row.values()] for row in rows)])


def to_json(found: Comparison) -> dict[str, Any]:
    """The comparison as plain values, for `--json`; None where something is not known."""
    rows = [{name: _known(value) for name, value in row.items()} for row in _rows(found)]
    pairs = [asdict(pair) | {"verdict": verdict(pair)} for pair in found.pairs]
    for pair in pairs:
        pair["differences"] = {kind: _known(value) for kind, value in pair["differences"].items()}
    return {
        "data": str(found.dataset.folder),
        "split": found.split,
        "utterances": found.utterances,
        "device": found.device,
        "emotions": list(found.dataset.emotions),
        "runs": rows[: len(found.entries)],
        "baselines": [{name: row[name] for name in ("name", *NAMES)} for row in rows[len(found.entries) :]],
        "pairs": pairs,
    }


def _rows(found: Comparison) -> list[dict[str, Any]]:
    """Of each entry and baseline every column; None or nan where something is not known."""
    rows = []
    for entry in found.entries:
        known = {"name": entry.name, "model": entry.model, "modalities": entry.modalities, "inputs": entry.inputs}
        row: dict[str, Any] = known | {"seeds": len(entry.scores)}
        for kind in NAMES:
            cells = (entry.mean(kind), entry.spread(kind), *entry.intervals[kind])
            row |= dict(zip((kind, f"{kind}_sd", f"{kind}_low", f"{kind}_high"), cells, strict=True))
        rows.append(row | {"gflop": entry.gflop, "parameters": entry.parameters, "seconds": entry.seconds})
    for name, scores in found.others.items():
        unknown = dict.fromkeys(rows[0])
        rows.append(unknown | {"name": name} | {kind: scores.mean(kind) for kind in NAMES})
    return rows


def to_latex(found: Comparison) -> str:
    """A tabular for the booktabs package."""
    lines = [
        r"\begin{tabular}{l" + "r" * (len(NAMES) + 3) + "}",
        r"\toprule",
        " & ".join(["model", *NAMES.values(), "GFLOP", "parameters", "ms"]) + r" \\",
        r"\midrule",
    ]
    for entry in found.entries:
        scores = [f"${_with_spread(entry, kind, PLUS_MINUS)}$" for kind in NAMES]
        costs = [f"{entry.gflop:.4g}", f"{entry.parameters / 1e6:.2f}\\,M", f"{1000 * entry.seconds:.2f}"]
        lines.append(" & ".join([_escaped(entry.name), *scores, *costs]) + r" \\")
    lines.append(r"\midrule")
    for name, other in found.others.items():
        cells = [percent(other.mean(kind)) for kind in NAMES]
        lines.append(" & ".join([_escaped(name), *cells, "", "", ""]) + r" \\")
    remark = " ".join(about(found).split())  # a comment ends with its line
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {remark}", ""])


def _bars(found: Comparison, kind: str) -> Markup:
    rows = {}
    for entry in found.entries:
        low, high = entry.intervals[kind]
        rows[entry.name] = (100 * entry.mean(kind), 100 * low, 100 * high)
    marks = {BEST_CONSTANT: 100 * found.trivial[BEST_CONSTANT].mean(kind)}
    return Markup(charts.whiskers(f"compare-{kind}", rows, marks))


def _with_spread(entry: Entry, kind: str, between: str) -> str:
    spread = entry.spread(kind)
    return percent(entry.mean(kind)) + ("" if spread is None else f"{between}{100 * spread:.1f}")


def _digits(value: Any) -> Any:
    """For CSV: numbers with six digits, nothing for what is not known."""
    known = _known(value)
    return "" if known is None else f"{known:.6g}" if isinstance(known, float) else known


def _known(value: Any) -> Any:
    """None for nan, which JSON has not."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _escaped(name: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in name)
