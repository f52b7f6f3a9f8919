"""The report is one page with everything in the dataset, works in a browser without a network, and shows faces."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mesm_data.cli import main
from mesm_data.errors import Issue, ShardError
from mesm_data.report import page as report_module
from mesm_data.report.page import write_report
from mesm_data.splits.stats import word_count
from tests.browser import Page, needs_chromium, open_browser
from tests.data.synthetic_rows import synthetic_rows, write_synthetic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made") / "up", synthetic_rows())


@pytest.fixture(scope="module")
def page(dataset: Path) -> Path:
    out = dataset / "report.html"
    write_report(dataset, out)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as opened:
        yield opened


def report_of(folder: Path) -> str:
    """The HTML of the report of a dataset."""
    write_report(folder, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def table_of(html: str, caption: str) -> dict[str, list[str]]:
    """First cell -> the other cells' texts, of the first table after these words."""
    body = html[html.index(caption) :]
    rows = re.findall(r"<tr.*?</tr>", body[: body.index("</table>")], re.DOTALL)
    cells = [[_text(cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)] for row in rows]
    return {row[0]: row[1:] for row in cells}


def _text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_page_counts_what_is_in_the_dataset(page: Path) -> None:
    text = _text(re.sub(r"<style.*?</style>", "", page.read_text(), flags=re.DOTALL))
    rows = synthetic_rows()
    assert "utterances: 16 train, 2 valid, 2 test 20" in text
    assert f"of speech {20 * 1.5 / 60:.1f} min" in text
    assert "faces found, in 60 frames 66.7 %" in text
    assert "dropped 3" in text
    assert "the paper's own rules" not in text, "no utterance was dropped by them"
    assert "speaker 1" in text
    assert "or the centre. The mel spectrogram" in text
    assert f"doubtful, but kept {sum(bool(row.clip.quality) for row in rows)}" in text


def test_found_stands_beside_expected_and_what_differs_is_marked(tmp_path: Path) -> None:
    html = report_of(write_synthetic(tmp_path / "set", synthetic_rows(), scheme="paper"))
    words = np.mean([word_count(row.utterance.text) for row in synthetic_rows() if row.utterance.labels[0]])
    cells = table_of(html, "≠ marks what differs")
    assert cells["anger"] == [f"{words:.2f} ≠ 15.96", "1.50 ≠ 4.51", "3 ≠ 757", "0 ≠ 112", "1 ≠ 234"]
    assert cells["utterances"][2:] == ["16 ≠ 5,162", "2 ≠ 737", "2 ≠ 1,481"]
    assert html.count('<td class="differs">') == 6 * 5 + 3
    assert '<p class="verdict bad">≠ Not the paper&#39;s dataset: 20 of 7380 utterances.' in html


def test_a_split_that_the_user_asked_for_is_not_held_against_the_paper(page: Path) -> None:
    html = page.read_text()
    assert '<p class="verdict">Split random:0: not comparable with the results of the paper' in html
    assert table_of(html, "Averages and counts per emotion")["anger"][1:] == ["1.50", "3", "0", "1"]
    assert table_of(html, "Averages and counts in the paper")["anger"][1:] == ["4.51", "757", "112", "234"]
    assert "≠" not in html
    assert 'class="differs"' not in html
    assert "ids" not in table_of(html, "Averages and counts per emotion")


def test_the_title_is_that_of_the_corpus(tmp_path: Path) -> None:
    about = {"title": "My <own> corpus", "self_reports": []}
    html = report_of(write_synthetic(tmp_path / "set", synthetic_rows(5), corpus="gone", about=about))
    assert "<h1>My &lt;own&gt; corpus</h1>" in html
    assert "<title>My &lt;own&gt; corpus: dataset report</title>" in html


def test_cells_that_agree_are_not_marked(tmp_path: Path) -> None:
    rows = synthetic_rows()
    longer = [row._replace(utterance=replace(row.utterance, end=row.utterance.start + 4.51)) for row in rows]
    html = report_of(write_synthetic(tmp_path / "set", longer, scheme="paper"))
    assert table_of(html, "≠ marks what differs")["anger"][1] == "4.51 = 4.51"
    assert html.count('<td class="differs">') == 6 * 5 + 3 - 1


def test_a_corpus_that_the_paper_does_not_have_is_counted_only(tmp_path: Path) -> None:
    html = report_of(write_synthetic(tmp_path / "set", synthetic_rows(), corpus="my_own"))
    assert "paper" not in html
    assert '<p class="verdict' not in html
    assert table_of(html, "Averages and counts per emotion")["anger"][1:] == ["1.50", "3", "0", "1"]


def test_leaks_are_counted_for_every_pair_of_splits(page: Path) -> None:
    cells = table_of(page.read_text(), "What the splits share")
    assert cells["shared"] == ["train, valid", "train, test", "valid, test"]
    assert cells["speakers"] == ["1 of 1"] * 3
    assert cells["utterances of the second with an adjacent turn of the same speaker in the first"] == [
        "1 of 2",
        "0 of 2",
        "1 of 2",
    ]


def test_every_issue_is_in_the_ledger_and_counted_by_kind(page: Path) -> None:
    html = page.read_text()
    assert table_of(html, "Kinds of Issues")["media-short"] == ["2", "dropped", "media ends before the utterance does"]
    ledger = html[html.index('<table id="ledger"') :]
    found = re.findall(r'<tr data-kind="(.*?)"><td>(.*?)</td>', ledger)
    doubts = [("clipped", row.clip.utterance) for row in synthetic_rows() if row.clip.quality]
    assert sorted(found) == sorted(
        [
            *doubts,
            ("media-short", "Ses02M_impro01_F000"),
            ("media-short", "Ses02M_impro01_F001"),
            ("no-media", "Ses03F_impro02_M007"),
        ]
    )


def test_a_ledger_too_long_for_a_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "LEDGER", 10)
    many = [Issue(f"Ses01F_impro02_F{n:03d}", "no-media", "gone") for n in range(50)]
    write_report(write_synthetic(tmp_path / "set", synthetic_rows(4), left_out=many), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "The first 10 of 52; all are in <code>issues.jsonl</code>." in html
    assert html.count("<tr data-kind=") == 10


def test_without_issues_the_page_says_there_are_none(tmp_path: Path) -> None:
    rows = [
        row._replace(
            clip=replace(row.clip, quality=(), face_found=np.ones(3, bool), face_scores=np.ones(3, np.float32))
        )
        for row in synthetic_rows(5)
    ]
    write_report(write_synthetic(tmp_path / "set", rows, left_out=()), tmp_path / "report.html")
    text = _text((tmp_path / "report.html").read_text())
    assert "None: every utterance of the annotations is here, and none is doubtful." in text
    assert "None: a face was found in every frame, and nothing else is doubtful." in text


def test_the_random_sample_depends_on_the_seed_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "SHOWN", 3)
    shown = {}
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_report(dataset, tmp_path / name, seed)
        html = (tmp_path / name).read_text()
        shown[name] = re.findall(r'<article class="card" aria-label="(.*?)"', html[: html.index('id="doubtful"')])
    assert shown["one"] == shown["two"] != shown["three"]
    assert len(shown["one"]) == 3
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_most_doubtful_come_first(tmp_path: Path) -> None:
    rows = [
        row._replace(clip=replace(row.clip, quality=quality, face_found=np.arange(3) < found))
        for row, quality, found in zip(
            synthetic_rows(5), [(), ("clipped",), ("clipped", "silent"), (), ("clipped",)], [3, 3, 3, 1, 0], strict=True
        )
    ]
    write_report(write_synthetic(tmp_path / "set", rows), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    shown = re.findall(r'aria-label="Ses01F_impro01_F(\d+)"', html[html.index('<section id="doubtful"') :])
    assert shown == ["002", "004", "001", "003"]


def test_a_card_shows_text_label_every_vote_and_every_probability(page: Path) -> None:
    html = page.read_text()
    card = html[html.index('<article class="card" aria-label="Ses01F_impro01_F003"') :]
    text = _text(card[: card.index("</article>")])
    row = synthetic_rows()[3]
    first, _, third = row.clip.face_scores
    assert row.utterance.text in text
    assert "happiness train, 3.00 to 4.50 s of Ses01F_impro01" in text
    assert "Doubtful: clipped" in text
    assert f"{first:.2f} none {third:.2f} 0.0 0.5 1.0" in text
    assert "A-E1 valence 4 A-E2 valence 4 C-E1 Anger C-E2 Anger C-F1 Sadness" in text


def test_a_long_utterance_is_cut_and_says_how_to_see_all_of_it(tmp_path: Path) -> None:
    row = synthetic_rows(5)[0]
    long = row._replace(utterance=replace(row.utterance, end=row.utterance.start + 30.0))
    write_report(write_synthetic(tmp_path / "set", [long]), tmp_path / "report.html")
    text = _text((tmp_path / "report.html").read_text())
    assert f"The first 12 of 30.0 s. All of it: mesm-data show set {row.utterance.id} --out sheet.png" in text


def test_nothing_that_a_user_wrote_becomes_html(tmp_path: Path) -> None:
    row = synthetic_rows(5)[0]
    nasty = row._replace(utterance=replace(row.utterance, text="<script>alert('x')</script> & <b>", speaker="<i>"))
    write_report(write_synthetic(tmp_path / "a<b>", [nasty]), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &lt;b&gt;" in html
    assert html.count("<script>") == 1
    assert "&lt;Ses03F_impro02.avi&gt;: not found" in html


def test_every_image_has_an_alternative_text_and_every_id_occurs_once(page: Path) -> None:
    images, ids = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            given = dict(attributes)
            if tag == "img":
                images.append(given.get("alt"))
            ids.extend([given["id"]] if "id" in given else [])

    Reader().feed(page.read_text())
    assert len(images) > 20
    assert all(images)
    assert len(ids) == len(set(ids))


def test_a_dataset_of_one_utterance_without_votes_has_a_report(tmp_path: Path) -> None:
    row = synthetic_rows(5)[0]
    bare = row._replace(utterance=replace(row.utterance, votes=(), text="", labels=(0,) * 6))
    write_report(write_synthetic(tmp_path / "set", [bare], left_out=()), tmp_path / "report.html")
    text = _text((tmp_path / "report.html").read_text())
    assert "There is only one split: nothing can leak." in text
    assert "Rater agreement" not in text, "nobody voted"
    assert "Words" not in text.replace("Words and seconds", "").replace("Words are", ""), "no text to count"


def test_a_dataset_without_faces_or_without_audio_has_no_empty_panels(tmp_path: Path) -> None:
    blind, deaf = (
        [row._replace(clip=replace(row.clip, quality=(), **changes)) for row in synthetic_rows(5)]
        for changes in (
            {
                "faces": np.zeros((0, 48, 48, 3), np.uint8),
                "face_times": np.zeros(0, np.float32),
                "face_boxes": np.zeros((0, 4), np.float32),
                "face_scores": np.zeros(0, np.float32),
                "face_landmarks": np.zeros((0, 10), np.float32),
                "face_found": np.zeros(0, bool),
            },
            {"mels": np.zeros((0, 128, 32), np.float16)},
        )
    )
    html = report_of(write_synthetic(tmp_path / "blind", blind, left_out=()))
    assert "Faces found" not in html
    assert "faces found" not in html
    assert "Below each face" not in html
    assert 'alt="Faces' not in html
    assert 'alt="Mel' in html
    html = report_of(write_synthetic(tmp_path / "deaf", deaf, left_out=()))
    assert 'alt="Faces' in html
    assert 'alt="Mel' not in html


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_a_folder_whose_name_is_not_utf8_has_a_report(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "set", synthetic_rows(5))
    html = report_of(folder.rename(os.fsdecode(bytes(tmp_path) + b"/caf\xe9")))
    assert "<code>caf?</code>" in html


def test_without_a_dataset_or_its_ledger_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json: not found"):
        write_report(tmp_path, tmp_path / "report.html")
    folder = write_synthetic(tmp_path / "set", synthetic_rows(5))
    (folder / "issues.jsonl").write_text("no json\n")
    with pytest.raises(ShardError, match=r"issues\.jsonl:1: not JSON"):
        write_report(folder, tmp_path / "report.html")
    (folder / "issues.jsonl").unlink()
    with pytest.raises(ShardError, match=r"issues\.jsonl: found nothing, expected a file"):
        write_report(folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_shard_with_a_hole_in_it_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "set", synthetic_rows(30))
    shard = folder / "shards" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[4:4000] = bytes(3996)
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=r"train-00000-of-00001\.parquet: not a whole Parquet file"):
        write_report(folder, tmp_path / "report.html")


def test_the_command_writes_the_page_and_the_card_into_the_dataset(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "set", synthetic_rows(5))
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{folder}/report.html: ")
    assert {"report.html", "README.md", "croissant.json"} <= {path.name for path in folder.iterdir()}


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_complaints_without_a_network_and_fits(
    page: Path, browser: Page, width: int, scheme: str
) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width, scheme=scheme)
    assert browser.complaints == []
    assert {request.split(":")[0] for request in browser.requests} <= {"file", "data"}
    assert [request for request in browser.requests if request.startswith("file:")] == [page.resolve().as_uri()]
    assert browser.run("document.documentElement.scrollWidth") == width
    ink = browser.run("getComputedStyle(document.body).color")
    assert ink == ("rgb(28, 28, 34)" if scheme == "light" else "rgb(233, 233, 238)")


@needs_chromium
def test_the_ledger_is_filtered_by_kind_and_by_id(page: Path, browser: Page) -> None:
    browser.open(page)
    rows = "[...document.querySelectorAll('#ledger tbody tr')].filter(row => row.offsetHeight)"
    shown = f"{rows}.map(row => row.cells[0].textContent)"
    assert len(browser.run(shown)) == 10
    browser.run("document.querySelector('#kind').focus()")
    for letter in "media":
        browser.press(letter)
    assert browser.run("document.querySelector('#kind').value") == "media-short"
    assert browser.run(shown) == ["Ses02M_impro01_F000", "Ses02M_impro01_F001"]
    browser.press("Tab")
    assert browser.run("document.activeElement.id") == "find"
    for letter in "f001":
        browser.press(letter)
    assert browser.run(shown) == ["Ses02M_impro01_F001"]
    assert browser.run("document.querySelector('#shown').textContent") == "1 of 10 shown"


@needs_chromium
def test_without_scripts_the_whole_ledger_is_there(page: Path, browser: Page) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelector('.filter').offsetHeight") == 0
    assert browser.run("document.querySelectorAll('#ledger tbody tr:not([hidden])').length") == 10


@needs_chromium
def test_the_page_can_be_walked_through_by_keyboard(page: Path, browser: Page) -> None:
    browser.open(page)
    stops = []
    for _ in range(20):
        browser.press("Tab")
        stops.append(browser.run("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 20)"))
    assert stops[0] == "Skip to the report"
    assert {"Charts", "Leaks", "Issues", "kind", "find"} <= set(stops)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@needs_chromium
def test_the_printed_page_has_the_whole_ledger_and_no_controls(page: Path, browser: Page) -> None:
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.run("document.querySelector('.filter').offsetHeight") == 0
        assert browser.run(
            "document.querySelector('.ledger').scrollHeight <= document.querySelector('.ledger').clientHeight"
        )
        printed = browser.call("Page.printToPDF")["data"]
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    assert len(printed) > 10_000
