"""What training, evaluation and prediction use of a model: types that a new model fits without inheriting from them.

    @dataclass(frozen=True)
    class Config:
        emotions: int = 6
        modalities: str = "tav"

    class Model(nn.Module):
        def __init__(self, config: Config) -> None: ...
        def forward(self, batch: Batch) -> Tensor: ...                # logits [B, E]
        def macs(self, batch: Batch) -> list[MacCount]: ...

What only some models have is a protocol of its own: `isinstance(model, SelectsSites)` is true for every model with its
attributes.

B utterances, E emotions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from mesm_model.batch import Batch
from mesm_model.models.common.attention import Trace
from mesm_model.models.common.flops import MacCount


class Config(Protocol):
    """Settings of a model: a frozen dataclass of int, float, bool and str, checked in `__post_init__`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def emotions(self) -> int:
        """E; follows from the dataset."""

    @property
    def modalities(self) -> str:
        """The letters of the modalities that the model reads, of t, a and v."""


class Model(Protocol):
    """A `torch.nn.Module` from a batch to logits."""

    @property
    def config(self) -> Config: ...

    def __call__(self, batch: Batch, /) -> Tensor:
        """Logits [B, E]."""

    def macs(self, batch: Batch) -> list[MacCount]:
        """Multiply-adds of `model(batch)`, by modality and stage."""

    # ---- of torch.nn.Module

    def to(self, device: torch.device | str, /) -> Self: ...
    def train(self, mode: bool = True) -> Self: ...
    def eval(self) -> Self: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


@runtime_checkable
class SelectsSites(Protocol):
    """A sparse model; p may be changed between steps."""

    top_p: float

    def __call__(self, batch: Batch, trace: Trace | None = None, /) -> Tensor:
        """Logits [B, E]; records the selected sites in `trace`."""


@runtime_checkable
class ReadsText(Protocol):
    """A model with a text encoder; None where it is built without text."""

    @property
    def text(self) -> "TextReader | None": ...


class TextReader(Protocol):
    """The text branch of a model."""

    @property
    def description(self) -> str:
        """What the encoder is, in words."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


@runtime_checkable
class ReadsFeatures(Protocol):
    """A two-phase model, whose inputs are fixed features."""

    @property
    def inputs(self) -> "Standardised": ...


class Standardised(Protocol):
    """Features standardised by mean and deviation."""

    def settle(self, stats: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
        """Set the mean and deviation of each column, by modality."""


@runtime_checkable
class HasEmotionVectors(Protocol):
    """A model with a vector for each emotion."""

    def settle_emotions(self, vectors: Sequence[Sequence[float]] | None) -> None:
        """Set the fixed vector of each emotion, [E, T]; with None they keep their initial values."""


def encoder_description(model: Model) -> str | None:
    """The text encoder of a model in words; None for a model without text."""
    return model.text.description if isinstance(model, ReadsText) and model.text is not None else None
