"""Time of a training step relative to the published implementation, and whether loading keeps up.

    python -m benchmarks.bench_train [--utterances 4] [--rounds 5] [--threads 1]

A step is forward, backward and Adam in float32, at the paper's sizes, on the CPU, for one batch of utterances as long
as those of IEMOCAP (10 faces, 12 mel chunks, 14 tokens). published_way.py computes as the published implementation
does. Both run in turn, in rounds; numbers are medians: with one thread in processor seconds, so that other work counts
little, with more in wall-clock seconds. In the published MESM the attention receives no gradient; ours is timed
with and without. Face detection, which the published code repeats in every step, is timed with the detector of
facenet-pytorch on images of 360 x 480, one speaker's half, and of 720 x 480, the whole frame.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from facenet_pytorch import MTCNN
from skimage.data import astronaut
from skimage.transform import resize
from transformers import AlbertConfig, AlbertModel

from benchmarks.published_way import Published
from mesm_data.dataset.reader import load
from mesm_data.synth import synthetic_dataset
from mesm_model.batch import FACE, MEL, Batch, Example, collate
from mesm_model.loader import open_split, plan_epoch, read
from mesm_model.models import fe2e, mesm

FACES, CHUNKS, TOKENS = 10, 12, 14  # per utterance of 4.6 seconds
IMAGES = {"360x480": (480, 360), "720x480": (480, 720)}  # height, width
TOP_P = 0.5
COMPARED = {  # with what, and the intended ratio
    "fe2e": ("fe2e, published way", 1.3),
    "mesm": ("mesm, published way", 2.0),
    "mesm, no attention gradient": ("mesm, published way", 2.0),
}
WITH_DETECTION = 10.0
LOADING = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=4, help="in the batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch; at most the number of free cores")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = collate([utterance(n) for n in range(options.utterances)])
    with tempfile.TemporaryDirectory() as folder:
        encoder = albert_base(Path(folder) / "albert")
        sparse = mesm.Config(text_encoder=encoder, top_p=TOP_P)
        sides = {
            "fe2e": step(fe2e.Model(fe2e.Config(text_encoder=encoder)), batch),
            "fe2e, published way": step(Published(fe2e.Config(text_encoder=encoder)), batch, fused=False),
            "mesm": step(mesm.Model(sparse), batch),
            "mesm, no attention gradient": step(mesm.Model(replace(sparse, attention_gradient="none")), batch),
            "mesm, published way": step(Published(sparse), batch, fused=False),
        }
        detector = MTCNN(keep_all=True)
        sides |= {f"detection {size}": detection(detector, shape, len(batch)) for size, shape in IMAGES.items()}
        clock = time.process_time if options.threads == 1 else time.perf_counter
        seconds = medians(sides, options.rounds, clock)
        delivered = loading(Path(folder) / "data", clock)
    report(seconds, len(batch), delivered)


def report(seconds: dict[str, float], utterances: int, delivered: float) -> None:
    """Print the ratios, each with the intended one."""
    print(f"{utterances} utterances a step, {torch.get_num_threads()} threads; medians")
    for name, value in seconds.items():
        print(f"  {name:<30}{value:8.3f} s")
    for name, (other, goal) in COMPARED.items():
        published = seconds[other]
        alone = published / seconds[name]
        print(f"{name}: published way / ours, without detection: {alone:.2f} (goal {goal})")
        for size in IMAGES:
            whole = (published + seconds[f"detection {size}"]) / seconds[name]
            print(f"{name}: published way / ours, with detection on {size}: {whole:.2f} (goal {WITH_DETECTION:g})")
    consumed = utterances / min(seconds["fe2e"], seconds["mesm"])
    ratio = delivered / consumed
    print(f"loading: {delivered:.0f} utterances/s from shards, {consumed:.1f} used: {ratio:.0f} (goal {LOADING:g})")


def utterance(seed: int) -> Example:
    """A random utterance of the usual length."""
    draw = torch.Generator().manual_seed(seed)
    return Example(
        id=str(seed),
        text="",
        tokens=torch.randint(5, 1000, (TOKENS,), generator=draw),
        faces=torch.randint(0, 256, (FACES, *FACE), generator=draw, dtype=torch.uint8),
        mels=(torch.randn(CHUNKS, *MEL, generator=draw) * 4 - 8).half(),
        labels=torch.randint(0, 2, (6,), generator=draw).float(),
    )


def albert_base(folder: Path) -> str:
    """A folder with an ALBERT of the size of albert-base-v2 and random weights."""
    config = AlbertConfig(
        vocab_size=30_000, embedding_size=128, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072,
    )  # fmt: skip
    torch.manual_seed(0)
    AlbertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def step(model: Any, batch: Batch, fused: bool = True) -> Callable[[], object]:
    """One training step; `fused` is how `mesm train` runs Adam."""
    optimiser = torch.optim.Adam(model.train().parameters(), lr=1e-5, fused=fused)

    def run() -> None:
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(model(batch), batch.labels).backward()
        optimiser.step()

    return run


def detection(detector: MTCNN, shape: Sequence[int], utterances: int) -> Callable[[], object]:
    """Face detection in the images of a step, one utterance at a time."""
    person = (255 * resize(astronaut()[:440, 30:420], shape, anti_aliasing=True)).astype(np.uint8)
    images = np.stack([np.roll(person, 3 * n, axis=1) for n in range(FACES)])

    def run() -> None:
        for _ in range(utterances):
            detector.detect(images)

    return run


def loading(folder: Path, clock: Callable[[], float]) -> float:
    """Utterances per second read from shards in random order in this process, at the usual length."""
    rng = np.random.default_rng(0)
    labels = (1,) * len(synthetic_dataset.EMOTIONS)

    def sample(_: np.random.Generator) -> synthetic_dataset.Sample:
        faces = rng.integers(0, 256, (FACES, 48, 48, 3), np.uint8)
        mels = rng.standard_normal((CHUNKS, 128, 32)).astype(np.float16)
        return synthetic_dataset.Sample(labels, "so it is and nothing can be done about it now", faces, mels)

    synthetic_dataset.write_samples(
        folder, "random", synthetic_dataset.EMOTIONS, {"train": 1000}, {"seed": 0}, sample, {}
    )
    part = open_split(load(folder), "train", None)
    plan = plan_epoch(part.megabytes, 8, np.inf, 1, 0, 0)
    batches = [batch for one in plan.steps for batch in one]
    rates = []
    for _ in range(3):
        begun = clock()
        count = sum(len(batch) for batch in read(part, batches))
        rates.append(count / (clock() - begun))
    return statistics.median(rates)


def medians(
    sides: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each, run in turn; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            begun = clock()
            run()
            if number:
                seconds[name].append(clock() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
