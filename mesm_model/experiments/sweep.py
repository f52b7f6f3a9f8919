"""Many runs for one question: `sweep` over p (the paper's Figure 5) and `ablate` over modalities (its Table 5).

runs/sweep/
    p=0.5/seed-0/    one run each, as in runs/folder.py; a finished one is not trained again
    sweep.csv        one line per run
    sweep.svg        scores and FLOPs against p
runs/ablate/
    mesm-tav/seed-0/
    ablate.csv       one line per run
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import csv_text, write_text
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_data.report import charts
from mesm_model.evaluation import flops, paper
from mesm_model.evaluation.flops import count_run
from mesm_model.evaluation.metrics import NAMES
from mesm_model.evaluation.scores import Report, from_json
from mesm_model.evaluation.tables import aligned, mean_and_deviation, percent
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.settings import RunConfig, RuntimeOptions, with_values
from mesm_model.training.train import train

COLOURS = {"acc": "#2f6f9f", "wacc": "#4f9d69", "f1": "#d98b1f"}
GREY = "#8a8a93"
SUBSETS = ("tav", "ta", "tv", "av", "t", "a", "v")  # in the order of Table 5
LONGEST = 30 * 24 * 3600.0  # seconds that one run may take


@dataclass(frozen=True)
class RunSpec:
    """One run of many; can be pickled, so that another process can train it."""

    name: str  # of what is compared: "0.5" or "mesm-tav"
    out: Path
    dataset: Dataset
    run: RunConfig
    device: str
    runtime: RuntimeOptions


@dataclass(frozen=True)
class Row:
    """The result of one run: a line of the csv file."""

    name: str  # of what is compared: "0.5" or "mesm-tav"
    seed: int
    means: dict[str, float | None]  # acc, wacc, f1, auc
    gflop: float | None = None  # per utterance, of the whole model without the text encoder
    of_fe2e: float | None = None  # the same as a share of FE2E's
    report: Report | None = field(default=None, repr=False, compare=False)


def sweep(
    dataset: Dataset,
    run: RunConfig,
    top_ps: Sequence[float],
    seeds: int,
    out: Path,
    device: str,
    runtime: RuntimeOptions,
    workers: int,
) -> list[Row]:
    """Train at each p with each seed, `workers` runs at a time; write sweep.csv and sweep.svg.

    Raises DataError for a model without a nucleus, and as `train` does.
    """
    if "top_p" not in run.config.__dataclass_fields__:
        raise DataError(f"model {run.model}: it has no top_p to sweep over; take mesm")
    wanted = {f"p={p:g}": with_values(run, top_p=p) for p in top_ps}
    specs = _specs(dataset, wanted, seeds, out, device, runtime)
    scores = run_all(specs, workers)
    rows = []
    with init_distributed(device) as distributed:
        for spec in specs:
            gflop, share = _work(spec, dataset, distributed)
            rows.append(_row(spec, scores[spec.out], gflop, share))
    _write_csv(out / "sweep.csv", "top_p", rows)
    draw(out / "sweep.svg", rows, dataset)
    return rows


def ablate(
    dataset: Dataset,
    runs: Sequence[RunConfig],
    seeds: int,
    out: Path,
    device: str,
    runtime: RuntimeOptions,
    workers: int,
) -> list[Row]:
    """Train every model on every set of modalities with each seed, `workers` runs at a time; write ablate.csv."""
    wanted = {f"{run.model}-{subset}": with_values(run, modalities=subset) for run in runs for subset in SUBSETS}
    specs = _specs(dataset, wanted, seeds, out, device, runtime)
    scores = run_all(specs, workers)
    rows = [_row(spec, scores[spec.out]) for spec in specs]
    _write_csv(out / "ablate.csv", "model-modalities", rows)
    return rows


def run_all(specs: Sequence[RunSpec], workers: int) -> dict[Path, dict[str, Any]]:
    """Train what is not trained yet, `workers` runs at a time; the content of each scores.json by its folder."""
    scores = {}
    with tqdm(total=len(specs), unit=" runs", disable=True if specs[0].runtime.quiet else None) as bar:
        for spec, found in _trained(specs, workers):
            if isinstance(found, WorkerFailed):
                raise DataError(f"{spec.out}: {found.reason}; the same command resumes here")
            scores[spec.out] = found
            bar.update()
    return scores


def run_one(spec: RunSpec) -> dict[str, Any]:
    """Train or resume one run; the content of its scores.json."""
    with init_distributed(spec.device) as distributed:
        return train(spec.dataset, spec.run, spec.out, distributed, spec.runtime)


def to_text(rows: Sequence[Row], dataset: Dataset) -> str:
    """Mean and standard deviation over seeds of each row, per cent; below them the rows that need no model."""
    with_work = any(row.gflop is not None for row in rows)
    table = [["", *NAMES.values(), *(["GFLOP", "of FE2E"] if with_work else [])]]
    for name in dict.fromkeys(row.name for row in rows):
        of_name = [row for row in rows if row.name == name]
        scores = [mean_and_deviation([row.means[kind] for row in of_name]) for kind in NAMES]
        work = [f"{_mean(of_name, 'gflop'):.4f}", f"{_mean(of_name, 'of_fe2e'):.2f}"] if with_work else []
        table.append([name, *scores, *work])
    for name, trivial in (rows[0].report.trivial if rows[0].report else {}).items():
        table.append([name, *(percent(trivial.mean(kind)) for kind in NAMES), *["", ""] * with_work])
    seeds = len({row.seed for row in rows})
    over = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"
    lines = [aligned(table), f"per cent on {_scored(dataset)}{over}"]
    if with_work:
        lines.append("GFLOP per utterance, 2 for a multiply-add, without the text encoder")
    lines += [f"text encoder: {encoder}" for encoder in _encoders(rows)]
    return "\n".join(lines)


def paper_table(dataset: Dataset, names: Sequence[str]) -> str:
    """The paper's Table 5 for these models; empty unless this is its split of its corpus."""
    table = paper.figures()["ablation"]
    if not paper.is_of_paper(dataset) or dataset.corpus != "iemocap":
        return ""
    rows = [
        [f"{name}-{subset.lower()}", str(accuracy), str(f1)]
        for name in names
        for subset, (accuracy, f1) in table["models"].get(name.upper(), {}).items()
    ]
    return aligned([[f"the paper, {table['printed']}", "Acc", "F1"], *rows])


def _trained(specs: Sequence[RunSpec], workers: int) -> Iterator[tuple[RunSpec, dict[str, Any] | WorkerFailed]]:
    """Each spec with its scores, in the order in which they finish."""
    silent = [replace(spec, runtime=replace(spec.runtime, quiet=True)) for spec in specs]
    if workers > 1:
        yield from run_jobs(run_one, silent, workers, LONGEST)
    else:
        yield from ((spec, run_one(spec)) for spec in silent)


def _specs(
    dataset: Dataset, runs: dict[str, RunConfig], seeds: int, out: Path, device: str, runtime: RuntimeOptions
) -> list[RunSpec]:
    return [
        RunSpec(name.removeprefix("p="), folder, dataset, with_values(run, seed=seed), device, runtime)
        for name, run in runs.items()
        for seed in range(run.settings.seed, run.settings.seed + seeds)
        for folder in (out / name / f"seed-{seed}",)
    ]


def _row(spec: RunSpec, scores: dict[str, Any], gflop: float | None = None, of_fe2e: float | None = None) -> Row:
    report = scores["splits"].get("test") or scores["splits"]["valid"]
    return Row(spec.name, spec.run.settings.seed, report["means"], gflop, of_fe2e, from_json(report))


def _encoders(rows: Sequence[Row]) -> list[str]:
    """Descriptions of the runs' text encoders, each once."""
    found = (row.report.encoder for row in rows if row.report is not None)
    return list(dict.fromkeys(encoder for encoder in found if encoder is not None))


def _scored(dataset: Dataset) -> str:
    """The split that the rows are about."""
    return "test" if "test" in dataset.splits else "valid"


def _work(spec: RunSpec, dataset: Dataset, distributed: Distributed) -> tuple[float, float]:
    """GFLOP per utterance of a trained model on the scored split, and its share of FE2E's of the same sizes."""
    sparse = count_run(spec.out, dataset, _scored(dataset), distributed, spec.runtime.cache)
    assert sparse.dense is not None
    macs = sparse.macs("av")
    return 2 * macs / sparse.utterances / 1e9, macs / sparse.dense.macs("av")


def _write_csv(path: Path, what: str, rows: Sequence[Row]) -> None:
    lines: list[list[Any]] = [[what, "seed", *NAMES, "gflop", "of_fe2e"]]
    for row in rows:
        numbers = [*row.means.values(), row.gflop, row.of_fe2e]
        lines.append([row.name, row.seed, *("" if n is None else f"{n:.6f}" for n in numbers)])
    write_text(path, csv_text(lines))


def draw(path: Path, rows: Sequence[Row], dataset: Dataset) -> None:
    """Scores with their spread over seeds, and below them the FLOPs, against p: an SVG with the same bytes each time.

    The paper's curves are drawn on its own corpora only, and its scores only where they are of the same split.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_scores(above, rows, dataset)
    _draw_work(below, rows, dataset)
    for axes in (above, below):
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        axes.grid(alpha=0.3)
    if encoders := _encoders(rows):
        figure.supxlabel("\n".join(f"text encoder: {encoder}" for encoder in encoders), fontsize=7, color=GREY)
    charts.save_svg(figure, path)


def _draw_scores(axes: Axes, rows: Sequence[Row], dataset: Dataset) -> None:
    for kind, colour in COLOURS.items():
        values = {p: [100 * (row.means[kind] or 0.0) for row in at] for p, at in _by_p(rows).items()}
        means = [statistics.fmean(one) for one in values.values()]
        spread = [statistics.stdev(one) if len(one) > 1 else 0.0 for one in values.values()]
        axes.errorbar(list(values), means, spread, color=colour, marker="o", capsize=3, label=NAMES[kind])
    if paper.is_of_paper(dataset) and dataset.corpus == "iemocap":
        curve = paper.figures()["figure5"]
        axes.plot(
            curve["top_p"], curve["acc"], color=COLOURS["wacc"], linestyle=":", label="WAcc, the paper's Figure 5"
        )
    trivial = rows[0].report.trivial if rows[0].report else {}
    for row, kind in (("predict nothing", "acc"), ("predict everything", "f1")):
        if row in trivial:
            level = 100 * trivial[row].mean(kind)
            axes.axhline(level, color=COLOURS[kind], linestyle="--", linewidth=1, label=f"{NAMES[kind]}, {row}")
    axes.set_ylabel(f"per cent on {_scored(dataset)}")


def _draw_work(axes: Axes, rows: Sequence[Row], dataset: Dataset) -> None:
    work = {p: 100 * statistics.fmean(row.of_fe2e or 0.0 for row in at) for p, at in _by_p(rows).items()}
    axes.plot(list(work), list(work.values()), color=COLOURS["acc"], marker="o", label="this sweep")
    if paper.is_of_paper(dataset):
        shares = {p: 100 * gflops / flops.PAPER_FE2E for p, gflops in {**flops.PAPER, 1.0: flops.PAPER_FE2E}.items()}
        axes.plot(list(shares), list(shares.values()), color=GREY, linestyle=":", label="the paper")
    axes.set_ylabel("FLOPs, per cent of FE2E")
    axes.set_xlabel("p")
    axes.set_ylim(bottom=0)


def _by_p(rows: Sequence[Row]) -> dict[float, list[Row]]:
    """The rows at each p, in rising order."""
    return {p: [row for row in rows if float(row.name) == p] for p in sorted({float(row.name) for row in rows})}


def _mean(rows: Sequence[Row], name: str) -> float:
    return statistics.fmean(getattr(row, name) or 0.0 for row in rows)
