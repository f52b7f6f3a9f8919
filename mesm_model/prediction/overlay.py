"""What the attention selected in the frames of one utterance, and the multiply-adds that this saved.

F frames (V faces or A mel chunks), H x W sites of a frame.
"""

from collections.abc import Sequence

import numpy as np

from mesm_model.models.common import flops
from mesm_model.models.common.attention import TracedLevel


def of_modality(levels: Sequence[TracedLevel], modality: str) -> list[TracedLevel]:
    """The layers of modality "a" or "v", in order."""
    return sorted((level for level in levels if level.modality == modality), key=lambda level: level.level)


def depth(levels: Sequence[TracedLevel]) -> np.ndarray:
    """How many of the layers of ONE modality selected a site, on the grid of the first: uint8 [F, H, W]."""
    first = levels[0].selected.shape
    layers = [level.selected.numpy() for level in levels]
    enlarged = [
        selected.repeat(first[1] // selected.shape[1], 1).repeat(first[2] // selected.shape[2], 2)
        for selected in layers
    ]
    return np.stack(enlarged).sum(0, dtype=np.uint8)


def selected_by_layers(levels: Sequence[TracedLevel]) -> np.ndarray:
    """The share of the layers of ONE modality that selected a site, float [F, H, W] on the grid of the first."""
    return depth(levels) / len(levels)


def selected_share(level: TracedLevel) -> np.ndarray:
    """The share of all sites of each frame that a layer selected, float [F]."""
    return level.selected.float().mean((1, 2)).numpy()


def saved_share(level: TracedLevel, width: int, query: int) -> np.ndarray:
    """The share of the multiply-adds of each frame's block that a layer saved, float [F], less its attention's own.

    `width` are the channels of the first convolutions, `query` is the size of the text's vector. Negative where the
    layer selects so much that the attention costs more than it saves.
    """
    height, breadth = level.selected.shape[1:]
    channels = width << level.level - 1
    dense = sum(flops.convolution(height, breadth, cin, 2 * channels)[1] for cin in (channels, 2 * channels))
    candidates = level.candidates.sum((1, 2)).tolist()
    spent = [
        flops.sparse_block(pairs, channels) + flops.attention(sites, 0, channels, query)
        for pairs, sites in zip(level.pairs.tolist(), candidates, strict=True)
    ]
    return 1 - np.array(spent, float) / dense
