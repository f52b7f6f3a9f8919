"""What attention selected, as red on pictures of faces and sound, and what that saved.

F frames of one utterance (V faces or A mel chunks), H x W sites of a frame.
"""

from collections.abc import Sequence

import numpy as np

from mesm_data.report.sheet import DARKEST, QUIETEST, RANGE
from mesm_model.models.common import flops
from mesm_model.models.common.attention import TracedLevel

RED = np.array([225, 30, 30], np.float32)
STRENGTH = 0.55  # of the red over what is selected


def of_modality(levels: Sequence[TracedLevel], modality: str) -> list[TracedLevel]:
    """The layers of modality "a" or "v", the first one first."""
    return sorted((level for level in levels if level.modality == modality), key=lambda level: level.level)


def depth(levels: Sequence[TracedLevel]) -> np.ndarray:
    """How many of the layers of ONE modality selected a site, on the grid of the first: uint8 [F, H, W]."""
    first = levels[0].selected.shape
    layers = [level.selected.numpy() for level in levels]
    grown = [
        selected.repeat(first[1] // selected.shape[1], 1).repeat(first[2] // selected.shape[2], 2)
        for selected in layers
    ]
    return np.stack(grown).sum(0, dtype=np.uint8)


def side_by_side(chunks: np.ndarray) -> np.ndarray:
    """Mel chunks, or masks on them, [A, H, W], as one picture [H, A * W] with low tones below."""
    return chunks.transpose(1, 0, 2).reshape(chunks.shape[1], -1)[::-1]


def grey_mel(mels: np.ndarray) -> np.ndarray:
    """Chunks float [A, 128, 32] as one grey picture, uint8 [128, A * 32, 3]: red shows on it. Loud is bright."""
    sound = side_by_side(mels.astype(np.float32))
    peak = max(float(sound.max(initial=QUIETEST)), QUIETEST)
    dark = max(peak - RANGE, DARKEST)
    shade = np.clip((sound - dark) / (peak - dark), 0, 1)
    return np.repeat((shade * 255).astype(np.uint8)[..., None], 3, axis=2)


def tinted(picture: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3] with red where `share` (0..1 or a mask, on a coarser grid of the same shape) is."""
    over = share.astype(np.float32)
    over = over.repeat(picture.shape[0] // over.shape[0], 0).repeat(picture.shape[1] // over.shape[1], 1)[..., None]
    return (picture + over * STRENGTH * (RED - picture)).round().astype(np.uint8)


def selected_share(level: TracedLevel) -> np.ndarray:
    """The share of all sites of each frame that a layer selected, float [F]."""
    return level.selected.float().mean((1, 2)).numpy()


def saved_share(level: TracedLevel, width: int, query: int) -> np.ndarray:
    """The share of the multiply-adds of each frame's block that a layer spared, float [F]; its own attention counts.

    `width` are the channels of the first convolutions, `query` is the size of the text's vector. Below 0 where it keeps
    so much that looking costs more than is spared.
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
