"""What fixed features cost to make, and a training step of each baseline against MESM's.

    python -m benchmarks.bench_features [--minutes 30] [--rounds 3]

Features are made of utterances as long as those of IEMOCAP (4.6 s: 10 faces, 12 mel chunks); their time is that of the
processor, over all its cores. A step is forward, backward and Adam in float32 at the paper's
sizes on one batch; sides are run in turn, and figures are medians.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_train import CHUNKS, FACES, albert_base, medians, step, utterance
from mesm_data.dataset.reader import Dataset, load
from mesm_data.synth import planted, synthetic_dataset
from mesm_model import models
from mesm_model.batch import Batch, collate
from mesm_model.features.extract import DEFAULTS, FeatureSpec, make_features
from mesm_model.features.store import attach
from mesm_model.loader import open_split, read
from mesm_model.runs.settings import resolve_config

SECONDS = CHUNKS * 0.4  # of an utterance
BASELINES = ("lf-lstm", "lf-trans", "emoembs", "mult")
UTTERANCES = 8  # a step
GOAL = 5.0  # hours of speech a core-minute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of speech")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = speech(Path(folder) / "data", options.minutes)
        dataset = making(dataset, Path(folder) / "features")
        training(dataset, albert_base(Path(folder) / "albert"), options.rounds)


def making(dataset: Dataset, out: Path) -> Dataset:
    """Print hours of speech a core-minute; the dataset with its features."""
    hours = sum(row["end"] - row["start"] for row in dataset.rows(["start", "end"])) / 3600
    begun = time.process_time()
    make_features(dataset, out, {modality: FeatureSpec(name) for modality, name in DEFAULTS.items()}, quiet=True)
    minutes = (time.process_time() - begun) / 60
    print(f"features: {hours / minutes:.1f} hours of speech a core-minute (goal >= {GOAL:g})")
    return attach(dataset, out)


def training(dataset: Dataset, encoder: str, rounds: int) -> None:
    """Print how many times longer a step of MESM takes than one of each baseline."""
    fixed = fixed_batch(dataset)
    sides = {"mesm": step(models.load("mesm").Model(models.load("mesm").Config(text_encoder=encoder)), whole_batch())}
    for name in BASELINES:
        config = resolve_config(dataset, name, suggestions=False).config
        sides[name] = step(models.load(name).Model(config), fixed)
    seconds = medians(sides, rounds)
    for name in BASELINES:
        print(f"mesm / {name}, an epoch: {seconds['mesm'] / seconds[name]:.0f} times longer")


def speech(folder: Path, minutes: float) -> Dataset:
    """So much made-up speech, of as many words as IEMOCAP has in the time, two thirds of it to train on."""
    rng = np.random.default_rng(0)

    def sample(_: np.random.Generator) -> synthetic_dataset.Sample:
        labels = tuple(rng.integers(0, 2, len(synthetic_dataset.EMOTIONS)).tolist())
        faces = rng.integers(0, 256, (FACES, 48, 48, 3), np.uint8)
        mels = rng.standard_normal((CHUNKS, 128, 32)).astype(np.float16)
        return synthetic_dataset.Sample(labels, " ".join(rng.choice(planted.FILLERS, 12)), faces, mels)

    count = round(60 * minutes / SECONDS)
    sizes = {"train": count - 2 * (count // 6), "valid": count // 6, "test": count // 6}
    synthetic_dataset.write_samples(folder, "speech", synthetic_dataset.EMOTIONS, sizes, {"seed": 0}, sample, {})
    return load(folder)


def fixed_batch(dataset: Dataset) -> Batch:
    (batch,) = read(open_split(dataset, "train", None), [range(UTTERANCES)])
    return batch


def whole_batch() -> Batch:
    return collate([utterance(n) for n in range(UTTERANCES)])


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
