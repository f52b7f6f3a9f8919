"""From shards to batches: nothing is lost on the way, and what goes together depends on seed and epoch alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mesm_data.dataset import schema, verify
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError, ShardError
from mesm_data.synth import planted
from mesm_model import loader
from mesm_model.loader import CHUNK_MB, FACE_MB, TOKEN_MB, open_split, plan_epoch, plan_reading, read
from mesm_model.models.common.text import tokenize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(small: Dataset, tmp_path: Path) -> Dataset:
    """A copy of the dataset to damage."""
    shutil.copytree(small.folder, tmp_path / "own", ignore=shutil.ignore_patterns(".cache"))
    return load(tmp_path / "own")


def test_every_utterance_comes_as_the_shards_have_it(small: Dataset, encoder: str) -> None:
    split_data = open_split(small, "train", Path(encoder))
    n = 0
    for table in small.tables("train"):
        for row, light in enumerate(table.drop_columns(["faces", "mels"]).to_pylist()):
            example = split_data[n]
            assert (example.id, example.text) == (light["id"], light["text"])
            assert example.labels.tolist() == light["labels"]
            assert example.tokens.tolist() == tokenize(encoder, [light["text"]])[0]
            assert np.array_equal(example.faces.permute(0, 2, 3, 1), schema.faces_of(table, row))
            assert np.array_equal(example.mels[:, 0], schema.mels_of(table, row))
            n += 1
    assert n == len(split_data) == 48


def test_a_model_without_text_gets_no_tokens(small: Dataset) -> None:
    split_data = open_split(small, "valid", None)
    (batch,) = read(split_data, [range(len(split_data))])
    assert batch.token_counts.tolist() == [0] * 20


def test_the_cost_of_an_utterance_counts_faces_chunks_and_tokens(small: Dataset, encoder: str) -> None:
    split_data = open_split(small, "test", Path(encoder))
    for n in range(len(split_data)):
        e = split_data[n]
        assert split_data.megabytes[n] == pytest.approx(
            FACE_MB * len(e.faces) + CHUNK_MB * len(e.mels) + TOKEN_MB * len(e.tokens)
        )


def test_an_unknown_split_is_refused_with_those_there_are(small: Dataset) -> None:
    with pytest.raises(DataError, match="no split 'dev', expected one of train, valid, test"):
        open_split(small, "dev", None)


def test_the_dataset_is_still_whole_after_the_copy_was_made(small: Dataset) -> None:
    open_split(small, "train", None)
    assert verify.verify(small.folder) == []


def test_the_copy_is_made_once_and_what_a_killed_process_left_is_no_copy(own: Dataset) -> None:
    path = open_split(own, "train", None).path
    made = path.stat().st_mtime_ns
    assert open_split(own, "train", None).path.stat().st_mtime_ns == made
    path.unlink()
    path.with_name(path.name + ".tmp").write_bytes(b"what a killed process left")
    assert open_split(own, "train", None)[47].id == "planted-train-00047"


@pytest.mark.parametrize("harm", ["a flipped bit", "cut short", "no digest"])
def test_a_changed_copy_is_made_again_with_one_line(harm: str, own: Dataset, capsys: pytest.CaptureFixture) -> None:
    split_data = open_split(own, "train", None)
    whole, example = split_data.path.read_bytes(), split_data[30]
    del split_data
    path = next((own.folder / ".cache").glob("*.arrow"))
    if harm == "no digest":
        path.with_name(path.name + ".sha256").unlink()
    else:
        changed = bytearray(whole)
        changed[len(changed) // 2] ^= 1
        path.unlink()
        path.write_bytes(changed if harm == "a flipped bit" else changed[:1000])
    again = open_split(own, "train", None)
    assert path.read_bytes() == whole
    assert torch.equal(again[30].mels, example.mels)
    assert capsys.readouterr().err == f"{path}: not what was written there; copying the dataset again\n"
    open_split(own, "train", None)
    assert capsys.readouterr().err == ""


def test_another_dataset_in_the_same_folder_does_not_get_the_old_copy(own: Dataset, tmp_path: Path) -> None:
    first = open_split(own, "train", None, tmp_path / "cache")
    planted.write_planted(tmp_path / "other", {"train": 5}, seed=1)
    second = open_split(load(tmp_path / "other"), "train", None, tmp_path / "cache")
    assert (len(first), len(second)) == (48, 5)


def test_a_changed_shard_is_refused_before_it_is_copied(own: Dataset) -> None:
    (shard,) = own.shard_paths("train")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=r"train-00000-of-00001.parquet: sha256 .*, expected .*: changed or cut short"):
        open_split(own, "train", None)
    shard.unlink()
    with pytest.raises(ShardError, match=r"not found, though index.json names it"):
        open_split(own, "train", None)


def test_a_folder_that_cannot_be_written_names_the_option_that_helps(own: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the copy for training .*; give --cache FOLDER"):
        open_split(own, "train", None, tmp_path / "file" / "cache")


def test_two_processes_that_begin_together_both_get_the_copy(own: Dataset) -> None:
    code = (
        "import sys, pathlib, mesm_data.dataset.reader as shards, mesm_model.loader as loader\n"
        "print(len(loader.open_split(shards.load(pathlib.Path(sys.argv[1])), 'train', None)))"
    )
    command = [sys.executable, "-c", code, str(own.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["48", "48"]


def test_a_shard_that_changes_while_it_is_copied_leaves_no_copy(own: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Dataset.tables

    def disturbed(self: Dataset, *of: object) -> Iterator[pa.Table]:
        yield from tables(self, *of)
        os.utime(own.folder / "shards" / "train-00000-of-00001.parquet")

    monkeypatch.setattr(Dataset, "tables", disturbed)
    with pytest.raises(ShardError, match="parquet: changed while it was copied; give the command again"):
        open_split(own, "train", None)
    assert [path.suffix for path in (own.folder / ".cache").iterdir() if path.suffix != ".lock"] == []


def test_nothing_to_read_is_no_batch_with_workers_too(small: Dataset) -> None:
    split_data = open_split(small, "valid", None)
    assert [list(read(split_data, [], workers)) for workers in (0, 1)] == [[], []]


def test_worker_processes_give_the_same_batches(small: Dataset) -> None:
    split_data = open_split(small, "valid", None)
    batches = plan_reading(split_data.megabytes, 6, np.inf)
    for alone, with_workers in zip(read(split_data, batches), read(split_data, batches, workers=2), strict=True):
        for field in fields(alone):
            one, other = getattr(alone, field.name), getattr(with_workers, field.name)
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_worker_processes_need_shared_memory_for_their_queues_only(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_data = open_split(small, "valid", None)
    monkeypatch.setattr(loader, "QUEUES", 1 << 60)  # as on a disk that is full
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path)
    with pytest.raises(DataError, match=r"KB are free, 1 worker processes need \d+; free some, or give --workers 0"):
        read(split_data, [range(4)], workers=1)
    assert len(list(read(split_data, [range(4)]))) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to mount a small /dev/shm")
def test_batches_larger_than_shared_memory_arrive(small: Dataset) -> None:
    """In a namespace of mounts of its own, with 256 KB; a batch has 900 KB."""
    open_split(small, "valid", None)
    code = (
        "import sys, pathlib\n"
        "if __name__ == '__main__':\n"
        "    import mesm_data.dataset.reader as reader, mesm_model.loader as loader\n"
        "    split_data = loader.open_split(reader.load(pathlib.Path(sys.argv[1])), 'valid', None)\n"
        "    print(sum(len(batch) for batch in loader.read(split_data, [range(20)] * 3, workers=1)))\n"
    )
    script = small.folder.parent / "read_it.py"
    script.write_text(code)
    mount = 'mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, str(script), str(small.folder)]
    if shutil.which("unshare") is None or subprocess.run([*command[:5], "true"], check=False).returncode:
        pytest.skip("this machine gives no namespace of mounts")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.stdout.strip() == "60", done.stderr


MEGABYTES = np.random.default_rng(0).uniform(10, 400, 500)


def test_an_epoch_is_a_function_of_seed_and_epoch_and_takes_every_utterance_once() -> None:
    plan = plan_epoch(MEGABYTES, 8, 1000.0, 2, seed=3, epoch=1)
    assert plan == plan_epoch(MEGABYTES, 8, 1000.0, 2, seed=3, epoch=1)
    assert plan != plan_epoch(MEGABYTES, 8, 1000.0, 2, seed=3, epoch=2)
    assert plan != plan_epoch(MEGABYTES, 8, 1000.0, 2, seed=4, epoch=1)
    assert sorted(n for step in plan.steps for batch in step for n in batch) == list(range(500))
    assert sum(plan.utterances(n) for n in range(len(plan.steps))) == 500


def test_no_batch_exceeds_the_number_or_the_memory_unless_it_is_one_utterance() -> None:
    plan = plan_epoch(MEGABYTES, 8, 350.0, 3, seed=0, epoch=0)
    batches = [list(batch) for step in plan.steps for batch in step]
    assert all(len(batch) == 1 or (len(batch) <= 8 and MEGABYTES[batch].sum() <= 350) for batch in batches)
    assert any(len(batch) == 1 and MEGABYTES[batch].sum() > 350 for batch in batches)
    assert all(len(step) == 3 for step in plan.steps[:-1])


def test_a_bound_on_memory_makes_batches_of_even_cost_and_not_of_even_length() -> None:
    by_cost = [MEGABYTES[list(b)].sum() for s in plan_epoch(MEGABYTES, 500, 3000.0, 1, 0, 0).steps for b in s]
    by_count = [MEGABYTES[list(b)].sum() for s in plan_epoch(MEGABYTES, 14, np.inf, 1, 0, 0).steps for b in s]
    assert max(by_cost[:-1]) / np.mean(by_cost[:-1]) < 1.1 < max(by_count) / np.mean(by_count)


def test_reading_keeps_the_order() -> None:
    assert [n for batch in plan_reading(MEGABYTES, 32, 2000.0) for n in batch] == list(range(500))


def test_nothing_of_the_index_is_needed_but_what_every_dataset_has(own: Dataset) -> None:
    index = json.loads((own.folder / "index.json").read_text())
    del index["suggested"]
    (own.folder / "index.json").write_text(json.dumps(index))
    assert len(open_split(load(own.folder), "valid", None)) == 20
    assert os.listdir(own.folder / ".cache")
