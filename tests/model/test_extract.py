"""Making features: every utterance has its own, interruptions change nothing, fits are of train alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError
from mesm_data.files import exclusive
from mesm_data.synth import planted
from mesm_model.cli import main
from mesm_model.features import extract, store
from mesm_model.features.extract import (
    LIGHT,
    NEEDED,
    FeatureSpec,
    extractors,
    make_features,
    read_feature_spec,
)
from mesm_model.features.word_vectors import hashed, write_table

USUAL = {modality: FeatureSpec(name) for modality, name in extract.DEFAULTS.items()}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A handful of utterances."""
    folder = tmp_path_factory.mktemp("few") / "data"
    planted.write_planted(folder, {"train": 12, "valid": 4, "test": 4})
    return load(folder)


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its name, byte for byte."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_utterance_has_the_rows_that_its_clip_gives(featured: Dataset) -> None:
    made = extractors(featured)
    for split in featured.splits:
        stored = store.open_split(featured, split)
        for n, (utterance, clip) in enumerate(
            featured.clips(split, (*LIGHT, *NEEDED["bark_mfcc"], *NEEDED["face_geometry_pca"]))
        ):
            for modality, ragged in stored.items():
                assert ragged.of(n).tolist() == made[modality].rows(utterance, clip).tolist(), utterance.id  # type: ignore[union-attr]
        assert all(len(ragged.counts) == n + 1 for ragged in stored.values())


def test_after_an_interruption_at_any_shard_the_result_is_the_same(few: Dataset, tmp_path: Path) -> None:
    make_features(few, tmp_path / "whole", USUAL, quiet=True)
    whole = content(tmp_path / "whole")
    for name in (
        "plan.json",
        "features.json",
        "text-hash/valid-00000-of-00001.parquet",
        "vision-face_geometry_pca/faces.npz",
    ):
        shutil.copytree(tmp_path / "whole", tmp_path / "again")
        (tmp_path / "again" / "features.json").unlink()
        (tmp_path / "again" / name).unlink(missing_ok=True)
        if name == "plan.json":  # of which nothing is made yet
            shutil.rmtree(tmp_path / "again")
            (tmp_path / "again").mkdir()
        (tmp_path / "again" / f"{name}.tmp").write_bytes(b"half of it")
        make_features(few, tmp_path / "again", USUAL, quiet=True)
        found = content(tmp_path / "again")
        assert {name: found[name] for name in whole} == whole, name
        shutil.rmtree(tmp_path / "again")


def test_statistics_and_fits_come_from_train_alone(few: Dataset, tmp_path: Path) -> None:
    """They are the same with the same train and another test."""
    planted.write_planted(tmp_path / "other", {"train": 12, "valid": 1, "test": 9})
    made = {
        name: make_features(dataset, tmp_path / name, USUAL, quiet=True)
        for name, dataset in (("few", few), ("more", load(tmp_path / "other")))
    }
    for modality in "tav":
        for figure in ("mean", "deviation"):
            assert made["few"]["sets"][modality][figure] == made["more"]["sets"][modality][figure]
    fit = "vision-face_geometry_pca/faces.npz"
    assert (tmp_path / "few" / fit).read_bytes() == (tmp_path / "more" / fit).read_bytes()
    training = store.open_split(store.attach(few, tmp_path / "few"), "train")
    for modality, ragged in training.items():
        np.testing.assert_allclose(made["few"]["sets"][modality]["mean"], ragged.rows.mean(0, dtype=float))


def test_a_glove_file_is_cut_down_to_the_words_and_gives_the_emotions_their_vectors(
    few: Dataset, tmp_path: Path
) -> None:
    told = [word for words in planted.WORDS.values() for word in words]
    write_table(tmp_path / "glove.txt", hashed([*told, *few.emotions, *(f"other{n}" for n in range(50))], size=8))
    result = CliRunner().invoke(
        main, ["features", str(few.folder), "--out", str(tmp_path / "f"), "--text", f"glove:{tmp_path / 'glove.txt'}"]
    )
    assert result.exit_code == 0, result.output
    assert "vectors of glove.txt" in result.output
    about = json.loads((tmp_path / "f" / "features.json").read_text())
    assert (about["sets"]["t"]["name"], about["sets"]["t"]["size"]) == ("glove", 8)
    assert 0 < about["sets"]["t"]["coverage"] < 1
    assert len(about["emotions"]) == 4
    words = {line.split()[0] for line in (tmp_path / "f" / "text-glove" / "words.txt").read_text().splitlines()}
    assert words <= {*told, *few.emotions}
    assert set(few.emotions) <= words


def test_an_imported_set_says_how_many_utterances_it_lacks_and_how_many_numbers_are_none(
    few: Dataset, tmp_path: Path
) -> None:
    whose = ["planted-train-00000", "planted-train-00003", "stranger"]
    rows = [f"{n};{name};1.5;{high}" for n, (name, high) in enumerate(zip(whose, ["-inf", "7", "9"], strict=True))]
    (tmp_path / "smile.csv").write_text("\n".join(["nothing;name;loud;high", *rows]) + "\n")
    result = CliRunner().invoke(
        main,
        ["features", str(few.folder), "--out", str(tmp_path / "f"), "--audio", f"opensmile:{tmp_path / 'smile.csv'}"],
    )
    assert result.exit_code == 0, result.output
    assert "18 utterances have none: the file does not name them" in result.output
    rows_of = store.open_split(store.attach(few, tmp_path / "f"), "train")["a"]
    assert rows_of.counts.tolist() == [1, 0, 0, 1, *[0] * 8]
    assert rows_of.of(3).tolist() == [[1, 1.5, 7]]
    assert rows_of.of(0).tolist() == [[0, 1.5, 0]]
    assert "numbers that were nan or infinite, read as 0: 1\n" in result.output


@pytest.mark.parametrize(
    ("modality", "text", "message"),
    [
        ("a", "mfcc", "audio 'mfcc': expected one of bark_mfcc, disvoice, opensmile, pickle"),
        ("v", "openface", "vision 'openface': expected openface:PATH"),
        ("t", "hash:words.txt", "text 'hash:words.txt': hash is computed, from no file"),
        ("v", "openface:/no/such", "vision 'openface:/no/such': /no/such not found"),
    ],
)
def test_unknown_features_and_missing_files_are_refused(modality: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_feature_spec(modality, text)


def test_a_folder_of_other_features_or_of_something_else_is_refused(
    few: Dataset, featured: Dataset, tmp_path: Path
) -> None:
    folder = Path(featured.index["features"]["folder"])
    message = (
        r"plan.json: this folder holds a set of features with text hash, now asked for with text glove:.*; give another"
    )
    with pytest.raises(DataError, match=message):
        make_features(featured, folder, USUAL | {"t": FeatureSpec("glove", tmp_path / "glove.txt")}, quiet=True)
    with pytest.raises(DataError, match=r"plan.json: this folder holds a set of features of another dataset \(content"):
        make_features(few, folder, USUAL, quiet=True)
    for name, text, message in (
        ("mine.txt", "mine", r"not empty and no set of features of this program \(no plan.json\); give another --out"),
        ("plan.json", "{", r"plan.json: not JSON .*; give another --out, or delete .*other to start over"),
        (
            "plan.json",
            json.dumps({"model": "mesm"}),
            "plan.json: it lacks format, content, sets; no plan of a set of features; give ano",
        ),
    ):
        other = tmp_path / "other"
        (other / "trial-000").mkdir(parents=True)
        (other / name).write_text(text)
        with pytest.raises(DataError, match=message):
            make_features(few, other, USUAL, quiet=True)
        assert sorted(path.name for path in other.iterdir()) == sorted([name, "trial-000"])
        shutil.rmtree(other)


def test_two_processes_do_not_make_features_in_one_folder(few: Dataset, tmp_path: Path) -> None:
    with exclusive(tmp_path, "makes features"), pytest.raises(DataError, match="another process makes features"):
        make_features(few, tmp_path, USUAL, quiet=True)


def test_an_imported_set_of_other_utterances_is_refused_and_another_can_be_taken(few: Dataset, tmp_path: Path) -> None:
    for name in ("stranger", "planted-train-00000"):
        (tmp_path / f"{name}.csv").write_text(f"name;loud\n{name};1\n")
    message = "stranger.csv: has rows of none of the utterances; expected some named such as planted-train-00000"
    with pytest.raises(DataError, match=message):
        make_features(
            few, tmp_path / "f", USUAL | {"a": FeatureSpec("opensmile", tmp_path / "stranger.csv")}, quiet=True
        )
    right = USUAL | {"a": FeatureSpec("opensmile", tmp_path / "planted-train-00000.csv")}
    about = make_features(few, tmp_path / "f", right, quiet=True)
    assert about["sets"]["a"]["missing"] == 19
    with pytest.raises(DataError, match=r"with audio opensmile:.*, now asked for with audio bark_mfcc"):
        make_features(few, tmp_path / "f", USUAL, quiet=True)


def test_a_glove_file_without_any_of_the_words_is_refused(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("zebra 0.1 0.2\nlion 0.3 0.4\n")
    with pytest.raises(DataError, match=r"glove.txt has a vector for none of its words; take another --text"):
        make_features(few, tmp_path / "f", USUAL | {"t": FeatureSpec("glove", tmp_path / "glove.txt")}, quiet=True)
    assert make_features(few, tmp_path / "f", USUAL, quiet=True)["sets"]["t"]["name"] == "hash"  # nothing was made yet
