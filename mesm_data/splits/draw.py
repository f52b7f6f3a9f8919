"""Drawing parts at random: by utterance, by dialogue or video, by session. Each returns part -> sorted ids.

What is drawn depends on ids, labels, groups and seed alone, not on the order of the utterances or the machine.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mesm_data.errors import SplitError
from mesm_data.splits.expected import PARTS
from mesm_data.utterance import Utterance

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}  # the paper's, section 4.1
VALID_SHARE = 0.1  # of the dialogues that are not in the test session
UNIT = 1_000_000  # a whole in integer arithmetic: sums are exact, so every machine draws the same


def by_utterance(utterances: Sequence[Utterance], seed: int) -> dict[str, tuple[str, ...]]:
    """70/10/20 of the utterances, each by itself; no part is empty. Raises SplitError for fewer than three."""
    if len(utterances) < len(PARTS):
        raise SplitError(
            f"{len(utterances)} utterances cannot fill the parts {', '.join(PARTS)}; expected three or more"
        )
    ids = _drawn((utterance.id for utterance in utterances), seed)
    valid = max(1, round(SHARES["valid"] * len(ids)))
    test = max(1, round(SHARES["test"] * len(ids)))
    train = len(ids) - valid - test
    return _sorted_parts({"train": ids[:train], "valid": ids[train : train + valid], "test": ids[train + valid :]})


def by_group(
    utterances: Sequence[Utterance], seed: int, shares: Mapping[str, float] = SHARES
) -> dict[str, tuple[str, ...]]:
    """`shares` of utterances and of each emotion, as nearly as whole groups allow. Raises SplitError for too few."""
    together: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        together[utterance.group].append(utterance)
    if len(together) < len(shares):
        raise SplitError(
            f"{len(together)} dialogues or videos cannot fill the parts {', '.join(shares)} without tearing one apart; "
            f"expected {len(shares)} or more, or take --split random"
        )
    groups = _drawn(together, seed)
    counts = [np.sum([(1, *utterance.labels) for utterance in together[group]], axis=0) for group in groups]
    names = list(shares)
    ids: dict[str, list[str]] = {part: [] for part in names}
    for group, part in zip(groups, _balanced(np.array(counts), list(shares.values())), strict=True):
        ids[names[part]] += [utterance.id for utterance in together[group]]
    return _sorted_parts(ids)


def by_session(utterances: Sequence[Utterance], session: int, seed: int) -> dict[str, tuple[str, ...]]:
    """One session of IEMOCAP is test, a tenth of the other dialogues valid. Raises SplitError for one not here."""
    prefix = f"Ses{session:02d}"
    test = [utterance for utterance in utterances if utterance.group.startswith(prefix)]
    if not test:
        sessions = sorted({utterance.group[:5] for utterance in utterances if utterance.group.startswith("Ses")})
        raise SplitError(f"no dialogue {prefix}..., sessions found: {', '.join(sessions) or 'none'}")
    rest = [utterance for utterance in utterances if not utterance.group.startswith(prefix)]
    drawn = by_group(rest, seed, {"train": 1 - VALID_SHARE, "valid": VALID_SHARE})
    return drawn | {"test": tuple(sorted(utterance.id for utterance in test))}


def _balanced(counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """A part for each group, so that every column of `counts` [groups, 1 + emotions] is cut as `shares` say.

    Each group in turn goes where it brings the squared differences from the shares down most; no part is left empty.
    """
    weights = np.rint(counts * UNIT / np.maximum(counts.sum(axis=0), 1)).astype(np.int64)
    missing = np.rint(np.outer(shares, np.full(weights.shape[1], UNIT))).astype(np.int64)  # [parts, 1 + emotions]
    part_of = np.zeros(len(weights), np.int64)
    empty = set(range(len(shares)))
    for index, weight in enumerate(weights):
        change = ((weight - 2 * missing) * weight).sum(axis=1)  # of the sum of squares, for each part
        allowed = empty if len(weights) - index <= len(empty) else range(len(shares))
        part_of[index] = min(allowed, key=lambda part, change=change: (change[part], part))
        missing[part_of[index]] -= weight
        empty.discard(int(part_of[index]))
    return _swapped(weights, missing, part_of)


def _swapped(weights: np.ndarray, missing: np.ndarray, part_of: np.ndarray) -> np.ndarray:
    """After every swap of two groups that brings the differences down further: five times nearer the shares."""
    swapped = True
    while swapped:  # ends: the sum of squares is a whole number and falls with every swap
        swapped = False
        for one in range(len(weights)):
            gain = weights[one] - weights  # [groups, 1 + emotions], what the part of `one` gets to fill again
            change = (gain * (gain + missing[part_of[one]] - missing[part_of])).sum(axis=1)
            other = int(change.argmin())
            if change[other] < 0:
                missing[part_of[one]] += gain[other]
                missing[part_of[other]] -= gain[other]
                part_of[[one, other]] = part_of[[other, one]]
                swapped = True
    return part_of


def _drawn(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order that depends on the seed and each name alone."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def _sorted_parts(ids: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {part: tuple(sorted(names)) for part, names in ids.items()}
