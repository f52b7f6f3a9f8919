"""Sparse convolution on a CPU: time and memory of the CNN part of MESM relative to that of FE2E, in one run.

    python -m benchmarks.bench_sparse [--rounds 7] [--compile] [--json FILE]

A training step is forward and backward in float32, without the optimiser. Both models share the front (the dense stem)
and use channels-last layout. Models run in turn, in rounds; numbers are medians and ratios to FE2E. "Front only" is the
lower bound of any sparsity, "masked dense" is MESM without sparse convolutions. "Products" are the multiply-adds that
the result needs, "past front" the activations kept for the backward pass without those of the front.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cnn import Fe2eCnn, MesmCnn, activations, block_products, front_products, inputs

SHARES = (0.3, 0.5, 0.7, 0.8)
FRAMES = {"v": 32, "a": 16}
NAMES = {"v": "faces", "a": "mel chunks"}
FRONT = "front only"
GOALS = {"mesm p=0.3": (0.45, None), "mesm p=0.5": (0.60, 0.75), "mesm p=0.7": (0.85, None)}


@dataclass(frozen=True)
class Row:
    """One line of a table. Seconds are medians."""

    name: str
    training: float
    inference: float
    megabytes: float  # kept for the backward pass
    products: float  # multiply-adds per frame that the result needs
    densities: list[float]  # share of active sites at each of the three levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also FE2E through torch.compile; needs a C++ compiler")
    parser.add_argument("--json", type=Path, help="save the numbers, for benchmarks.draw_performance")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return peer()
    tables: dict[str, list[Row]] = {}
    with one_core():
        for modality in FRAMES:
            tables[f"{modality}, 1 thread"] = table(modality, 1, options)
    free = free_cores()
    if free > 1:
        for modality in FRAMES:
            tables[f"{modality}, {free} threads"] = table(modality, free, options)
    else:
        print(f"\nall threads: not run, {os.cpu_count()} cores of which at most one is free")
    beside_spconv()
    if options.json:
        save(tables, options.json)
    v, a = tables["v, 1 thread"], tables["a, 1 thread"]
    both = [sum(find(rows, name).training for rows in (v, a)) for name in ("mesm p=0.5", "fe2e")]
    print(f"\nmesm/fe2e training step at p=0.5: {both[0] / both[1]:.2f}")


def table(modality: str, threads: int, options: argparse.Namespace) -> list[Row]:
    """Measure and print all rows of one modality."""
    torch.set_num_threads(threads)
    data = inputs(modality, FRAMES[modality])
    rows = measure(modality, contestants(modality, options.compile), data, options.rounds)
    dense = find(rows, "fe2e")
    times = f"{dense.training * 1e3:.0f} ms a training step, {dense.inference * 1e3:.0f} ms inference"
    print(f"\n{FRAMES[modality]} {NAMES[modality]}, {threads} thread{'s' * (threads > 1)}")
    print(f"FE2E: {times}, {dense.megabytes:.0f} MB of activations")
    front = find(rows, FRONT).megabytes
    heads = f"{'training':>8} {'goal':>7} {'inference':>9} {'goal':>7} {'products':>8} {'activations':>11}"
    print(f"{'ratio to FE2E':24} {heads} {'past front':>10}   active sites")
    for row in rows:
        goals = [f"<= {goal:.2f}" if goal else "" for goal in GOALS.get(row.name, (None, None))]
        active = " ".join(f"{density:.2f}" for density in row.densities)
        print(f"{row.name:24} {row.training / dense.training:8.2f} {goals[0]:>7} {row.inference / dense.inference:9.2f}"
              f" {goals[1]:>7} {row.products / dense.products:8.2f} {row.megabytes / dense.megabytes:11.2f}"
              f" {(row.megabytes - front) / (dense.megabytes - front):10.2f}   {active}", flush=True)  # fmt: skip
    return rows


def contestants(modality: str, compiled: bool) -> dict[str, Any]:
    """The models by name; all fronts have the same weights."""
    found: dict[str, Any] = {"fe2e": Fe2eCnn(modality)}
    if compiled:
        found["fe2e, compiled"] = Fe2eCnn(modality)
    found["mesm p=0.5, masked dense"] = MesmCnn(modality, 0.5, backend="dense")
    found |= {f"mesm p={share}": MesmCnn(modality, share) for share in reversed(SHARES)}
    front = found["fe2e"].front.state_dict()
    for model in found.values():
        model.front.load_state_dict(front)
        model.to(memory_format=torch.channels_last)
    if compiled:
        found["fe2e, compiled"] = torch.compile(found["fe2e, compiled"])
    return found | {FRONT: FrontOnly(found["fe2e"].front)}


class FrontOnly(nn.Module):
    """The layers before the first sparse level, which both models share."""

    def __init__(self, front: nn.Module) -> None:
        super().__init__()
        self.front = front

    def forward(self, frames: Tensor, query: Tensor, owner: Tensor) -> Tensor:
        return self.front(frames)


def measure(modality: str, models: dict[str, Any], data: tuple[Tensor, Tensor, Tensor], rounds: int) -> list[Row]:
    """Medians over rounds in which every model runs once; one more round before them warms up."""
    for model in models.values():
        settle(getattr(model, "_orig_mod", model), data)  # not the compiled model, which would be compiled again
    traces = {name: model.trace_of(*data) for name, model in models.items() if isinstance(model, MesmCnn)}
    memory = {name: activations(model, data) / 1e6 for name, model in models.items()}
    gradients = {name: torch.randn_like(model(*data).detach()) for name, model in models.items()}
    training: dict[str, list[float]] = {name: [] for name in models}
    inference: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            training[name].append(clock(partial(step, model, data, gradients[name])))
            with torch.inference_mode():
                model.eval()
                inference[name].append(clock(partial(model, *data)))
    rows = []
    for name in models:
        trace = traces.get(name)
        step_time, inference_time = (statistics.median(times[name][1:]) for times in (training, inference))
        products = front_products(modality) + (0 if name == FRONT else block_products(modality, trace))
        active = [level.selected.float().mean().item() for level in trace.levels] if trace else []
        rows.append(Row(name, step_time, inference_time, memory[name], products, active))
    return rows


def settle(model: Any, data: tuple[Tensor, Tensor, Tensor]) -> None:
    """Set the running statistics of all norms to those of this batch, so that inference computes as training does."""
    norms = [norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(*data)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def step(model: nn.Module, data: tuple[Tensor, Tensor, Tensor], gradient: Tensor) -> None:
    model.train()
    model.zero_grad(set_to_none=True)
    model(*data).backward(gradient)


def beside_spconv() -> None:
    """One forward convolution compared with spconv's on the CPU, where that is installed."""
    if importlib.util.find_spec("spconv") is None:
        print("\nspconv: not installed, no comparison (pip install spconv)")
        return
    print("\none convolution, forward, one thread, half the sites active: ratio to masked conv2d")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # with two threads its results are wrong
    subprocess.run([sys.executable, "-m", "benchmarks.bench_sparse", "--peer"], check=True, env=environment)


def peer() -> None:
    import spconv.pytorch as spconv

    from mesm_model.sparse.conv import from_conv2d, submanifold_conv
    from mesm_model.sparse.sites import Sites

    torch.set_num_threads(1)
    for side, cin in ((24, 64), (12, 128), (6, 256)):
        mask = torch.rand(32, side, side, generator=torch.Generator().manual_seed(0)) < 0.5
        sites = Sites.from_mask(mask)
        grid = torch.randn(32, cin, side, side).contiguous(memory_format=torch.channels_last)
        x, index = sites.from_dense(grid), mask.nonzero().int().contiguous()
        dense = nn.Conv2d(cin, 2 * cin, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        weight = from_conv2d(dense.weight.data).contiguous()
        theirs = spconv.SubMConv2d(cin, 2 * cin, 3, bias=False, indice_key="k", algo=spconv.ConvAlgo.Native)
        theirs.weight.data = dense.weight.data.permute(0, 2, 3, 1).contiguous()

        def by_spconv(x: Tensor = x, index: Tensor = index, side: int = side, layer: nn.Module = theirs) -> Tensor:
            return layer(spconv.SparseConvTensor(x, index, [side, side], 32)).features

        def ours(x: Tensor = x, mask: Tensor = mask, weight: Tensor = weight) -> Tensor:
            return submanifold_conv(x, weight, Sites.from_mask(mask), "rulebook")

        def by_conv2d(grid: Tensor = grid, mask: Tensor = mask, layer: nn.Module = dense) -> Tensor:
            return layer(grid * mask[:, None]) * mask[:, None]

        with torch.inference_mode():
            times: dict[Callable[[], Tensor], list[float]] = {run: [] for run in (by_conv2d, ours, by_spconv)}
            for _ in range(12):
                for run in times:
                    times[run].append(clock(run))
            apart = (by_spconv() - ours()).abs().max() / ours().abs().max()
        base, mine, other = (statistics.median(seconds[2:]) for seconds in times.values())
        ratios = f"ours {mine / base:.2f}, spconv {other / base:.2f}"
        print(f"  {side}x{side}, {cin} -> {2 * cin}: {ratios}; results differ by {apart:.0e}")


def clock(work: Callable[[], object]) -> float:
    """Seconds; with one thread processor time, which is equal on an idle machine and steadier on a busy one."""
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = now()
    work()
    return now() - start


def find(rows: list[Row], name: str) -> Row:
    return next(row for row in rows if row.name == name)


def free_cores() -> int:
    """Cores of this process that no other process kept busy during the last minute; this one kept one busy."""
    others = max(0.0, os.getloadavg()[0] - 1)
    return max(1, len(os.sched_getaffinity(0)) - round(others))


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Run on the last core only, so that the scheduler does not move the thread."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def save(tables: dict[str, list[Row]], path: Path) -> None:
    about = {"date": time.strftime("%Y-%m-%d"), "machine": processor(), "torch": torch.__version__}
    rows = {name: [asdict(row) for row in found] for name, found in tables.items()}
    path.write_text(json.dumps(about | {"tables": rows}, indent=1) + "\n", encoding="utf-8")


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
