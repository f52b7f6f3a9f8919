"""LF-LSTM: late fusion of LSTMs, a two-phase baseline of the paper (`lf_rnn` in its code).

For each modality a bidirectional LSTM as wide as its input; logits from its final states; a weighted sum of these. The
published code also reads the zeros of the padding, and takes the backward state of text at the last row, after a single
step. Here each utterance ends at its own last row, and both directions have read all of it.

B utterances, E emotions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mesm_model.batch import Batch
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.layers import Fusion
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.two_phase import FixedInputs, final_states, lstm_macs, sizes

# The training settings of the published command that differ from `TrainSettings`.
SUGGESTED = {"lr": 5e-4, "batch": 32, "epochs": 60, "patience": 8, "grad_clip_norm": 2.0}
SPACE = {"lr": Between(1e-4, 5e-3, log=True), "batch": OneOf(16, 32, 64), "grad_clip_norm": Between(0.5, 4.0, log=True)}
PRESETS = {"published": {"any": SUGGESTED | {"lr_schedule": "constant"}}}


@dataclass(frozen=True)
class Config:
    """The published sizes; those of the inputs follow from `--features`."""

    emotions: int = 6
    modalities: str = "tav"
    text_size: int = 300
    audio_size: int = 144
    vision_size: int = 35

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        for name in ("emotions", "text_size", "audio_size", "vision_size"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")


class Branch(nn.Module):
    """One modality: packed rows and the number of each utterance -> logits [B, E]."""

    def __init__(self, size: int, emotions: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, size, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, emotions))

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        return self.head(final_states(self.lstm, rows, counts).flatten(1))  # [B, 2 size] -> [B, E]


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Only the branches of `config.modalities` are built."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.inputs = FixedInputs(sizes(config))
        self.branches = nn.ModuleDict({m: Branch(size, config.emotions) for m, size in sizes(config).items()})
        self.fusion = Fusion(len(self.branches))

    def forward(self, batch: Batch) -> Tensor:
        return self.fusion([branch(*self.inputs(batch, m)) for m, branch in self.branches.items()])

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage."""
        work = []
        for modality, size in sizes(self.config).items():
            head = len(batch) * size * (2 * size + self.config.emotions)
            recurrent = lstm_macs(len(batch.features[modality][0]), size, size)
            work.append(flops.MacCount.exact(modality, "recurrent", recurrent + head))
        return work
