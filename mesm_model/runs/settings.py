"""The settings of a run: the paper's numbers, over them what the dataset and the model suggest, over that the user."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model import models
from mesm_model.features.store import as_model_input, sizes_for
from mesm_model.models.common import text
from mesm_model.models.common.two_phase import SIZES

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
FROM_DATA = {"emotions", *SIZES.values()}  # settings that follow from the dataset and cannot be chosen


@dataclass(frozen=True)
class Settings:
    """How a model is trained. The defaults are the numbers of the published command."""

    epochs: int = 40
    patience: int = 6  # epochs without a better mean F1 on valid, then training stops
    batch: int = 8  # utterances, at most
    batch_memory_mb: float = 8000.0  # megabytes that a batch may need; loader.py says how that is estimated
    grad_accumulation: int = 1  # batches a step, over all processes together
    lr: float = 5e-5
    text_lr_scale: float = 0.1  # of the text encoder and its head, as a share of lr
    cosine: bool = False  # lr falls to 0 over all epochs, along half a cosine
    top_p_anneal: float = 0.0  # share of the epochs in which a nucleus shrinks from everything to top_p
    grad_clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    precision: str = "fp32"  # or bf16, fp16
    max_tokens: int = text.MAX_TOKENS  # of an utterance
    seed: int = 0
    deterministic: bool = False  # the same bits on a GPU too, for some speed
    compile: bool = False  # torch.compile; ragged batches gain little from it

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "patience",
            "batch",
            "batch_memory_mb",
            "grad_accumulation",
            "lr",
            "text_lr_scale",
            "max_tokens",
        ):
            models.check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        models.check(self.seed >= 0, "seed", self.seed, "0 or more")
        models.check(self.grad_clip_norm >= 0, "grad_clip_norm", self.grad_clip_norm, "0 or more")
        models.check(0 <= self.top_p_anneal < 1, "top_p_anneal", self.top_p_anneal, "0 or more and less than 1")
        models.check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class RuntimeOptions:
    """What may differ from one start of a run to the next: it changes speed, not results."""

    workers: int = 0  # processes that read ahead
    cache: Path | None = None  # of the Arrow copies
    save_every: float = 300.0  # seconds between two checkpoints within an epoch
    quiet: bool = False  # no table and no progress bar


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that can be chosen."""

    model: str
    config: Any
    settings: Settings
    suggested: dict[str, Any]  # what was taken because the dataset suggests it


def resolve_config(
    dataset: Dataset,
    model: str,
    given: Mapping[str, Any] = MappingProxyType({}),
    assignments: Iterable[str] = (),
    suggestions: bool = True,
) -> RunConfig:
    """The settings of `model` on this dataset. `given` holds values by field name, None where the user said nothing.

    `assignments` are "name=value" and count more. Without `suggestions` the dataset has no say. Raises DataError for a
    name that neither the model nor the training has.
    """
    module = models.load(model)
    config_class = module.Config
    of_model, of_training = ({field.name for field in fields(kind)} for kind in (config_class, Settings))
    said = {name: value for name, value in given.items() if value is not None}
    assigned = {assignment.partition("=")[0]: assignment for assignment in assignments}
    for assignment in assigned.values():
        if "=" not in assignment:
            raise DataError(f"setting {assignment!r}: found no =, expected NAME=VALUE, as {assignment}=64")
    _check_names(model, {**said, **assigned}, of_model - FROM_DATA | of_training)
    own = getattr(module, "SUGGESTED", {}) | said
    suggested = {
        name: value
        for name, value in (dataset.index.get("suggested", {}) if suggestions else {}).items()
        if name in of_model | of_training and name not in own and name not in assigned
    }
    values = suggested | own | sizes_for(as_model_input(dataset, model, config_class), config_class)
    config = config_class(emotions=len(dataset.emotions), **{n: v for n, v in values.items() if n in of_model})
    settings = Settings(**{n: v for n, v in values.items() if n in of_training})
    return RunConfig(
        model,
        models.apply_settings(config, [text for name, text in assigned.items() if name in of_model]),
        models.apply_settings(settings, [text for name, text in assigned.items() if name not in of_model]),
        suggested,
    )


def with_values(choice: RunConfig, **values: Any) -> RunConfig:
    """The same choice with other values, by field name."""
    in_config = {name: value for name, value in values.items() if hasattr(choice.config, name)}
    in_settings = {name: value for name, value in values.items() if name not in in_config}
    return replace(choice, config=replace(choice.config, **in_config), settings=replace(choice.settings, **in_settings))


def _check_names(model: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(
                f"setting {name!r}: neither {model} nor its training has it, expected one of {', '.join(sorted(known))}"
            )
