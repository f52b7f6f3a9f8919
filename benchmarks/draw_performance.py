"""Draw docs/performance.svg and fill the table of docs/performance.md from the figures that bench_sparse saved.

python -m benchmarks.bench_sparse --json docs/performance.json
python -m benchmarks.draw_performance
"""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from mesm_data.report.charts import DARK

DOCS = Path(__file__).parents[1] / "docs"
TITLES = {"v": "32 faces", "a": "16 mel chunks"}
PANELS = {"v, 1 thread": TITLES["v"], "a, 1 thread": TITLES["a"]}
ROWS = {
    "mesm p=0.5, masked dense": "MESM p = 0.5, masked dense",
    "fe2e": "FE2E",
    "mesm p=0.8": "MESM p = 0.8",
    "mesm p=0.7": "MESM p = 0.7",
    "mesm p=0.5": "MESM p = 0.5",
    "mesm p=0.3": "MESM p = 0.3",
}
LEFT, UNIT, STEP, PANEL = 210, 410, 26, 205  # pixels: labels, a ratio of 1, a row, a panel
FRONT, REST, INK = "#3b5b7c", "#9db8d2", "#222222"


def main() -> None:
    figures = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    (DOCS / "performance.svg").write_text(picture(figures), encoding="utf-8")
    page = DOCS / "performance.md"
    parts = re.split(r"(<!-- figures -->\n|<!-- end of figures -->)", page.read_text(encoding="utf-8"))
    parts[2] = table(figures)
    page.write_text("".join(parts), encoding="utf-8")


def table(figures: dict[str, Any]) -> str:
    """Ratios to FE2E of every row and every run, as Markdown."""
    lines = [f"{figures['date']}, {figures['machine']}, torch {figures['torch']}, float32.", ""]
    heads = ("ratio to FE2E", "training", "inference", "products", "activations", "past the front", "active sites")
    for key, rows in figures["tables"].items():
        modality, threads = key.split(", ")
        by_name = {row["name"]: row for row in rows}
        dense, front = by_name["fe2e"], by_name["front only"]["megabytes"]
        title = f"{TITLES[modality]}, {threads}: FE2E takes {dense['training'] * 1e3:.0f} ms a training step"
        lines += [f"{title}, {dense['inference'] * 1e3:.0f} ms inference.", ""]
        lines += ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
        for row in rows:
            ratios = [row[name] / dense[name] for name in ("training", "inference", "products", "megabytes")]
            ratios.append((row["megabytes"] - front) / (dense["megabytes"] - front))
            active = " ".join(f"{density:.2f}" for density in row["densities"])
            lines.append(f"| {row['name']} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + f" | {active} |")
        lines.append("")
    return "\n".join(lines)


def picture(figures: dict[str, Any]) -> str:
    parts = [text(10, 24, "Training step of the CNN part, one thread, as a share of FE2E's", size=16)]
    for number, (key, title) in enumerate(PANELS.items()):
        parts += panel(figures["tables"][key], title, 50 + number * PANEL)
    bottom = 50 + len(PANELS) * PANEL
    parts += [
        box(LEFT, bottom - 18, 14, 12, FRONT), text(LEFT + 20, bottom - 8, "front, the same in both models"),
        box(LEFT + 230, bottom - 18, 14, 12, REST), text(LEFT + 250, bottom - 8, "all that follows"),
        line(LEFT + 375, bottom - 20, bottom - 4), text(LEFT + 382, bottom - 8, "multiply-adds needed"),
        text(10, bottom + 18, f"{figures['date']}, {figures['machine']}, torch {figures['torch']}", size=11),
    ]  # fmt: skip
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {bottom + 30}" font-family="sans-serif">\n'
        f"{DARK}\n"
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def panel(rows: list[dict[str, Any]], title: str, top: int) -> list[str]:
    """A bar for each row: dark what the front takes, light the rest; a mark where the products needed would put it."""
    by_name = {row["name"]: row for row in rows}
    dense, front = by_name["fe2e"], by_name["front only"]
    parts = [text(10, top + 6, title, size=14)]
    for number, (name, label) in enumerate(ROWS.items()):
        row, y = by_name[name], top + 18 + number * STEP
        ratio, floor = row["training"] / dense["training"], front["training"] / dense["training"]
        parts += [
            text(LEFT - 8, y + 13, label, anchor="end"),
            box(LEFT, y, floor * UNIT, 18, FRONT),
            box(LEFT + floor * UNIT, y, (ratio - floor) * UNIT, 18, REST),
            text(LEFT + ratio * UNIT + 6, y + 13, f"{ratio:.2f}"),
        ]
        if "masked" not in name:
            parts.append(line(LEFT + row["products"] / dense["products"] * UNIT, y - 3, y + 21))
    return parts


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def line(x: float, top: float, bottom: float) -> str:
    return f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{INK}" stroke-width="2"/>'


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'
    )


if __name__ == "__main__":
    main()
