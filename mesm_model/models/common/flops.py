"""Multiply-adds, from shapes and, for a sparse model, from the sites that it selected.

A MAC is a multiplication and an addition, two FLOP. Only matrix products count, those of attention included.
There are two counts: `macs` includes the products of a dense convolution with the padding around its input, which
libraries compute, and `macs_without_padding` does not. A sparse convolution never has them: by the first count it would
look 8 % cheaper at p = 1 than the dense one that it equals.

B utterances, E emotions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mesm_model.batch import FRAMES, Batch


@dataclass(frozen=True)
class MacCount:
    """The work of one stage of one modality, over all utterances counted."""

    modality: str  # "t", "a" or "v"
    stage: str  # one of evaluation.flops.STAGES
    macs: int
    macs_without_padding: int  # without products with the zeros around a frame

    @classmethod
    def exact(cls, modality: str, stage: str, macs: int) -> "MacCount":
        """A stage without padding."""
        return cls(modality, stage, macs, macs)


class FrameSizes(Protocol):
    """The sizes of a model that reads frames, as its Config has them."""

    @property
    def emotions(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def feed_forward(self) -> int: ...


def convolution(height: int, width: int, cin: int, cout: int, size: int = 3) -> tuple[int, int]:
    """(macs, macs_without_padding) of one padded convolution over one frame."""
    reach = range(-(size // 2), size // 2 + 1)
    unpadded = sum(height - abs(step) for step in reach) * sum(width - abs(step) for step in reach)
    return height * width * size**2 * cin * cout, unpadded * cin * cout


def low_level(modality: str, width: int) -> tuple[int, int]:
    """(macs, macs_without_padding) of `layers.Front` on one frame."""
    channels, height, breadth = FRAMES[modality]
    first = convolution(height, breadth, channels, width, size=5)
    return _add(first, *[convolution(height // 2, breadth // 2, width, width)] * 4)


def dense_blocks(modality: str, width: int) -> tuple[int, int]:
    """(macs, macs_without_padding) of FE2E's last three convolution blocks on one frame."""
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
    """A transformer encoder over sequences of these `lengths`: projections, feed-forward, scores, weighted sums."""
    tokens, squares = int(lengths.sum()), int(lengths.square().sum())
    return layers * (tokens * (4 * d * d + 2 * d * feed_forward) + squares * 2 * d)


def text_encoder(lengths: Tensor, config: Any) -> int:
    """A text encoder of the kind of BERT or ALBERT, given its transformers `config`, over texts of these `lengths`."""
    hidden = config.hidden_size
    embedding = getattr(config, "embedding_size", hidden)
    widening = embedding * hidden if embedding != hidden else 0
    return int(lengths.sum()) * widening + transformer(
        lengths, hidden, config.num_hidden_layers, config.intermediate_size
    )


def frame_stages(config: FrameSizes, modalities: Iterable[str], batch: Batch) -> list[MacCount]:
    """The stages that FE2E and MESM share in each modality of frames: all but attention and convolution."""
    work = []
    for modality in modalities:
        _, height, breadth = FRAMES[modality]
        counts = batch.frames(modality)[1]
        frames = int(counts.sum())
        macs, unpadded = low_level(modality, config.width)
        features = 8 * config.width * (height // 16) * (breadth // 16)
        heads = len(batch) * config.embed_dim * config.emotions
        encoder = transformer(counts + 1, config.embed_dim, config.layers, config.feed_forward)  # + 1: the CLS
        work += [
            MacCount(modality, "low level", frames * macs, frames * unpadded),
            MacCount.exact(modality, "flatten", frames * config.hidden * (features + config.embed_dim)),
            MacCount.exact(modality, "transformer", encoder + heads),
        ]
    return work


def text_stage(encoder: Any, emotions: int, batch: Batch) -> MacCount:
    """The text branch: an encoder with this transformers config, and its head."""
    head = len(batch) * encoder.hidden_size * emotions
    return MacCount.exact("t", "text", text_encoder(batch.token_counts, encoder) + head)


def _add(*layers: tuple[int, int]) -> tuple[int, int]:
    return sum(macs for macs, _ in layers), sum(unpadded for _, unpadded in layers)
