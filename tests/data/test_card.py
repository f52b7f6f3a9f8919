"""A dataset describes itself: a card that Hugging Face reads, and Croissant 1.1 that its own validator passes."""

import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import yaml

from mesm_data import corpora
from mesm_data.dataset.reader import load
from mesm_data.dataset.schema import SCHEMA
from mesm_data.dataset.verify import verify
from mesm_data.errors import ShardError
from mesm_data.files import sha256_of
from mesm_data.report.card import write_card
from mesm_data.report.page import write_report
from tests.data.synthetic_rows import EMOTIONS, synthetic_rows, write_synthetic


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = write_synthetic(tmp_path / "set", synthetic_rows())
    write_card(folder)
    return folder


def head_of(dataset: Path) -> dict[str, Any]:
    """The YAML fields of the card."""
    head: dict[str, Any] = yaml.safe_load((dataset / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    return head


def test_the_card_has_the_fields_that_hugging_face_reads(dataset: Path) -> None:
    head = head_of(dataset)
    assert head["license"] == "other"
    assert "IEMOCAP" in head["license_name"]
    assert head["license_link"].startswith("https://sail.usc.edu/")
    assert head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [
        {"split": split, "path": f"shards/{split}-*.parquet"} for split in ("train", "valid", "test")
    ]


def test_the_card_is_valid_to_hugging_faces_own_reader(dataset: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="comes with transformers")
    card = hub.DatasetCard.load(dataset / "README.md")
    assert card.data.pretty_name == "IEMOCAP, prepared by mesm"
    assert card.data.to_dict()["license"] == "other"


def test_the_language_is_that_of_the_corpus(tmp_path: Path) -> None:
    for language, expected in (("de", ["de"]), ("", None)):
        about = corpora.about_unknown("iemocap") | {"language": language}
        folder = write_synthetic(tmp_path / f"set-{language}", synthetic_rows(5), about=about)
        write_card(folder)
        assert head_of(folder).get("language") == expected
        croissant = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
        assert croissant.get("inLanguage") == (language or None)


def test_a_title_that_yaml_would_read_otherwise_stays_a_title(tmp_path: Path) -> None:
    about = corpora.about_unknown("iemocap") | {"title": "yes: [a] 'corpus' # of \"ours\""}
    folder = write_synthetic(tmp_path / "set", synthetic_rows(5), about=about)
    write_card(folder)
    assert head_of(folder)["pretty_name"] == f"{about['title']}, prepared by mesm"


def test_the_card_says_how_faces_and_mels_are_read_with_pandas(dataset: Path) -> None:
    lines = [line.strip() for line in (dataset / "README.md").read_text().splitlines() if "numpy.frombuffer" in line]
    assert len(lines) == 2
    for row in pandas.read_parquet(dataset / "shards").iloc:
        found: dict[str, Any] = {}
        exec("\n".join(lines), {"numpy": numpy, "row": row}, found)
        own = load(dataset)[row.id]
        for name, array in found.items():
            assert (array.dtype, array.shape) == (getattr(own, name).dtype, getattr(own, name).shape)
            numpy.testing.assert_array_equal(array, getattr(own, name))


def test_the_card_counts_what_the_index_counts(dataset: Path) -> None:
    text = (dataset / "README.md").read_text(encoding="utf-8")
    assert "| train | 16 | 3 | 3 | 3 | 3 | 2 | 2 |\n| valid | 2 |" in text
    assert "| media-short | 2 | media ends before the utterance does |" in text
    assert all(f"| `{name}` |" in text for name in SCHEMA.names)


def test_croissant_passes_its_own_validator(dataset: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    read = croissant.Dataset(jsonld=dataset / "croissant.json")
    assert read.metadata.ctx.issues.report() == ""
    assert read.metadata.ctx.conforms_to.value.endswith("/1.1")
    assert [record["splits/name"] for record in read.records("splits")] == ["train", "valid", "test"]
    assert [record["emotions/name"] for record in read.records("emotions")] == EMOTIONS


def test_croissant_names_every_file_with_its_hash_and_every_column(dataset: Path) -> None:
    told = json.loads((dataset / "croissant.json").read_text(encoding="utf-8"))
    files = {file["contentUrl"]: file["sha256"] for file in told["distribution"] if "sha256" in file}
    assert len(files) == 6
    assert all(sha256_of(dataset / name) == digest for name, digest in files.items())
    utterances = next(records for records in told["recordSet"] if records["name"] == "utterances")
    assert [field["name"] for field in utterances["field"]] == SCHEMA.names


def test_a_card_changes_nothing_that_is_verified(dataset: Path) -> None:
    assert verify(dataset) == []


def test_a_corpus_that_tells_nothing_of_itself_has_a_card_without_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mesm_data.corpora import iemocap

    monkeypatch.delattr(iemocap, "ABOUT")
    folder = write_synthetic(tmp_path / "set", synthetic_rows(), left_out=())
    write_card(folder)
    head = head_of(folder)
    assert head["license_name"] == "unknown: that of the raw corpus"
    assert "license_link" not in head
    assert "url" not in json.loads((folder / "croissant.json").read_text(encoding="utf-8"))


def test_a_dataset_whose_corpus_module_is_not_here_carries_all_that_its_report_and_card_need(tmp_path: Path) -> None:
    about = {"title": "Voices of Home", "licence": "CC0-1.0", "page": "", "cite": "", "language": "de"}
    actors = {"self_reports": ["C-E"]}
    rows = [row._replace(corpus="elsewhere") for row in synthetic_rows()]
    folder = write_synthetic(tmp_path / "set", rows, corpus="elsewhere", about=about | actors)
    write_report(folder, tmp_path / "report.html")
    write_card(folder)
    head = head_of(folder)
    assert (head["pretty_name"], head["language"]) == ("Voices of Home, prepared by mesm", ["de"])
    assert head["license_name"] == "CC0-1.0"
    assert json.loads((folder / "croissant.json").read_text(encoding="utf-8"))["inLanguage"] == "de"
    assert verify(folder) == []


def test_there_is_no_card_of_a_folder_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json: not found"):
        write_card(tmp_path)
