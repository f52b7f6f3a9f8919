"""The planted and the pointer dataset: they verify, and hold exactly the signal of their Bayes-optimal figures."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from mesm_data.dataset import reader, schema, verify
from mesm_data.errors import DataError
from mesm_data.synth import planted, pointer, synthetic_dataset

SIZES = {"train": 40, "valid": 20, "test": 1200}


@pytest.fixture(scope="module")
def planted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "planted"
    planted.write_planted(out, SIZES)
    return out


@pytest.fixture(scope="module")
def pointer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "pointer"
    pointer.write_pointer(out, SIZES)
    return out


def rows(folder: Path, split: str = "test") -> list[tuple[dict, np.ndarray, np.ndarray]]:
    """Light columns, faces and mels, as float, of every utterance."""
    found = []
    for table in reader.load(folder).tables(split):
        light = table.drop_columns(["faces", "mels"]).to_pylist()
        for n, fields in enumerate(light):
            faces, mels = schema.faces_of(table, n), schema.mels_of(table, n)
            found.append((fields, faces.astype(float), mels.astype(float)))
    return found


def accuracy(told: np.ndarray, labels: np.ndarray) -> float:
    return float(((told > 0) == (labels > 0)).mean())


@pytest.mark.parametrize("folder", ["planted_folder", "pointer_folder"])
def test_verify_accounts_for_every_byte(folder: str, request: pytest.FixtureRequest) -> None:
    assert verify.verify(request.getfixturevalue(folder)) == []


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    indexes = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        pointer.write_pointer(tmp_path / name, {"train": 9, "valid": 3}, seed)
        indexes[name] = json.loads((tmp_path / name / "index.json").read_text())
    assert indexes["one"] == indexes["again"]
    assert indexes["one"]["content"] != indexes["other"]["content"]


def test_a_longer_dataset_begins_with_the_shorter_one(tmp_path: Path) -> None:
    for name, size in (("short", 3), ("long", 5)):
        planted.write_planted(tmp_path / name, {"train": size})
    short, long = (
        [text for fields, *_ in rows(tmp_path / n, "train") for text in [fields["text"]]] for n in ("short", "long")
    )
    assert long[:3] == short


def test_every_further_modality_raises_the_ceiling(planted_folder: Path) -> None:
    bayes_optimal = json.loads((planted_folder / "bayes_optimal.json").read_text())
    best = {name: bayes_optimal["accuracy"] for name, bayes_optimal in bayes_optimal.items()}
    assert best["TAV"] > best["TA"] > best["TV"] > best["AV"] > best["T"] > best["A"] > best["V"] > 0.7
    assert best["TAV"] == pytest.approx(0.904, abs=0.001)


@pytest.mark.parametrize("evidence", [{"T": 0.9, "A": 0.75, "V": 0.6}, {"T": 0.0, "A": 1.5, "V": 0.0}])
def test_ceilings_are_what_the_best_decision_reaches_on_drawn_evidence(evidence: dict[str, float]) -> None:
    draw = np.random.default_rng(1)
    n = 200_000
    sign = draw.choice([-1.0, 1.0], n)
    told = {m: evidence[m] * sign + draw.standard_normal(n) for m in "TAV"}
    edges = [-np.inf, *planted.EDGES, np.inf]
    level = np.searchsorted(planted.EDGES, told["T"])
    for name in synthetic_dataset.MODALITIES:
        ratio = sum(2 * evidence[m] * told[m] for m in name if m != "T") + np.zeros(n)
        if "T" in name:
            share = [
                np.mean((told["T"][sign > 0] > a) & (told["T"][sign > 0] <= b)) for a, b in itertools.pairwise(edges)
            ]
            ratio += (np.log(share) - np.log(share[::-1]))[level]
        reached = np.mean(np.where(ratio == 0, 0.5, (ratio > 0) == (sign > 0)))
        bayes_optimal = planted.planted_bayes_optimal(
            [evidence[m] for m in name if m != "T"], evidence["T"] * ("T" in name)
        )
        assert bayes_optimal.accuracy == pytest.approx(reached, abs=0.005), name


def test_a_modality_without_evidence_has_the_ceiling_of_chance() -> None:
    assert planted.planted_bayes_optimal([0.0], 0.0) == pytest.approx((0.5, 0.5))


def test_pictures_sounds_and_words_can_be_read_to_within_a_point_of_the_ceilings(planted_folder: Path) -> None:
    found = rows(planted_folder)
    labels = np.array([fields["labels"] for fields, *_ in found])
    seen, heard, said = np.zeros(labels.shape), np.zeros(labels.shape), np.zeros(labels.shape)
    for n, (fields, faces, mels) in enumerate(found):
        words = re.findall("[a-z]+", fields["text"].lower())
        for e, emotion in enumerate(synthetic_dataset.EMOTIONS):
            top, left = planted.PATCHES[e]
            patch = faces[:, top : top + planted.PATCH, left : left + planted.PATCH].mean((0, 3))
            seen[n, e] = (patch * planted._checks(planted.PATCH)).mean()
            band = planted.BANDS[e]
            slope = -8 + 3 * np.linspace(1, -1, 128)[band : band + planted.BAND]
            heard[n, e] = mels[:, band : band + planted.BAND].mean() - slope.mean()
            (said[n, e],) = (
                planted.WORDS[emotion].index(word) - 3.5 for word in words if word in planted.WORDS[emotion]
            )
    bayes_optimal = json.loads((planted_folder / "bayes_optimal.json").read_text())
    for name, told in (("V", seen), ("A", heard), ("T", said)):
        assert accuracy(told, labels) == pytest.approx(bayes_optimal[name]["accuracy"], abs=0.015), name


def oval(faces: np.ndarray) -> np.ndarray:
    """The brightness [48, 48] of a face without marks, judged by the columns between the places."""
    y, x = np.linspace(-1, 1, 48)[:, None], np.linspace(-1, 1, 48)[None, :]
    shape = np.exp(-((y / 0.85) ** 2) - (x / 0.7) ** 2)
    between = faces.mean((0, 3))[:, 22:26] - 100
    return 100 + shape * (between * shape[:, 22:26]).sum() / (shape[:, 22:26] ** 2).sum()


def test_the_text_names_the_one_place_that_tells(pointer_folder: Path) -> None:
    places = {p["id"]: p for p in map(json.loads, (pointer_folder / "places.jsonl").read_text().splitlines())}
    found = rows(pointer_folder)
    labels = np.array([fields["labels"] for fields, *_ in found])
    at_place, elsewhere, named = [], [], []
    cell = pointer.QUARTER // 2
    for fields, faces, _ in found:
        left, top, right, bottom = places[fields["id"]]["v"]
        other = (top + 24) % 48
        level = faces.mean((0, 3)) - oval(faces)
        for start, told in ((top, at_place), (other, elsewhere)):
            told.append(level[start : start + cell, left : left + cell].mean())
        (word,) = set(re.findall("[a-z]+", fields["text"].lower())) & set(pointer.COLOURS)
        colour = faces[:, top:bottom, left:right].mean((0, 1, 2))
        shades = {name: np.dot(colour - colour.mean(), shade) for name, shade in pointer.COLOURS.items()}
        named.append(max(shades, key=lambda name: shades[name]) == word)
    alone = pointer.pointer_bayes_optimal({"A": 0.0, "V": pointer.POINTED_EVIDENCE["V"]}, draws=10)["TV"].accuracy
    assert np.mean(named) == 1.0
    assert accuracy(np.array(at_place), labels[:, 0]) == pytest.approx(alone, abs=0.03)
    assert accuracy(np.array(elsewhere), labels[:, 0]) == pytest.approx(0.5, abs=0.04)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty; give another --out, or delete it"):
        planted.write_planted(tmp_path, {"train": 2})
