"""What `mesm tune` may choose from. Each model's file declares its `SPACE`: setting -> `Between` or `OneOf`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """Any number from `low` to `high`; `log`: as likely between 1 and 2 as between 2 and 4."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these values."""

    values: tuple[float | bool | str, ...]

    def __init__(self, *values: float | bool | str) -> None:
        object.__setattr__(self, "values", values)
