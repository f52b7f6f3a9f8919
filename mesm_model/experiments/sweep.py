"""Many runs of one question: `sweep` over p (the paper's Figure 5) and `ablate` over modalities (its Table 5).

runs/sweep/
    p=0.5/seed-0/    a run each, as in run_folder.py; one that is finished is not trained again
    sweep.csv        a line a run
    sweep.svg        accuracy and work against p
runs/ablate/
    mesm-tav/seed-0/
    ablate.csv       a line a run
"""

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import commit_file, write_text
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_model.evaluation import flops, paper
from mesm_model.evaluation.flops import count_run
from mesm_model.evaluation.metrics import NAMES
from mesm_model.evaluation.scores import Report, from_json
from mesm_model.runs.distributed import Distributed, init_distributed
from mesm_model.runs.settings import RunConfig, RuntimeOptions, with_values
from mesm_model.training.train import train

SUBSETS = ("tav", "ta", "tv", "av", "t", "a", "v")  # in the order of Table 5
LONG = 30 * 24 * 3600.0  # seconds that one run may take


@dataclass(frozen=True)
class RunSpec:
    """One run of many; picklable, so that another process can train it."""

    name: str
    out: Path
    dataset: Dataset
    choice: RunConfig
    device: str
    machine: RuntimeOptions


@dataclass(frozen=True)
class Row:
    """What came of one run: a line of the csv file."""

    name: str  # of what is compared: "0.5" or "mesm tav"
    seed: int
    means: dict[str, float | None]  # acc, wacc, f1, auc
    gflop: float | None = None  # an utterance; of the whole model without the text encoder
    of_fe2e: float | None = None  # the same as a share of FE2E's
    report: Report | None = field(default=None, repr=False, compare=False)


def sweep(
    dataset: Dataset,
    choice: RunConfig,
    top_ps: Sequence[float],
    seeds: int,
    out: Path,
    device: str,
    machine: RuntimeOptions,
    workers: int,
) -> list[Row]:
    """Train at each p with each seed, and write sweep.csv and sweep.svg."""
    if not hasattr(choice.config, "top_p"):
        raise DataError(f"model {choice.model}: it has no top_p to sweep over; take mesm")
    wanted = {f"{p:g}": with_values(choice, top_p=p) for p in top_ps}
    specs = _specs(dataset, {f"p={name}": one for name, one in wanted.items()}, seeds, out, device, machine)
    scores = run_all(specs, workers)
    rows = []
    with init_distributed(device) as ranks:
        for spec in specs:
            gflop, share = _work(spec, dataset, ranks)
            rows.append(_row(spec, scores[spec.out], gflop, share))
    _write_csv(out / "sweep.csv", "top_p", rows)
    _draw(out / "sweep.svg", rows, dataset)
    return rows


def ablate(
    dataset: Dataset,
    choices: Sequence[RunConfig],
    seeds: int,
    out: Path,
    device: str,
    machine: RuntimeOptions,
    workers: int,
) -> list[Row]:
    """Train every model on every set of modalities with each seed, and write ablate.csv."""
    wanted = {
        f"{choice.model}-{subset}": with_values(choice, modalities=subset) for choice in choices for subset in SUBSETS
    }
    specs = _specs(dataset, wanted, seeds, out, device, machine)
    scores = run_all(specs, workers)
    rows = [_row(spec, scores[spec.out]) for spec in specs]
    _write_csv(out / "ablate.csv", "model-modalities", rows)
    return rows


def run_all(specs: Sequence[RunSpec], workers: int) -> dict[Path, dict[str, Any]]:
    """Train what is not trained yet, `workers` runs at a time; scores.json of each by its folder."""
    scores = {}
    with tqdm(total=len(specs), unit=" runs", disable=True if specs[0].machine.quiet else None) as bar:
        for spec, found in _trained(specs, workers):
            if isinstance(found, WorkerFailed):
                raise DataError(f"{spec.out}: {found.reason}; the same command goes on from here")
            scores[spec.out] = found
            bar.update()
    return scores


def run_one(spec: RunSpec) -> dict[str, Any]:
    """Train one run, or go on with it; its scores.json."""
    with init_distributed(spec.device) as ranks:
        choice = spec.choice
        return train(spec.dataset, choice.model, choice.config, choice.settings, spec.out, ranks, spec.machine)


def to_text(rows: Sequence[Row], dataset: Dataset) -> str:
    """Mean and standard deviation over seeds of each row, per cent."""
    names = list(dict.fromkeys(row.name for row in rows))
    wide = max(len(name) for name in [*names, "predict nothing"]) + 2
    with_work = any(row.gflop is not None for row in rows)
    header = "".join(f"{title:>14}" for title in NAMES.values()) + (f"{'GFLOP':>10}{'of FE2E':>9}" if with_work else "")
    lines = [" " * wide + header]
    for name in names:
        of_name = [row for row in rows if row.name == name]
        specs = "".join(f"{_mean_and_spread([row.means[kind] for row in of_name]):>14}" for kind in NAMES)
        work = f"{_mean(of_name, 'gflop'):>10.4f}{_mean(of_name, 'of_fe2e'):>9.2f}" if with_work else ""
        lines.append(f"{name:<{wide}}{specs}{work}")
    lines += _beside(rows, wide)
    seeds = len({row.seed for row in rows})
    over = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"
    lines.append(f"per cent on {_part(dataset)}{over}")
    if with_work:
        lines.append("GFLOP an utterance, 2 for a multiply-add, without the text encoder")
    lines += [f"text encoder: {encoder}" for encoder in _encoders(rows)]
    return "\n".join(lines)


def paper_table(dataset: Dataset, names: Sequence[str]) -> str:
    """The paper's Table 5 for these models; empty unless this is its split of its corpus."""
    table = paper.figures()["ablation"]
    if not paper.is_of_paper(dataset) or dataset.corpus != "iemocap":
        return ""
    lines = [f"the paper, {table['printed']}: Acc, F1"]
    for name in names:
        for subset, (accuracy, f1) in table["models"].get(name.upper(), {}).items():
            lines.append(f"{name}-{subset.lower():<10}{accuracy:>8}{f1:>8}")
    return "\n".join(lines)


def _trained(specs: Sequence[RunSpec], workers: int) -> Iterator[tuple[RunSpec, dict[str, Any] | WorkerFailed]]:
    """Each spec with its scores, as they come."""
    silent = [replace(spec, machine=replace(spec.machine, quiet=True)) for spec in specs]
    if workers > 1:
        yield from run_jobs(run_one, silent, workers, LONG)
    else:
        yield from ((spec, run_one(spec)) for spec in silent)


def _specs(
    dataset: Dataset, choices: dict[str, RunConfig], seeds: int, out: Path, device: str, machine: RuntimeOptions
) -> list[RunSpec]:
    return [
        RunSpec(
            name.removeprefix("p="),
            out / name / f"seed-{seed}",
            dataset,
            with_values(choice, seed=seed),
            device,
            machine,
        )
        for name, choice in choices.items()
        for seed in range(choice.settings.seed, choice.settings.seed + seeds)
    ]


def _row(spec: RunSpec, scores: dict[str, Any], gflop: float | None = None, of_fe2e: float | None = None) -> Row:
    part = scores["parts"].get("test") or scores["parts"]["valid"]
    return Row(spec.name, spec.choice.settings.seed, part["means"], gflop, of_fe2e, from_json(part))


def _beside(rows: Sequence[Row], wide: int) -> list[str]:
    """What the means must be read against: a line for each row that needs no model."""
    report = rows[0].report
    means = {name: [scores.mean(kind) for kind in NAMES] for name, scores in report.trivial.items()} if report else {}
    return [f"{name:<{wide}}" + "".join(f"{_mean_and_spread([n]):>14}" for n in row) for name, row in means.items()]


def _encoders(rows: Sequence[Row]) -> list[str]:
    """The text encoders of the runs, in words, each once."""
    found = (row.report.encoder for row in rows if row.report is not None)
    return list(dict.fromkeys(encoder for encoder in found if encoder is not None))


def _part(dataset: Dataset) -> str:
    return "test" if "test" in dataset.splits else "valid"


def _work(spec: RunSpec, dataset: Dataset, ranks: Distributed) -> tuple[float, float]:
    """GFLOP an utterance of a trained model on the scored part, and the share of FE2E's of the same sizes."""
    sparse = count_run(spec.out, dataset, _part(dataset), ranks, spec.machine.cache)
    assert sparse.dense is not None
    macs = sparse.macs("av")
    return 2 * macs / sparse.utterances / 1e9, macs / sparse.dense.macs("av")


def _write_csv(path: Path, what: str, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([what, "seed", *NAMES, "gflop", "of_fe2e"])
    for row in rows:
        numbers = [*row.means.values(), row.gflop, row.of_fe2e]
        writer.writerow([row.name, row.seed, *("" if n is None else f"{n:.6f}" for n in numbers)])
    write_text(path, text.getvalue())


def _draw(path: Path, rows: Sequence[Row], dataset: Dataset) -> None:
    """Accuracy and F1 with their spread over seeds, and below them the work, against p; beside the paper's."""
    top_ps = sorted({float(row.name) for row in rows})
    at = {p: [row for row in rows if float(row.name) == p] for p in top_ps}
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for kind, colour in (("acc", "#2f6f9f"), ("f1", "#d98b1f")):
        values = [[100 * (row.means[kind] or 0.0) for row in at[p]] for p in top_ps]
        means = [statistics.fmean(one) for one in values]
        spread = [statistics.stdev(one) if len(one) > 1 else 0.0 for one in values]
        above.errorbar(top_ps, means, spread, color=colour, marker="o", capsize=3, label=NAMES[kind])
    figure5 = paper.figures()["figure5"]
    above.plot(figure5["top_p"], figure5["acc"], color="#8a8a93", linestyle=":", label="Acc, the paper on IEMOCAP")
    if report := rows[0].report:
        nothing = 100 * report.trivial["predict nothing"].mean("acc")
        above.axhline(nothing, color="#8a8a93", linestyle="--", linewidth=1, label="Acc, predict nothing")
    above.set_ylabel(f"per cent on {_part(dataset)}")
    work = [100 * statistics.fmean(row.of_fe2e or 0.0 for row in at[p]) for p in top_ps]
    below.plot(top_ps, work, color="#2f6f9f", marker="o", label="this sweep")
    shares = {**flops.PAPER, 1.0: flops.PAPER_FE2E}
    below.plot(
        list(shares), [100 * gflops / flops.PAPER_FE2E for gflops in shares.values()], color="#8a8a93", linestyle=":",
        label="the paper",
    )  # fmt: skip
    below.set_ylabel("FLOPs, per cent of FE2E")
    below.set_xlabel("p")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    if remarks := _encoders(rows):
        figure.supxlabel("\n".join(f"text encoder: {encoder}" for encoder in remarks), fontsize=7, color="#8a8a93")
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="svg", metadata={"Date": None})
    commit_file(temporary, path)


def _mean(rows: Sequence[Row], name: str) -> float:
    return statistics.fmean(getattr(row, name) or 0.0 for row in rows)


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None and value == value]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{spread}"
