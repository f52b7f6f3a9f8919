"""Raters' votes in words, and their agreement: Krippendorff's alpha of everything they were asked about."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np

from mesm_data.utterance import Vote

Level = Literal["nominal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """Alpha of one name: 1 is perfect, 0 is chance, below 0 is worse than chance."""

    name: str
    level: Level  # "nominal" for what a rater names or not, "interval" for what a rater gives a number to
    alpha: float
    utterances: int  # with two raters or more


def agreement(votes: Sequence[Sequence[Vote]], self_reports: Sequence[str] = ()) -> list[Agreement]:
    """Alpha of every name in the votes of many utterances, best first.

    `self_reports` are beginnings of the names of raters who rated themselves: how somebody feels is no judgement of
    what is seen and heard, so they do not count. Whoever names something in an utterance has rejected the other names.
    A name without two raters of one utterance, or on which nobody ever differs, has no alpha.
    """
    judged = [[vote for vote in given if not vote.rater.startswith(tuple(self_reports))] for given in votes]
    named = only_named(judged)
    units: dict[str, list[Counter[float]]] = {}
    for given in judged:
        for name, unit in _units(given, named).items():
            units.setdefault(name, []).append(unit)
    found = [_alpha(name, "nominal" if name in named else "interval", units[name]) for name in units]
    return sorted((one for one in found if one), key=lambda one: (one.level, -one.alpha, one.name))


def only_named(votes: Iterable[Sequence[Vote]]) -> set[str]:
    """The names in the votes of many utterances that always have the value 1: raters name them or leave them out."""
    values: dict[str, set[float]] = {}
    for vote in (vote for given in votes for vote in given):
        values.setdefault(vote.name, set()).add(vote.value)
    return {name for name, given in values.items() if given == {1.0}}


def by_rater(votes: Sequence[Vote], named: set[str]) -> list[tuple[str, str]]:
    """Each rater's votes on an utterance: ("C-E1", "Anger"), ("A-E3", "valence 2, dominance 4"), ("W0", "fear 1")."""
    raters: dict[str, list[str]] = {}
    for vote in votes:
        voted = raters.setdefault(vote.rater, [])
        if vote.value:
            voted.append(vote.name if vote.name in named else f"{vote.name} {vote.value:.3g}")
    return [(rater, ", ".join(voted) or "nothing") for rater, voted in sorted(raters.items())]


def _units(given: Iterable[Vote], named: set[str]) -> Mapping[str, Counter[float]]:
    """For one utterance: name -> the number of raters per value. All the names that may be named are in it."""
    marks: dict[str, set[str]] = {}  # rater -> what they named
    units: dict[str, Counter[float]] = {}
    for vote in given:
        if vote.name in named:
            marks.setdefault(vote.rater, set()).add(vote.name)
        else:
            units.setdefault(vote.name, Counter())[vote.value] += 1
    if marks:
        units |= {name: Counter(float(name in marked) for marked in marks.values()) for name in named}
    return units


def _alpha(name: str, level: Level, units: Sequence[Counter[float]]) -> Agreement | None:
    shared = [unit for unit in units if unit.total() > 1]
    domain = sorted({value for unit in shared for value in unit})
    if len(domain) < 2:
        return None
    counts = np.array([[unit[value] for value in domain] for unit in shared])
    alpha = krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)
    return Agreement(name, level, float(alpha), len(shared))
