"""A dataset goes into other tools whole: the same utterances, faces, sounds, texts and labels come out of them."""

import csv
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_data.dataset.reader import load
from mesm_data.dataset.schema import Row
from mesm_data.dataset.verify import verify
from mesm_data.dataset.writer import gather
from mesm_data.errors import DataError
from mesm_data.export.export import FORMATS, export
from mesm_data.export.samples import Options
from mesm_data.files import exclusive, sha256_of
from mesm_data.media.probe import probe
from mesm_data.utterance import Source, Vote
from mesm_model.features.external import read_pickled
from mesm_model.features.extract import DEFAULTS, FeatureSpec, extractors, make_features
from mesm_model.features.store import attach
from mesm_model.loader import open_split
from tests.data.synthetic_rows import EMOTIONS, synthetic_rows, write_synthetic
from tests.data.test_encode import numbers_in, write_recording


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made") / "up", synthetic_rows())


def files_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(split: str) -> list[Row]:
    return [row for row in synthetic_rows() if row.split == split]


# ---- films


@pytest.fixture
def filmed(tmp_path: Path) -> tuple[Path, Path]:
    """A dataset of five utterances in two recordings, and the raw folder that has them."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_recording(raw)
    (raw / "second").mkdir()
    write_recording(raw / "second", seconds=3.0)
    rows = []
    for n, row in enumerate(synthetic_rows(5)):
        folder = "second/" if n == 4 else ""
        source = Source(f"{folder}film.avi", f"{folder}sound.wav", (0.0, 0.0, 0.5, 1.0), 0)
        start, end = (1.0, 2.0) if n == 4 else (float(n), n + 1.5)
        utterance = replace(row.utterance, source=source, start=start, end=end)
        rows.append(row._replace(utterance=utterance))
    return write_synthetic(tmp_path / "set", rows), raw


def test_clips_are_one_film_an_utterance_cut_exactly(filmed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, raw = filmed
    done = export(folder, "clips", tmp_path / "clips", Options(raw), holds_licence=True)
    assert done.utterances == 5
    assert numbers_in(tmp_path / "clips" / "Ses01F_impro01_F002.mp4") == list(range(60, 105))
    assert numbers_in(tmp_path / "clips" / "Ses01F_impro01_F004.mp4") == list(range(30, 60))
    with (tmp_path / "clips" / "metadata.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file_name"] for line in lines] == [f"Ses01F_impro01_F00{n}.mp4" for n in range(5)]
    assert [[name for name in EMOTIONS if line[name] == "1"] for line in lines] == [[name] for name in EMOTIONS[:5]]
    assert lines[2]["text"] == synthetic_rows(5)[2].utterance.text


def test_clips_go_on_where_they_were_stopped(filmed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, raw = filmed
    out = tmp_path / "clips"
    export(folder, "clips", out, Options(raw), holds_licence=True)
    whole = files_of(out)
    for name in ("Ses01F_impro01_F001.mp4", "README.md", "metadata.csv"):
        (out / name).unlink()
    kept = (out / "Ses01F_impro01_F002.mp4").stat().st_mtime_ns
    export(folder, "clips", out, Options(raw), holds_licence=True)
    assert files_of(out) == whole
    assert (out / "Ses01F_impro01_F002.mp4").stat().st_mtime_ns == kept


def test_clips_need_the_raw_files_that_the_dataset_was_built_from(filmed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, raw = filmed
    with pytest.raises(DataError, match=r"give --raw FOLDER, the corpus that was built"):
        export(folder, "clips", tmp_path / "clips", holds_licence=True)
    (raw / "second" / "film.avi").unlink()
    with pytest.raises(DataError, match=r"1 of 4 files are missing, such as second/film\.avi; expected the folder"):
        export(folder, "clips", tmp_path / "clips", Options(raw), holds_licence=True)
    assert not (tmp_path / "clips").exists()


def test_real_dialogues_become_films_of_one_speaker(shared: Path, tmp_path: Path) -> None:
    raw = shared / "raw" / "IEMOCAP_full_release"
    film, sound = "Session1/dialog/avi/DivX/Ses01F_impro01.avi", "Session1/dialog/wav/Ses01F_impro01.wav"
    row = synthetic_rows(5)[0]
    utterance = replace(row.utterance, source=Source(film, sound, (0.5, 0.0, 1.0, 1.0), 1), start=2.0, end=4.0)
    folder = write_synthetic(tmp_path / "set", [row._replace(utterance=utterance)])
    export(folder, "clips", tmp_path / "clips", Options(raw), holds_licence=True)
    info = probe(tmp_path / "clips" / f"{utterance.id}.mp4")
    assert (info.width, info.height) == (probe(raw / film).width // 2, probe(raw / film).height)
    assert info.duration == pytest.approx(2.0, abs=0.05)


# ---- tables of faces and sounds


def test_webdataset_reads_every_sample_back(dataset: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    export(dataset, "webdataset", tmp_path, holds_licence=True)
    samples = list(webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == [row.utterance.id for row in rows_of("train")]
    for sample, row in zip(samples, rows_of("train"), strict=True):
        np.testing.assert_array_equal(sample["faces.npy"], row.clip.faces)
        np.testing.assert_array_equal(sample["mels.npy"], row.clip.mels)
        assert sample["json"]["text"] == row.utterance.text
        assert sample["json"]["labels"] == list(row.utterance.labels)
        assert sample["json"]["emotions"] == [EMOTIONS[row.utterance.labels.index(1)]]
        assert sample["json"]["votes"][0] == {"rater": "C-E1", "name": "Anger", "value": 1.0}


def test_a_large_part_is_several_tars(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesm_data.export.webdataset.TAR_MB", 0.1)
    export(dataset, "webdataset", tmp_path, holds_licence=True)
    assert sorted(path.name for path in tmp_path.glob("train-*")) == [f"train-{n:06d}.tar" for n in range(6)]


def test_ids_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    rows = synthetic_rows(5)
    twins = [
        row._replace(utterance=replace(row.utterance, id=name), clip=replace(row.clip, utterance=name))
        for row, name in zip(rows, ["a.b", "a_b", "c", "d", "e"], strict=True)
    ]
    folder = write_synthetic(tmp_path / "set", twins)
    with pytest.raises(DataError, match=r"ids a\.b, a_b would have files of one name"):
        export(folder, "webdataset", tmp_path / "out", holds_licence=True)


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def test_hugging_face_loads_the_folder_with_faces_as_pictures(dataset: Path, tmp_path: Path, hugging_face: Any) -> None:
    export(dataset, "hf", tmp_path / "hf", holds_licence=True)
    loaded = hugging_face.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 16, "valid": 2, "test": 2}
    for found, row in zip(loaded["train"], rows_of("train"), strict=True):
        assert (found["id"], found["text"], found["start"]) == (
            row.utterance.id,
            row.utterance.text,
            row.utterance.start,
        )
        assert found["labels"] == list(row.utterance.labels)
        np.testing.assert_array_equal(np.stack([np.asarray(face) for face in found["faces"]]), row.clip.faces)
        np.testing.assert_array_equal(np.array(found["mels"], np.float16), row.clip.mels)
        assert [tuple(vote.values()) for vote in found["votes"]] == [tuple(vote) for vote in row.utterance.votes]


def test_hugging_face_loads_utterances_without_faces_or_sound(tmp_path: Path, hugging_face: Any) -> None:
    row = synthetic_rows(5)[0]
    clip = replace(
        row.clip,
        faces=row.clip.faces[:0], face_times=row.clip.face_times[:0], face_boxes=row.clip.face_boxes[:0],
        face_scores=row.clip.face_scores[:0], face_landmarks=row.clip.face_landmarks[:0],
        face_found=row.clip.face_found[:0], mels=row.clip.mels[:0],
    )  # fmt: skip
    export(write_synthetic(tmp_path / "set", [row._replace(clip=clip)]), "hf", tmp_path / "hf", holds_licence=True)
    loaded = hugging_face.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert (loaded["train"][0]["faces"], loaded["train"][0]["mels"]) == ([], [])


# ---- MMSA


def test_a_text_that_a_spreadsheet_would_run_is_written_so_that_none_does(
    filmed: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, raw = filmed
    rows = list(load(folder))
    texts = ['=HYPERLINK("http://x.org","y")', "+1 for that", "-- no", "@home", "plain = text"]
    changed = [Row("iemocap", item.split, replace(item.utterance, text=text, source=Source("film.avi", "sound.wav")),
                   item.clip) for item, text in zip(rows, texts, strict=True)]  # fmt: skip
    export(write_synthetic(tmp_path / "texts", changed), "clips", tmp_path / "out", Options(raw), holds_licence=True)
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == [*(f"'{text}" for text in texts[:4]), texts[4]]
    assert [line["start"] for line in lines] == [str(row.start) for row in rows]


@pytest.fixture(scope="module")
def mmsa(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mmsa")
    export(dataset, "mmsa", out, holds_licence=True)
    return out / "features.pkl"


def unpickled(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content: dict[str, Any] = pickle.load(file)
    return content


def test_the_pickle_has_ids_texts_labels_and_no_made_up_arrays(mmsa: Path) -> None:
    data = unpickled(mmsa)
    for split in ("train", "valid", "test"):
        assert set(data[split]) == {
            "id", "raw_text", "regression_labels", "classification_labels", "annotations", "emotion_labels",
            "emotion_names",
        }  # fmt: skip
        for n, row in enumerate(rows_of(split)):
            assert data[split]["raw_text"][n] == row.utterance.text
            video, clip = data[split]["id"][n].split("$_$")
            assert f"{video}_{clip}" == row.utterance.id
    assert "There are no features" in (mmsa.parent / "README.md").read_text()


def test_sentiment_is_the_raters_mean_of_valence_about_its_middle(mmsa: Path) -> None:
    train = unpickled(mmsa)["train"]
    for n, row in enumerate(rows_of("train")):
        valence = np.mean([vote.value for vote in row.utterance.votes if vote.name == "valence"])
        assert train["regression_labels"][n] == pytest.approx(valence - 3)
        sign = int(np.sign(valence - 3))
        assert train["annotations"][n] == {-1: "Negative", 0: "Neutral", 1: "Positive"}[sign]
        assert train["classification_labels"][n] == sign + 1
        assert train["emotion_labels"][n].tolist() == list(row.utterance.labels)


@pytest.fixture(scope="module")
def featured(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "made"
    make_features(load(dataset), folder, {m: FeatureSpec(name) for m, name in DEFAULTS.items()}, quiet=True)
    return folder


def test_the_pickle_has_the_features_that_were_made(dataset: Path, featured: Path, tmp_path: Path) -> None:
    """As data_loader.py of github.com/thuiar/MMSA reads it without use_bert; and as we read such pickles ourselves."""
    export(dataset, "mmsa", tmp_path, Options(features=featured), holds_licence=True)
    made = extractors(attach(load(dataset), featured))
    data = unpickled(tmp_path / "features.pkl")
    for split, count in {"train": 16, "valid": 2, "test": 2}.items():
        text, audio, vision = (data[split][name].astype(np.float32) for name in ("text", "audio", "vision"))
        assert text.shape[0] == audio.shape[0] == vision.shape[0] == count
        assert np.array(data[split]["regression_labels"]).astype(np.float32)[0].reshape(-1).shape == (1,)
        for n, (utterance, clip) in enumerate(load(dataset).clips(split)):
            for modality, name in (("a", "audio"), ("v", "vision")):
                expected = made[modality].rows(utterance, clip)
                length = data[split][f"{name}_lengths"][n]
                np.testing.assert_array_equal(data[split][name][n][:length], expected)
                assert not data[split][name][n][length:].any()
                np.testing.assert_array_equal(
                    read_pickled(tmp_path / "features.pkl", modality).find(utterance)[:length], expected
                )
    card = (tmp_path / "README.md").read_text()
    assert "`text` is hash, `audio` is bark_mfcc, `vision` is face_geometry_pca." in card
    assert "0 in `audio` (more than 500 rows)" in card


def test_an_utterance_longer_than_the_arrays_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [
        row._replace(utterance=replace(row.utterance, text=text))
        for row, text in zip(synthetic_rows(5), ["So it is.", "Is it so?", "", "well " * 60, "It"], strict=True)
    ]
    folder = write_synthetic(tmp_path / "set", rows)
    specs = {m: FeatureSpec(name) for m, name in DEFAULTS.items()}
    make_features(load(folder), tmp_path / "features", specs, quiet=True)
    export(folder, "mmsa", tmp_path / "out", Options(features=tmp_path / "features"), holds_licence=True)
    data = unpickled(tmp_path / "out" / "features.pkl")
    assert data["test"]["text"].shape == (2, 50, 300)
    assert not data["valid"]["text"][1].any(), "no words"
    assert "1 in `text` (more than 50 rows)" in (tmp_path / "out" / "README.md").read_text()


def test_features_of_another_dataset_or_for_another_format_are_refused(
    dataset: Path, featured: Path, tmp_path: Path
) -> None:
    other = write_synthetic(tmp_path / "other", synthetic_rows(5))
    with pytest.raises(DataError, match=r"made: features of another dataset than .*other; run `mesm features"):
        export(other, "mmsa", tmp_path / "out", Options(features=featured), holds_licence=True)
    with pytest.raises(DataError, match=r"--features goes with --to mmsa, not with --to hf; leave it out"):
        export(dataset, "hf", tmp_path / "out", Options(features=featured), holds_licence=True)
    export(dataset, "mmsa", tmp_path / "out", holds_licence=True)
    with pytest.raises(DataError, match=r"holds an export of the same dataset with other features; give another"):
        export(dataset, "mmsa", tmp_path / "out", Options(features=featured), holds_licence=True)


def test_utterances_that_only_the_speaker_rated_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = []
    for n, row in enumerate(synthetic_rows(6)):
        votes = (Vote("A-F1", "valence", 5.0), *((Vote("A-E1", "valence", 2.0),) if n else ()))
        rows.append(row._replace(utterance=replace(row.utterance, votes=votes)))
    folder = write_synthetic(tmp_path / "set", rows, about={"title": "IEMOCAP", "self_reports": ["A-F", "A-M"]})
    export(folder, "mmsa", tmp_path / "out", holds_licence=True)
    data = unpickled(tmp_path / "out" / "features.pkl")
    assert [data[split]["regression_labels"].tolist() for split in ("train", "valid")] == [[-1.0], [-1.0, -1.0]]
    assert "that nobody rated so are not in the file: 1." in (tmp_path / "out" / "README.md").read_text()


def test_a_corpus_without_sentiment_or_valence_is_refused(tmp_path: Path) -> None:
    rows = [row._replace(utterance=replace(row.utterance, votes=())) for row in synthetic_rows(5)]
    with pytest.raises(
        DataError,
        match=r"no votes on sentiment or valence in train, valid, test, and MMSA predicts sentiment; take",
    ):
        export(write_synthetic(tmp_path / "set", rows), "mmsa", tmp_path / "out", holds_licence=True)
    assert not (tmp_path / "out" / "features.pkl").exists()


def test_a_dataset_without_a_valid_split_is_refused(tmp_path: Path) -> None:
    rows = [row for row in synthetic_rows(5) if row.split != "valid"]
    with pytest.raises(DataError, match=r"has no split valid; MMSA reads train, valid, test"):
        export(write_synthetic(tmp_path / "set", rows), "mmsa", tmp_path / "out", holds_licence=True)


# ---- all of them


def test_folders_whose_names_are_not_utf8_are_written_and_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    folder.mkdir()
    dataset = load(write_synthetic(folder / "set", synthetic_rows(5)))
    make_features(dataset, folder / "features", {m: FeatureSpec(name) for m, name in DEFAULTS.items()}, quiet=True)
    export(dataset.folder, "mmsa", folder / "mmsa", Options(features=folder / "features"), holds_licence=True)
    export(dataset.folder, "hf", folder / "hf", holds_licence=True)
    words = open_split(attach(dataset, folder / "features"), "train", None)[0].features["t"]
    np.testing.assert_array_equal(words[0], unpickled(folder / "mmsa" / "features.pkl")["train"]["text"][0][0])
    assert [item.id for item in dataset] == [row.utterance.id for row in synthetic_rows(5)]
    pieces = [(dataset.folder / shard["name"], 0, shard["rows"]) for shard in dataset.index["shards"]]
    assert gather(pieces).column("id").to_pylist() == [item.id for item in dataset]
    assert verify(dataset.folder) == []


@pytest.mark.parametrize("to", ["webdataset", "hf", "mmsa"])
def test_an_export_has_the_same_bytes_every_time(dataset: Path, tmp_path: Path, to: str) -> None:
    for name in ("one", "two"):
        export(dataset, to, tmp_path / name, holds_licence=True)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("to", FORMATS)
def test_faces_and_voices_of_a_licensed_corpus_ask_for_the_licence(dataset: Path, tmp_path: Path, to: str) -> None:
    with pytest.raises(DataError, match=r"IEMOCAP is licensed \(IEMOCAP data release form.*give --i-hold-the-licence"):
        export(dataset, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["webdataset", "hf", "mmsa"])
def test_the_card_names_the_licence_or_says_that_none_is_needed(dataset: Path, tmp_path: Path, to: str) -> None:
    export(dataset, to, tmp_path / "licensed", holds_licence=True)
    card = (tmp_path / "licensed" / "README.md").read_text()
    assert "**Licence: IEMOCAP data release form, signed with USC SAIL, https://sail.usc.edu/iemocap/.**" in card
    assert "16 train, 2 valid, 2 test" in card
    free = write_synthetic(tmp_path / "free", synthetic_rows(), corpus="planted")
    export(free, to, tmp_path / "unlicensed")
    assert "No licence is needed" in (tmp_path / "unlicensed" / "README.md").read_text()


def test_another_export_or_other_files_in_the_folder_are_left_alone(dataset: Path, tmp_path: Path) -> None:
    export(dataset, "mmsa", tmp_path / "out", holds_licence=True)
    content = load(dataset).index["content"][:12]
    with pytest.raises(
        DataError, match=rf"holds an export to mmsa of iemocap \(content {content}\); give another --out"
    ):
        export(dataset, "hf", tmp_path / "out", holds_licence=True)
    with (
        exclusive(tmp_path / "out", "exports"),
        pytest.raises(DataError, match="another process exports in this folder"),
    ):
        export(dataset, "mmsa", tmp_path / "out", holds_licence=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "export.json", "features.pkl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match=r"mine: not empty and no export of this program \(no export\.json\); give ano"):
        export(dataset, "hf", tmp_path / "mine", holds_licence=True)
