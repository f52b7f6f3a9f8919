"""Search spaces of `mesm tune`. The file of a model declares its `SPACE`: setting -> `Between` or `OneOf`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these values."""

    values: tuple[float | bool | str, ...]

    def __init__(self, *values: float | bool | str) -> None:
        object.__setattr__(self, "values", values)
