"""A dataset from Python: by number, by id, in order, as a data frame, for torch; and printed on one screen."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mesm_data
from mesm_data.dataset.schema import ROW_GROUP
from mesm_data.errors import DataError
from tests.data.synthetic_rows import EMOTIONS, LEFT_OUT, synthetic_rows, write_synthetic

ROOT = Path(__file__).parents[2]
ROWS = synthetic_rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made") / "set", ROWS)


@pytest.fixture(scope="module")
def dataset(folder: Path) -> mesm_data.Dataset:
    return mesm_data.load(folder)


def test_it_is_a_sequence_of_the_utterances_that_were_written(dataset: mesm_data.Dataset) -> None:
    assert len(dataset) == len(ROWS) > ROW_GROUP
    items = list(dataset)
    for n, (item, row) in enumerate(zip(items, ROWS, strict=True)):
        assert (item.id, item.text, item.start, item.end) == (
            row.utterance.id, row.utterance.text, row.utterance.start, row.utterance.end,
        )  # fmt: skip
        assert (item.speaker, item.group, item.split) == (row.utterance.speaker, row.utterance.group, row.split)
        assert item.labels == dict(zip(EMOTIONS, row.utterance.labels, strict=True))
        assert item.votes == row.utterance.votes
        for found in (item, dataset[n], dataset[n - len(ROWS)], dataset[row.utterance.id]):
            assert found.id == row.utterance.id
            for name in ("faces", "mels", "face_times", "face_boxes", "face_scores", "face_landmarks", "face_found"):
                stored, written = getattr(found.clip, name), getattr(row.clip, name)
                assert (stored.dtype, stored.shape) == (written.dtype, written.shape), name
                np.testing.assert_array_equal(stored, written)
            assert (found.clip.sample_rate, found.clip.quality) == (row.clip.sample_rate, row.clip.quality)
    assert [item.id for item in dataset[3:19:7]] == [row.utterance.id for row in ROWS[3:19:7]]


def test_faces_and_mels_have_the_shapes_that_the_docs_give(dataset: mesm_data.Dataset) -> None:
    assert (dataset[0].faces.dtype, dataset[0].faces.shape) == (np.uint8, (3, 48, 48, 3))
    assert (dataset[0].mels.dtype, dataset[0].mels.shape) == (np.float16, (2, 128, 32))


def test_numbers_and_ids_that_it_lacks_are_errors(dataset: mesm_data.Dataset) -> None:
    for n in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[n]
    with pytest.raises(DataError, match=r"no utterance 'Ses01F_impro01_F0' among 20; near: Ses01F_impro01_F0"):
        dataset["Ses01F_impro01_F0"]
    assert "Ses01F_impro01_F003" in dataset
    assert "Ses01F_impro01_F0" not in dataset


def test_a_split_is_a_dataset_of_its_own(dataset: mesm_data.Dataset) -> None:
    assert dataset.splits == ("train", "valid", "test")
    assert {name: len(dataset.split(name)) for name in dataset.splits} == {"train": 16, "valid": 2, "test": 2}
    test = dataset.split("test")
    assert (test.splits, test.ids) == (("test",), tuple(row.utterance.id for row in ROWS if row.split == "test"))
    assert test[-1].id == ROWS[-1].utterance.id
    with pytest.raises(DataError, match=r"no split 'dev', expected one of train, valid, test"):
        dataset.split("dev")


def test_it_says_what_it_is(dataset: mesm_data.Dataset, folder: Path) -> None:
    assert mesm_data.load(str(folder)) == dataset
    assert (dataset.corpus, dataset.emotions, dataset.speakers) == ("iemocap", tuple(EMOTIONS), ("Ses01F",))
    assert dataset.recipe == mesm_data.Recipe()
    assert [issue for issue in dataset.issues if issue.left_out] == list(LEFT_OUT)
    assert len(dataset.issues) == len(LEFT_OUT) + sum(len(row.clip.quality) for row in ROWS)


def test_a_data_frame_has_a_line_per_utterance_and_no_arrays(dataset: mesm_data.Dataset) -> None:
    frame = dataset.to_pandas()
    assert len(frame) == len(ROWS)
    assert list(frame.columns) == [
        "id", "split", "speaker", "group", "start", "end", "text", *EMOTIONS, "faces", "faces_found", "sample_rate",
        "quality",
    ]  # fmt: skip
    assert frame[EMOTIONS].to_numpy().tolist() == [list(row.utterance.labels) for row in ROWS]
    assert frame.faces.tolist() == [3] * len(ROWS)
    assert frame.faces_found.tolist() == [2] * len(ROWS)
    assert frame.quality.tolist() == [", ".join(row.clip.quality) for row in ROWS]
    assert all(pd.api.types.is_scalar(value) for value in frame.iloc[0])
    assert len(dataset.split("valid").to_pandas()) == 2


def test_torch_reads_a_split_as_the_batches_that_models_take(dataset: mesm_data.Dataset, tmp_path: Path) -> None:
    from torch.utils.data import DataLoader, Dataset

    train = dataset.split("train").to_torch(cache=tmp_path)
    assert isinstance(train, Dataset)
    first = next(iter(DataLoader(train, batch_size=4, collate_fn=train.collate)))
    assert first.ids == dataset.split("train").ids[:4]
    assert first.face_counts.tolist() == [3] * 4
    np.testing.assert_array_equal(first.faces[:3].permute(0, 2, 3, 1), ROWS[0].clip.faces)
    np.testing.assert_array_equal(first.mels[:2, 0], ROWS[0].clip.mels)
    assert first.labels.tolist() == [list(row.utterance.labels) for row in ROWS[:4]]
    with pytest.raises(DataError, match=r"has the splits train, valid, test; choose one, as in ds\.split\('train'\)"):
        dataset.to_torch(cache=tmp_path)


def test_printing_fits_on_a_screen(dataset: mesm_data.Dataset) -> None:
    item = dataset[0]
    for thing in (dataset, item, item.utterance, item.clip, dataset.recipe, dataset.split("train")):
        shown = str(thing)
        assert len(shown) < 1000, shown
        assert len(shown.splitlines()) <= 8, shown
    assert str(dataset).startswith(f"Dataset('{dataset.folder}'): iemocap, 20 utterances\n")
    assert "emotions: anger, 3 faces, 2 mel chunks, 'Line 0: “quite so”, he said.'" in str(item)
    assert "faces uint8 [3, 48, 48, 3], 2 of them found, mels float16 [2, 128, 32], 16000 Hz, clipped" in str(item.clip)


def test_the_public_names_are_imported_when_they_are_used() -> None:
    code = (
        "import sys, mesm_data; print('pyarrow' in sys.modules, sorted(set(mesm_data.__all__) - set(dir(mesm_data))));"
        "mesm_data.load; print('pyarrow' in sys.modules); mesm_data.nothing"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert shown.stdout.split("\n")[:2] == ["False []", "True"]
    assert "module 'mesm_data' has no attribute 'nothing'; public are Clip, Dataset, Item, Recipe, Utt" in shown.stderr
    assert all(getattr(mesm_data, name).__doc__ for name in mesm_data.__all__)
