"""Narrow two-phase models and random features, small enough for many tests, and checks that all these models pass."""

from typing import Any

import torch

from mesm_data.dataset.reader import Dataset
from mesm_model import models
from mesm_model.batch import FACE, MEL, Batch, Example, collate
from mesm_model.models.common import two_phase
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train

EMOTIONS = 3
SIZES = {"t": 12, "a": 8, "v": 10}
NARROW = {"emotions": EMOTIONS, "text_size": 12, "audio_size": 8, "vision_size": 10}
LENGTHS = [(4, 7, 2), (1, 1, 1), (6, 3, 5), (2, 9, 1)]  # words, steps, faces


def example(seed: int, *counts: int) -> Example:
    """A random utterance with these numbers of words, audio steps and faces."""
    draw = torch.Generator().manual_seed(seed)
    return Example(
        id=f"u{seed}",
        text="",
        tokens=torch.zeros(0, dtype=torch.int64),
        faces=torch.zeros(0, *FACE, dtype=torch.uint8),
        mels=torch.zeros(0, *MEL),
        labels=torch.randint(0, 2, (EMOTIONS,), generator=draw).float(),
        features={m: torch.randn(n, size, generator=draw) for (m, size), n in zip(SIZES.items(), counts, strict=True)},
    )


def batch(*lengths: tuple[int, int, int]) -> Batch:
    """Utterances of (words, steps, faces) each."""
    return collate([example(seed, *counts) for seed, counts in enumerate(lengths)])


def build(name: str, **settings: Any) -> Any:
    """A narrow model in double precision, the same weights every time; columns of mean 0.5 and deviation 2."""
    module = models.load(name)
    torch.manual_seed(0)
    model = module.Model(module.Config(**NARROW | settings)).double()
    model.inputs.settle({m: ([0.5] * size, [2.0] * size) for m, size in two_phase.sizes(model.config).items()})
    return model


def hold_shapes(name: str, **settings: Any) -> None:
    """Logits have a row per utterance and a column per emotion, for every set of modalities."""
    for modalities in ("tav", "ta", "tv", "av", "t", "a", "v"):
        assert build(name, modalities=modalities, **settings)(batch(*LENGTHS)).shape == (4, EMOTIONS)


def hold_independence(name: str, **settings: Any) -> None:
    """Neither padding nor other utterances change a result, in whatever order they come."""
    model = build(name, **settings).eval()
    examples = [example(seed, *counts) for seed, counts in enumerate([*LENGTHS, (0, 0, 0), (3, 0, 2)])]
    together = model(collate(examples))
    alone = torch.cat([model(collate([one])) for one in examples])
    turned = model(collate(examples[::-1])).flip(0)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, turned)


def hold_gradients(name: str, **settings: Any) -> None:
    """Every trainable parameter gets a gradient; without any row all stays finite."""
    model = build(name, **settings).eval()
    model(batch(*LENGTHS)).square().sum().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in learning.items() if p.grad is None or not p.grad.abs().max() > 1e-12] == []
    model.train()
    logits = model(batch((0, 0, 0), (0, 0, 0)))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in learning.values() if p.grad is not None)


def hold_work(name: str, **settings: Any) -> None:
    """The multiply-adds are those of the utterances, without padding: together as many as one by one."""
    model = build(name, **settings)
    apart = [work for counts in LENGTHS for work in model.macs(batch(counts))]
    together = {(work.modality, work.stage): work.macs for work in model.macs(batch(*LENGTHS))}
    for (modality, stage), macs in together.items():
        assert macs == sum(one.macs for one in apart if (one.modality, one.stage) == (modality, stage))
        assert macs > 0


def learned(dataset: Dataset, out: Any, name: str, *settings: str) -> float:
    """Train on a dataset with features; the mean AUC on test."""
    choice = resolve_config(dataset, name, {}, settings)
    with init_distributed("cpu") as ranks:
        scores = train(dataset, choice, out, ranks, RuntimeOptions(quiet=True))
    return scores["splits"]["test"]["means"]["auc"]
