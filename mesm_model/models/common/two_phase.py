"""What the two-phase models share: standardised inputs, and what a recurrent layer knows at the end of an utterance.

B utterances, S rows (words, steps of sound, frames) of the whole batch, H states of one direction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mesm_model.batch import Batch, pad

SIZES = {"t": "text_size", "a": "audio_size", "v": "vision_size"}  # the fields of a Config that say a row's length


def is_two_phase(config: Any) -> bool:
    """True for the settings of a model that takes fixed features instead of tokens, faces and mel chunks."""
    return all(hasattr(config, name) for name in SIZES.values())


def sizes(config: Any) -> dict[str, int]:
    """The length of a row of each modality that the model takes, in the order t, a, v."""
    return {modality: getattr(config, name) for modality, name in SIZES.items() if modality in config.modalities}


class FixedInputs(nn.Module):
    """The features of a batch, each column with mean 0 and deviation 1 over the training part.

    Until `settle` is called they stay as they are. The figures are buffers: they travel with the weights.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        for modality, size in sizes.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(size))
            self.register_buffer(f"deviation_{modality}", torch.ones(size))

    def settle(self, figures: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
        """Take mean and deviation of each column from the training part's `figures`, by modality."""
        for modality, columns in figures.items():
            for name, values in zip(("mean", "deviation"), columns, strict=True):
                buffer = self.get_buffer(f"{name}_{modality}")
                buffer.copy_(torch.tensor(values, dtype=buffer.dtype))

    def forward(self, batch: Batch, modality: str) -> tuple[Tensor, Tensor]:
        """Rows [S, size] and their counts [B]."""
        rows, counts = batch.features[modality]
        mean, deviation = (self.get_buffer(f"{name}_{modality}") for name in ("mean", "deviation"))
        return (rows.to(mean.dtype) - mean) / deviation, counts


def settle(model: Any, features: Mapping[str, Any] | None) -> None:
    """Give a new two-phase model what it takes from its features, as features.json tells them; None for others."""
    if features is None:
        return
    chosen = {m: one for m, one in features["sets"].items() if m in model.config.modalities}
    model.inputs.settle({m: (one["mean"], one["deviation"]) for m, one in chosen.items()})
    if hasattr(model, "settle_emotions"):
        model.settle_emotions(features["emotions"])


def final_states(lstm: nn.LSTM, rows: Tensor, counts: Tensor) -> Tensor:
    """What the last layer of a bidirectional LSTM ends with in both directions: packed [S, size] -> [B, 2, H].

    Each utterance ends where its own rows do. An utterance without rows has states of 0.
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
    """Multiply-adds of a bidirectional LSTM over so many rows: four gates a state, each of input and states."""
    return rows * 2 * 4 * hidden * (size + hidden + (layers - 1) * (2 * hidden + hidden))
