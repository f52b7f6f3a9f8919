"""Datasets with a known signal, so that it is known how well a model can do: `write_planted` and `write_pointer`.

    out/planted/
        index.json, shards/, utterances.jsonl, issues.jsonl    as of any dataset, see shards.py
        ceilings.json                                          the best reachable accuracy and AUC, by set of modalities
        places.jsonl                                           pointer: where the true places are

An utterance has each emotion with chance 1/2. A modality shows for it the evidence m * s + n, where s is +1 or -1 and n
is normal noise; m says how much the modality tells. Emotions and noise are independent of each other, so the best
decision is known exactly.

planted   faces: contrast of a checkered patch, at another place for each emotion; mels: level of a band; text: one of
          eight words from weak to strong. Every modality has its own share: T+A+V > any pair > any single one.
pointer   faces and mels: four marked places are brighter or darker, louder or softer, three of them at random; the text
          names the mark of the true one and says nothing else. Only a model that looks where the text points gets far.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data import shards
from mesm_data.clip import Clip, Recipe
from mesm_data.folders import new_folder
from mesm_data.splits.split import Split
from mesm_data.utterance import Source, Utterance, write_utterances

TRAIN = 2000  # utterances
MODALITIES = ("TAV", "TA", "TV", "AV", "T", "A", "V")
SHARD_ROWS = 1000

# Settings that suit these pictures: `mesm` takes them where the user says nothing, and says so. The paper's sizes would
# learn the same signal a hundred times slower.
SUGGESTED = {
    "text_encoder": "tiny",
    "width": 8,
    "hidden": 64,
    "d": 32,
    "layers": 1,
    "feed_forward": 64,
    "dropout": 0.0,
    "lr": 1e-3,
    "text_lr": 1.0,
    "batch": 16,
    "epochs": 8,
    "cosine": True,
    "anneal": 0.5,
    "clip": 1.0,
}
# Attention learns to point later than the rest learns to read, and better through a gate: docs/results.md.
SUGGESTED_TO_POINT = SUGGESTED | {"attention_gradient": "gate", "epochs": 16, "anneal": 0.8}


def sizes(train: int = TRAIN) -> dict[str, int]:
    """Utterances of each part when so many are to train on."""
    return {"train": train, "valid": max(1, train // 4), "test": max(1, train // 2)}


class Ceiling(NamedTuple):
    """The best that can be had on average."""

    accuracy: float
    auc: float | None = None  # where it is known


@dataclass(frozen=True)
class Sample:
    """What one utterance shows."""

    labels: tuple[int, ...]
    text: str
    faces: np.ndarray  # uint8 [V, 48, 48, 3]
    mels: np.ndarray  # float16 [A, 128, 32]
    place: dict[str, tuple[int, int, int, int]] | None = None  # "v", "a" -> left, top, right, bottom


# ---- planted

EMOTIONS = ("anger", "happiness", "sadness", "surprise")
EVIDENCE = {"T": 0.9, "A": 0.75, "V": 0.6}
WORDS = {  # from what speaks against the emotion to what speaks for it
    "anger": ("placid", "mellow", "civil", "curt", "annoyed", "cross", "angry", "furious"),
    "happiness": ("wretched", "glum", "sober", "content", "pleased", "glad", "merry", "overjoyed"),
    "sadness": ("bouncy", "lively", "bright", "quiet", "gloomy", "sad", "tearful", "desolate"),
    "surprise": ("bored", "indifferent", "unmoved", "aware", "curious", "puzzled", "amazed", "stunned"),
}
EDGES = np.array([-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8])  # of the evidence, between two words
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
    out: Path, parts: Mapping[str, int] | None = None, seed: int = 0, evidence: Mapping[str, float] = EVIDENCE
) -> dict[str, Ceiling]:
    """Write the planted dataset and return its ceilings.

    `parts` says how many utterances each part has, `evidence` is m of each modality; 0 makes it carry nothing.
    """

    def sample(rng: np.random.Generator) -> Sample:
        labels = rng.integers(0, 2, len(EMOTIONS))
        told = {m: evidence[m] * (2 * labels - 1) + rng.standard_normal(len(EMOTIONS)) for m in "TAV"}
        frames = int(rng.integers(1, 3))
        faces, mels = _plain_faces(frames, rng), _plain_mels(frames, rng)
        for emotion, ((top, left), band) in enumerate(zip(PATCHES, BANDS, strict=True)):
            patch = faces[:, top : top + PATCH, left : left + PATCH]
            patch += 28 * told["V"][emotion] * _checks(PATCH)[:, :, None]
            mels[:, band : band + BAND] += 2 * told["A"][emotion]
        return Sample(tuple(labels.tolist()), _words(told["T"], rng), _pixels(faces), mels.astype(np.float16))

    ceilings = {
        name: planted_ceiling([evidence[m] for m in name if m != "T"], evidence["T"] * ("T" in name))
        for name in MODALITIES
    }
    settings = {"seed": seed, "evidence": dict(evidence)}
    write_samples(out, "planted", EMOTIONS, parts or sizes(), settings, sample, ceilings)
    return ceilings


def planted_ceiling(graded: Sequence[float], text: float) -> Ceiling:
    """Exact figures for modalities with graded evidence of these strengths, and text, which has 8 words for it."""
    g = math.sqrt(sum(m * m for m in graded))
    for_it = np.diff([0.0, *(_normal(edge - text) for edge in EDGES), 1.0])
    against = for_it[::-1]
    ratio = np.log(for_it / against)  # of each word; with the graded evidence 2 g z, z normal about +-g
    sums = ratio[:, None] - ratio[None, :] + 4 * g * g
    if g == 0:
        accuracy = np.maximum(for_it, against).sum() / 2
        in_order = np.where(np.isclose(sums, 0), 0.5, sums > 0)
    else:
        accuracy = sum(w * _normal(g + r / (2 * g)) for w, r in zip(for_it, ratio, strict=True))
        in_order = np.vectorize(_normal)(sums / (2 * math.sqrt(2) * g))
    return Ceiling(float(accuracy), float((for_it[:, None] * against[None, :] * in_order).sum()))


# ---- pointer

POINTED_EVIDENCE = {"A": 1.5, "V": 1.5}
COLOURS = {"red": (40, -20, -20), "green": (-20, 40, -20), "blue": (-20, -20, 40), "yellow": (25, 25, -40)}
RHYTHMS = {"slow": (8, 0), "quick": (4, 0), "low": (0, 8), "high": (0, 4)}  # name -> period over time, over mels
POINTING = "Look at the {} place and listen for the {} one."  # always the same words, or models learn them by heart
QUARTERS = ((2, 2), (2, 26), (26, 2), (26, 26))  # top, left of a place of QUARTER x QUARTER pixels
QUARTER = 20
STRIPS = (4, 36, 68, 100)  # first mel of a place of STRIP mels, as long as the chunk
STRIP = 24


def write_pointer(
    out: Path, parts: Mapping[str, int] | None = None, seed: int = 0, evidence: Mapping[str, float] = POINTED_EVIDENCE
) -> dict[str, Ceiling]:
    """Write the pointer dataset and return its ceilings, for models that follow the text and for those that do not."""

    def sample(rng: np.random.Generator) -> Sample:
        labels = rng.integers(0, 2, len(EMOTIONS))
        true = {m: int(rng.integers(4)) for m in "AV"}
        told = {m: rng.standard_normal((4, len(EMOTIONS))) for m in "AV"}
        for m in "AV":
            told[m][true[m]] += evidence[m] * (2 * labels - 1)
        marks = {m: rng.permutation(4) for m in "AV"}  # the mark of each place
        frames = int(rng.integers(1, 3))
        faces, mels = _plain_faces(frames, rng), _plain_mels(frames, rng)
        for place in range(4):
            top, left = QUARTERS[place]
            faces[:, top : top + QUARTER, left : left + QUARTER] += _marked_patch(marks["V"][place], told["V"][place])
            mels[:, STRIPS[place] : STRIPS[place] + STRIP] += _marked_strip(marks["A"][place], told["A"][place])
        names = list(COLOURS)[marks["V"][true["V"]]], list(RHYTHMS)[marks["A"][true["A"]]]
        top, left = QUARTERS[true["V"]]
        strip = STRIPS[true["A"]]
        places = {"v": (left, top, left + QUARTER, top + QUARTER), "a": (0, strip, 32, strip + STRIP)}
        return Sample(tuple(labels.tolist()), POINTING.format(*names), _pixels(faces), mels.astype(np.float16), places)

    ceilings = pointer_ceilings(evidence)
    settings = {"seed": seed, "evidence": dict(evidence)}
    write_samples(out, "pointer", EMOTIONS, parts or sizes(), settings, sample, ceilings, SUGGESTED_TO_POINT)
    return ceilings


def pointer_ceilings(evidence: Mapping[str, float], draws: int = 100_000) -> dict[str, Ceiling]:
    """What is best with text, which says where to look, and without it, when all four places must be weighed.

    Without it all emotions together hint at the true place, so the best decision looks at every set of labels: it is as
    likely as the mean over the places of exp(m * labels * levels). The accuracy of that is drawn, to 0.001; the rest
    is exact.
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
    pointed = {f"T{m}": Ceiling(_normal(g), _normal(math.sqrt(2) * g)) for m, g in strength.items()}
    weighed = {m: Ceiling(float((blind[m] @ labels > 0).mean())) for m in strength}
    return pointed | weighed | {"T": Ceiling(0.5, 0.5)}


def describe(ceilings: Mapping[str, Ceiling]) -> str:
    """The ceilings as a table, percent."""
    rows = [f"{'best reachable':<16}{'accuracy':>9}{'AUC':>7}"]
    for name, ceiling in ceilings.items():
        auc = "-" if ceiling.auc is None else f"{100 * ceiling.auc:.1f}"
        rows.append(f"{name:<16}{100 * ceiling.accuracy:>9.1f}{auc:>7}")
    return "\n".join(rows)


# ---- pictures, sounds, words


def _plain_faces(count: int, rng: np.random.Generator) -> np.ndarray:
    """A bright oval in noise, float64 [V, 48, 48, 3], 0..255."""
    y, x = np.linspace(-1, 1, 48)[:, None], np.linspace(-1, 1, 48)[None, :]
    oval = 100 + 50 * rng.uniform(0.6, 1.4) * np.exp(-((y / 0.85) ** 2) - (x / 0.7) ** 2)
    return oval[:, :, None] + 8 * rng.standard_normal((count, 48, 48, 3))


def _plain_mels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise that falls towards the high mels, as natural log of power, float64 [A, 128, 32]."""
    return -8 + 3 * np.linspace(1, -1, 128)[:, None] + 2 * rng.standard_normal((count, 128, 32))


def _pixels(faces: np.ndarray) -> np.ndarray:
    return faces.round().clip(0, 255).astype(np.uint8)


def _checks(size: int) -> np.ndarray:
    """+-1 in squares of two pixels."""
    return np.indices((size, size)).sum(0) // 2 % 2 * 2.0 - 1


def _marked_patch(mark: int, told: np.ndarray) -> np.ndarray:
    """[QUARTER, QUARTER, 3]: a colour, and four cells that are brighter or darker, one for each emotion."""
    brightness = told.reshape(2, 2).repeat(QUARTER // 2, 0).repeat(QUARTER // 2, 1)
    return 15 * brightness[:, :, None] + np.array(list(COLOURS.values())[mark], float)


def _marked_strip(mark: int, told: np.ndarray) -> np.ndarray:
    """[STRIP, 32]: a ripple over time or mels, and on it four levels one after the other, one for each emotion."""
    over_time, over_mels = list(RHYTHMS.values())[mark]
    mel, time = np.indices((STRIP, 32))
    ripple = 3 * np.sin(2 * np.pi * (time / over_time if over_time else mel / over_mels))
    return ripple + 2 * told.repeat(32 // len(told))


def _words(told: np.ndarray, rng: np.random.Generator) -> str:
    levels = np.searchsorted(EDGES, told)
    return _scattered([WORDS[emotion][level] for emotion, level in zip(EMOTIONS, levels, strict=True)], 6, rng)


def _scattered(words: Sequence[str], fillers: int, rng: np.random.Generator) -> str:
    """The words among others, in random order, as a sentence."""
    said = [*words, *rng.choice(FILLERS, fillers)]
    rng.shuffle(said)
    return " ".join(said).capitalize() + "."


def _normal(x: float) -> float:
    """Distribution function of the standard normal distribution."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


# ---- the dataset


def write_samples(
    out: Path,
    corpus: str,
    emotions: Sequence[str],
    parts: Mapping[str, int],
    settings: dict[str, Any],
    sample: Callable[[np.random.Generator], Sample],
    ceilings: Mapping[str, Ceiling],
    suggested: Mapping[str, Any] = SUGGESTED,
) -> None:
    """Shards, notes and index as `mesm-data build` leaves them, and what is known of the signal.

    Raises DataError where `out` holds something.
    """
    with new_folder(out) as folder:
        (folder / "shards").mkdir()
        recipe = Recipe()
        split = Split(
            f"made:{settings['seed']}",
            {part: tuple(f"{corpus}-{part}-{n:05d}" for n in range(size)) for part, size in parts.items()},
        )
        metadata = {
            "schema_version": shards.SCHEMA_VERSION,
            "corpus": corpus,
            "emotions": list(emotions),
            "recipe": asdict(recipe) | {"face_thresholds": list(recipe.face_thresholds)},
            "recipe_digest": recipe.digest,
            "reader": settings,
            "raw": None,
            "split": split.name,
            "split_digest": split.digest,
            "tools": {name: version(name) for name in ("mesm", "numpy", "pyarrow")},
        }
        listed: list[dict[str, Any]] = []
        hashes, light, utterances, places = [], [], [], []
        for name, rows, samples in _pieces(corpus, split, settings["seed"], sample):
            table = shards.to_table(rows)
            hashes += shards.content_hashes(table)
            light += table.select(["id", "split", "labels"]).to_pylist()
            shards.write_table(folder / name, table, metadata | {"shard": name})
            listed.append({"name": name, "split": rows[0].split, "rows": len(rows)})
            utterances += [row.utterance for row in rows]
            places += [{"id": row.utterance.id} | s.place for row, s in zip(rows, samples, strict=True) if s.place]
        names = [shard["name"] for shard in listed] + ["issues.jsonl", "utterances.jsonl", "ceilings.json"]
        shards.write_text(folder / "issues.jsonl", "")
        write_utterances(folder / "utterances.jsonl", utterances)
        shards.write_text(folder / "ceilings.json", _json({name: c._asdict() for name, c in ceilings.items()}))
        if places:
            names.append("places.jsonl")
            shards.write_text(folder / "places.jsonl", "".join(json.dumps(place) + "\n" for place in places))
        index = metadata | {
            "suggested": dict(suggested),
            "shards": listed,
            "files": {n: {"bytes": (folder / n).stat().st_size, "sha256": shards.sha256_of(folder / n)} for n in names},
            "content": shards.overall_hash(hashes),
            "counts": shards.count_rows(light, emotions),
            "issues": {},
            "faces": 0,  # nobody looked for faces here
            "faces_found": 0,
        }
        shards.write_text(folder / "index.json", _json(index))


def _pieces(
    corpus: str, split: Split, seed: int, sample: Callable[[np.random.Generator], Sample]
) -> Iterator[tuple[str, list[shards.Row], list[Sample]]]:
    """Name, rows and samples of each shard."""
    for number, (part, ids) in enumerate(split.parts.items()):
        count = -(-len(ids) // SHARD_ROWS)
        for k in range(count):
            chosen = range(k * SHARD_ROWS, min((k + 1) * SHARD_ROWS, len(ids)))
            samples = [sample(np.random.default_rng([seed, number, n])) for n in chosen]
            rows = [_row(corpus, part, ids[n], s) for n, s in zip(chosen, samples, strict=True)]
            yield f"shards/{part}-{k:05d}-of-{count:05d}.parquet", rows, samples


def _row(corpus: str, part: str, name: str, sample: Sample) -> shards.Row:
    """Faces every 0.5 s and chunks of 0.4 s: n of each fit an utterance of 0.4 n seconds, for the few that are made."""
    count = len(sample.faces)
    recipe = Recipe()
    seconds = len(sample.mels) * recipe.chunk * recipe.hop
    clip = Clip(
        utterance=name,
        faces=sample.faces,
        face_times=(recipe.step * np.arange(count)).astype(np.float32),
        face_boxes=np.zeros((count, 4), np.float32),
        face_scores=np.zeros(count, np.float32),
        face_landmarks=np.zeros((count, 5, 2), np.float32),
        face_found=np.zeros(count, bool),
        mels=sample.mels,
        sample_rate=recipe.sample_rate,
        quality=(),
    )
    utterance = Utterance(name, Source("made up"), 0.0, seconds, sample.text, sample.labels, (), "nobody", name)
    return shards.Row(corpus, part, utterance, clip)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
