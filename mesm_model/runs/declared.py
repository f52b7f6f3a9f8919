"""The settings that models and training declare, read from their source without importing torch.

That is what lets `mesm train --set widht=3` and `mesm models` answer at once: importing a model takes seconds.
"""

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mesm_model import models
from mesm_model.models import SettingError

# Settings that follow from the dataset and its features and cannot be chosen.
FROM_DATA = frozenset({"emotions", "text_size", "audio_size", "vision_size"})
KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_FLAGS = {"true": True, "false": False}


class Setting(NamedTuple):
    """One field of a settings dataclass."""

    name: str
    kind: type  # int, float, bool or str
    default: Any


def model_settings(model: str) -> dict[str, Setting]:
    """What can be set about a model, by name. Raises DataError for a name that is no model."""
    return {name: one for name, one in _fields(models.path(model), "Config").items() if name not in FROM_DATA}


def train_settings() -> dict[str, Setting]:
    """What can be set about training, by name."""
    return _fields(Path(__file__).with_name("settings.py"), "TrainSettings")


def takes_features(model: str) -> bool:
    """True for a two-phase model, which reads fixed features instead of text, audio and faces."""
    return "text_size" in _fields(models.path(model), "Config")


def summary(model: str) -> str:
    """The first line of a model's docstring."""
    return (ast.get_docstring(_parsed(models.path(model))) or "").partition("\n")[0]


def check_names(model: str, names: Iterable[str]) -> None:
    """Raises SettingError for a name that neither the model nor its training has."""
    known = sorted({**model_settings(model), **train_settings()})
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise SettingError(
                f"setting {name!r}: neither {model} nor its training has it; {hint}expected one of {', '.join(known)}"
            )


def check_values(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by field name, without those that are None; whole numbers for numbers, texts for paths.

    Raises SettingError for a wrong name or type.
    """
    known: Mapping[str, Setting] = {**train_settings(), **model_settings(model)}
    check_names(model, values := {name: value for name, value in values.items() if value is not None})
    checked = {}
    for name, value in values.items():
        kind = known[name].kind
        value = str(value) if isinstance(value, Path) else value
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise SettingError(f"setting {name}: found {value!r}, expected {_EXPECTED[kind]}")
        checked[name] = value
    return checked


def check_assignments(model: str, assignments: Iterable[str]) -> dict[str, Any]:
    """The values of "name=value" texts, by name; the last one counts. Raises SettingError for a wrong name or type."""
    known: Mapping[str, Setting] = {**train_settings(), **model_settings(model)}
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"setting {assignment!r}: found no =, expected NAME=VALUE, as {assignment}=64")
        check_names(model, [name])
        values[name] = _value(assignment, text, known[name].kind)
    return values


def _value(assignment: str, text: str, kind: type) -> Any:
    try:
        return _FLAGS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise SettingError(f"setting {assignment!r}: found {text!r}, expected {_EXPECTED[kind]}") from None


def _fields(path: Path, class_name: str) -> dict[str, Setting]:
    """The annotated fields of a class, in order."""
    body = next(node.body for node in _parsed(path).body if isinstance(node, ast.ClassDef) and node.name == class_name)
    return {
        node.target.id: Setting(node.target.id, KINDS.get(ast.unparse(node.annotation), str), _default(node.value))
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _default(node: ast.expr | None) -> Any:
    """The default as a value; as it is written where it is no literal."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
