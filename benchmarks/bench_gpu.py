"""Sparse convolution on a GPU: times of MESM relative to FE2E, per level and as a whole, in one run of eight minutes.

    python benchmarks/bench_gpu.py [--minutes 7] [--tune]

Needs a GPU, torch 2.11 or later with its Triton, and this checkout; nothing has to be installed. Steps are captured in
CUDA graphs and timed by events, in bfloat16 unless stated otherwise; the dense model runs on cuDNN in channels-last
layout with its algorithm search on. Before anything is timed, results are compared with the dense backend. `--tune`
prints the best tile shapes for kernels/conv.py instead.

Shares of the measured peaks count the necessary work only: products that the result needs, and twice as many backward;
bytes of a level's inputs and outputs, and twice as many backward; the activations of a whole step, written and read.
"""

import argparse
import importlib.util
import itertools
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the sources of this checkout, which is not installed

from benchmarks import plain_text

sys.modules["mesm_model.models.common.text"] = plain_text  # the same models whether transformers is installed or not

import torch
from torch import Tensor, nn

from benchmarks.cnn import FRAMES_EACH, Fe2eCnn, MesmCnn, activations, block_products, front_products, inputs
from mesm_model.batch import Batch
from mesm_model.models import fe2e, mesm
from mesm_model.models.common.layers import ConvBlock
from mesm_model.models.common.nucleus import select
from mesm_model.sparse.conv import SubmanifoldBlock, submanifold_conv
from mesm_model.sparse.dense_stem import NormRelu
from mesm_model.sparse.sites import Sites, select_rows

DEVICE = "cuda"
NAMES = {"v": "faces", "a": "mel chunks"}
GRIDS = {"v": ((24, 24), (12, 12), (6, 6)), "a": ((64, 16), (32, 8), (16, 4))}
CHANNELS = (64, 128, 256)
NUMBERS = (128, 256, 512, 1024)
SHARES = (0.3, 0.5, 0.7)
EPOCH = 5162  # utterances of the paper's training split of IEMOCAP
CHUNKS_EACH, TOKENS_EACH = 12, 20  # per utterance of 4.5 seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=7.0, help="sections that would start later are skipped")
    parser.add_argument("--tune", action="store_true", help="search tile shapes instead")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            f"nothing was measured: torch {torch.__version__} finds no GPU here, and this benchmark needs one"
        )
    end = time.monotonic() + 60 * options.minutes
    torch.backends.cudnn.benchmark = True
    describe()
    if options.tune:
        return tune(end)
    compare()
    peaks = measure_peaks()
    sections: list[tuple[str, float, Callable[[], None]]] = [  # with the minutes that each needs before the end
        ("whole CNN part", 0, lambda: whole(peaks, end)),
        ("front", 0, front),
        ("float32 as TF32", 0, in_float32),
        ("whole models", 0, lambda: models(end)),
        ("levels", 0, lambda: levels(peaks, end)),
        ("spconv-triton", 0, peer),
        ("FE2E through torch.compile", 2, compiled),
    ]
    failed = [name for name, needed, section in sections if not run(name, section, end - 60 * needed)]
    if failed:
        raise SystemExit(f"\nfailed: {', '.join(failed)}")


def run(name: str, section: Callable[[], None], latest: float) -> bool:
    """Run a section; False, with its traceback printed, if it failed. The others still run."""
    if time.monotonic() > latest:
        print(f"\n{name}: skipped, the time is over")
        return True
    try:
        section()
    except Exception:  # noqa: BLE001
        traceback.print_exc(file=sys.stdout)
        return False
    return True


def describe() -> None:
    import triton

    device = torch.cuda.get_device_properties(0)
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, cuDNN {torch.backends.cudnn.version()}"
    today = time.strftime("%Y-%m-%d")
    print(f"{today}, {device.name}, {device.multi_processor_count} multiprocessors, {versions}", flush=True)


def compare() -> None:
    """Compare the convolution of every level with the dense backend; exits where they differ."""
    for dtype, tolerance in ((torch.bfloat16, 2e-2), (torch.float32, 3e-3)):  # float32 is TF32 in both
        for (height, width), cin in zip(GRIDS["v"] + GRIDS["a"], CHANNELS * 2, strict=True):
            selected, x = level_input(64, height, width, cin, 0.5, dtype)
            weight = (torch.randn(9, cin, 2 * cin, device=DEVICE) / (3 * cin**0.5)).to(dtype)
            results = []
            for backend in ("triton", "dense"):
                leaves = x.detach().requires_grad_(), weight.detach().requires_grad_()
                y = submanifold_conv(*leaves, selected, backend)
                results.append((y, *torch.autograd.grad(y.float().square().mean(), leaves)))
            worst = max(apart(*pair) for pair in zip(*results, strict=True))
            if worst > tolerance:
                raise SystemExit(
                    f"WRONG: {height}x{width}, {cin} channels, {dtype}: off by {worst:.1e}, allowed {tolerance}"
                )
    print("kernels agree with the dense backend at every level, bfloat16 and TF32", flush=True)


def apart(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected.float()).abs().max() / expected.float().abs().max()).item()


def measure_peaks() -> tuple[float, float]:
    """Measured peaks of this machine: bf16 matrix product in FLOP/s, copy in bytes/s, counting reads and writes."""
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    flops = 2 * 8192**3 / graph_time(lambda: a @ b)
    source = torch.empty(2**30, device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    copied = 2 * 2**30 / graph_time(lambda: target.copy_(source))
    print(f"peaks: bf16 matrix product {flops / 1e12:.0f} TFLOP/s, copy {copied / 1e12:.2f} TB/s", flush=True)
    return flops, copied


# ---- the CNN part


def whole(peaks: tuple[float, float], end: float) -> None:
    """Training steps of the CNN part, captured in a graph and, for comparison, launched kernel by kernel."""
    print("\nCNN part: MESM / FE2E (goal for the step at p=0.5: <= 0.80 from 512 frames on, never above 1)")
    print(f"{'':24} {'step':>8} {'forward':>8} {'backward':>8} {'eager':>8}   of the peaks: {'matmul':>6} {'copy':>6}")
    for modality, frames in itertools.product("va", NUMBERS):
        data = inputs(modality, frames, DEVICE)
        dense: tuple[float, ...] = ()
        for name, share in (("FE2E", None), *((f"p={share}", share) for share in SHARES)):
            if time.monotonic() > end:
                print("  skipped: the time is over")
                return
            model = Fe2eCnn(modality) if share is None else MesmCnn(modality, share)
            times = step_times(model, data)
            if share is None:
                dense = times
                cells = [f"{seconds * 1e3:5.2f} ms" for seconds in times]
            else:
                cells = [f"{ratio:8.2f}" for ratio in over(times, dense)]
            reached = of_peaks(model, modality, data, times[0], peaks)
            print(f"{f'{frames} {NAMES[modality]}, {name}':24} {' '.join(cells)} {'':15} {reached}", flush=True)


def over(times: tuple[float, ...], others: tuple[float, ...]) -> list[float]:
    return [one / other for one, other in zip(times, others, strict=True)]


def of_peaks(model: nn.Module, modality: str, data: Any, step: float, peaks: tuple[float, float]) -> str:
    """The shares of the measured peaks that a training step reaches."""
    with torch.autocast(DEVICE, torch.bfloat16):
        kept = activations(model, data)
        trace = model.trace_of(*data) if isinstance(model, MesmCnn) else None
    products = len(data[0]) * (front_products(modality) + block_products(modality, trace))
    return f"{3 * 2 * products / step / peaks[0]:6.2f} {2 * kept / step / peaks[1]:6.2f}"


def step_times(
    model: nn.Module, data: tuple[Tensor, ...], dtype: torch.dtype = torch.bfloat16
) -> tuple[float, float, float, float]:
    """Seconds of a training step, of its forward and backward pass, and of a step launched kernel by kernel."""
    forward, step = training_step(model, data, dtype)
    there, both = graph_time(forward), graph_time(step)
    return both, there, both - there, eager_time(step)


def training_step(
    model: Any, data: tuple[Tensor, ...], dtype: torch.dtype = torch.bfloat16
) -> tuple[Callable[[], Tensor], Callable[[], object]]:
    """The forward pass, and forward and backward together."""
    model = model.to(DEVICE).train().to(memory_format=torch.channels_last)
    return passes(lambda: model(*data), [leaf for leaf in model.parameters() if leaf.requires_grad], dtype)


def passes(
    work: Callable[[], Tensor], leaves: list[Tensor], dtype: torch.dtype = torch.bfloat16
) -> tuple[Callable[[], Tensor], Callable[[], object]]:
    """`work` under autocast, and the same with the gradients of `leaves`."""

    def forward() -> Tensor:
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            return work()

    def step() -> object:
        output = forward()
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return forward, step


def front() -> None:
    """The stage that both models share, with norms, ReLUs and pools fused and separate."""
    print("\nfront, training step: share of FE2E's whole step, and the fused passes against separate ones")
    for modality in "va":
        data = inputs(modality, 512, DEVICE)
        model: Any = Fe2eCnn(modality)
        fused = graph_time(training_step(Alone(model.front), data)[1])
        unfuse(model.front)
        separate = graph_time(training_step(Alone(model.front), data)[1])
        step = graph_time(training_step(Fe2eCnn(modality), data)[1])
        found = f"{fused * 1e3:.2f} ms, {fused / step:.2f} of the step; fused / separate {fused / separate:.2f}"
        print(f"  512 {NAMES[modality]}: {found}", flush=True)


def unfuse(part: nn.Module) -> None:
    """Replace fused norm, ReLU and pool by separate layers."""
    for name, layer in list(part.named_children()):
        if isinstance(layer, NormRelu):
            pool = [nn.MaxPool2d(2)] if layer.pool else []
            setattr(part, name, nn.Sequential(nn.BatchNorm2d(layer.num_features), nn.ReLU(inplace=True), *pool))
        else:
            unfuse(layer)


class Alone(nn.Module):
    """A part of a model that reads frames only."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, frames: Tensor, query: Tensor, owner: Tensor) -> Tensor:
        return self.part(frames)


def in_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    print("\nCNN part, training step, float32 computed as TF32, 512 frames, p=0.5: MESM / FE2E")
    for modality in "va":
        data = inputs(modality, 512, DEVICE)
        dense = step_times(Fe2eCnn(modality), data, torch.float32)
        sparse = step_times(MesmCnn(modality, 0.5), data, torch.float32)
        print(f"  {NAMES[modality]}: {sparse[0] / dense[0]:.2f}, FE2E {dense[0] * 1e3:.2f} ms", flush=True)


def compiled() -> None:
    """FE2E through torch.compile: whether the dense times above are the best possible."""
    data = inputs("v", 512, DEVICE)
    plain = graph_time(training_step(Fe2eCnn("v"), data)[1])
    model = Fe2eCnn("v").to(DEVICE).train().to(memory_format=torch.channels_last)
    _, step = training_step(torch.compile(model), data)
    start = time.monotonic()
    step()
    took = time.monotonic() - start
    ratio = graph_time(step) / plain
    print(f"\nFE2E through torch.compile, 512 faces: {ratio:.2f} of the step without, compiled in {took:.0f} s")


# ---- one level


def levels(peaks: tuple[float, float], end: float) -> None:
    """Two convolutions with norm and ReLU, and the pool: Triton relative to cuDNN, and shares of the peaks."""
    print("\nlevels: triton / dense, and shares of the peaks, forward and backward")
    print(f"{'':38} {'forward':>8} {'backward':>8}   {'matmul':^11}   {'copy':^11}")
    for modality, frames in itertools.product("va", NUMBERS):
        for number, ((height, width), cin) in enumerate(zip(GRIDS[modality], CHANNELS, strict=True)):
            if time.monotonic() > end:
                print("  skipped: the time is over")
                return
            dense = dense_level(frames, height, width, cin)
            for share in SHARES:
                selected, x = level_input(frames, height, width, cin, share, torch.bfloat16)
                times = sparse_level(selected, x, cin)
                ratios = " ".join(f"{ratio:8.2f}" for ratio in over(times, dense))
                reached = "   ".join(
                    of_peak(work, times, peak) for work, peak in zip(level_work(selected, cin), peaks, strict=True)
                )
                label = f"{frames} {NAMES[modality]}, level {number + 1}, p={share}"
                print(f"{label:38} {ratios}   {reached}", flush=True)


def of_peak(work: float, times: tuple[float, float], peak: float) -> str:
    """Shares forward and backward, where there is twice the work."""
    return f"{work / times[0] / peak:5.2f} {2 * work / times[1] / peak:5.2f}"


def level_work(selected: Sites, cin: int) -> tuple[int, int]:
    """Floating-point operations that a forward pass needs, and bytes of the inputs and outputs of its layers."""
    pairs, sites = int((selected.neighbours >= 0).sum()), int(selected.mask.sum())
    products = pairs * (cin * 2 * cin + 4 * cin * cin)
    values = sites * (cin + 2 * cin + 2 * (2 * cin + 2 * cin) + 2 * cin)  # two convolutions and two norms
    return 2 * products, 2 * values


def dense_level(frames: int, height: int, width: int, cin: int) -> tuple[float, float]:
    """Seconds of the forward and of the backward pass."""
    layers = nn.Sequential(ConvBlock(cin, 2 * cin), nn.MaxPool2d(2)).to(DEVICE).to(memory_format=torch.channels_last)
    x = torch.randn(frames, cin, height, width, device=DEVICE, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    return both_ways(lambda: layers(x), [x, *layers.parameters()])


def sparse_level(selected: Sites, x: Tensor, cin: int) -> tuple[float, float]:
    """The same on the selected sites, including their tables."""
    first, second = (
        SubmanifoldBlock(cin, 2 * cin, "triton").to(DEVICE),
        SubmanifoldBlock(2 * cin, 2 * cin, "triton").to(DEVICE),
    )
    x = x.detach().requires_grad_()

    def forward() -> Tensor:
        fresh = Sites(
            selected.index,
            selected.frames,
            selected.height,
            selected.width,
            selected.valid,
            cache={"row_of_place": selected.row_of_place},
        )
        return second.forward_pooled(first(x, fresh), fresh)[0]

    return both_ways(forward, [x, *first.parameters(), *second.parameters()])


def both_ways(work: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[float, float]:
    """Seconds of the forward and of the backward pass."""
    forward, step = passes(work, leaves)
    there, both = graph_time(forward), graph_time(step)
    return there, both - there


def level_input(
    frames: int, height: int, width: int, cin: int, share: float, dtype: torch.dtype
) -> tuple[Sites, Tensor]:
    """The nuclei of a smooth random attention, and rows of them."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(frames, 1, height // 2, width // 2, generator=generator)
    logits = nn.functional.interpolate(small, (height, width), mode="bilinear").flatten(1)
    logits = logits + 0.5 * torch.randn(logits.shape, generator=generator)
    everything = Sites.all(frames, height, width, DEVICE)
    selected = select(everything, logits.softmax(-1).to(DEVICE), share, "triton")
    x = torch.randn(frames * height * width, cin, generator=generator).to(DEVICE, dtype)
    return selected, select_rows(x, everything, selected)


# ---- whole models


def models(end: float) -> None:
    """Utterances per second of a whole training step with text, at the paper's sizes, launched kernel by kernel."""
    print(f"\nwhole training step with an encoder of ALBERT-base's size and Adam, {FRAMES_EACH} faces,"
          f" {CHUNKS_EACH} chunks, {TOKENS_EACH} tokens per utterance; no graph")  # fmt: skip
    for utterances in (8, 64):
        batch = random_batch(utterances).to(DEVICE)
        for name, module, settings in (
            ("FE2E", fe2e, {}),
            ("MESM p=0.5", mesm, {"top_p": 0.5}),
            ("MESM p=0.7", mesm, {"top_p": 0.7}),
        ):
            if time.monotonic() > end:
                print("  skipped: the time is over")
                return
            model = module.Model(module.Config(**settings)).to(DEVICE).train()
            rate = utterances / eager_time(model_step(model, batch))
            epoch = f"an epoch of {EPOCH}: {EPOCH / rate:6.1f} s"
            print(f"  batch {utterances:3}  {name:11} {rate:7.0f} utterances/s, {epoch}", flush=True)


def model_step(model: nn.Module, batch: Batch) -> Callable[[], object]:
    optimiser = torch.optim.Adam(model.parameters(), 5e-5, fused=True)

    def step() -> object:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = nn.functional.binary_cross_entropy_with_logits(model(batch).float(), batch.labels)
        loss.backward()
        return optimiser.step()

    return step


def random_batch(utterances: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    faces, mels, tokens = utterances * FRAMES_EACH, utterances * CHUNKS_EACH, utterances * TOKENS_EACH
    return Batch(
        ids=tuple(f"u{number}" for number in range(utterances)),
        texts=("",) * utterances,
        tokens=torch.randint(4, 30_000, (tokens,), generator=generator),
        token_counts=torch.full((utterances,), TOKENS_EACH),
        faces=inputs("v", faces)[0],
        face_counts=torch.full((utterances,), FRAMES_EACH),
        mels=inputs("a", mels)[0],
        mel_counts=torch.full((utterances,), CHUNKS_EACH),
        labels=torch.randint(0, 2, (utterances, 6), generator=generator).float(),
    )


# ---- the peer and the tile shapes


def peer() -> None:
    """One convolution compared with spconv-triton's, where that is installed."""
    if importlib.util.find_spec("spconv_triton") is None:
        print("\nspconv-triton: not installed, no comparison (pip install spconv-triton)")
        return
    import spconv_triton.pytorch as spconv

    print("\none convolution, 512 faces, p=0.5, float16, forward: ours / spconv-triton, tables built by both")
    for (height, width), cin in zip(GRIDS["v"], CHANNELS, strict=True):
        selected, rows = level_input(512, height, width, cin, 0.5, torch.float16)
        index = selected.mask.nonzero().int().contiguous()
        x = select_rows(rows, selected, Sites.from_mask(selected.mask))
        weight = (torch.randn(9, cin, 2 * cin, device=DEVICE) / (3 * cin**0.5)).half()
        theirs = spconv.SubMConv2d(cin, 2 * cin, 3, bias=False).to(DEVICE).half()
        theirs.weight.data = weight.view(3, 3, cin, 2 * cin).permute(3, 0, 1, 2).contiguous()

        def by_peer(
            x: Tensor = x, index: Tensor = index, layer: nn.Module = theirs, size: Any = (height, width)
        ) -> Tensor:
            return layer(spconv.SparseConvTensor(x, index, list(size), 512)).features

        def by_us(x: Tensor = x, mask: Tensor = selected.mask, weight: Tensor = weight) -> Tensor:
            return submanifold_conv(x, weight, Sites.from_mask(mask), "triton")

        with torch.no_grad():
            ratio, off = eager_time(by_us) / eager_time(by_peer), apart(by_us(), by_peer())
        print(f"  {height}x{width}, {cin} -> {2 * cin}: {ratio:.2f}; results differ by {off:.0e}", flush=True)


def tune(end: float) -> None:
    """Times of one convolution for many tile shapes; the best goes into `tiling` of kernels/conv.py."""
    print("\nbest tiles at 512 faces, p=0.5, bfloat16: columns, channels, warps, stages; time / that of the current")
    cases = [
        (grid, *sizes)
        for grid, first in zip(GRIDS["v"], CHANNELS, strict=True)
        for sizes in ((first, 2 * first, False), (2 * first, 2 * first, False), (2 * first, first, True))
    ]
    for number, (grid, cin, cout, flip) in enumerate(cases):
        now = time.monotonic()
        times = tile_times(grid, cin, cout, flip, now + (end - now) / (len(cases) - number))
        first, best = next(iter(times)), min(times, key=lambda tiling: times[tiling])
        what = f"{grid[0]}x{grid[1]} {cin} -> {cout} {'input gradient' if flip else 'forward'}"
        print(f"  {what}: {best}, {times[best] / times[first]:.2f}, {len(times)} tried", flush=True)


def tile_times(grid: tuple[int, int], cin: int, cout: int, flip: bool, end: float) -> dict[Any, float]:
    """Seconds of a convolution by tile shape, the current one first."""
    from triton.runtime.errors import OutOfResources

    from mesm_model.sparse.kernels import conv
    from mesm_model.sparse.kernels.tables import tables

    selected, x = level_input(512, *grid, cin, 0.5, torch.bfloat16)
    weight = torch.randn(9, *((cout, cin) if flip else (cin, cout)), device=DEVICE).bfloat16()
    chosen, times = conv.tiling, {}
    for tiling in tilings(cin, cout, chosen(cin, cout, 2)):
        if times and time.monotonic() > end:
            break
        conv.tiling = lambda *_, tiling=tiling: tiling
        try:
            times[tiling] = graph_time(partial(conv.product, x, weight, tables(selected), len(x), flip, not flip), 9)
        except (RuntimeError, OutOfResources) as failed:  # too large for this GPU
            print(f"    {tiling}: {str(failed).splitlines()[0]}")
        finally:
            conv.tiling = chosen
    return times


def tilings(cin: int, cout: int, first: Any) -> Iterable[Any]:
    """The current shape, then all others to try."""
    yield first
    for columns, chunk, warps, stages in itertools.product((64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4)):
        if columns <= cout and chunk <= cin:
            yield type(first)(columns, chunk, warps, stages)


# ---- timing


def graph_time(work: Callable[[], object], times: int = 20) -> float:
    """Median seconds of `work`, captured in a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    seconds = event_time(graph.replay, times)
    del results  # after the replays, which write into them
    return seconds


def eager_time(work: Callable[[], object], times: int = 20) -> float:
    """Median seconds of `work`, launched kernel by kernel."""
    for _ in range(3):
        work()
    return event_time(work, times)


def event_time(work: Callable[[], object], times: int) -> float:
    measured = []
    for _ in range(times):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        measured.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(measured)


if __name__ == "__main__":
    main()
