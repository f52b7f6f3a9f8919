"""`SplitReport`, the result of `verify-splits`, and its forms: `to_text`, `to_dict`, `write_differences`, `verdict`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mesm_data.splits.expected import SPLITS
from mesm_data.splits.id_lists import up_to_ten
from mesm_data.splits.leaks import Leaks

MARKS = {True: "", False: "! ", None: "? "}
COLUMNS = ("words", "seconds", *SPLITS)
COMPARABLE = ("paper", "lists")  # schemes that claim to be the paper's
LEAKS = {  # field of Leak -> what it counts
    "speakers": "speakers in both",
    "groups": "dialogues or videos in both",
    "adjacent": "utterances of the second with an adjacent turn of the same speaker in the first",
    "lines": "utterances of the second whose scripted line is in the first",
}
SHOWN_REASONS = 3  # figures that the verdict names; the table marks all


@dataclass(frozen=True)
class Cell:
    """One figure. `ok` is None where nothing was given to check it with."""

    row: str  # an emotion, "utterances" or "digest"
    column: str  # "words", "seconds" or a split
    found: float | str | None
    expected: float | str
    ok: bool | None


@dataclass(frozen=True)
class Difference:
    """One id whose split or labels differ from the reference."""

    kind: str  # "missing", "extra", "other split" or "other labels"
    id: str
    found: str
    expected: str


@dataclass(frozen=True)
class SplitReport:
    """The figures found and expected, and what leaks."""

    corpus: str
    scheme: str  # of the splits that were checked
    source: str  # where the expected figures are printed
    whose: str  # "the paper's dataset", or that of another manifest
    cells: tuple[Cell, ...]
    leaks: Leaks
    differences: tuple[Difference, ...] | None  # None: there was nothing to compare the ids with
    notes: tuple[str, ...]  # what could not be checked, and what else the reader must know

    @property
    def ok(self) -> bool:
        """True when everything that could be checked is the paper's, the ids included."""
        ids_are_the_papers = all(cell.ok for cell in self.cells if cell.row == "digest")
        return ids_are_the_papers and not self.wrong and not self.differences

    @property
    def comparable(self) -> bool:
        """False where the user asked for another scheme than the paper's."""
        return self.scheme in COMPARABLE

    @property
    def wrong(self) -> tuple[Cell, ...]:
        """The cells that differ."""
        return tuple(cell for cell in self.cells if cell.ok is False)

    def passes(self, strict: bool = False) -> bool:
        """`ok`; with `strict`, and no leaks either."""
        return self.ok and not (strict and self.leaks.found)


def to_text(report: SplitReport, strict: bool = False) -> str:
    """Tables, digests, leaks, notes, differing ids and, as the last line, the verdict."""
    blocks = [
        f"{report.corpus}, split {report.scheme}. Found / expected ({report.source}); ! differs, ? not checked.",
        _table(["", *COLUMNS], _figures(report)),
        "\n".join(_digest_line(cell) for cell in report.cells if cell.row == "digest"),
        _leaks_in_words(report.leaks),
        "\n".join([*report.notes, *_differing(report)]),
        verdict(report, strict),
    ]
    return "\n\n".join(block for block in blocks if block)


def to_dict(report: SplitReport, strict: bool = False) -> dict[str, Any]:
    """The whole report as plain values, for JSON; "ok" is False where the command exits with 1."""
    return {"ok": report.passes(strict), "verdict": verdict(report, strict)} | asdict(report)


def write_differences(path: Path, report: SplitReport) -> None:
    """Every differing id, tab-separated: kind, id, found, expected. Only the header where none is known to differ."""
    lines = ["kind\tid\tfound\texpected"]
    lines += [f"{d.kind}\t{d.id}\t{d.found}\t{d.expected}" for d in report.differences or ()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def verdict(report: SplitReport, strict: bool = False) -> str:
    """Whether this is the paper's dataset, and why not, in one line."""
    if not report.ok:
        return f"not {report.whose}: {', '.join(_reasons(report))}"
    unchecked = sum(cell.ok is None for cell in report.cells)
    figures = f"{len(report.cells) - unchecked} of {len(report.cells)} figures checked, all equal"
    line = f"{report.whose}{', as far as it could be checked' if unchecked else ''}: {figures}"
    return line if report.passes(strict) else f"{line}; but its splits leak, which --strict does not allow"


def _reasons(report: SplitReport) -> list[str]:
    reasons = [] if report.comparable else [f"split {report.scheme}"]
    totals = [cell for cell in report.cells if cell.row == "utterances"]
    found, expected = sum(int(cell.found or 0) for cell in totals), sum(int(cell.expected) for cell in totals)
    if found != expected:
        reasons.append(
            f"{found} of {expected} utterances" if found < expected else f"{found} utterances, not {expected}"
        )
    if report.wrong and not reasons:
        named = [_wrong(cell) for cell in report.wrong]
        more = f" and {len(named) - SHOWN_REASONS} more" if len(named) > SHOWN_REASONS else ""
        reasons.append(", ".join(named[:SHOWN_REASONS]) + more)
    return reasons or [f"{len(report.differences or ())} ids differ from the lists"]


def _wrong(cell: Cell) -> str:
    if cell.row == "digest":
        return f"other ids in {cell.column}"
    return f"{cell.row} {cell.column} {_value(cell.found)} instead of {_value(cell.expected)}"


def _figures(report: SplitReport) -> list[list[str]]:
    cells = {(cell.row, cell.column): cell for cell in report.cells if cell.row != "digest"}
    rows = dict.fromkeys(row for row, _ in cells)
    return [[row, *(_pair(cells.get((row, column))) for column in COLUMNS)] for row in rows]


def _pair(cell: Cell | None) -> str:
    return f"{MARKS[cell.ok]}{_value(cell.found)} / {_value(cell.expected)}" if cell else ""


def _value(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _digest_line(cell: Cell) -> str:
    expected = "" if cell.ok else f", expected {cell.expected}"
    return f"{MARKS[cell.ok]}sha256 of the {cell.column} ids: {cell.found}{expected}"


def _leaks_in_words(found: Leaks) -> str:
    if not found.pairs:
        return "Leaks: none, there is at most one split."
    totals = {"speakers": found.speakers, "groups": found.groups}
    rows = []
    for field, name in LEAKS.items():
        shared = [_of(getattr(p, field), totals.get(field) or found.utterances[p.second]) for p in found.pairs]
        rows.append([name, *shared])
    title = "Leaks: what two splits share. Adjacent turns: ids that differ only in the last number, by one."
    return f"{title}\n{_table(['', *(f'{pair.first}, {pair.second}' for pair in found.pairs)], rows)}"


def _of(number: int | None, total: int) -> str:
    return "unknown" if number is None else f"{number} of {total}"


def _differing(report: SplitReport) -> list[str]:
    kinds = sorted({difference.kind for difference in report.differences or ()})
    by_kind = {kind: [d.id for d in report.differences or () if d.kind == kind] for kind in kinds}
    return [f"{kind}: {len(ids)} ids: {up_to_ten(ids)}" for kind, ids in by_kind.items()]


def _table(header: list[str], rows: list[list[str]]) -> str:
    align = ("left", *["right"] * (len(header) - 1))
    return tabulate(rows, header, tablefmt="plain", colalign=align, headersglobalalign="right", disable_numparse=True)
