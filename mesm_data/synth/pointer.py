"""The pointer dataset: the text names where in the faces and the mels the signal is. See planted.py."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mesm_data.synth.synthetic_dataset import (
    EMOTIONS,
    SUGGESTED,
    BayesOptimal,
    Sample,
    default_sizes,
    normal_cdf,
    plain_faces,
    plain_mels,
    to_pixels,
    write_samples,
)

# Attention learns to point after the rest has learned to read, and better through a gate: docs/results.md.
SUGGESTED_TO_POINT = SUGGESTED | {"attention_gradient": "gate", "epochs": 16, "top_p_anneal": 0.8}
POINTED_EVIDENCE = {"A": 1.5, "V": 1.5}
COLOURS = {"red": (40, -20, -20), "green": (-20, 40, -20), "blue": (-20, -20, 40), "yellow": (25, 25, -40)}
RHYTHMS = {"slow": (8, 0), "quick": (4, 0), "low": (0, 8), "high": (0, 4)}  # name -> period over time, over mels
POINTING = "Look at the {} place and listen for the {} one."  # always the same words, or models memorise them
QUARTERS = ((2, 2), (2, 26), (26, 2), (26, 26))  # top, left of a place of QUARTER x QUARTER pixels
QUARTER = 20
STRIPS = (4, 36, 68, 100)  # first mel of a place of STRIP mels, as long as the chunk
STRIP = 24


def write_pointer(
    out: Path, sizes: Mapping[str, int] | None = None, seed: int = 0, evidence: Mapping[str, float] = POINTED_EVIDENCE
) -> dict[str, BayesOptimal]:
    """Write the pointer dataset into `out` and return its Bayes-optimal figures, with text and without.

    Arguments as of `write_planted`. Raises DataError where `out` holds something.
    """

    def sample(rng: np.random.Generator) -> Sample:
        labels = rng.integers(0, 2, len(EMOTIONS))
        true = {m: int(rng.integers(4)) for m in "AV"}
        level = {m: rng.standard_normal((4, len(EMOTIONS))) for m in "AV"}
        for m in "AV":
            level[m][true[m]] += evidence[m] * (2 * labels - 1)
        marks = {m: rng.permutation(4) for m in "AV"}  # the mark of each place
        frames = int(rng.integers(1, 3))
        faces, mels = plain_faces(frames, rng), plain_mels(frames, rng)
        for place in range(4):
            top, left = QUARTERS[place]
            faces[:, top : top + QUARTER, left : left + QUARTER] += _marked_patch(marks["V"][place], level["V"][place])
            mels[:, STRIPS[place] : STRIPS[place] + STRIP] += _marked_strip(marks["A"][place], level["A"][place])
        names = list(COLOURS)[marks["V"][true["V"]]], list(RHYTHMS)[marks["A"][true["A"]]]
        top, left = QUARTERS[true["V"]]
        strip = STRIPS[true["A"]]
        places = {"v": (left, top, left + QUARTER, top + QUARTER), "a": (0, strip, 32, strip + STRIP)}
        return Sample(
            tuple(labels.tolist()), POINTING.format(*names), to_pixels(faces), mels.astype(np.float16), places
        )

    bayes_optimal = pointer_bayes_optimal(evidence)
    settings = {"seed": seed, "evidence": dict(evidence)}
    write_samples(
        out, "pointer", EMOTIONS, sizes or default_sizes(), settings, sample, bayes_optimal, SUGGESTED_TO_POINT
    )
    return bayes_optimal


def pointer_bayes_optimal(evidence: Mapping[str, float], draws: int = 100_000) -> dict[str, BayesOptimal]:
    """The best decision with text, which says where to look, and without it, when all four places must be weighed.

    Without text all emotions together hint at the true place, so the best decision compares every set of labels: its
    likelihood is the mean over the places of exp(m * labels * levels). The accuracy of that is estimated from `draws`
    utterances, to 0.001; the rest is exact.
    """
    rng = np.random.default_rng(0)
    labels = np.array(list(itertools.product((1.0, -1.0), repeat=len(EMOTIONS))))
    blind = {}
    for m in "AV":
        seen = rng.standard_normal((draws, 4, len(EMOTIONS)))
        seen[:, 0] += evidence[m]  # the true place; by symmetry utterances with all emotions are enough
        blind[m] = np.exp(evidence[m] * seen @ labels.T).mean(1)  # [draws, sets of labels]
    blind["AV"] = blind["A"] * blind["V"]
    strength = {m: math.sqrt(sum(evidence[x] ** 2 for x in m)) for m in ("AV", "A", "V")}
    pointed = {f"T{m}": BayesOptimal(normal_cdf(g), normal_cdf(math.sqrt(2) * g)) for m, g in strength.items()}
    weighed = {m: BayesOptimal(float((blind[m] @ labels > 0).mean())) for m in strength}
    return pointed | weighed | {"T": BayesOptimal(0.5, 0.5)}


def _marked_patch(mark: int, level: np.ndarray) -> np.ndarray:
    """[QUARTER, QUARTER, 3]: a colour, and four cells that are brighter or darker, one for each emotion."""
    brightness = level.reshape(2, 2).repeat(QUARTER // 2, 0).repeat(QUARTER // 2, 1)
    return 15 * brightness[:, :, None] + np.array(list(COLOURS.values())[mark], float)


def _marked_strip(mark: int, level: np.ndarray) -> np.ndarray:
    """[STRIP, 32]: a ripple over time or mels, and on it four levels in turn, one for each emotion."""
    over_time, over_mels = list(RHYTHMS.values())[mark]
    mel, time = np.indices((STRIP, 32))
    ripple = 3 * np.sin(2 * np.pi * (time / over_time if over_time else mel / over_mels))
    return ripple + 2 * level.repeat(32 // len(level))
