"""Narrow models and random utterances, small enough for many tests."""

from typing import Any

import torch

from mesm_model import models
from mesm_model.batch import FACE, MEL, Batch, Example, collate

EMOTIONS = 3
NARROW = {"emotions": EMOTIONS, "width": 4, "hidden": 16, "embed_dim": 8, "layers": 2, "heads": 2, "feed_forward": 16}


def example(seed: int, faces: int = 2, mels: int = 2, tokens: int = 5) -> Example:
    """A random utterance with these numbers of faces, mel chunks and tokens."""
    draw = torch.Generator().manual_seed(seed)
    return Example(
        id=f"u{seed}",
        text=f"text {seed}",
        tokens=torch.randint(4, 60, (tokens,), generator=draw),
        faces=torch.randint(0, 256, (faces, *FACE), generator=draw, dtype=torch.uint8),
        mels=(torch.randn(mels, *MEL, generator=draw) * 4 - 8).half(),
        labels=torch.randint(0, 2, (EMOTIONS,), generator=draw).float(),
    )


def batch(*sizes: tuple[int, int, int]) -> Batch:
    """Utterances of (faces, mels, tokens) each."""
    return collate([example(seed, *size) for seed, size in enumerate(sizes)])


def build(name: str, encoder: str, seed: int = 0, **settings: Any) -> Any:
    """A narrow model with weights drawn from `seed`."""
    module = models.load(name)
    torch.manual_seed(seed)
    return module.Model(module.Config(text_encoder=encoder, **NARROW | settings))
