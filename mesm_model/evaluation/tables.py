"""Tables for the terminal, and how numbers are written in them. Home of tabulate."""

import math
import statistics
from collections.abc import Sequence

from tabulate import tabulate


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines, two blanks between columns; the first column left-aligned, the others right."""
    if not rows:
        return ""
    sides = ("left", *["right"] * (len(rows[0]) - 1))
    text = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)
    return "\n".join(line.rstrip() for line in text.splitlines())


def percent(share: float | None) -> str:
    """A share of 1 as per cent with one digit; "-" for one that is not defined (None, nan)."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def mean_and_deviation(shares: Sequence[float | None]) -> str:
    """ "71.2 ± 0.8" for the shares that are defined; without the deviation for one, "-" for none."""
    defined = [share for share in shares if share is not None and not math.isnan(share)]
    if len(defined) < 2:
        return percent(defined[0] if defined else None)
    return f"{percent(statistics.fmean(defined))} ± {percent(statistics.stdev(defined))}"
