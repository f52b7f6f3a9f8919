"""The models: `names()`, `load(name)`, their settings and presets.

A model is a file in this folder with `Config`, a frozen dataclass, and `Model(config)`, whose `forward(batch)` returns
logits [B, E]; common/interface.py has the types. Nothing is registered; a new file is a new model. It may also declare
SUGGESTED (training settings), SPACE (what `mesm tune` searches) and PRESETS.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from mesm_data.errors import DataError


class SettingError(DataError):
    """A model or setting that does not exist, or a value that cannot be."""


MODALITIES = {"t": "text", "a": "audio", "v": "vision"}
PRESETS = ("published",)  # what `preset` knows


def names() -> list[str]:
    """The names of all models, sorted; the file lf_lstm.py is the model lf-lstm."""
    return sorted(found.name.replace("_", "-") for found in pkgutil.iter_modules(__path__) if not found.ispkg)


def load(name: str) -> ModuleType:
    """The module of a model, with its `Config` and `Model`. Raises SettingError for an unknown name."""
    return importlib.import_module(f"{__name__}.{path(name).stem}")


def path(name: str) -> Path:
    """The source file of a model. Raises SettingError for an unknown name."""
    if name not in names():
        raise SettingError(f"model {name!r}: expected one of {', '.join(names())}")
    return Path(__file__).with_name(f"{name.replace('-', '_')}.py")


def preset(model: str, name: str, corpus: str) -> dict[str, Any]:
    """The values of a preset by field name, of the model's Config and of its training.

    A preset has values for any corpus, and may have others for one. Raises SettingError for an unknown model or preset.
    """
    if name not in PRESETS:
        raise SettingError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    by_corpus: dict[str, dict[str, Any]] = getattr(load(model), "PRESETS", {}).get(name, {})
    if not by_corpus:
        raise SettingError(f"preset {name!r}: {model} has none")
    return by_corpus["any"] | by_corpus.get(corpus, {})


def check_modalities(modalities: str) -> None:
    """Raises SettingError unless these are different letters of t, a and v, at least one."""
    known = ", ".join(f"{letter} ({name})" for letter, name in MODALITIES.items())
    right = 0 < len(modalities) == len(set(modalities)) and set(modalities) <= set(MODALITIES)
    check(right, "modalities", modalities, f"one or more of {known}, each once")


def check(holds: bool, name: str, found: object, expected: str) -> None:
    """Raises SettingError for a value that cannot be, unless `holds`."""
    if not holds:
        raise SettingError(f"setting {name}: found {found!r}, expected {expected}")
