"""Small JSON files that a command keeps beside its output, such as plan.json, read with a check of their shape.

`read_state` and `read_state_lines` raise a DataError of one line that names the file, the place in it, what was found
and expected, and what to do: never a traceback from deep inside, whatever happened to the file.

A shape is written as the JSON that it describes:

    str, int, float, bool    a value of this type; a float may be written without a point, an int is never true or false
    None                     null
    object                   anything
    {"name": str, "rows": int, "note?": str}    an object with these keys at least; "?" marks one that may be absent
    {str: int}               an object with any keys, all values alike
    [float]                  a list of any length, all elements alike
    [str, float]             a list of exactly these
    (str, None)              one of several shapes
"""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mesm_data.errors import DataError

SHOWN = 80  # letters of a bad value that a message shows

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", None: "null"}


def read_state(path: Path, shape: Any, mend: str, error: type[DataError] = DataError) -> Any:
    """The JSON value in `path`, which has the given shape.

    `mend` ends the message: what to delete and which command makes the file again. Raises `error` for a file that is
    missing, no regular file, not UTF-8, no JSON, or of another shape.
    """
    return parse_state(str(path), _read(path, mend, error), shape, mend, error)


def read_state_lines(path: Path, shape: Any, mend: str, error: type[DataError] = DataError) -> Iterator[Any]:
    """The JSON value of each line of a .jsonl file, every one of the given shape; errors name the line."""
    lines = _read(path, mend, error).removesuffix("\n")
    for number, line in enumerate(lines.split("\n") if lines else (), start=1):  # texts may hold U+2028: no splitlines
        yield parse_state(f"{path}:{number}", line, shape, mend, error)


def parse_state(where: str, text: str | bytes, shape: Any, mend: str, error: type[DataError] = DataError) -> Any:
    """The JSON value in a text, of the given shape; `where` begins the message of an error."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise error(f"{where}: not JSON ({wrong}); {mend}") from None
    check_shape(content, shape, where, mend, error)
    return content


def regular_file(path: Path) -> str | None:
    """What stands where a file is expected, in words; None for a regular file, or a link to one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "nothing"
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def excerpt(value: Any) -> str:
    """A value for a message: its first letters, as JSON."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def to_json(content: Any, indent: int | None = None) -> str:
    """JSON with letters as they are; with escapes only where a file name is not UTF-8, so that it can be written."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent)
    return text


def _read(path: Path, mend: str, error: type[DataError]) -> str:
    if found := regular_file(path):
        raise error(f"{path}: found {found}, expected a file; {mend}")
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as wrong:
        raise error(f"{path}: not UTF-8 ({wrong}); {mend}") from None


def check_shape(value: Any, shape: Any, where: str, mend: str, error: type[DataError] = DataError) -> None:
    """Raises `error` unless a value that was read already has the given shape; `where` begins the message."""
    if problem := _problem(value, shape, ""):
        raise error(f"{where}: {problem}; {mend}")


def _problem(value: Any, shape: Any, place: str) -> str | None:
    """The first place at which a value has not the shape, in words."""
    if shape is object:
        return None
    if isinstance(shape, tuple):
        found = [_problem(value, one, place) for one in shape]
        nested = [p for p, one in zip(found, shape, strict=True) if isinstance(one, type(value)) and p]
        return None if None in found else (nested or [_unlike(value, shape, place)])[0]
    if isinstance(shape, dict) and isinstance(value, dict):
        return _object_problem(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list):
        return _list_problem(value, shape, place)
    return None if _is_plain(value, shape) else _unlike(value, shape, place)


def _list_problem(value: list[Any], shape: list[Any], place: str) -> str | None:
    shapes = shape * len(value) if len(shape) == 1 else shape
    if len(shapes) != len(value):
        return f"{place or 'it'}: found {len(value)} elements, expected {len(shapes)}"
    problems = (_problem(one, its, f"{place}[{n}]") for n, (one, its) in enumerate(zip(value, shapes, strict=True)))
    return next((problem for problem in problems if problem), None)


def _object_problem(value: dict[str, Any], shape: dict[Any, Any], place: str) -> str | None:
    dot = f"{place}." if place else ""
    if str in shape:
        problems = (_problem(one, shape[str], f"{dot}{key}") for key, one in value.items())
        return next((problem for problem in problems if problem), None)
    lacking = [key for key in shape if not key.endswith("?") and key not in value]
    if lacking:
        return f"{place or 'it'} lacks {', '.join(lacking)}"
    present = ((key.removesuffix("?"), one) for key, one in shape.items())
    problems = (_problem(value[key], one, f"{dot}{key}") for key, one in present if key in value)
    return next((problem for problem in problems if problem), None)


def _is_plain(value: Any, shape: Any) -> bool:
    if shape is None:
        return value is None
    if shape in (int, float):
        return isinstance(value, int if shape is int else (int, float)) and not isinstance(value, bool)
    return isinstance(shape, type) and isinstance(value, shape)


def _unlike(value: Any, shape: Any, place: str) -> str:
    return f"{f'{place}: ' if place else ''}found {excerpt(value)}, expected {_words(shape)}"


def _words(shape: Any) -> str:
    if isinstance(shape, tuple):
        return " or ".join(_words(one) for one in shape)
    if isinstance(shape, dict):
        return "an object"
    return "a list" if isinstance(shape, list) else _NAMES[shape]
