"""Multiply-adds, counted from shapes and, where a model is sparse, from the sites that it kept; and their table.

One MAC is a multiplication and its addition, two FLOP. Only products with weights and between attention vectors
count, as is usual. Each count is kept two ways: `macs` has the products of a dense convolution with the zeros around
its input, which a library computes, and `inside` has not. A sparse convolution never has them, so at p = 1 it would
look 8 % cheaper than the dense one that it equals.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mesm_model.batch import FRAMES, Batch

STAGES = ("low level", "attention", "convolution", "flatten", "recurrent", "transformer", "text")
# Figure 5 and Tables 3 and 4: GFLOPs at each p, and of FE2E.
PAPER = {0.1: 2.93, 0.2: 3.23, 0.3: 3.58, 0.4: 3.94, 0.5: 4.34, 0.6: 4.71, 0.7: 5.18, 0.8: 5.66, 0.9: 6.47}
PAPER_FE2E = 8.65
PAPER_WIDTH = 64


@dataclass(frozen=True)
class Work:
    """What one stage of one modality costs, over all utterances that were counted."""

    modality: str  # "t", "a" or "v"
    stage: str  # one of STAGES
    macs: int
    inside: int  # the same without the products with a border of zeros

    @classmethod
    def exact(cls, modality: str, stage: str, macs: int) -> "Work":
        """Of a stage without convolution borders."""
        return cls(modality, stage, macs, macs)


@dataclass(frozen=True)
class Count:
    """The work of a model on a part of a dataset."""

    utterances: int
    frames: dict[str, int]  # faces under "v", mel chunks under "a"
    work: tuple[Work, ...]  # one for each modality and stage
    top_p: float | None  # of a sparse model
    encoder: str | None = None  # the text encoder, in words
    dense: "Count | None" = None  # of a sparse model: the work of FE2E of the same sizes
    width: int = PAPER_WIDTH  # channels of the first convolutions, where there are any

    def macs(self, modality: str = "tav", stages: Iterable[str] = STAGES, inside: bool = False) -> int:
        """The sum over these modalities and stages."""
        chosen = [work for work in self.work if work.modality in modality and work.stage in stages]
        return sum(work.inside if inside else work.macs for work in chosen)


@torch.no_grad()
def count(model: Any, batches: Iterable[Batch]) -> Count:
    """What `model.macs(batch)` says, added up."""
    model.eval()
    utterances, frames = 0, dict.fromkeys(FRAMES, 0)
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for batch in batches:
        utterances += len(batch)
        for modality in FRAMES:
            frames[modality] += int(batch.frames(modality)[1].sum())
        for work in model.macs(batch):
            before = totals.get((work.modality, work.stage), (0, 0))
            totals[work.modality, work.stage] = (before[0] + work.macs, before[1] + work.inside)
    work = tuple(Work(*key, *macs) for key, macs in totals.items())
    encoder = getattr(getattr(model, "text", None), "description", None)
    width = getattr(model.config, "width", PAPER_WIDTH)
    return Count(utterances, frames, work, getattr(model, "top_p", None), encoder, width=width)


def table(counts: Mapping[str, Count]) -> str:
    """The counts of the models by stage; then those with convolutions beside the paper's figures."""
    parts = [_stages(name, counted) for name, counted in counts.items()]
    of_paper = {name: counted for name, counted in counts.items() if counted.macs(stages=["convolution"])}
    if of_paper:
        parts.append(_aligned([_FIGURES, *(_figures(name, counted) for name, counted in of_paper.items())]))
    shares = [_share(name, counted, counted.dense) for name, counted in counts.items() if counted.dense]
    if shares:
        parts.append(_aligned([_SHARES, *shares]))
    return "\n\n".join([*parts, _REMARK] if of_paper else parts)


def shared_work(model: Any, batch: Batch) -> list[Work]:
    """The stages that FE2E and MESM have in common: all but attention and convolution."""
    config, work = model.config, []
    for modality in model.frames:
        _, height, breadth = FRAMES[modality]
        counts = batch.frames(modality)[1]
        frames = int(counts.sum())
        macs, inside = low_level(modality, config.width)
        features = 8 * config.width * (height // 16) * (breadth // 16)
        heads = len(batch) * config.d * config.emotions
        encoder = transformer(counts + 1, config.d, config.layers, config.feed_forward)  # + 1: the CLS
        work += [
            Work(modality, "low level", frames * macs, frames * inside),
            Work.exact(modality, "flatten", frames * config.hidden * (features + config.d)),
            Work.exact(modality, "transformer", encoder + heads),
        ]
    if model.text is not None:
        head = len(batch) * model.text.hidden_size * config.emotions
        work.append(Work.exact("t", "text", text_encoder(batch.token_counts, model.text.encoder.config) + head))
    return work


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


_TRUNK = ("low level", "attention", "convolution")
_FIGURES = ["GFLOP", "trunk of 9 faces", "paper"]
_SHARES = ["share of FE2E", "trunk", "without borders", "whole model", "without borders", "paper"]
_REMARK = f"""\
The paper gives {PAPER_FE2E} GFLOPs for FE2E and does not say what it counts. Closest is the visual trunk over 9 faces,
4.5 s at one face in 0.5 s: 8.61 GFLOPs of convolutions, 8.65 with norms and biases. That cannot be proven, so compare
the shares, not the figures. Shares are of FE2E of the same sizes."""


def _stages(name: str, counted: Count) -> str:
    """One model: GMAC a face, a chunk and an utterance, and GFLOP an utterance."""
    rows = [[name, "GMAC a face", "a chunk", "an utterance", "without borders", "GFLOP an utterance"]]
    shown = [(stage, (stage,)) for stage in STAGES] + [("trunk", _TRUNK), ("whole model", STAGES)]
    for label, stages in shown:
        if not counted.macs(stages=stages):
            continue
        a_frame = [
            counted.macs(modality, stages) / counted.frames[modality] / 1e9 if counted.frames[modality] else 0.0
            for modality in "va"
        ]
        whole, inside = (counted.macs("tav", stages, only) / counted.utterances / 1e9 for only in (False, True))
        rows.append([label, *(f"{value:.4f}" for value in (*a_frame, whole, inside)), f"{2 * whole:.4f}"])
    return _aligned(rows)


def _figures(name: str, counted: Count) -> list[str]:
    """What the paper may have counted, and its figure for this p, if the model is as wide."""
    faces, paper = counted.frames["v"], PAPER.get(round(counted.top_p, 2)) if counted.top_p else PAPER_FE2E
    nine = f"{2 * 9 * counted.macs('v', _TRUNK) / faces / 1e9:.2f}" if faces else "-"
    return [name, nine, f"{paper:.2f}" if paper and counted.width == PAPER_WIDTH else "-"]


def _share(name: str, counted: Count, dense: Count) -> list[str]:
    """Trunk and whole model, each with and without borders, and what the paper has for this p."""
    shares = [
        _ratio(counted.macs("tav", stages, inside), dense.macs("tav", stages, inside))
        for stages in (_TRUNK, STAGES)
        for inside in (False, True)
    ]
    paper = PAPER.get(round(counted.top_p, 2)) if counted.top_p else None
    return [name, *shares, f"{paper / PAPER_FE2E:.2f}" if paper else "-"]


def _ratio(above: int, below: int) -> str:
    return f"{above / below:.3f}" if below else "-"


def _aligned(rows: list[list[str]]) -> str:
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, wide, strict=True))
        )
        for row in rows
    )
    return "\n".join(lines)


def _add(*layers: tuple[int, int]) -> tuple[int, int]:
    return sum(macs for macs, _ in layers), sum(inside for _, inside in layers)
