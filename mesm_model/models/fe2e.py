"""FE2E: the fully end-to-end model (paper, section 4.2).

An 11-layer VGG and a transformer for faces and for audio, ALBERT for text, and a weighted sum of their logits.

B utterances, E emotions, F frames (faces or mel chunks) of the whole batch, d the size of a frame vector.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mesm_model.batch import FRAMES, Batch
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.attention import Trace
from mesm_model.models.common.layers import MELS, ConvBlock, FrameVectors, Front, Fusion, UtteranceTransformer
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.text import TextBranch

SPACE = {
    "lr": Between(1e-5, 5e-3, log=True),
    "text_lr_scale": Between(0.05, 1.0, log=True),
    "batch": OneOf(4, 8, 16),
    "dropout": Between(0.0, 0.4),
    "layers": OneOf(1, 2, 4),
}
PRESETS = {
    "published": {  # the command in the README of the published code
        "any": {
            "lr": 5e-5, "text_lr_scale": 0.1, "lr_schedule": "constant", "grad_clip_norm": 0.0, "batch": 8,
            "epochs": 40, "patience": 6, "max_tokens": 100, "text_encoder": "albert-base-v2", "width": 64,
            "hidden": 1024, "embed_dim": 64, "layers": 4, "heads": 4, "feed_forward": 2048, "dropout": 0.1,
            "positional_encoding": False, "mel": "power",
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The sizes of the published command."""

    emotions: int = 6
    modalities: str = "tav"
    text_encoder: str = "albert-base-v2"  # name or folder of a transformers model
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
        check(self.mel in MELS, "mel", self.mel, f"one of {', '.join(MELS)}")


class FrameBranch(nn.Module):
    """Faces or mel chunks [F, C, H, W] and the number of each utterance [B] -> logits [B, E]."""

    def __init__(self, modality: str, config: Config) -> None:
        super().__init__()
        width = config.width
        _, height, breadth = FRAMES[modality]
        self.front = Front(modality, width, config.recompute_front, config.mel)
        self.blocks = nn.Sequential(
            ConvBlock(width, 2 * width, pool=True),
            ConvBlock(2 * width, 4 * width, pool=True),
            ConvBlock(4 * width, 8 * width, pool=True),
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

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        x = self.front(frames)  # [F, width, H/2, W/2]
        x = self.blocks(x)  # [F, 8 width, H/16, W/16]
        x = self.vectors(x)  # [F, d]
        return self.head(self.transformer(x, counts))


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Only the branches of `config.modalities` are built."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text = TextBranch(config.text_encoder, config.emotions) if "t" in config.modalities else None
        self.frames = nn.ModuleDict({m: FrameBranch(m, config) for m in FRAMES if m in config.modalities})
        self.fusion = Fusion(len(config.modalities))

    def forward(self, batch: Batch, trace: Trace | None = None) -> Tensor:
        """`trace` stays empty: this model selects nothing."""
        logits = [] if self.text is None else [self.text(batch.tokens, batch.token_counts)[0]]
        logits += [branch(*batch.frames(modality)) for modality, branch in self.frames.items()]
        return self.fusion(logits)

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage."""
        work = flops.frame_stages(self.config, self.frames, batch)
        if self.text is not None:
            work.append(flops.text_stage(self.text.encoder.config, self.config.emotions, batch))
        for modality in self.frames:
            frames = int(batch.frames(modality)[1].sum())
            macs, unpadded = flops.dense_blocks(modality, self.config.width)
            work.append(flops.MacCount(modality, "convolution", frames * macs, frames * unpadded))
        return work
