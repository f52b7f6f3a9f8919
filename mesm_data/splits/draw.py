"""Drawing splits at random: by utterance, by dialogue or video, by session. Each returns split -> sorted ids.

The result depends on ids, labels, groups and seed alone, not on the order of the utterances or the machine.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mesm_data.errors import SplitError
from mesm_data.splits.expected import SPLITS
from mesm_data.utterance import Utterance

SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}  # the paper's, section 4.1
VALID_SHARE = 0.1  # of the dialogues that are not in the test session
UNIT = 1_000_000  # 1 in integer arithmetic: sums are exact, so every machine draws the same


def by_utterance(utterances: Sequence[Utterance], seed: int) -> dict[str, tuple[str, ...]]:
    """70/10/20 of the utterances, drawn one by one; no split is empty. Raises SplitError for fewer than three."""
    if len(utterances) < len(SPLITS):
        raise SplitError(
            f"{len(utterances)} utterances cannot fill the splits {', '.join(SPLITS)}; expected three or more"
        )
    ids = _drawn((utterance.id for utterance in utterances), seed)
    valid = max(1, round(SHARES["valid"] * len(ids)))
    test = max(1, round(SHARES["test"] * len(ids)))
    train = len(ids) - valid - test
    return _sorted_splits({"train": ids[:train], "valid": ids[train : train + valid], "test": ids[train + valid :]})


def by_group(
    utterances: Sequence[Utterance], seed: int, shares: Mapping[str, float] = SHARES
) -> dict[str, tuple[str, ...]]:
    """`shares` of utterances and of each emotion, as nearly as whole groups allow. Raises SplitError for too few."""
    together: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        together[utterance.group].append(utterance)
    if len(together) < len(shares):
        raise SplitError(
            f"{len(together)} dialogues or videos cannot fill the splits {', '.join(shares)} without dividing one; "
            f"expected {len(shares)} or more, or use --split random"
        )
    groups = _drawn(together, seed)
    counts = [np.sum([(1, *utterance.labels) for utterance in together[group]], axis=0) for group in groups]
    names = list(shares)
    ids: dict[str, list[str]] = {split: [] for split in names}
    for group, split in zip(groups, _balanced(np.array(counts), list(shares.values())), strict=True):
        ids[names[split]] += [utterance.id for utterance in together[group]]
    return _sorted_splits(ids)


def by_session(
    utterances: Sequence[Utterance], session: int, session_of: Callable[[str], int | None], seed: int
) -> dict[str, tuple[str, ...]]:
    """One session is test, a tenth of the other dialogues valid; `session_of` a group is the corpus's own.

    Raises SplitError for a session that is not here, and where there is no other.
    """
    sessions = {utterance.group: session_of(utterance.group) for utterance in utterances}
    test = [utterance for utterance in utterances if sessions[utterance.group] == session]
    if not test:
        found = ", ".join(f"session:{number}" for number in sorted({n for n in sessions.values() if n is not None}))
        raise SplitError(f"session:{session} has no dialogue here; found {found or 'no sessions; use --split grouped'}")
    rest = [utterance for utterance in utterances if sessions[utterance.group] != session]
    drawn = by_group(rest, seed, {"train": 1 - VALID_SHARE, "valid": VALID_SHARE})
    return drawn | {"test": tuple(sorted(utterance.id for utterance in test))}


def _balanced(counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The split of each group, so that every column of `counts` [groups, 1 + emotions] is divided by `shares`.

    Greedy: each group in turn goes where the sum of squared differences falls most. No split is left empty.
    """
    weights = np.rint(counts * UNIT / np.maximum(counts.sum(axis=0), 1)).astype(np.int64)
    missing = np.rint(np.outer(shares, np.full(weights.shape[1], UNIT))).astype(np.int64)  # [splits, 1 + emotions]
    split_of = np.zeros(len(weights), np.int64)
    empty = set(range(len(shares)))
    for index, weight in enumerate(weights):
        change = ((weight - 2 * missing) * weight).sum(axis=1)  # of the sum of squares, for each split
        allowed = empty if len(weights) - index <= len(empty) else range(len(shares))
        split_of[index] = min(allowed, key=lambda split, change=change: (change[split], split))
        missing[split_of[index]] -= weight
        empty.discard(int(split_of[index]))
    return _swapped(weights, missing, split_of)


def _swapped(weights: np.ndarray, missing: np.ndarray, split_of: np.ndarray) -> np.ndarray:
    """Swap pairs of groups while that lowers the differences: ends five times nearer the shares."""
    swapped = True
    while swapped:  # ends: the sum of squares is a whole number and falls with every swap
        swapped = False
        for one in range(len(weights)):
            gain = weights[one] - weights  # [groups, 1 + emotions], what the split of `one` has to fill again
            change = (gain * (gain + missing[split_of[one]] - missing[split_of])).sum(axis=1)
            other = int(change.argmin())
            if change[other] < 0:
                missing[split_of[one]] += gain[other]
                missing[split_of[other]] -= gain[other]
                split_of[[one, other]] = split_of[[other, one]]
                swapped = True
    return split_of


def _drawn(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order that depends only on the seed and the names."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def _sorted_splits(ids: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {split: tuple(sorted(names)) for split, names in ids.items()}
