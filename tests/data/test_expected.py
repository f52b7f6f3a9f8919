"""The manifests hold what the paper prints, and lie where an installed copy finds them."""

import json
from pathlib import Path

import pytest

from mesm_data.corpora import iemocap, mosei
from mesm_data.errors import SplitError
from mesm_data.splits.expected import corpora_of_the_paper, ids_digest, read_expected, read_expected_file


def test_the_manifests_hold_the_papers_tables(shared: Path) -> None:
    tables = json.loads((shared / "published" / "paper_tables.json").read_text())
    for corpus, name in (("iemocap", "table1_iemocap"), ("mosei", "table2_mosei")):
        printed = {emotion: row for emotion, row in tables[name].items() if emotion != "columns"}
        assert {emotion: list(row.values()) for emotion, row in read_expected(corpus).table.items()} == printed


@pytest.mark.parametrize(("corpus", "module"), [("iemocap", iemocap), ("mosei", mosei)])
def test_the_manifests_name_the_emotions_as_the_readers_do(corpus: str, module) -> None:  # type: ignore[no-untyped-def]
    assert tuple(read_expected(corpus).table) == module.EMOTIONS


def test_table_1_adds_up_to_the_lengths_of_the_lists() -> None:
    expected = read_expected("iemocap")
    for split, number in expected.utterances.items():
        assert sum(row[split] for row in expected.table.values()) == number


def test_an_id_names_its_speaker_in_iemocap_and_not_in_mosei() -> None:
    iemocap_ids, mosei_ids = read_expected("iemocap"), read_expected("mosei")
    assert iemocap_ids.speaker_of("Ses01F_script01_1b_M012") == "Ses01M"
    assert mosei_ids.speaker_of("-6rXp3zJ3kc_3") is None
    assert [iemocap_ids.knows(name) for name in ("Ses01F_impro01_F000", "Ses01F_impro01_FXX0", "-6rXp3zJ3kc_3")] == [
        True,
        False,
        False,
    ]


def test_a_digest_is_that_of_the_sorted_ids_whatever_their_order() -> None:
    # printf 'a_1\nb_2\n' | sha256sum
    assert ids_digest(["b_2", "a_1"]) == "f87149f8e69a8ac3a1a23934dce111d7fa93a914d8367bd4ad6f82c31d8d242e"


def test_a_corpus_that_the_paper_does_not_have_is_told() -> None:
    assert corpora_of_the_paper() == ("iemocap", "mosei")
    with pytest.raises(SplitError, match="the paper has no corpus 'meld', expected one of iemocap, mosei"):
        read_expected("meld")


@pytest.mark.parametrize("content", ["not json", "[]", '{"corpus": "iemocap"}'])
def test_a_file_that_is_no_manifest_is_told_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "expected.json"
    path.write_text(content)
    with pytest.raises(SplitError, match=r"expected\.json: not a manifest"):
        read_expected_file(path)
