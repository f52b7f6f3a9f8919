"""What goes into a shard comes out of it, and no byte of a dataset can change unseen."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mesm_data import files
from mesm_data.dataset import reader as reader_module
from mesm_data.dataset import schema, verify, writer
from mesm_data.errors import ShardError
from tests.data.rows import synthetic_row
from tests.data.synthetic_rows import write_synthetic

EMOTIONS = ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]


def write_dataset(folder: Path, rows: int = 20) -> Path:
    """A dataset of made-up rows in two shards, with the index that a build would write."""
    (folder / "shards").mkdir(parents=True)
    listed, hashes, light = [], [], []
    for split, numbers in (("train", range(rows - 4)), ("test", range(rows - 4, rows))):
        table = schema.to_table([synthetic_row(n, split) for n in numbers])
        name = f"shards/{split}-00000-of-00001.parquet"
        writer.write_table(folder / name, table, {"corpus": "iemocap"})
        listed.append({"name": name, "split": split, "rows": table.num_rows})
        hashes += schema.content_hashes(table)
        light += table.select(["id", "split", "labels"]).to_pylist()
    index = {
        "schema_version": schema.SCHEMA_VERSION,
        "corpus": "iemocap",
        "emotions": EMOTIONS,
        "shards": listed,
        "files": {
            shard["name"]: {
                "bytes": (folder / shard["name"]).stat().st_size,
                "sha256": files.sha256_of(folder / shard["name"]),
            }
            for shard in listed
        },
        "content": schema.overall_hash(hashes),
        "counts": schema.count_rows(light, EMOTIONS),
    }
    files.write_text(folder / "index.json", json.dumps(index))
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set")


def test_a_row_comes_back_as_it_was_written(dataset: Path) -> None:
    (row,) = [synthetic_row(5)]
    table = next(reader_module.open_dataset(dataset).tables("train"))
    assert table.num_rows == schema.ROW_GROUP
    np.testing.assert_array_equal(schema.faces_of(table, 5), row.clip.faces)
    np.testing.assert_array_equal(schema.mels_of(table, 5), row.clip.mels)
    fields = table.drop_columns(["faces", "mels"]).slice(5, 1).to_pylist()[0]
    assert fields["text"] == row.utterance.text
    assert fields["votes"] == [vote._asdict() for vote in row.utterance.votes]
    assert fields["labels"] == list(row.utterance.labels)
    assert fields["face_boxes"] == row.clip.face_boxes.tolist()
    assert fields["face_landmarks"] == row.clip.face_landmarks.reshape(-1, 10).tolist()
    assert fields["face_found"] == [True, False, True]


def test_an_utterance_without_faces_or_sound_can_be_stored(tmp_path: Path) -> None:
    table = schema.to_table([synthetic_row(0, faces=0, chunks=0), synthetic_row(1)])
    writer.write_table(tmp_path / "a.parquet", table, {})
    read = pq.read_table(tmp_path / "a.parquet")
    assert schema.faces_of(read, 0).shape == (0, 48, 48, 3)
    assert schema.mels_of(read, 0).shape == (0, 128, 32)
    np.testing.assert_array_equal(schema.faces_of(read, 1), synthetic_row(1).clip.faces)


def test_the_same_rows_give_the_same_bytes_and_row_groups_of_eight(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer.write_table(tmp_path / name, schema.to_table([synthetic_row(n) for n in range(20)]), {"x": 1})
    assert files.sha256_of(tmp_path / "a") == files.sha256_of(tmp_path / "b")
    metadata = pq.ParquetFile(tmp_path / "a").metadata
    assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == [8, 8, 4]


def test_the_content_hash_sees_every_value_but_not_the_sharding(dataset: Path, tmp_path: Path) -> None:
    rows = [synthetic_row(n) for n in range(6)]
    whole = schema.content_hashes(schema.to_table(rows))
    apart = schema.content_hashes(schema.to_table(rows[3:])) + schema.content_hashes(schema.to_table(rows[:3]))
    assert schema.overall_hash(whole) == schema.overall_hash(apart)
    rows[2].clip.faces[0, 0, 0, 0] ^= 1
    assert schema.overall_hash(schema.content_hashes(schema.to_table(rows))) != schema.overall_hash(whole)


def test_a_whole_dataset_verifies(dataset: Path) -> None:
    assert verify.verify(dataset) == []
    opened = reader_module.open_dataset(dataset)
    assert opened.splits == ("train", "test")
    assert opened.index["counts"]["test"]["utterances"] == 4
    assert sum(1 for _ in opened.rows(["id"])) == 20


@pytest.mark.parametrize("position", [4, 1000, -9])
def test_one_changed_byte_is_found(dataset: Path, position: int) -> None:
    path = dataset / "shards/train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    (problem,) = verify.verify(dataset)
    assert problem.startswith(f"{path}: sha256 ")


def test_a_cut_shard_is_found_with_its_sizes(dataset: Path) -> None:
    path = dataset / "shards/test-00000-of-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert verify.verify(dataset) == [f"{path}: {len(content) - 100} bytes, expected {len(content)}"]
    with pytest.raises(ShardError, match=r"test-00000-of-00001\.parquet: not a whole Parquet file"):
        list(reader_module.open_dataset(dataset).tables("test"))


def test_a_missing_and_a_foreign_shard_are_found(dataset: Path) -> None:
    (dataset / "shards/test-00000-of-00001.parquet").rename(dataset / "shards/other.parquet")
    missing, stray = verify.verify(dataset)
    assert missing == f"{dataset / 'shards/test-00000-of-00001.parquet'}: missing"
    assert stray == f"{dataset / 'shards/other.parquet'}: not in index.json; a file of another build?"


def test_an_index_that_lies_about_its_counts_is_found(dataset: Path) -> None:
    index = json.loads((dataset / "index.json").read_text())
    index["counts"]["train"]["anger"] += 1
    index["shards"][0]["rows"] += 1
    (dataset / "index.json").write_text(json.dumps(index))
    assert verify.verify(dataset) == [
        "shards/train-00000-of-00001.parquet: 16 rows, expected 17",
        "counts by part and emotion differ from index.json",
    ]


@pytest.mark.parametrize(("name", "value"), [("emotions", EMOTIONS[::-1]), ("recipe_digest", "0" * 64)])
def test_an_index_that_says_another_thing_than_its_shards_is_found(tmp_path: Path, name: str, value: object) -> None:
    folder = write_synthetic(tmp_path / "set", [synthetic_row(n) for n in range(3)])
    index = json.loads((folder / "index.json").read_text())
    index[name] = value
    (folder / "index.json").write_text(json.dumps(index))
    assert f"shards/train-00000-of-00001.parquet: {name} in it and in index.json are not the same" in verify.verify(
        folder
    )


def test_an_index_that_lacks_something_is_told(dataset: Path) -> None:
    index = json.loads((dataset / "index.json").read_text())
    del index["files"], index["counts"]
    (dataset / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match=r"index\.json: lacks files, counts; build the dataset again"):
        verify.verify(dataset)


def test_a_folder_without_a_dataset_says_so(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json: not found; expected a folder made by `mesm-data build`"):
        reader_module.open_dataset(tmp_path)
    (tmp_path / "build.json").write_text("{}")
    with pytest.raises(ShardError, match="a build was begun here: run it again to finish it"):
        reader_module.open_dataset(tmp_path)
    (tmp_path / "index.json").write_text("{cut")
    with pytest.raises(ShardError, match="not an index of a dataset"):
        reader_module.open_dataset(tmp_path)
