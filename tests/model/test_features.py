"""Features beside a dataset: attached only where they belong, read as written, and by which models."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.features import extract, store
from mesm_model.loader import PAIR_MB, ROW_MB, open_split, read
from mesm_model.models import emoembs, fe2e, lf_lstm
from mesm_model.runs.checkpoint import about
from mesm_model.runs.folder import features_of
from mesm_model.runs.settings import resolve_config


@pytest.fixture
def own(featured: Dataset, tmp_path: Path) -> Path:
    """A copy of the features to do harm to."""
    return Path(shutil.copytree(featured.index["features"]["folder"], tmp_path / "own"))


def test_a_batch_holds_the_features_in_place_of_tokens_faces_and_mels(featured: Dataset) -> None:
    stored, split_data = store.open_split(featured, "valid"), open_split(featured, "valid", None)
    (batch,) = read(split_data, [[3, 0]])
    assert (len(batch.tokens), len(batch.faces), len(batch.mels)) == (0, 0, 0)
    for modality, (rows, counts) in batch.features.items():
        assert np.array_equal(rows, np.concatenate([stored[modality].of(3), stored[modality].of(0)]))
        assert counts.tolist() == [len(stored[modality].of(n)) for n in (3, 0)]
    assert [batch.ids[0], batch.ids[1]] == [split_data.ids[3], split_data.ids[0]]


def test_a_part_goes_to_another_process_with_its_features(featured: Dataset) -> None:
    split_data = open_split(featured, "valid", None)
    there = pickle.loads(pickle.dumps(split_data))
    for modality, rows in split_data[2].features.items():
        assert torch.equal(there[2].features[modality], rows)


def test_the_cost_of_an_utterance_counts_its_rows(featured: Dataset) -> None:
    split_data = open_split(featured, "valid", None)
    for n in range(len(split_data)):
        counts = [len(rows) for rows in split_data[n].features.values()]
        assert split_data.megabytes[n] == pytest.approx(ROW_MB * sum(counts) + PAIR_MB * max(counts) ** 2)


def test_a_model_gets_what_it_takes(small: Dataset, featured: Dataset) -> None:
    assert store.as_model_input(featured, "lf-lstm", lf_lstm.Config) is featured
    assert store.features_info(store.as_model_input(featured, "fe2e", fe2e.Config)) is None
    with pytest.raises(
        DataError, match=r"lf-lstm takes fixed features; make them with `mesm features .*then give --feat"
    ):
        resolve_config(small, "lf-lstm")


def test_the_sizes_of_the_features_become_settings_of_the_model(featured: Dataset, learnable: Dataset) -> None:
    config = resolve_config(featured, "lf-lstm").config
    assert (config.text_size, config.audio_size, config.vision_size, config.emotions) == (300, 34, 35, 4)
    assert resolve_config(featured, "emoembs").config.learned_emotions
    assert resolve_config(learnable, "emoembs").config == emoembs.Config(
        emotions=4, text_size=32, audio_size=34, vision_size=35, layers=1, dropout=0.0, learned_emotions=False
    )


def test_sizes_that_follow_from_the_features_cannot_be_set(featured: Dataset) -> None:
    with pytest.raises(DataError, match="setting 'text_size': neither lf-lstm nor its training has it"):
        resolve_config(featured, "lf-lstm", {}, ("text_size=12",))


def test_a_run_remembers_the_names_and_the_digest_of_its_features(small: Dataset, featured: Dataset) -> None:
    digest = featured.index["features"]["digest"]
    assert about(featured)["features"] == {"digest": digest, "names": "hash, bark_mfcc, face_geometry_pca"}
    assert about(small)["features"] is None


def test_sets_that_stand_in_for_the_papers_are_named(featured: Dataset, learnable: Dataset) -> None:
    told = [store.described(dataset.index["features"], m) for dataset in (featured, learnable) for m in ("tav", "t")]
    assert told == [
        "features hash, bark_mfcc, face_geometry_pca, not the paper's",
        "features hash, not the paper's",
        "features glove, bark_mfcc, face_geometry_pca; not the paper's: bark_mfcc, face_geometry_pca",
        "features glove",
    ]


def test_features_of_another_dataset_are_refused(learnable: Dataset, own: Path) -> None:
    with pytest.raises(
        DataError, match=r"own: features of another dataset \(content .{12}, .* has .{12}\); run `mesm feat"
    ):
        store.attach(learnable, own)


def test_features_of_other_shards_are_refused(small: Dataset, own: Path) -> None:
    other = [shard | {"name": shard["name"].replace("00001", "00002")} for shard in small.index["shards"]]
    with pytest.raises(
        DataError, match=r"own: features of other shards, there are none for test-00000-of-00002.parquet"
    ):
        store.attach(replace(small, index=small.index | {"shards": other}), own)


def test_a_folder_that_is_not_finished_is_refused(small: Dataset, own: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"features.json: not found, expected a folder made by `mesm features`$"):
        store.attach(small, tmp_path)
    (own / "features.json").unlink()
    with pytest.raises(DataError, match="it was interrupted here: run it again to finish"):
        store.attach(small, own)


def test_a_file_that_was_changed_or_lost_is_refused(small: Dataset, own: Path) -> None:
    path = own / "audio-bark_mfcc" / "valid-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"valid-00000-of-00001.parquet: changed or cut short; delete the folder .*own"):
        store.open_split(store.attach(small, own), "valid")
    path.unlink()
    with pytest.raises(DataError, match=r"valid-00000-of-00001.parquet: not found; delete the folder"):
        store.open_split(store.attach(small, own), "valid")
    store.open_split(store.attach(small, own), "train")  # is whole


def test_where_a_runs_features_are_is_read_from_its_scores(tmp_path: Path) -> None:
    assert features_of(tmp_path) is None
    for name, found in (("one", {"words": "", "folder": "features"}), ("many/seed-0", {"words": "", "folder": "f"})):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "scores.json").write_text(json.dumps({"splits": {"test": {"features": found}}}))
    assert features_of(tmp_path / "one") == Path("features")
    assert features_of(tmp_path / "many") == Path("f")


def test_a_description_that_is_cut_short_is_refused(featured: Dataset, own: Path) -> None:
    path = own / "features.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(DataError, match=r"features.json: not JSON .*; delete the folder .* again$"):
        store.attach(featured, own)


@pytest.mark.parametrize("name", ["text-hash/words.txt", "vision-face_geometry_pca/faces.npz"])
def test_what_was_fitted_is_checked_before_it_is_used_again(small: Dataset, own: Path, name: str) -> None:
    dataset = store.attach(small, own)
    assert set(extract.extractors(dataset)) == {"t", "a", "v"}
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{name}: changed or cut short; delete the folder .*own and make the features"
    ):
        extract.extractors(dataset)


def test_plain_pandas_reads_the_rows_by_what_the_file_says_of_them(small: Dataset, own: Path) -> None:
    dataset = store.attach(small, own)
    stored = store.open_split(dataset, "valid")
    for modality, one in dataset.index["features"]["sets"].items():
        path = own / store.place(modality, one["name"]) / "valid-00000-of-00001.parquet"
        array = json.loads(pq.read_schema(path).metadata[b"mesm"])["arrays"]["rows"]
        assert array == {"dtype": "float32", "shape": [one["size"]]}
        frame = pd.read_parquet(path)
        assert frame.id.tolist() == list(small.split("valid").ids)
        for n, cells in enumerate(frame.rows):
            values = np.frombuffer(b"".join(cells), array["dtype"]).reshape(-1, *array["shape"])
            np.testing.assert_array_equal(values, stored[modality].of(n))


def test_features_of_an_earlier_version_are_refused(small: Dataset, own: Path) -> None:
    for name in ("features.json", "plan.json"):
        found = json.loads((own / name).read_text())
        del found["format"]
        (own / name).write_text(json.dumps(found))
    with pytest.raises(
        DataError, match=r"features.json: has format 1, this version of mesm reads 2; delete the folder"
    ):
        store.attach(small, own)
    wanted = {modality: extract.FeatureSpec(name) for modality, name in extract.DEFAULTS.items()}
    with pytest.raises(
        DataError, match=r"plan.json: it lacks format; no plan of a set of features; give another --out"
    ):
        extract.make_features(small, own, wanted, quiet=True)


def test_a_single_digit_of_the_description_that_changes_is_noticed(small: Dataset, own: Path) -> None:
    path = own / "features.json"
    stored = json.loads(path.read_text())
    stored["sets"]["a"]["mean"][3] += 1.0
    path.write_text(json.dumps(stored))
    with pytest.raises(DataError, match=r"features.json: changed since it was written; delete the folder .* again$"):
        store.attach(small, own)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_damaged_fit_of_an_interrupted_run_is_refused(small: Dataset, own: Path, content: bytes) -> None:
    (own / "features.json").unlink()
    (own / "vision-face_geometry_pca" / "faces.npz").write_bytes(content)
    wanted = {modality: extract.FeatureSpec(name) for modality, name in extract.DEFAULTS.items()}
    with pytest.raises(DataError, match=r"faces.npz: damaged \(.*\); delete the folder .*vision-face_geometry_pca and"):
        extract.make_features(small, own, wanted, quiet=True)


def test_a_damaged_shard_of_an_interrupted_run_is_refused(small: Dataset, own: Path) -> None:
    (own / "features.json").unlink()
    path = own / "text-hash" / "valid-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:100])
    wanted = {modality: extract.FeatureSpec(name) for modality, name in extract.DEFAULTS.items()}
    with pytest.raises(
        DataError, match=r"valid-00000-of-00001.parquet: .*; delete the file and run the same `mesm feat"
    ):
        extract.make_features(small, own, wanted, quiet=True)
