"""A comparison as people read it: text, csv, LaTeX, and one HTML page that needs nothing else."""

import csv
import io
import math
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from mesm_data.report import charts
from mesm_model.evaluation.metrics import NAMES
from mesm_model.evaluation.page import environment
from mesm_model.experiments.compare import DRAWS, TESTED, Comparison, Entry

PLUS_MINUS = r" \pm "  # of LaTeX
SURE = 0.05  # a chance below this is called a difference
WIDE = 118  # letters a line of text


def to_text(found: Comparison) -> str:
    """The table, and the pairs below it."""
    header = ["", *NAMES.values(), "95 % of F1", "GFLOP", "parameters", "ms"]
    rows = [header]
    for entry in found.entries:
        low, high = entry.intervals["f1"]
        scores = [_with_spread(entry, kind, " ± ") for kind in NAMES]
        costs = [f"{entry.gflop:.4g}", f"{entry.parameters:,}", f"{1000 * entry.seconds:.2f}"]
        rows.append([entry.name, *scores, f"{percent(low)} to {percent(high)}", *costs])
    rows += [
        [name, *(percent(scores.mean(kind)) for kind in NAMES), "", "", "", ""] for name, scores in found.others.items()
    ]
    lines = [_aligned(rows)]
    lines += [described(entry) for entry in found.entries]
    lines.append(textwrap.fill(about(found), WIDE))
    if found.pairs:
        tests = [
            ["", *(f"{title} {what}" for title in (NAMES[kind] for kind in TESTED) for what in ("more", "p")), "Holm"]
        ]
        for pair in found.pairs:
            cells = [
                cell
                for kind in TESTED
                for cell in (f"{100 * pair.differences[kind]:+.1f}", f"{pair.chances[kind]:.4f}")
            ]
            tests.append([f"{pair.first} - {pair.second}", *cells, f"{pair.holm:.4f}"])
        lines += ["", _aligned(tests), textwrap.fill(tested(found), WIDE)]
    return "\n".join(lines)


def to_html(found: Comparison) -> str:
    """The page."""
    return environment().get_template("compare.html").render(
        found=found,
        scores=NAMES,
        tested=TESTED,
        bars={f"{title}, 95 % of the mean over emotions": _bars(found, kind) for kind, title in NAMES.items()},
        about=about(found),
        words=tested(found),
        described=described,
        differs=lambda pair: pair.holm < SURE,
    )  # fmt: skip


def described(entry: Entry) -> str:
    """What a row is, in words."""
    return f"{entry.name}: {entry.model}, modalities {entry.modalities}, {entry.inputs}"


def about(found: Comparison) -> str:
    """What the table shows, in words."""
    seeds = sorted({len(entry.scores) for entry in found.entries})
    over = " or ".join(map(str, seeds))
    return (
        f"{found.dataset.folder}, part {found.part}: {found.utterances} utterances, per cent, means over "
        f"{len(found.dataset.emotions)} emotions and {over} seed{'s' if seeds != [1] else ''} ± standard deviation "
        "over seeds. 95 % by bootstrap over utterances. GFLOP (2 a multiply-add) and milliseconds (in batches on "
        f"{found.device}, reading included) are an utterance's, of the whole model."
    )


def tested(found: Comparison) -> str:
    """What the pairs show, in words."""
    return (
        f"Per cent more of the first than of the second, and p by {DRAWS} exchanges of their decisions, two-sided; "
        f"Holm: p of F1 corrected for {len(found.pairs)} pairs. Of unequal numbers of seeds the first are compared."
    )


def to_csv(found: Comparison) -> str:
    """A line a model, shares of 1; empty where something is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{kind}{what}" for kind in NAMES for what in ("", "_sd", "_low", "_high")]
    writer.writerow(["name", "model", "modalities", "inputs", "seeds", *columns, "gflop", "parameters", "seconds"])
    for entry in found.entries:
        cells = [_plain(x) for kind in NAMES for x in (entry.mean(kind), entry.spread(kind), *entry.intervals[kind])]
        costs = [_plain(entry.gflop), entry.parameters, _plain(entry.seconds)]
        writer.writerow([entry.name, entry.model, entry.modalities, entry.inputs, len(entry.scores), *cells, *costs])
    for name, scores in found.others.items():
        cells = [x for kind in NAMES for x in (_plain(scores.mean(kind)), "", "", "")]
        writer.writerow([name, "", "", "", "", *cells, "", "", ""])
    return text.getvalue()


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
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {about(found)}", ""])


def percent(share: float) -> str:
    """One digit, "-" for what is not defined."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _bars(found: Comparison, kind: str) -> Markup:
    rows = {}
    for entry in found.entries:
        low, high = entry.intervals[kind]
        rows[entry.name] = (100 * entry.mean(kind), 100 * low, 100 * high)
    marks = {"without a model": 100 * max(scores.mean(kind) for scores in found.trivial.values())}
    return Markup(charts.whiskers(f"compare-{kind}", rows, marks))


def _with_spread(entry: Entry, kind: str, between: str) -> str:
    spread = entry.spread(kind)
    return percent(entry.mean(kind)) + ("" if spread is None else f"{between}{100 * spread:.1f}")


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _escaped(name: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in name)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, wide, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
