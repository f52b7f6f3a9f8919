"""EmoEmbs: modality-transferable emotion embeddings (Dai et al. 2020), a two-phase baseline of the paper.

Each emotion is a vector: the fixed GloVe vector of its name, or a learned one where there is no GloVe file. Linear maps
take these vectors to the spaces of audio and vision. For each modality a bidirectional LSTM reads the utterance; the
logit of an emotion is the dot product of the final state and its vector; the output is a weighted sum of the logits.
The published code also reads the padding, and takes the backward state at the last row, after a single step. Here each
utterance ends at its own last row, and both directions have read all of it.

B utterances, E emotions, T size of a word vector, H hidden size of a modality.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mesm_model.batch import Batch
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.layers import Fusion
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.two_phase import FixedInputs, final_states, lstm_macs, sizes

# The training settings of the published command that differ from `TrainSettings`.
SUGGESTED = {"lr": 1e-3, "batch": 64, "epochs": 100, "patience": 8, "grad_clip_norm": 1.0}
SPACE = {
    "lr": Between(1e-4, 5e-3, log=True),
    "batch": OneOf(32, 64),
    "dropout": Between(0.0, 0.4),
    "audio_hidden": OneOf(100, 200),
    "vision_hidden": OneOf(50, 100),
}
PRESETS = {
    "published": {  # the commands in the README of Modality-Transferable-MER, with ReduceLROnPlateau
        "any": SUGGESTED
        | {
            "lr_schedule": "plateau", "plateau_patience": 5, "audio_hidden": 200, "vision_hidden": 100, "layers": 2,
            "dropout": 0.15,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The published sizes; those of the inputs follow from `--features`."""

    emotions: int = 6
    modalities: str = "tav"
    text_size: int = 300  # also of the emotion vectors, and the hidden size of text
    audio_size: int = 74
    vision_size: int = 35
    audio_hidden: int = 200
    vision_hidden: int = 100
    layers: int = 2
    dropout: float = 0.15  # between the layers
    learned_emotions: bool = False  # without GloVe the emotion vectors are learned

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        for name in ("emotions", "text_size", "audio_size", "vision_size", "audio_hidden", "vision_hidden", "layers"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more and less than 1")


class Branch(nn.Module):
    """One modality: packed rows, the number of each utterance and the emotion vectors [E, T] -> logits [B, E]."""

    def __init__(self, modality: str, size: int, config: Config) -> None:
        super().__init__()
        hidden = _hidden(config, modality)
        dropout = config.dropout if config.layers > 1 else 0.0  # one layer has no place for it, and torch warns
        self.lstm = nn.LSTM(size, hidden, config.layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.mapping: nn.Module = nn.Identity() if modality == "t" else nn.Linear(config.text_size, hidden)

    def forward(self, rows: Tensor, counts: Tensor, emotions: Tensor) -> Tensor:
        state = final_states(self.lstm, rows, counts).sum(1)  # [B, H]
        return state @ self.mapping(emotions).T


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Only the branches of `config.modalities` are built."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.inputs = FixedInputs(sizes(config))
        self.branches = nn.ModuleDict({m: Branch(m, size, config) for m, size in sizes(config).items()})
        self.fusion = Fusion(len(self.branches))
        drawn = torch.randn(config.emotions, config.text_size) / math.sqrt(config.text_size)
        self.emotions = nn.Parameter(drawn, requires_grad=config.learned_emotions)  # [E, T]

    def settle_emotions(self, vectors: Sequence[Sequence[float]] | None) -> None:
        """Set the fixed vector of each emotion, [E, T]; with None they keep their initial values."""
        if vectors is not None and not self.config.learned_emotions:
            self.emotions.data.copy_(torch.tensor(vectors))

    def forward(self, batch: Batch) -> Tensor:
        return self.fusion([branch(*self.inputs(batch, m), self.emotions) for m, branch in self.branches.items()])

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage."""
        config, work = self.config, []
        for modality, size in sizes(config).items():
            hidden = _hidden(config, modality)
            mapping = 0 if modality == "t" else config.text_size * hidden * config.emotions
            head = len(batch) * hidden * config.emotions
            recurrent = lstm_macs(len(batch.features[modality][0]), size, hidden, config.layers)
            work.append(flops.MacCount.exact(modality, "recurrent", recurrent + mapping + head))
        return work


def _hidden(config: Config, modality: str) -> int:
    return {"t": config.text_size, "a": config.audio_hidden, "v": config.vision_hidden}[modality]
