"""Datasets with a planted signal, for which the best possible accuracy is known: `write_planted` and, in pointer.py,
`write_pointer`.

    out/planted/
        index.json, shards/, utterances.jsonl, issues.jsonl    as in any dataset, see dataset/reader.py
        bayes_optimal.json    the best reachable accuracy and AUC, by set of modalities
        places.jsonl          pointer only: where the true places are

An utterance has each emotion with probability 1/2. For each emotion a modality carries the evidence m * s + n, where s
is +1 or -1 and n is standard normal noise; m sets how informative the modality is. Emotions and noise are independent,
so the best decision is known exactly.

planted   faces: contrast of a checkered patch, at a different place for each emotion; mels: level of a band; text: one
          of eight words from weak to strong. Each modality adds evidence of its own: T+A+V > any pair > any single one.
pointer   faces and mels: four marked places are brighter or darker, louder or softer, three of them at random; the text
          names the mark of the true one and nothing else. Only a model that attends where the text points does well.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mesm_data.synth.synthetic_dataset import (
    EMOTIONS,
    MODALITIES,
    BayesOptimal,
    Sample,
    default_sizes,
    normal_cdf,
    plain_faces,
    plain_mels,
    to_pixels,
    write_samples,
)

EVIDENCE = {"T": 0.9, "A": 0.75, "V": 0.6}
WORDS = {  # from evidence against the emotion to evidence for it
    "anger": ("placid", "mellow", "civil", "curt", "annoyed", "cross", "angry", "furious"),
    "happiness": ("wretched", "glum", "sober", "content", "pleased", "glad", "merry", "overjoyed"),
    "sadness": ("bouncy", "lively", "bright", "quiet", "gloomy", "sad", "tearful", "desolate"),
    "surprise": ("bored", "indifferent", "unmoved", "aware", "curious", "puzzled", "amazed", "stunned"),
}


EDGES = np.array([-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8])  # boundaries of the evidence between two words
FILLERS = tuple(
    (  # noqa: SIM905
        "the a this that it we they one two some any here there now then with from about after before under over into "
        "house table window street garden river paper letter number morning evening minute summer winter water bread "
        "story question answer voice picture corner market station"
    ).split()
)


PATCHES = ((9, 9), (9, 29), (29, 9), (29, 29))  # top, left of each emotion's patch of PATCH x PATCH pixels
PATCH = 10
BANDS = (10, 38, 66, 94)  # first mel of each emotion's band of BAND mels
BAND = 10


def write_planted(
    out: Path, sizes: Mapping[str, int] | None = None, seed: int = 0, evidence: Mapping[str, float] = EVIDENCE
) -> dict[str, BayesOptimal]:
    """Write the planted dataset into `out` and return its Bayes-optimal figures by set of modalities.

    `sizes` are the utterances of each split, `evidence` is m of each modality; 0 makes a modality uninformative. Raises
    DataError where `out` holds something.
    """

    def sample(rng: np.random.Generator) -> Sample:
        labels = rng.integers(0, 2, len(EMOTIONS))
        shown = {m: evidence[m] * (2 * labels - 1) + rng.standard_normal(len(EMOTIONS)) for m in "TAV"}
        frames = int(rng.integers(1, 3))
        faces, mels = plain_faces(frames, rng), plain_mels(frames, rng)
        for emotion, ((top, left), band) in enumerate(zip(PATCHES, BANDS, strict=True)):
            patch = faces[:, top : top + PATCH, left : left + PATCH]
            patch += 28 * shown["V"][emotion] * _checks(PATCH)[:, :, None]
            mels[:, band : band + BAND] += 2 * shown["A"][emotion]
        return Sample(tuple(labels.tolist()), _words(shown["T"], rng), to_pixels(faces), mels.astype(np.float16))

    bayes_optimal = {
        name: planted_bayes_optimal([evidence[m] for m in name if m != "T"], evidence["T"] * ("T" in name))
        for name in MODALITIES
    }
    settings = {"seed": seed, "evidence": dict(evidence)}
    write_samples(out, "planted", EMOTIONS, sizes or default_sizes(), settings, sample, bayes_optimal)
    return bayes_optimal


def planted_bayes_optimal(graded: Sequence[float], text: float) -> BayesOptimal:
    """Exact figures for modalities with graded evidence of these strengths, and text, which quantises it to 8 words.

    The log-likelihood ratio of a graded modality is 2 m x, and 2 g x for several with g the root of the sum of m
    squared; that of a word is the log ratio of its probabilities under both signs. AUC is the probability that the
    ratio of a positive exceeds that of a negative.
    """
    g = math.sqrt(sum(m * m for m in graded))
    for_it = np.diff([0.0, *(normal_cdf(edge - text) for edge in EDGES), 1.0])
    against = for_it[::-1]
    ratio = np.log(for_it / against)  # of each word; with the graded evidence 2 g z, z normal about +-g
    sums = ratio[:, None] - ratio[None, :] + 4 * g * g
    if g == 0:
        accuracy = np.maximum(for_it, against).sum() / 2
        in_order = np.where(np.isclose(sums, 0), 0.5, sums > 0)
    else:
        accuracy = sum(w * normal_cdf(g + r / (2 * g)) for w, r in zip(for_it, ratio, strict=True))
        in_order = np.vectorize(normal_cdf)(sums / (2 * math.sqrt(2) * g))
    return BayesOptimal(float(accuracy), float((for_it[:, None] * against[None, :] * in_order).sum()))


def _checks(size: int) -> np.ndarray:
    """+-1 in squares of two pixels."""
    return np.indices((size, size)).sum(0) // 2 % 2 * 2.0 - 1


def _words(shown: np.ndarray, rng: np.random.Generator) -> str:
    levels = np.searchsorted(EDGES, shown)
    return _scattered([WORDS[emotion][level] for emotion, level in zip(EMOTIONS, levels, strict=True)], 6, rng)


def _scattered(words: Sequence[str], fillers: int, rng: np.random.Generator) -> str:
    """The words among filler words, in random order, as a sentence."""
    said = [*words, *rng.choice(FILLERS, fillers)]
    rng.shuffle(said)
    return " ".join(said).capitalize() + "."
