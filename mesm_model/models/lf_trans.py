"""LF-TRANS: late fusion of transformers, a two-phase baseline of the paper (`lf_transformer` in its code).

For each modality a transformer as wide as its input, with a CLS vector in front; logits from the CLS; a weighted sum of
these. The published code masks padding for audio and vision only; here it is masked for text too.

B utterances, E emotions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mesm_model.batch import Batch
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.layers import Fusion, UtteranceTransformer
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.two_phase import FixedInputs, sizes

# The training settings of the published command that differ from `TrainSettings`.
SUGGESTED = {"lr": 5e-4, "batch": 32, "epochs": 60, "patience": 8, "grad_clip_norm": 2.0}
SPACE = {
    "lr": Between(5e-5, 2e-3, log=True),
    "batch": OneOf(16, 32, 64),
    "layers": OneOf(1, 2, 4),
    "dropout": Between(0.0, 0.4),
    "positional_encoding": OneOf(False, True),
}
PRESETS = {
    "published": {
        "any": SUGGESTED
        | {
            "lr_schedule": "constant", "layers": 2, "text_heads": 4, "audio_heads": 2, "vision_heads": 5,
            "feed_forward": 2048, "dropout": 0.1, "positional_encoding": False,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The published sizes; those of the inputs follow from `--features`."""

    emotions: int = 6
    modalities: str = "tav"
    text_size: int = 300
    audio_size: int = 144
    vision_size: int = 35
    text_heads: int = 4  # at most: the largest number that divides the size of the input
    audio_heads: int = 2
    vision_heads: int = 5
    layers: int = 2
    feed_forward: int = 2048
    dropout: float = 0.1
    positional_encoding: bool = False  # the published code has none

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        for name in ("text_size", "audio_size", "vision_size"):
            check(getattr(self, name) > 1, name, getattr(self, name), "more than 1")
        for name in ("emotions", "text_heads", "audio_heads", "vision_heads", "layers", "feed_forward"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more and less than 1")


class Branch(nn.Module):
    """One modality: packed rows and the number of each utterance -> logits [B, E]."""

    def __init__(self, size: int, heads: int, config: Config) -> None:
        super().__init__()
        heads = max(number for number in range(1, heads + 1) if size % number == 0)
        self.transformer = UtteranceTransformer(
            size, config.layers, heads, config.feed_forward, config.dropout, config.positional_encoding
        )
        self.head = nn.Sequential(nn.Linear(size, size // 2), nn.ReLU(), nn.Linear(size // 2, config.emotions))

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        return self.head(self.transformer(rows, counts))


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Only the branches of `config.modalities` are built."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        heads = {"t": config.text_heads, "a": config.audio_heads, "v": config.vision_heads}
        self.inputs = FixedInputs(sizes(config))
        self.branches = nn.ModuleDict({m: Branch(size, heads[m], config) for m, size in sizes(config).items()})
        self.fusion = Fusion(len(self.branches))

    def forward(self, batch: Batch) -> Tensor:
        return self.fusion([branch(*self.inputs(batch, m)) for m, branch in self.branches.items()])

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage."""
        config, work = self.config, []
        for modality, size in sizes(config).items():
            lengths = batch.features[modality][1] + 1  # + 1: the CLS
            encoder = flops.transformer(lengths, size, config.layers, config.feed_forward)
            head = len(batch) * (size // 2) * (size + config.emotions)
            work.append(flops.MacCount.exact(modality, "transformer", encoder + head))
        return work
