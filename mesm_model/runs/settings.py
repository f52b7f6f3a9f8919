"""The settings of a run: the paper's numbers, then what the dataset and the model suggest, then what the user gives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from mesm_data.dataset.reader import Dataset
from mesm_model import models
from mesm_model.features.store import as_model_input, sizes_for
from mesm_model.models import check
from mesm_model.runs.declared import check_assignments, check_values

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
LR_SCHEDULES = ("constant", "cosine", "plateau")


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained. The defaults are the numbers of the published command."""

    epochs: int = 40  # at most
    patience: int = 6  # epochs without a better mean F1 on valid before training stops
    batch: int = 8  # utterances, at most
    batch_memory_mb: float = 8000.0  # at most; loader.py says how a batch's memory is estimated
    grad_accumulation: int = 1  # batches per step, over all processes
    lr: float = 5e-5
    text_lr_scale: float = 0.1  # learning rate of the text encoder and its head, as a share of lr
    lr_schedule: str = (
        "constant"  # or cosine: from lr to 0 over all epochs; plateau: a tenth when valid stops improving
    )
    plateau_patience: int = 10  # epochs without a lower loss on valid before lr_schedule=plateau reduces lr
    top_p_anneal: float = 0.5  # sparse models: share of the epochs in which the nucleus shrinks from p = 1 to top_p
    grad_clip_norm: float = 0.0  # largest norm of the gradient; 0: no limit
    precision: str = "fp32"  # or bf16, fp16
    max_tokens: int = 100  # per utterance; longer texts are cut
    seed: int = 0  # for initialisation, shuffling and dropout
    deterministic: bool = False  # bit-identical results on a GPU too, slower
    compile: bool = False  # torch.compile; ragged batches gain little from it

    def __post_init__(self) -> None:
        above_zero = ("epochs", "patience", "batch", "batch_memory_mb", "grad_accumulation", "lr", "text_lr_scale")
        for name in (*above_zero, "max_tokens"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        check(self.plateau_patience >= 0, "plateau_patience", self.plateau_patience, "0 or more")
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        check(self.grad_clip_norm >= 0, "grad_clip_norm", self.grad_clip_norm, "0 or more")
        check(0 <= self.top_p_anneal < 1, "top_p_anneal", self.top_p_anneal, "0 or more and less than 1")
        check(self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        check(self.lr_schedule in LR_SCHEDULES, "lr_schedule", self.lr_schedule, f"one of {', '.join(LR_SCHEDULES)}")


@dataclass(frozen=True)
class RuntimeOptions:
    """What may change between two starts of the same run: it affects speed, not results."""

    workers: int = 0  # DataLoader processes
    cache: Path | None = None  # folder of the Arrow copies; `.cache` in the dataset by default
    save_every: float = 300.0  # seconds between two checkpoints within an epoch
    quiet: bool = False  # no table and no progress bar


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that can be chosen."""

    model: str
    config: Any  # the model's Config
    settings: TrainSettings = field(default_factory=TrainSettings)
    suggested: Mapping[str, Any] = field(default_factory=dict)  # values taken because the dataset suggests them


def resolve_config(
    dataset: Dataset,
    model: str,
    given: Mapping[str, Any] = MappingProxyType({}),
    assignments: Iterable[str] = (),
    suggestions: bool = True,
    preset: str | None = None,
) -> RunConfig:
    """The settings of `model` on this dataset.

    From the weakest to the strongest: the defaults, what the dataset suggests, what the model suggests, the `preset` (a
    name of `models.PRESETS`), `given` (values by field name, None where there is none), `assignments` ("name=value").
    Without `suggestions` the dataset's are ignored. Raises SettingError for a name that neither the model nor its
    training has, and for a value that cannot be.
    """
    given = check_values(model, given)
    assigned = check_assignments(model, assignments)
    module = models.load(model)
    config_class = module.Config
    of_model, of_training = ({one.name for one in fields(kind)} for kind in (config_class, TrainSettings))
    published = models.preset(model, preset, dataset.corpus) if preset else {}
    own = getattr(module, "SUGGESTED", {}) | published | given
    suggested = {
        name: value
        for name, value in (dataset.index.get("suggested", {}) if suggestions else {}).items()
        if name in of_model | of_training and name not in own and name not in assigned
    }
    sizes = sizes_for(as_model_input(dataset, model, config_class), config_class)
    values = suggested | own | sizes | assigned | {"emotions": len(dataset.emotions)}
    config = config_class(**{name: value for name, value in values.items() if name in of_model})
    settings = TrainSettings(**{name: value for name, value in values.items() if name in of_training})
    return RunConfig(model, config, settings, suggested)


def with_values(run: RunConfig, **values: Any) -> RunConfig:
    """The same run with other values, by field name of its config or its training settings."""
    of_model = {one.name for one in fields(run.config)}
    in_config = {name: value for name, value in values.items() if name in of_model}
    in_settings = {name: value for name, value in values.items() if name not in in_config}
    return replace(run, config=replace(run.config, **in_config), settings=replace(run.settings, **in_settings))
