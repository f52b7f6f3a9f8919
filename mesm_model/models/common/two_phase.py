"""Two-phase models: their standardised inputs, and the final states of a recurrent layer.

B utterances, S rows (words, audio steps, frames) of the whole batch, H states of one direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mesm_model.batch import Batch, pad
from mesm_model.models.common.interface import Config, HasEmotionVectors, Model, ReadsFeatures

SIZES = {"t": "text_size", "a": "audio_size", "v": "vision_size"}  # fields of a Config


def is_two_phase(config: Config | type) -> bool:
    """True for the settings of a model that reads fixed features instead of tokens, faces and mel chunks."""
    return set(SIZES.values()) <= {field.name for field in fields(config)}


def sizes(config: Config) -> dict[str, int]:
    """The size of a row of each modality that the model reads, in the order t, a, v."""
    return {modality: getattr(config, name) for modality, name in SIZES.items() if modality in config.modalities}


class FixedInputs(nn.Module):
    """The features of a batch, standardised: each column has mean 0 and deviation 1 over the training split.

    Until `settle` is called they are not changed. Mean and deviation are buffers, saved with the weights.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        for modality, size in sizes.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(size))
            self.register_buffer(f"deviation_{modality}", torch.ones(size))

    def settle(self, stats: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
        """Set the mean and deviation of each column, by modality."""
        for modality, columns in stats.items():
            for name, values in zip(("mean", "deviation"), columns, strict=True):
                buffer = self.get_buffer(f"{name}_{modality}")
                buffer.copy_(torch.tensor(values, dtype=buffer.dtype))

    def forward(self, batch: Batch, modality: str) -> tuple[Tensor, Tensor]:
        """Rows [S, size] and their counts [B]."""
        rows, counts = batch.features[modality]
        mean, deviation = (self.get_buffer(f"{name}_{modality}") for name in ("mean", "deviation"))
        return (rows.to(mean.dtype) - mean) / deviation, counts


def settle(model: Model, features: Mapping[str, Any] | None) -> None:
    """Set what a new two-phase model takes from its features, given features.json; None for other models."""
    if features is None or not isinstance(model, ReadsFeatures):
        return
    chosen = {m: one for m, one in features["sets"].items() if m in model.config.modalities}
    model.inputs.settle({m: (one["mean"], one["deviation"]) for m, one in chosen.items()})
    if isinstance(model, HasEmotionVectors):
        model.settle_emotions(features["emotions"])


def final_states(lstm: nn.LSTM, rows: Tensor, counts: Tensor) -> Tensor:
    """Final states of the last layer of a bidirectional LSTM in both directions: packed [S, size] -> [B, 2, H].

    Each utterance ends at its own last row. An utterance without rows has states of 0.
    """
    states = rows.new_zeros(len(counts), 2, lstm.hidden_size)
    some = counts.nonzero().squeeze(1)
    if not len(some):
        return states
    padded, _ = pad(rows, counts[some])
    packed = pack_padded_sequence(padded, counts[some], batch_first=True, enforce_sorted=False)
    ends = lstm(packed)[1][0][-2:].transpose(0, 1)  # [b, 2, H]
    return states.to(ends.dtype).index_copy(0, some.to(rows.device), ends)


def lstm_macs(rows: int, size: int, hidden: int, layers: int = 1) -> int:
    """Multiply-adds of a bidirectional LSTM over this number of rows: per state four gates, of input and states."""
    return rows * 2 * 4 * hidden * (size + hidden + (layers - 1) * (2 * hidden + hidden))
