"""IEMOCAP in full size, text only: as many dialogues, turns, labels and words as the release, none of them its own.

    <out>/Session1/dialog/{EmoEvaluation,transcriptions}/Ses01F_impro01.txt     151 dialogues, 10,039 voted turns
    <out>/lists/{train,valid,test}.txt                        ids, with Table 1's counts of each emotion
    <out>/expected.json                                       the manifest, with these lists' digests

Everything that Table 1 of the paper prints follows from this tree: counts by split and emotion, average words and
seconds. So `verify-splits` can be shown to pass, and to fail when a single label or id is moved, without the release.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mesm_data.corpora.iemocap import EMOTIONS, VOTED
from mesm_data.splits.expected import SPLITS, Expected, ids_digest, read_expected
from mesm_data.synth import dialogues as plans
from mesm_data.synth.chance import chance
from mesm_data.synth.dialogues import Turn
from mesm_data.synth.script import say_exactly
from mesm_data.synth.tree import new_tree

# Turns of the release whose vote is not one of the paper's six emotions: 2,659 of 10,039.
OTHERS = {"xxx": 2507, "sur": 107, "fea": 40, "oth": 3, "dis": 2}
SHORTEST, LONGEST = 0.585, 34.14  # seconds, of the turns with one of the six emotions
_TICKS = 10_000  # a second: times have four decimals
_USUAL = (4.0, 11)  # average seconds and words of the others

Draft = tuple[str, int, int]  # code, ticks that it lasts, words


def write_iemocap_text(out: Path, seed: int = 0) -> None:
    """Write the tree, the lists and the manifest. The same seed gives the same bytes."""
    new_tree(out)
    expected = read_expected("iemocap")
    turns_left = iter(_shuffled(_drafts(expected, seed), chance(seed, "order")))
    voted: list[Turn] = []
    sizes = _dialogue_sizes(sum(expected.utterances.values()) + sum(OTHERS.values()), chance(seed, "sizes"))
    for place, (name, size) in enumerate(sizes.items()):
        turns = _stage(name, [next(turns_left) for _ in range(size)], seed)
        folder = out / f"Session{name[4]}" / "dialog"
        plans.write_evaluation(folder / "EmoEvaluation" / f"{name}.txt", turns, chance(seed, "raters", name))
        plans.write_transcript(folder / "transcriptions" / f"{name}.txt", turns, "\r\n" if place % 2 else "\n")
        plans.write_mac_file(folder / "EmoEvaluation" / f"{name}.txt")
        voted += [turn for turn in turns if turn.kept]
    _write_lists(out, _deal(voted, expected, seed), expected)


def _write_lists(out: Path, lists: dict[str, list[str]], expected: Expected) -> None:
    """The id lists, and the manifest that knows their digests."""
    (out / "lists").mkdir(exist_ok=True)
    for split, ids in lists.items():
        (out / "lists" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
    manifest = replace(
        expected,
        source=f"synthetic, after {expected.source}",
        digests={split: ids_digest(ids) for split, ids in lists.items()},
        lists_url="",
        lists_files={split: f"lists/{split}.txt" for split in SPLITS},
    )
    (out / "expected.json").write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def _drafts(expected: Expected, seed: int) -> Iterator[Draft]:
    """Label, duration and length of every turn of the corpus: per emotion, sums that give the table's averages."""
    for code, emotion in zip(VOTED, EMOTIONS, strict=True):
        row = expected.table[emotion]
        count = int(sum(row[split] for split in SPLITS))
        extremes = {"neu": [SHORTEST], "fru": [LONGEST]}.get(code, [])
        yield from _draft(code, count, row["seconds"], row["words"], extremes, chance(seed, "draft", code))
    for code, count in OTHERS.items():
        yield from _draft(code, count, *_USUAL, [], chance(seed, "draft", code))


def _draft(
    code: str, count: int, seconds: float, words: float, extremes: list[float], rng: np.random.Generator
) -> Iterator[Draft]:
    """Turns that last `seconds` and hold `words` on average, longer ones more words; among them the extremes."""
    low, high = round(SHORTEST * _TICKS), round(LONGEST * _TICKS)
    fixed = [round(value * _TICKS) for value in extremes]
    free = rng.lognormal(np.log(seconds), 0.65, count - len(fixed))
    lasting = fixed + list(_sum_to(free * _TICKS, round(count * seconds * _TICKS) - sum(fixed), low, high))
    spoken = np.array(lasting) * rng.uniform(0.6, 1.4, count)
    return zip([code] * count, lasting, _sum_to(spoken, round(count * words), 2, 120), strict=True)


def _sum_to(values: np.ndarray, total: int, low: int, high: int) -> list[int]:
    """Whole numbers in proportion to the values, between low and high, that add up to the total."""
    for _ in range(100):  # what the limits cut off is given to the others, less each time
        values = np.clip(values * (total / values.sum()), low, high)
    whole = np.rint(values).astype(int)
    missing = total - int(whole.sum())
    free = np.flatnonzero((whole > low) & (whole < high))[: abs(missing)]
    assert len(free) == abs(missing), "the limits leave no room for this total"
    whole[free] += np.sign(missing)
    return [int(value) for value in whole]


def _shuffled(drafts: Iterator[Draft], rng: np.random.Generator) -> list[Draft]:
    ordered = list(drafts)
    return [ordered[place] for place in rng.permutation(len(ordered))]


def _dialogue_sizes(turns: int, rng: np.random.Generator) -> dict[str, int]:
    """Dialogue -> how many voted turns it has."""
    names = plans.dialogue_names()
    return dict(zip(names, _sum_to(rng.uniform(0.4, 1.8, len(names)), turns, 8, 140), strict=True))


def _stage(name: str, drafts: list[Draft], seed: int) -> list[Turn]:
    """The drafts as turns of one dialogue, one after the other, each third beginning before the other has ended."""
    rng = chance(seed, "stage", name)
    turns: list[Turn] = []
    numbers: Counter[str] = Counter()
    speaker, end = str(rng.choice(["F", "M"])), 2 * _TICKS
    last = {"F": 0, "M": 0}
    for code, ticks, words in drafts:
        # No turn begins before its own speaker has ended, nor before the turn above it in the transcript.
        start = max(end + int(rng.integers(-4_000, 8_000)), last[speaker] + 500)
        start = max(start, round(turns[-1].start * _TICKS)) if turns else start
        end = last[speaker] = start + ticks
        identity = f"{name}_{speaker}{numbers[speaker]:03d}"
        text = _line(name, identity, plans.CODES.get(code, "neutral"), words, seed)
        turns.append(Turn(identity, speaker, start / _TICKS, end / _TICKS, code, text))
        numbers[speaker] += 1
        speaker = "FM"[speaker == "F"] if rng.random() < 0.7 else speaker
    return turns


def _line(dialogue: str, turn: str, emotion: str, words: int, seed: int) -> str:
    """The words of a turn. In a script, the same emotion and number of words give the same line: lines recur."""
    key = plans.part_of(dialogue) if plans.is_scripted(dialogue) else turn
    return say_exactly(words, emotion, chance(seed, "line", key, emotion, words))


def _deal(turns: list[Turn], expected: Expected, seed: int) -> dict[str, list[str]]:
    """Split -> ids, drawn at random for each emotion, as many as the table says."""
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for code, emotion in zip(VOTED, EMOTIONS, strict=True):
        ids = [turn.id for turn in turns if turn.code == code]
        order = iter(chance(seed, "deal", code).permutation(ids))
        for split in SPLITS:
            lists[split] += [str(next(order)) for _ in range(int(expected.table[emotion][split]))]
    return {split: [str(name) for name in chance(seed, "list", split).permutation(ids)] for split, ids in lists.items()}
