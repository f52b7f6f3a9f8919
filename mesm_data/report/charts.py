"""Charts as inline SVG in the colours of the page around them, and figures as SVG files; both follow light and dark."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mesm_data.files import write_text

WIDTH = 5.0  # inches, 360 points: about the width of a phone, where text keeps its size
TEXT, SMALL = 11.0, 10.0  # points: what is smaller cannot be read on a phone
BINS = 24
TOP = 99.5  # percentile at which a histogram ends; what lies above is counted in its last bar

# Colours that stand for a name until the page's own take their place. Unlikely ones: they are found by their text.
INK, FAINT, BAR = "#010203", "#040506", "#070809"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03")
PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--faint)", BAR: "var(--bar)"} | {
    colour: f"var(--series-{n})" for n, colour in enumerate(SERIES, start=1)
}

# White turns dark and black light, hues stay. For files: a page has colours of its own.
DARK = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(.9) hue-rotate(180deg) } }</style>"


def grouped_bars(name: str, shares: Mapping[str, Mapping[str, float]]) -> str:
    """Group -> series -> share from 0 to 1, as horizontal bars with their per cent written at their ends."""
    series = list(next(iter(shares.values())))
    figure, axes = _figure(0.5 + len(shares) * (0.19 * len(series) + 0.12))
    for n, one in enumerate(series):
        at = np.arange(len(shares)) + (n - (len(series) - 1) / 2) * 0.8 / len(series)
        widths = [100 * group[one] for group in shares.values()]
        bars = axes.barh(at, widths, 0.8 / len(series), color=SERIES[n % len(SERIES)], label=one)
        axes.bar_label(bars, [f"{width:.1f} %" for width in widths], padding=3, fontsize=SMALL, color=INK)
    _name_rows(axes, list(shares))
    axes.set_xlim(0, 1.2 * max(100 * share for group in shares.values() for share in group.values()) or 1)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=len(series), frameon=False, labelcolor=INK)
    return _svg(figure, name)


def bars(name: str, values: Mapping[str, float], labels: Sequence[str], marks: Sequence[float] = ()) -> str:
    """Horizontal bars with a text at each end; `marks` are up to two values to hold them against, as dotted lines."""
    figure, axes = _figure(0.3 + 0.27 * len(values))
    drawn = axes.barh(np.arange(len(values)), list(values.values()), 0.7, color=BAR)
    axes.bar_label(drawn, labels, padding=3, fontsize=SMALL, color=INK)
    _name_rows(axes, list(values))
    low, high = min(0.0, *values.values()), max(*values.values(), *marks, 1e-9)
    room = 0.35 * (high - low)  # for the labels
    axes.set_xlim(low - room if low < 0 else 0, high + room)
    for mark, side in zip(marks, ("right", "left"), strict=False):  # away from each other
        axes.axvline(mark, color=FAINT, linestyle=":", linewidth=1)
        axes.text(mark, -0.75, f"{mark:g}", ha=side, va="bottom", fontsize=SMALL, color=INK)
    return _svg(figure, name)


def whiskers(name: str, rows: Mapping[str, tuple[float, float, float]], marks: Mapping[str, float]) -> str:
    """Row -> value, low, high as horizontal bars with a line from low to high; `marks` are dotted lines with a name."""
    figure, axes = _figure(0.45 + 0.3 * len(rows))
    at = np.arange(len(rows))
    values, lows, highs = (np.array(column) for column in zip(*rows.values(), strict=True))
    axes.barh(at, values, 0.7, color=BAR, alpha=0.75)
    axes.errorbar(values, at, xerr=[values - lows, highs - values], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    for y, value, high in zip(at, values, highs, strict=True):
        axes.annotate(
            f"{value:.1f}", (high, y), (5, 0), textcoords="offset points", va="center", fontsize=SMALL, color=INK
        )
    _name_rows(axes, list(rows))
    axes.set_xlim(0, 1.12 * max([*highs, *marks.values(), 1e-9]))
    for mark, value in marks.items():
        axes.axvline(value, color=FAINT, linestyle=":", linewidth=1)
        axes.text(value, -0.6, mark, ha="center" if value else "left", va="bottom", fontsize=SMALL, color=INK)
    return _svg(figure, name)


def histogram(name: str, values: Sequence[float], unit: str) -> str:
    """How many values there are of each size from 0 on, with a line at the median."""
    figure, axes = _figure(2.3)
    end = max(float(np.percentile(values, TOP)), 1e-9)
    whole = all(float(value).is_integer() for value in values)
    width = max(1, round(end / BINS)) if whole else end / BINS
    edges = np.arange(0, end + 2 * width, width) - (0.5 if whole else 0)
    axes.hist(np.minimum(values, edges[-1] - width / 2), edges.tolist(), color=BAR, rwidth=0.9)
    median = float(np.median(values))
    axes.axvline(median, color=INK, linewidth=1)
    axes.text(median, 1.01, f"median {median:.3g}", transform=axes.get_xaxis_transform(), va="bottom", color=INK)
    axes.set_xlabel(unit, color=INK)
    axes.set_ylabel("utterances", color=INK)
    axes.tick_params(axis="y", labelleft=True, length=3)
    axes.spines["left"].set_visible(True)
    return _svg(figure, name)


def lines(
    name: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    mark: float | None = None,
    levels: Mapping[str, float] | None = None,
) -> str:
    """Curves of up to three series, each of points (x, y).

    `mark` is an x to point at with a dotted line; `levels` are values of y by series, dashed in the series' colour.
    """
    figure, axes = _figure(2.6)
    for n, (one, points) in enumerate(curves.items()):
        xs, ys = zip(*points, strict=True) if points else ((), ())
        style = {"marker": "o", "markersize": 3} if len(points) <= 60 else {"linewidth": 0.8}
        axes.plot(xs, ys, color=SERIES[n % len(SERIES)], label=one, **style)
        if levels and one in levels:
            axes.axhline(levels[one], color=SERIES[n % len(SERIES)], linestyle="--", linewidth=0.8)
    if mark is not None:
        axes.axvline(mark, color=FAINT, linestyle=":", linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # epochs and steps
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.spines["left"].set_visible(True)
    if len(curves) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=len(curves), frameon=False, labelcolor=INK)
    return _svg(figure, name)


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure on white as an SVG file that is dark where the reader prefers that; the same bytes each time."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mesm"}):  # else the ids inside are random
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    head, tag, rest = file.getvalue().partition("<svg")
    attributes, end, body = rest.partition(">")
    write_text(path, f"{head}{tag}{attributes}{end}\n{DARK}{body}")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_edgecolor(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=TEXT)
    return figure, axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), names)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element without a size or a font of its own; its inner ids begin with `name`."""
    file = io.StringIO()
    # text stays text, set in the page's own font; the salt makes ids, and so bytes, the same every time
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": TEXT}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    head, _, body = file.getvalue().partition("<svg")[2].partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)  # the page sets the size, viewBox keeps the shape
    body = re.sub(r"<(metadata|style).*?</\1>", "", body, flags=re.DOTALL)  # a style would hold for the whole page
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for colour, page in PAGE_COLOURS.items():
        body = body.replace(colour, page)
    return f"<svg{head}>{body}"
