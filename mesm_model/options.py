"""The settings of a run: the paper's numbers, over them what the dataset and the model suggest, over that the user."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from mesm_data.errors import DataError
from mesm_data.shards import Dataset
from mesm_model import models
from mesm_model.features import sizes_for, suited
from mesm_model.fixed import SIZES
from mesm_model.train import Settings

FROM_DATA = {"emotions", *SIZES.values()}  # settings that follow from the dataset and cannot be chosen


@dataclass(frozen=True)
class Choice:
    """Everything about a run that can be chosen."""

    model: str
    config: Any
    settings: Settings
    suggested: dict[str, Any]  # what was taken because the dataset suggests it


def choose(
    dataset: Dataset,
    model: str,
    given: Mapping[str, Any] = MappingProxyType({}),
    assignments: Iterable[str] = (),
    suggestions: bool = True,
) -> Choice:
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
    values = suggested | own | sizes_for(suited(dataset, model, config_class), config_class)
    config = config_class(emotions=len(dataset.emotions), **{n: v for n, v in values.items() if n in of_model})
    settings = Settings(**{n: v for n, v in values.items() if n in of_training})
    return Choice(
        model,
        models.apply_settings(config, [text for name, text in assigned.items() if name in of_model]),
        models.apply_settings(settings, [text for name, text in assigned.items() if name not in of_model]),
        suggested,
    )


def with_values(choice: Choice, **values: Any) -> Choice:
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
