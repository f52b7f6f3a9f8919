"""What goes into a shard comes out of it, in plain pandas and in `datasets` too."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mesm_data import files
from mesm_data.dataset import schema, writer
from mesm_data.errors import ShardError
from tests.data.rows import synthetic_row


def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [synthetic_row(n) for n in range(20)]
    writer.write_table(tmp_path / "a.parquet", schema.to_table(rows), {})
    table = pq.ParquetFile(tmp_path / "a.parquet").read_row_group(0)
    assert table.num_rows == schema.ROW_GROUP
    row = rows[5]
    np.testing.assert_array_equal(schema.faces_of(table, 5), row.clip.faces)
    np.testing.assert_array_equal(schema.mels_of(table, 5), row.clip.mels)
    assert not schema.faces_of(table, 5).flags.writeable
    values = table.drop_columns(["faces", "mels"]).slice(5, 1).to_pylist()[0]
    assert values["text"] == row.utterance.text
    assert values["votes"] == [vote._asdict() for vote in row.utterance.votes]
    assert values["labels"] == list(row.utterance.labels)
    assert values["face_boxes"] == row.clip.face_boxes.tolist()
    assert values["face_landmarks"] == row.clip.face_landmarks.reshape(-1, 10).tolist()
    assert values["face_found"] == [True, False, True]


@pytest.mark.parametrize("first", [0, 1, 7])
def test_arrays_are_right_in_slices_and_chunks_of_tables(first: int) -> None:
    rows = [synthetic_row(n, faces=n % 4, chunks=(n + 1) % 3) for n in range(11)]
    table = pa.concat_tables([schema.to_table(rows[:9]).slice(first), schema.to_table(rows[9:])])
    for n, row in enumerate(rows[first:]):
        np.testing.assert_array_equal(schema.faces_of(table, n), row.clip.faces)
        np.testing.assert_array_equal(schema.mels_of(table, n), row.clip.mels)


def test_an_utterance_without_faces_or_audio_can_be_stored(tmp_path: Path) -> None:
    table = schema.to_table([synthetic_row(0, faces=0, chunks=0), synthetic_row(1)])
    writer.write_table(tmp_path / "a.parquet", table, {})
    read = pq.read_table(tmp_path / "a.parquet")
    assert schema.faces_of(read, 0).shape == (0, 48, 48, 3)
    assert schema.mels_of(read, 0).shape == (0, 128, 32)
    np.testing.assert_array_equal(schema.faces_of(read, 1), synthetic_row(1).clip.faces)


def test_cells_of_another_size_are_refused() -> None:
    table = schema.to_table([synthetic_row(0)])
    place = table.column_names.index("mels")
    for cells in ([b"short", b"x" * 8192], [None, b"x" * 8192], [b"x" * 8191, b"x" * 8193]):
        changed = table.set_column(place, "mels", pa.array([cells], pa.list_(pa.binary())))
        with pytest.raises(ShardError, match=r"mels of Ses01F_impro01_F000: not 8192 bytes each; build the dataset"):
            schema.content_hashes(changed)
        if None in cells or len(cells[0]) < 10:
            with pytest.raises(ShardError, match=r"not 8192 bytes each"):
                schema.mels_of(changed, 0)


def test_plain_pandas_and_datasets_read_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [synthetic_row(n, faces=n % 3) for n in range(10)]
    path = tmp_path / "shards" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    writer.write_table(path, schema.to_table(rows), {"arrays": schema.ARRAYS})
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    stored = json.loads(pq.read_schema(path).metadata[b"mesm"])["arrays"]
    for frame in (pd.read_parquet(path), pd.read_parquet(path.parent), loaded.to_pandas()):
        assert frame.id.tolist() == [row.utterance.id for row in rows]
        for name, array in stored.items():
            for cells, row in zip(frame[name], rows, strict=True):
                values = np.frombuffer(b"".join(cells), array["dtype"]).reshape(-1, *array["shape"])
                np.testing.assert_array_equal(values, getattr(row.clip, name))


def test_the_content_hash_sees_every_value_but_not_the_sharding() -> None:
    rows = [synthetic_row(n) for n in range(6)]
    whole = schema.content_hashes(schema.to_table(rows))
    apart = schema.content_hashes(schema.to_table(rows[3:])) + schema.content_hashes(schema.to_table(rows[:3]))
    assert schema.overall_hash(whole) == schema.overall_hash(apart)
    rows[2].clip.faces[0, 0, 0, 0] ^= 1
    assert schema.overall_hash(schema.content_hashes(schema.to_table(rows))) != schema.overall_hash(whole)


def test_the_content_hash_is_that_of_schema_version_1() -> None:
    """Recorded before faces and mels were stored as list<binary>."""
    hashes = schema.content_hashes(schema.to_table([synthetic_row(n) for n in range(3)]))
    assert schema.overall_hash(hashes) == "720a8b66b0e3bd8b2e33fc31da999ab8b970eb28c316b617790c2e001e93053a"


def test_the_same_rows_give_the_same_bytes_and_row_groups_of_eight(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer.write_table(tmp_path / name, schema.to_table([synthetic_row(n) for n in range(20)]), {"x": 1})
    assert files.sha256_of(tmp_path / "a") == files.sha256_of(tmp_path / "b")
    metadata = pq.ParquetFile(tmp_path / "a").metadata
    assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == [8, 8, 4]


def test_pieces_of_files_are_gathered_as_one_table(tmp_path: Path) -> None:
    rows = [synthetic_row(n) for n in range(30)]
    for name, some in (("a", rows[:20]), ("b", rows[20:])):
        writer.write_table(tmp_path / name, schema.to_table(some), {})
    table = writer.gather([(tmp_path / "a", 3, 15), (tmp_path / "b", 0, 10), (tmp_path / "a", 19, 1)])
    expected = [*rows[3:18], *rows[20:], rows[19]]
    assert table.column("id").to_pylist() == [row.utterance.id for row in expected]
    assert schema.content_hashes(table) == schema.content_hashes(schema.to_table(expected))


def test_a_row_group_that_arrow_could_not_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is 2 GB; here it is two rows of three faces."""
    monkeypatch.setattr(writer, "MOST_BYTES", 2 * 3 * 6912 + 200)
    writer.write_table(tmp_path / "a", schema.to_table([synthetic_row(n, chunks=1) for n in range(2)]), {})
    with pytest.raises(ShardError, match=r"b: more than 0\.0 GB of faces in the rows from .*F000 to .*F007; cut these"):
        writer.write_table(tmp_path / "b", schema.to_table([synthetic_row(n, chunks=1) for n in range(9)]), {})
    assert not list(tmp_path.glob("b*"))
