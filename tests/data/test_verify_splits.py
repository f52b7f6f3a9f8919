"""The check is green on the paper's data, red where one label or one id is moved, and silent about nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mesm_data import synth
from mesm_data.corpora import iemocap, mosei
from mesm_data.errors import SplitError
from mesm_data.splits.expected import Expected, read_expected, read_expected_file
from mesm_data.splits.split_report import SplitReport, to_dict, to_text, verdict, write_differences
from mesm_data.splits.verify import verify_corpus, verify_rows
from mesm_data.utterance import Utterance
from tests.data.annotated import iemocap_turn, in_three, paper_of, publish, small_iemocap, write_lists


def wrong(report: SplitReport) -> list[tuple[str, str]]:
    return [(cell.row, cell.column) for cell in report.wrong]


def differing(report: SplitReport) -> list[tuple[str, str, str, str]]:
    return [(d.kind, d.id, d.found, d.expected) for d in report.differences or ()]


# The paper's own lists and labels.


def test_the_published_lists_of_iemocap_pass_and_what_they_cannot_show_is_said(shared: Path) -> None:
    report = verify_corpus("iemocap", lists=shared / "published" / "iemocap")
    assert report.ok
    assert not report.passes(strict=True)
    assert sum(cell.ok is None for cell in report.cells) == 30
    assert report.notes == ("Not checked, no labels given: the cells of every emotion. Give --raw DIR.",)
    assert verdict(report) == "the paper's dataset, as far as it could be checked: 6 of 36 figures checked, all equal"
    assert "10 of 10" in to_text(report)
    assert "1150 of 1481" in to_text(report)


def test_mosei_passes_in_every_cell_but_the_words(shared: Path) -> None:
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    report = verify_corpus("mosei", utterances=utterances, lists=shared / "published" / "mosei")
    assert report.passes(strict=True)
    assert {cell.column for cell in report.cells if cell.ok is None} == {"words"}
    assert report.differences == ()
    assert any(note.startswith("Labelled utterances in no split: 2782") for note in report.notes)


def test_one_label_moved_in_mosei_is_seen(shared: Path) -> None:
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    place = next(n for n, u in enumerate(utterances) if u.id == "-3g5yACwYnA_13")  # in train, no emotion
    utterances[place] = replace(utterances[place], labels=(0, 0, 0, 0, 0, 1))
    report = verify_corpus("mosei", utterances=utterances)
    assert wrong(report) == [("surprise", "train")]
    assert verdict(report) == "not the paper's dataset: surprise train 1466 instead of 1465"


def test_one_id_moved_in_the_lists_of_mosei_is_named(shared: Path, tmp_path: Path) -> None:
    splits = {
        split: (shared / "published" / "mosei" / f"{split}.txt").read_text().split()
        for split in ("train", "valid", "test")
    }
    moved = splits["valid"].pop()
    write_lists(tmp_path / "lists", splits | {"train": [*splits["train"], moved]})
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    report = verify_corpus("mosei", utterances=utterances, lists=tmp_path / "lists")
    assert differing(report) == [("other split", moved, "valid", "train")]
    assert not report.ok
    assert verdict(report) == "not the paper's dataset: 1 ids differ from the lists"


# Table 1 in full size.


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full size")
    synth.write_iemocap_text(folder)
    return folder


def verify_full_size(folder: Path, change: Callable[[list[Utterance]], None] = lambda utterances: None) -> SplitReport:
    utterances = [item for item in iemocap.read(folder) if isinstance(item, Utterance)]
    change(utterances)
    expected = read_expected_file(folder / "expected.json")
    return verify_corpus("iemocap", utterances=utterances, lists=folder / "lists", expected=expected)


def test_a_tree_with_the_papers_counts_passes_in_every_cell_of_table_1(full_size: Path) -> None:
    report = verify_full_size(full_size)
    assert report.ok
    assert all(cell.ok for cell in report.cells)
    printed = read_expected("iemocap")
    for cell in report.cells:
        if cell.row in printed.table:
            assert cell.expected == printed.table[cell.row][cell.column]
    assert verdict(report) == "the dataset of the manifest: 36 of 36 figures checked, all equal"


def test_a_single_moved_label_turns_it_red(full_size: Path) -> None:
    def make_the_first_angry_turn_sad(utterances: list[Utterance]) -> None:
        place = next(n for n, u in enumerate(utterances) if u.labels[0])
        utterances[place] = replace(utterances[place], labels=(0, 0, 0, 0, 0, 1))

    report = verify_full_size(full_size, make_the_first_angry_turn_sad)
    counts = [(row, column) for row, column in wrong(report) if column not in ("words", "seconds")]
    assert [row for row, _ in counts] == ["anger", "sadness"]
    assert counts[0][1] == counts[1][1]


def test_a_single_moved_id_turns_it_red(full_size: Path, tmp_path: Path) -> None:
    splits = {split: (full_size / "lists" / f"{split}.txt").read_text().split() for split in ("train", "valid", "test")}
    splits["valid"].append(splits["train"].pop())
    write_lists(tmp_path, splits)
    report = verify_corpus("iemocap", lists=tmp_path, expected=read_expected_file(full_size / "expected.json"))
    assert wrong(report) == [("utterances", "train"), ("utterances", "valid"), ("digest", "train"), ("digest", "valid")]


# A small paper of our own.


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Expected:
    """The only paper there is, its lists in tmp_path/lists."""
    splits = in_three([u.id for u in small_iemocap()])
    paper = paper_of(small_iemocap(), splits)
    publish(tmp_path, paper, monkeypatch)
    write_lists(tmp_path / "lists", splits)
    return paper


def changed(place: int, **fields: object) -> list[Utterance]:
    utterances = small_iemocap()
    utterances[place] = replace(utterances[place], **fields)  # type: ignore[arg-type]
    return utterances


def test_what_the_paper_printed_passes(tmp_path: Path, paper: Expected) -> None:
    report = verify_corpus("iemocap", utterances=small_iemocap(), lists=tmp_path / "lists")
    assert report.ok
    assert verdict(report) == "the paper's dataset: 36 of 36 figures checked, all equal"
    assert verdict(report, strict=True).endswith("; but its splits leak, which --strict does not allow")
    assert report.notes == ()


def test_seconds_may_differ_by_a_hundredth_and_words_by_five(tmp_path: Path, paper: Expected) -> None:
    number = sum(u.labels[0] for u in small_iemocap())  # turns that the averages of anger are over
    angry = next(n for n, u in enumerate(small_iemocap()) if u.labels[0])
    end, text = small_iemocap()[angry].end, small_iemocap()[angry].text
    for seconds, ok in ((0.004, True), (0.016, False)):
        report = verify_corpus(
            "iemocap", utterances=changed(angry, end=end + seconds * number), lists=tmp_path / "lists"
        )
        assert (report.ok, wrong(report)) == (ok, [] if ok else [("anger", "seconds")])
    for words, ok in ((1, True), (4, False)):
        report = verify_corpus(
            "iemocap", utterances=changed(angry, text=text + " six" * words), lists=tmp_path / "lists"
        )
        assert (report.ok, wrong(report)) == (ok, [] if ok else [("anger", "words")])


def test_a_moved_label_without_labels_to_compare_with_is_told_as_such(tmp_path: Path, paper: Expected) -> None:
    place = next(n for n, u in enumerate(small_iemocap()) if u.labels[0])
    report = verify_corpus("iemocap", utterances=changed(place, labels=(0, 1, 0, 0, 0, 0)), lists=tmp_path / "lists")
    assert not report.ok
    assert report.differences == ()
    assert report.notes[-1].startswith("Which labels, times or words differ is not known")


def test_an_id_moved_between_lists_is_seen_and_named_once_the_published_ones_are_fetched(
    tmp_path: Path, paper: Expected
) -> None:
    splits = in_three([u.id for u in small_iemocap()])
    moved = splits["train"].pop()
    write_lists(tmp_path / "moved", splits | {"test": [*splits["test"], moved]})
    report = verify_corpus("iemocap", lists=tmp_path / "moved")
    assert wrong(report) == [("utterances", "train"), ("utterances", "test"), ("digest", "train"), ("digest", "test")]
    assert report.notes[-1].startswith("Which ids differ is not known: ")
    write_lists(tmp_path / "cache" / "mesm" / "splits" / "iemocap", in_three([u.id for u in small_iemocap()]))
    report = verify_corpus("iemocap", lists=tmp_path / "moved")
    assert differing(report) == [("other split", moved, "test", "train")]
    assert f"other split: 1 ids: {moved}" in to_text(report)


def test_an_id_exchanged_for_another_changes_no_count_and_is_seen_by_its_digest(
    tmp_path: Path, paper: Expected
) -> None:
    splits = in_three([u.id for u in small_iemocap()])
    splits["valid"][0] = "Ses05M_impro08_F099"
    write_lists(tmp_path / "exchanged", splits)
    report = verify_corpus("iemocap", lists=tmp_path / "exchanged")
    assert wrong(report) == [("digest", "valid")]
    assert verdict(report) == "not the paper's dataset: other ids in valid"


def test_a_turn_that_the_copy_lacks_and_one_that_no_list_has_are_named(tmp_path: Path, paper: Expected) -> None:
    more = iemocap_turn("Ses01F_impro01_F099")
    lacking = small_iemocap()[0]
    report = verify_corpus("iemocap", utterances=[*small_iemocap()[1:], more], lists=tmp_path / "lists")
    assert not report.ok
    assert differing(report) == [
        ("extra", more.id, "none", "-"),
        ("missing", lacking.id, "-", "valid"),
    ]
    assert verdict(report) == "not the paper's dataset: 239 of 240 utterances"


def test_turns_without_words_are_counted_and_told(tmp_path: Path, paper: Expected) -> None:
    report = verify_corpus("iemocap", utterances=changed(0, text=""), lists=tmp_path / "lists")
    assert "1 of 240 utterances have no text; average words are counted without them." in report.notes


def test_nothing_to_check_is_an_error_that_names_the_ways(paper: Expected) -> None:
    with pytest.raises(SplitError, match="--lists DIR, or fetch them once with `mesm-data splits fetch iemocap`"):
        verify_corpus("iemocap", utterances=small_iemocap())


def test_mosei_without_anything_names_the_labels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SplitError, match=r"`mesm-data splits fetch mosei`; .*; or give --labels CSV"):
        verify_corpus("mosei")


# A built dataset.


def rows_of(utterances: list[Utterance]) -> list[dict[str, object]]:
    """As `Dataset.rows` gives them."""
    split_of = {name: split for split, ids in in_three([u.id for u in small_iemocap()]).items() for name in ids}
    return [
        {
            "id": u.id,
            "split": split_of[u.id],
            "text": u.text,
            "labels": list(u.labels),
            "start": u.start,
            "end": u.end,
            "speaker": u.speaker,
            "group": u.group,
        }
        for u in utterances
    ]


def test_the_rows_of_the_papers_dataset_pass(paper: Expected) -> None:
    report = verify_rows("iemocap", rows_of(small_iemocap()), iemocap.EMOTIONS, scheme="paper")
    assert report.ok
    assert report.differences is None


def test_a_part_of_the_corpus_with_a_drawn_split_says_plainly_what_it_is(paper: Expected) -> None:
    report = verify_rows("iemocap", rows_of(small_iemocap()[:61]), iemocap.EMOTIONS, scheme="random:0")
    assert not report.ok
    assert to_text(report).splitlines()[-1] == "not the paper's dataset: split random:0, 61 of 240 utterances"


def test_a_label_that_differs_from_the_raw_annotations_is_named(tmp_path: Path, paper: Expected) -> None:
    rows = rows_of(changed(5, labels=(0, 0, 0, 0, 1, 0)))
    report = verify_rows(
        "iemocap", rows, iemocap.EMOTIONS, scheme="paper", utterances=small_iemocap(), lists=tmp_path / "lists"
    )
    before = ",".join(map(str, small_iemocap()[5].labels))
    assert differing(report) == [("other labels", small_iemocap()[5].id, "0,0,0,0,1,0", before)]


def test_a_dataset_without_utterances_is_not_the_papers(paper: Expected) -> None:
    report = verify_rows("iemocap", [], iemocap.EMOTIONS, scheme="paper")
    assert not report.ok
    assert verdict(report) == "not the paper's dataset: 0 of 240 utterances"
    assert "Leaks: none, there is at most one split." in to_text(report)


def test_emotions_in_another_order_are_counted_by_name_and_other_emotions_are_refused(paper: Expected) -> None:
    turned = [row | {"labels": row["labels"][::-1]} for row in rows_of(small_iemocap())]  # type: ignore[index]
    assert verify_rows("iemocap", turned, iemocap.EMOTIONS[::-1], scheme="paper").ok
    with pytest.raises(SplitError, match="iemocap: emotions joy, expected anger, excited"):
        verify_rows("iemocap", [], ("joy",), scheme="paper")


# How it is told.


def test_the_table_stands_in_columns_with_the_differing_cell_marked(tmp_path: Path, paper: Expected) -> None:
    place = next(n for n, u in enumerate(small_iemocap()) if u.labels[0])
    report = verify_corpus("iemocap", utterances=changed(place, labels=(0, 1, 0, 0, 0, 0)), lists=tmp_path / "lists")
    lines = to_text(report).splitlines()
    table = lines[lines.index(next(line for line in lines if line.lstrip().startswith("words"))) + 1 :][:7]
    assert [line.split()[0] for line in table] == [*iemocap.EMOTIONS, "utterances"]
    assert [line.split()[0] for line in table if "!" in line] == ["anger", "excited"]


def test_the_differences_are_written_one_a_line(tmp_path: Path, paper: Expected) -> None:
    report = verify_corpus("iemocap", utterances=small_iemocap()[1:], lists=tmp_path / "lists")
    write_differences(tmp_path / "diff.tsv", report)
    assert (tmp_path / "diff.tsv").read_text() == (
        f"kind\tid\tfound\texpected\nmissing\t{small_iemocap()[0].id}\t-\tvalid\n"
    )


def test_the_report_is_plain_json(tmp_path: Path, paper: Expected) -> None:
    report = verify_corpus("iemocap", lists=tmp_path / "lists")
    told = json.loads(json.dumps(to_dict(report, strict=True)))
    assert (told["ok"], told["corpus"]) == (False, "iemocap")  # not ok: the splits leak, and --strict was asked for
    assert told["leaks"]["pairs"][1]["second"] == "test"
    assert len(told["cells"]) == 36
