"""No byte, row or statement of a dataset can change unseen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mesm_data.dataset import writer
from mesm_data.dataset.verify import verify
from mesm_data.errors import ShardError
from mesm_data.files import sha256_of, write_json
from tests.data.rows import synthetic_row
from tests.data.synthetic_rows import EMOTIONS, synthetic_rows, write_synthetic

TRAIN, VALID, TEST = (f"shards/{split}-00000-of-00001.parquet" for split in ("train", "valid", "test"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_synthetic(tmp_path / "set", synthetic_rows(), about={"title": "IEMOCAP"})


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / "index.json").read_text())
    change(index)
    write_json(folder / "index.json", index)


def replace_file(folder: Path, name: str) -> None:
    """Have the index state what a file is now, as somebody does who changed it on purpose."""
    path = folder / name
    stated = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    change_index(folder, lambda index: index["files"].update({name: stated}))


def test_a_whole_dataset_verifies(dataset: Path) -> None:
    assert verify(dataset) == []


@pytest.mark.parametrize("position", [4, 1000, -9])
def test_one_changed_byte_is_found(dataset: Path, position: int) -> None:
    path = dataset / TRAIN
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    (problem,) = verify(dataset)
    assert problem.startswith(f"{path}: sha256 ")


def test_a_cut_shard_is_found_with_its_sizes(dataset: Path) -> None:
    path = dataset / TEST
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert verify(dataset) == [f"{path}: {len(content) - 100} bytes, expected {len(content)}"]


def test_a_missing_and_a_foreign_shard_are_found(dataset: Path) -> None:
    (dataset / TEST).rename(dataset / "shards/other.parquet")
    missing, stray = verify(dataset)
    assert missing == f"{dataset / TEST}: missing"
    assert stray == f"{dataset / 'shards/other.parquet'}: not in index.json; a file of another build?"


def test_swapped_shards_are_found(dataset: Path) -> None:
    def swap(index: dict[str, Any]) -> None:
        train, _, test = index["shards"]
        train["split"], test["split"] = "test", "train"

    change_index(dataset, swap)
    problems = verify(dataset)
    assert problems == [f"index.json: shards are not those of test, valid, train in order, see {TRAIN}"]
    (dataset / "shards").rename(dataset / "old")
    (dataset / "shards").mkdir()
    for old, new in ((TRAIN, TEST), (VALID, VALID), (TEST, TRAIN)):  # the files too, under each other's names
        (dataset / "old" / Path(old).name).rename(dataset / new)
        replace_file(dataset, new)

    def settle(index: dict[str, Any]) -> None:
        index["shards"] = [{"name": n, "split": n.split("/")[1].split("-")[0], "rows": r} for n, r in
                           ((TRAIN, 2), (VALID, 2), (TEST, 16))]  # fmt: skip

    change_index(dataset, settle)
    assert verify(dataset)[:2] == [
        f"{TRAIN}: shard in it and in index.json are not the same",
        f"{TRAIN}: 2 rows of iemocap test, expected iemocap train",
    ]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "count of an emotion": (
        lambda index: index["counts"]["train"].update(anger=4),
        "counts train anger: found 3, index.json states 4",
    ),
    "count of utterances": (
        lambda index: index["counts"]["test"].update(utterances=1),
        "counts test utterances: found 2, index.json states 1",
    ),
    "a split of no shard": (
        lambda index: index["counts"].update(dev={"utterances": 0}),
        "counts dev: found null, index.json states an object of 1",
    ),
    "rows of a shard": (lambda index: index["shards"][0].update(rows=17), f"{TRAIN}: 16 rows, expected 17"),
    "issues": (lambda index: index["issues"].update(clipped=99), "issues clipped: found 7, index.json states 99"),
    "another issue": (lambda index: index["issues"].update(silent=1), "issues silent: found null, index.json states 1"),
    "faces": (lambda index: index.update(faces=61), "faces: found 60, index.json states 61"),
    "faces found": (lambda index: index.update(faces_found=60), "faces_found: found 40, index.json states 60"),
    "content": (lambda index: index.update(content="0" * 64), 'index.json states "0000'),
    "emotions": (lambda index: index["emotions"].reverse(), f"{TRAIN}: emotions in it and in index.json are not the"),
    "corpus": (lambda index: index.update(corpus="mosei"), "corpus: build.json and index.json differ"),
    "scheme": (lambda index: index.update(split="paper"), "split: build.json and index.json differ"),
    "split digest": (lambda index: index.update(split_digest="1" * 64), f"{TRAIN}: split_digest in it and in index"),
    "recipe": (lambda index: index["recipe"].update(step=0.25), "index.json: its recipe has the digest "),
    "recipe digest": (lambda index: index.update(recipe_digest="0" * 64), "index.json: its recipe has the digest "),
    "raw": (lambda index: index.update(raw="2" * 64), "raw: build.json and index.json differ"),
    "reader": (lambda index: index.update(reader={"labels": "all"}), "reader: build.json and index.json differ"),
    "tools": (lambda index: index["tools"].update(mesm="9"), f"{TRAIN}: tools in it and in index.json are not the"),
    "arrays": (lambda index: index["arrays"]["mels"].update(dtype="float32"), f"{TRAIN}: arrays in it and in index"),
    "about": (lambda index: index["about"].update(title="MOSEI"), f"{TRAIN}: about in it and in index.json are not"),
    "about gone": (lambda index: index.pop("about"), f"{TRAIN}: about in it and in index.json are not the same"),
    "suggestions": (lambda index: index.update(suggested={"lr": 1}), f"{TRAIN}: suggested in it and in index.json are"),
    "something new": (lambda index: index.update(licence="free"), "index.json: states licence, which nothing can be"),
    "a file less": (lambda index: index["files"].pop("issues.jsonl"), "index.json: does not account for issues.jsonl"),
    "a shard less": (lambda index: index["shards"].pop(), f"index.json: {TEST} is in only one of its shards and files"),
    "a shard twice": (
        lambda index: index["shards"].append(index["shards"][0]),
        f"index.json: shards are not those of train, valid, test in order, see {TRAIN}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_anything_that_the_index_states_and_that_is_not_so_is_found(dataset: Path, what: str) -> None:
    change, problem = CHANGES[what]
    change_index(dataset, change)
    problems = verify(dataset)
    assert any(problem in line for line in problems), problems


def test_every_statement_of_the_index_is_among_those_changed(dataset: Path) -> None:
    index = json.loads((dataset / "index.json").read_text())
    changed = set()
    for change, _ in CHANGES.values():
        copy = json.loads(json.dumps(index))
        change(copy)
        changed |= {name for name in copy.keys() | index.keys() if copy.get(name) != index.get(name)}
    assert set(index) - changed == {"schema_version"}  # of another version is refused before


@pytest.mark.parametrize("name", ["issues.jsonl", "utterances.jsonl"])
def test_notes_that_lack_a_line_are_found_even_where_the_index_goes_with_them(dataset: Path, name: str) -> None:
    lines = (dataset / name).read_text().splitlines(keepends=True)
    (dataset / name).write_text("".join(lines[1:]))
    replace_file(dataset, name)
    (problem,) = verify(dataset)
    expected = {
        "issues.jsonl": "issues clipped: found 6, index.json states 7",
        "utterances.jsonl": "utterances.jsonl: lacks Ses01F_impro01_F000",
    }
    assert problem == expected[name]


def test_notes_that_say_other_things_than_the_rows_are_found(dataset: Path) -> None:
    path = dataset / "utterances.jsonl"
    path.write_text(path.read_text().replace('"speaker": "Ses01F"', '"speaker": "Ses01M"', 1))
    replace_file(dataset, "utterances.jsonl")
    assert verify(dataset) == ["utterances.jsonl: says other things than the shards of Ses01F_impro01_F000"]


def test_rows_of_the_wrong_split_and_ids_that_stand_twice_are_found(dataset: Path) -> None:
    table = pq.read_table(dataset / VALID)
    metadata = json.loads(table.schema.metadata[b"mesm"])
    split = pa.array(["test", "valid"], pa.string())
    ids = pa.array([synthetic_row(18).utterance.id, table.column("id")[1].as_py()], pa.string())
    changed = table.set_column(2, table.schema.field("split"), split).set_column(0, table.schema.field("id"), ids)
    writer.write_table(dataset / VALID, changed, metadata)
    replace_file(dataset, VALID)
    problems = verify(dataset)
    assert f"{VALID}: 1 rows of iemocap test, expected iemocap valid" in problems
    assert "1 ids stand twice: Ses01F_impro01_F018" in problems


def test_a_face_of_another_size_is_found(dataset: Path) -> None:
    table = pq.read_table(dataset / VALID)
    faces = table.column("faces").to_pylist()
    faces[0] = [faces[0][0][:-1], faces[0][1] + b"x", *faces[0][2:]]  # as many bytes in all
    changed = table.set_column(table.column_names.index("faces"), table.schema.field("faces"), pa.array(faces))
    writer.write_table(dataset / VALID, changed, json.loads(table.schema.metadata[b"mesm"]))
    replace_file(dataset, VALID)
    assert any("faces of Ses01F_impro01_F016: not 6912 bytes each" in line for line in verify(dataset))


def test_a_shard_of_something_else_is_found(dataset: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), dataset / VALID)
    replace_file(dataset, VALID)
    assert f"{VALID}: columns differ from schema version 2" in verify(dataset)
    pq.write_table(pq.read_table(dataset / TEST).replace_schema_metadata(None), dataset / VALID)
    replace_file(dataset, VALID)
    assert f"{VALID}: has no metadata of mesm" in verify(dataset)


def test_a_damaged_build_json_is_one_line(dataset: Path) -> None:
    (dataset / "build.json").write_text("[]")
    replace_file(dataset, "build.json")
    with pytest.raises(ShardError, match=r"build\.json: found a list of 0, expected an object; build the data"):
        verify(dataset)


def test_emotions_and_arrays_are_those_of_the_rows(dataset: Path) -> None:
    index = json.loads((dataset / "index.json").read_text())
    assert index["emotions"] == EMOTIONS
    table = pq.read_table(dataset / VALID)
    for name, array in index["arrays"].items():
        cell = table.column(name)[0].values[0].as_py()
        assert np.frombuffer(cell, array["dtype"]).reshape(array["shape"]).size
