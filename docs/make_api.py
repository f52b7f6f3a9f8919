"""Write docs/api.md, the reference of the public names, from their docstrings: `python docs/make_api.py`.

A test holds the page equal to what this writes.
"""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

PACKAGES = ("mesm_data", "mesm_model")
INTRODUCTION = """# Python API

Everything below is imported from `mesm_data` or `mesm_model` directly. Paths are `str` or `pathlib.Path`. Errors that a
user can fix are `mesm_data.errors.DataError` and its subclasses; their message is one line.

This page is made from the docstrings by `python docs/make_api.py`.
"""


def main() -> None:
    Path(__file__).with_name("api.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown."""
    sections = [INTRODUCTION]
    for name in PACKAGES:
        package = importlib.import_module(name)
        sections.append(f"## {name}\n")
        sections += [entry(f"{name}.{public}", getattr(package, public)) for public in sorted(package.__all__)]
    return "\n".join(sections)


def entry(name: str, thing: Any) -> str:
    """Heading, signature, docstring and, of a class, its fields and public methods."""
    lines = [f"### {name}\n", f"```python\n{signature(name, thing)}\n```\n", text_of(thing)]
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            lines += [
                f"- `{field.name}: {annotation(field.type)}`{comment(thing, field.name)}"
                for field in dataclasses.fields(thing)
            ]
            lines.append("")
        for member, value in methods(thing):
            lines.append(f"#### {name.split('.')[-1]}.{member}\n\n```python\n{signature(member, value)}\n```\n")
            lines.append(text_of(value))
    return "\n".join(lines)


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines and documents."""
    for name, value in vars(kind).items():
        is_method = inspect.isfunction(value) or isinstance(
            value, classmethod | staticmethod | property | cached_property
        )
        if is_method and not name.startswith("_") and inspect.getdoc(value):
            yield name, value


def signature(name: str, thing: Any) -> str:
    if isinstance(thing, property | cached_property):
        getter = thing.fget if isinstance(thing, property) else thing.func
        return f"{name} -> {annotation(inspect.signature(getter).return_annotation)}"
    function = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
    shown = re.sub(
        r"\bpathlib\._local\.|\bpathlib\.|\bcollections\.abc\.|\btyping\.", "", str(inspect.signature(function))
    )
    shown = re.sub(r"\bmesm_(?:data|model)(?:\.\w+)*\.(\w+)", r"\1", shown).replace("'", "")
    return f"{name}{shown.replace('(self, ', '(').replace('(self)', '()')}"


def annotation(kind: Any) -> str:
    name = (
        kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind)) if inspect.isclass(kind) else str(kind)
    )
    return re.sub(r"\b(?:pathlib|collections\.abc|typing|mesm_data|mesm_model)(?:\.[a-z_]+)*\.", "", name)


def comment(kind: type, field: str) -> str:
    """What the comment beside a field says."""
    found = re.search(rf"^    {field}: [^#\n]*#\s*(.+)$", inspect.getsource(kind), re.MULTILINE)
    return f": {found[1]}" if found else ""


def text_of(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return text + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
