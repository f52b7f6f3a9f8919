"""Multiply-adds, counted from shapes and, where a model is sparse, from the sites that it kept; and their table.

One MAC is a multiplication and its addition, two FLOP. Only products with weights and between attention vectors
count, as is usual. Each count is kept two ways: `macs` has the products of a dense convolution with the zeros around
its input, which a library computes, and `inside` has not. A sparse convolution never has them, so at p = 1 it would
look 8 % cheaper than the dense one that it equals.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mesm_model.batch import FRAMES, Batch


@dataclass(frozen=True)
class MacCount:
    """What one stage of one modality costs, over all utterances that were counted."""

    modality: str  # "t", "a" or "v"
    stage: str  # one of STAGES
    macs: int
    macs_without_padding: int  # the same without the products with a border of zeros

    @classmethod
    def exact(cls, modality: str, stage: str, macs: int) -> "MacCount":
        """Of a stage without convolution borders."""
        return cls(modality, stage, macs, macs)


def convolution(height: int, width: int, cin: int, cout: int, size: int = 3) -> tuple[int, int]:
    """(macs, inside) of one padded convolution over one frame."""
    reach = range(-(size // 2), size // 2 + 1)
    inside = sum(height - abs(step) for step in reach) * sum(width - abs(step) for step in reach)
    return height * width * size**2 * cin * cout, inside * cin * cout


def low_level(modality: str, width: int) -> tuple[int, int]:
    """(macs, inside) of `layers.Front` on one frame."""
    channels, height, breadth = FRAMES[modality]
    first = convolution(height, breadth, channels, width, size=5)
    return _add(first, *[convolution(height // 2, breadth // 2, width, width)] * 4)


def dense_blocks(modality: str, width: int) -> tuple[int, int]:
    """(macs, inside) of FE2E's last three convolution blocks on one frame."""
    _, height, breadth = FRAMES[modality]
    layers = []
    for level in range(3):
        grid, cin = (height >> level + 1, breadth >> level + 1), width << level
        layers += [convolution(*grid, cin, 2 * cin), convolution(*grid, 2 * cin, 2 * cin)]
    return _add(*layers)


def sparse_block(pairs: int, cin: int) -> int:
    """Two submanifold convolutions, cin -> 2 cin -> 2 cin, over `pairs` of neighbouring active sites."""
    return pairs * (cin * 2 * cin + 2 * cin * 2 * cin)


def attention(sites: int, utterances: int, channels: int, query: int) -> int:
    """`CrossModalAttention` over `sites` active sites."""
    return sites * (channels * channels + channels) + utterances * query * channels


def transformer(lengths: Tensor, d: int, layers: int, feed_forward: int) -> int:
    """An encoder over sequences of these `lengths`, without padding: projections, feed-forward, scores, sums."""
    tokens, squares = int(lengths.sum()), int(lengths.square().sum())
    return layers * (tokens * (4 * d * d + 2 * d * feed_forward) + squares * 2 * d)


def text_encoder(lengths: Tensor, config: Any) -> int:
    """An encoder of transformers, BERT's or ALBERT's kind, given its `config`."""
    hidden = config.hidden_size
    embedding = getattr(config, "embedding_size", hidden)
    widening = embedding * hidden if embedding != hidden else 0
    return int(lengths.sum()) * widening + transformer(
        lengths, hidden, config.num_hidden_layers, config.intermediate_size
    )


def _add(*layers: tuple[int, int]) -> tuple[int, int]:
    return sum(macs for macs, _ in layers), sum(inside for _, inside in layers)


def shared_work(model: Any, batch: Batch) -> list[MacCount]:
    """The stages that FE2E and MESM have in common: all but attention and convolution."""
    config, work = model.config, []
    for modality in model.frames:
        _, height, breadth = FRAMES[modality]
        counts = batch.frames(modality)[1]
        frames = int(counts.sum())
        macs, inside = low_level(modality, config.width)
        features = 8 * config.width * (height // 16) * (breadth // 16)
        heads = len(batch) * config.embed_dim * config.emotions
        encoder = transformer(counts + 1, config.embed_dim, config.layers, config.feed_forward)  # + 1: the CLS
        work += [
            MacCount(modality, "low level", frames * macs, frames * inside),
            MacCount.exact(modality, "flatten", frames * config.hidden * (features + config.embed_dim)),
            MacCount.exact(modality, "transformer", encoder + heads),
        ]
    if model.text is not None:
        head = len(batch) * model.text.hidden_size * config.emotions
        work.append(MacCount.exact("t", "text", text_encoder(batch.token_counts, model.text.encoder.config) + head))
    return work
