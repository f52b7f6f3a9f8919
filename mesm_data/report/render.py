"""Templates filled in: one Jinja environment for the pages and cards of both packages."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def render(
    template: str, filters: Mapping[str, Callable[..., Any]] | None = None, package: str = "", **values: Any
) -> str:
    """The text of a template of this folder, or of another package; HTML is escaped, Markdown is not.

    Names of folders that are not UTF-8 come with a question mark for each byte that is wrong.
    """
    packages = [*([package] if package else []), "mesm_data.report"]  # the style sheet is here
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in packages]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    environment.filters["counted"] = counted
    return environment.get_template(template).render(**values).encode(errors="replace").decode()


def counted(number: int, one: str, many: str = "") -> str:
    """`1 speaker`, `2 speakers`, `0 boxes`: a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
