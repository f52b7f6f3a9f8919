"""MESM: the multimodal end-to-end sparse model (paper, section 4.3).

FE2E with three sparse blocks in place of the last three convolution blocks: cross-modal attention of the text scores
the sites of each frame, nucleus selection keeps the most probable, and submanifold convolutions compute on those alone.

B utterances, E emotions, F frames (faces or mel chunks) of the batch, n rows of active sites, Q size of the query.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mesm_model.batch import FRAMES, Batch, owners
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.attention import (
    GRADIENTS,
    CrossModalAttention,
    Trace,
    gather_selected,
    mask_inputs,
    scale_gradient,
)
from mesm_model.models.common.layers import MELS, FrameVectors, Front, Fusion, UtteranceTransformer
from mesm_model.models.common.nucleus import select
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.text import TextBranch
from mesm_model.sparse.conv import BACKENDS, SubmanifoldBlock
from mesm_model.sparse.sites import Sites

# Straight-through gradients were measured with annealing (the default of `TrainSettings`) and with this bound.
SUGGESTED = {"grad_clip_norm": 1.0}
SPACE = {  # without top_p: more is always better, and slower
    "lr": Between(1e-5, 5e-3, log=True),
    "text_lr_scale": Between(0.05, 1.0, log=True),
    "batch": OneOf(4, 8, 16),
    "dropout": Between(0.0, 0.4),
    "layers": OneOf(1, 2, 4),
}
PRESETS = {
    # The command in the README of the published code; the paper reports p = 0.7 on IEMOCAP and 0.5 on CMU-MOSEI.
    "published": {
        "any": {
            "top_p": 0.8, "attention_gradient": "none", "top_p_anneal": 0.0,
            "lr": 5e-5, "text_lr_scale": 0.1, "lr_schedule": "constant", "grad_clip_norm": 0.0, "batch": 2,
            "epochs": 40, "patience": 6, "max_tokens": 100, "text_encoder": "albert-base-v2", "width": 64,
            "hidden": 1024, "embed_dim": 64, "layers": 4, "heads": 4, "feed_forward": 2048, "dropout": 0.1,
            "positional_encoding": False, "mel": "power",
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The sizes of the published command; `top_p` is the paper's for IEMOCAP (0.5 for CMU-MOSEI)."""

    emotions: int = 6
    modalities: str = "tav"  # without t, a learned vector is the query of the attention
    text_encoder: str = "albert-base-v2"  # name or folder of a transformers model
    top_p: float = 0.7  # p of the nucleus, a share of the attention
    attention_gradient: str = "straight-through"  # or gate; none: no gradient
    backend: str = "auto"  # of the submanifold convolutions: or dense, rulebook, triton
    width: int = 64  # channels of the first convolutions; the last have eight times as many
    hidden: int = 1024  # units between the last convolution and the vector of a frame
    embed_dim: int = 64
    layers: int = 4
    heads: int = 4
    feed_forward: int = 2048
    dropout: float = 0.1
    positional_encoding: bool = True  # sinusoidal, in the transformers, as in the paper; the published code has none
    mel: str = "log"  # what the convolutions read of audio: log, or power as in the published code
    recompute_front: bool = False  # half the memory for a fifth more work; the results are the same

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        for name in ("emotions", "width", "hidden", "embed_dim", "layers", "heads", "feed_forward"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        check(self.embed_dim % self.heads == 0, "embed_dim", self.embed_dim, f"a multiple of heads, {self.heads}")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more and less than 1")
        check(0 < self.top_p <= 1, "top_p", self.top_p, "more than 0 and at most 1")
        for name, known in (("attention_gradient", GRADIENTS), ("backend", BACKENDS), ("mel", MELS)):
            check(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")


class SparseLevel(nn.Module):
    """Attention, nucleus, two submanifold convolutions, pooling: rows [n, Cin] and sites -> those of the next level."""

    def __init__(self, modality: str, level: int, cin: int, query: int, config: Config) -> None:
        super().__init__()
        self.modality, self.level = modality, level
        self.gradient, self.backend = config.attention_gradient, config.backend
        self.attention = CrossModalAttention(cin, query).requires_grad_(self.gradient != "none")
        self.first = SubmanifoldBlock(cin, 2 * cin, config.backend)
        self.second = SubmanifoldBlock(2 * cin, 2 * cin, config.backend)

    def forward(
        self, x: Tensor, sites: Sites, query: Tensor, owner: Tensor, top_p: float, trace: Trace | None
    ) -> tuple[Tensor, Sites]:
        # Inputs of the attention receive its gradient scaled by 1 - p. At p = 1 the attention has no effect on the
        # output: its whole gradient only disturbed text and convolutions (planted corpus, one seed of two).
        share = 1 - top_p if self.gradient == "straight-through" else 1.0
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient != "none"):
            attention = self.attention(scale_gradient(x, share), sites, scale_gradient(query, share), owner)  # [F, S]
        selected = select(sites, attention, top_p, self.backend)
        if trace is not None:
            trace.add(self.modality, self.level, attention, sites, selected)
        inputs = mask_inputs(x, attention, sites, selected, self.gradient)
        x = gather_selected(x, attention, sites, selected, self.gradient)
        return self.second.forward_pooled(self.first(x, selected, inputs), selected)


class FrameBranch(nn.Module):
    """Faces or mel chunks [F, C, H, W], the number of each utterance [B], a query [B, Q] -> logits [B, E]."""

    def __init__(self, modality: str, query: int, config: Config) -> None:
        super().__init__()
        width = config.width
        _, height, breadth = FRAMES[modality]
        self.front = Front(modality, width, config.recompute_front, config.mel)
        self.levels = nn.ModuleList(
            SparseLevel(modality, level + 1, width * 2**level, query, config) for level in range(3)
        )
        self.vectors = FrameVectors(8 * width * (height // 16) * (breadth // 16), config.hidden, config.embed_dim)
        self.transformer = UtteranceTransformer(
            config.embed_dim,
            config.layers,
            config.heads,
            config.feed_forward,
            config.dropout,
            config.positional_encoding,
        )
        self.head = nn.Linear(config.embed_dim, config.emotions)

    def forward(self, frames: Tensor, counts: Tensor, query: Tensor, top_p: float, trace: Trace | None) -> Tensor:
        grid = self.front(frames)  # [F, width, H/2, W/2]
        sites = Sites.all(len(grid), grid.shape[2], grid.shape[3], grid.device)
        x, owner = sites.from_dense(grid), owners(counts, grid.device)  # [n, width], [F]
        for level in self.levels:
            x, sites = level(x, sites, query, owner, top_p, trace)
        x = self.vectors(sites.to_dense(x))  # [F, 8 width, H/16, W/16] -> [F, d]
        return self.head(self.transformer(x, counts))


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Only the branches of `config.modalities` are built.

    `top_p` may be changed between steps, to anneal it or for a sweep.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.top_p = config.top_p
        self.text = TextBranch(config.text_encoder, config.emotions) if "t" in config.modalities else None
        self.query_size = config.embed_dim if self.text is None else self.text.hidden_size
        if self.text is None:
            self.query = nn.Parameter(torch.randn(1, config.embed_dim))
            self.query.requires_grad_(config.attention_gradient != "none")
        self.frames = nn.ModuleDict(
            {m: FrameBranch(m, self.query_size, config) for m in FRAMES if m in config.modalities}
        )
        self.fusion = Fusion(len(config.modalities))

    def forward(self, batch: Batch, trace: Trace | None = None) -> Tensor:
        logits = []
        if self.text is None:
            query = self.query.expand(len(batch), -1)  # [B, Q]
        else:
            text_logits, query = self.text(batch.tokens, batch.token_counts)  # [B, E], [B, Q]
            logits.append(text_logits)
        for modality, branch in self.frames.items():
            logits.append(branch(*batch.frames(modality), query, self.top_p, trace))
        return self.fusion(logits)

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage; runs it to count the selected sites."""
        trace = Trace()
        self(batch, trace)
        work = flops.frame_stages(self.config, self.frames, batch)
        if self.text is not None:
            work.append(flops.text_stage(self.text.encoder.config, self.config.emotions, batch))
        for seen in trace.levels:
            channels = self.config.width << seen.level - 1
            sites, pairs = int(seen.candidates.sum()), int(seen.pairs.sum())
            attention = flops.attention(sites, len(batch), channels, self.query_size)
            work.append(flops.MacCount.exact(seen.modality, "attention", attention))
            work.append(flops.MacCount.exact(seen.modality, "convolution", flops.sparse_block(pairs, channels)))
        return work
