"""A predicted video is one page: the video plays, a click goes to an utterance, and every number is on it."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mesm_data import synth
from mesm_data.dataset.reader import load
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number
from mesm_model.evaluation.metrics import intervals, score, trivial
from mesm_model.evaluation.scores import Report
from mesm_model.evaluation.scores import to_json as report_to_json
from mesm_model.prediction import timeline
from mesm_model.prediction.predict import Result, predict, top_modality
from mesm_model.prediction.timeline import (
    _card,
    clock,
    lanes_of,
    notes,
    scores_on_test,
    to_json,
    to_text,
    write_page,
)
from mesm_model.prediction.transcripts import Segment
from mesm_model.runs.folder import write_scores
from tests.browser import Page, needs_chromium, open_browser
from tests.data.synthetic_rows import synthetic_rows, write_synthetic
from tests.model.untrained import write_run

LINES = [Segment(0.5, 2.0, "We <b>meet</b> & greet."), Segment(2.2, 4.0, "“At last.”"), Segment(5.0, 7.0, "So long.")]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("made")
    dataset = load(write_synthetic(folder / "set", synthetic_rows(5)))
    synth.write_iemocap(folder / "raw", 1, seconds=8, awkward=False, size=(480, 240))
    video = next(path for path in (folder / "raw").rglob("*.avi") if not path.name.startswith("."))
    return predict(write_run(folder / "run", dataset), video, LINES)


@pytest.fixture(scope="module")
def page(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "timeline.html"
    write_page(out, result)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as opened:
        yield opened


def decided(result: Result, values: list[float], **changes: object) -> Result:
    """The same result with these probabilities for the first utterance."""
    one = result.predictions[0]
    output = replace(one.output, probability=np.array(values, np.float32))
    changed = replace(one, output=output, **changes)  # type: ignore[arg-type]
    return replace(result, predictions=(changed, *result.predictions[1:]))


# ---- figures


def test_json_holds_times_words_probabilities_decisions_and_what_moved_them(result: Result) -> None:
    values = [0.1, 0.9, 0.5, 0.6, 0.2, 0.3]
    without = {"t": np.full(6, 0.5, np.float32), "a": np.zeros(6, np.float32), "v": np.full(6, 0.85, np.float32)}
    told = to_json(decided(result, values, without=without))
    first = told["utterances"][0]
    assert told["emotions"] == ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]
    assert told["thresholds"] == dict.fromkeys(told["emotions"], 0.5)
    assert (told["people"], told["face"], told["missing"]) == (2, 1, [])
    assert (first["start"], first["end"], first["text"]) == (0.5, 2.0, "We <b>meet</b> & greet.")
    assert first["probabilities"] == dict(zip(told["emotions"], values, strict=True))
    assert first["decisions"] == ["excited", "happiness"], "0.5 is not above 0.5"
    assert first["leave_one_out"]["text"]["excited"] == pytest.approx(0.4)
    assert first["top_modality"] == "audio"
    assert first["faces"] == {"taken": 3, "found": 3}


def test_what_moved_a_decision_is_what_changes_the_likeliest_emotion_most(result: Result) -> None:
    one = decided(result, [0.9, 0.1, 0.1, 0.1, 0.1, 0.1]).predictions[0]
    far = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.9], np.float32)  # moves all but the likeliest one
    near = np.array([0.8, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32)
    assert top_modality(result.model, replace(one, without={"t": far, "a": near, "v": far})) == "a"


def test_a_card_has_one_top_emotion_and_what_changes_it_most(result: Result) -> None:
    one = decided(result, [0.9, 0.1, 0.6, 0.1, 0.1, 0.1]).predictions[0]
    same = one.output.probability
    lower, higher = (np.array([value, 0.1, 0.6, 0.1, 0.1, 0.1], np.float32) for value in (0.8, 0.95))
    cards = [
        _card(result.model, replace(one, without={"t": same, "a": other, "v": same}), 0, pictured=False)
        for other in (lower, higher, same)
    ]
    assert {(card.top, round(card.top_probability, 6), card.is_decided) for card in cards} == {("anger", 0.9, True)}
    assert cards[0].decided == ["anger", "frustrated"]
    assert [card.moved for card in cards] == [
        "audio raises it most", "audio lowers it most", "no modality changes it on its own",
    ]  # fmt: skip
    unsure = _card(result.model, decided(result, [0.4, 0.1, 0.1, 0.1, 0.1, 0.1]).predictions[0], 0, pictured=False)
    assert (unsure.top, unsure.is_decided, unsure.decided) == ("anger", False, [])


def test_utterances_that_overlap_lie_in_lanes() -> None:
    assert lanes_of([(0, 2), (1, 3), (2, 4), (2.5, 3), (3, 5), (6, 7)]) == [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0:00.0"), (5.25, "0:05.2"), (59.96, "1:00.0"), (62.5, "1:02.5"), (3723.0, "62:03.0")]
)
def test_there_is_one_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_the_page_says_at_the_top_what_the_model_scored_on_its_own_test_split(result: Result, tmp_path: Path) -> None:
    assert scores_on_test(result.model) == (
        "What this model scores on a test split is not known: its run has no such scores."
    )
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], np.float32)
    thresholds = np.array([0.5, 0.5])
    report = Report(
        run="runs/mesm", data="out/set", split="test", emotions=("anger", "sadness"), thresholds=(0.5, 0.5),
        utterances=4, scores=score(labels * 0.8, labels, thresholds), trivial=trivial(labels),
        intervals=intervals(labels * 0.8, labels, thresholds, draws=20), encoder=None,
    )  # fmt: skip
    stored = report_to_json(report)
    write_scores(tmp_path, {"epochs": 1, "best_epoch": 1, "splits": {"valid": stored, "test": stored}})
    model = replace(result.model, run=tmp_path)
    told = scores_on_test(model)
    assert told.startswith(
        "On the test split of out/set (4 utterances) this model scores Acc 100.0, WAcc 100.0, F1 100.0"
    )
    assert re.search(r"; to predict \w+ scores Acc \d", told)
    write_page(tmp_path / "page.html", replace(result, model=model))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.index("this model scores") < html.index("<main")


def test_the_table_marks_what_is_above_its_threshold(result: Result) -> None:
    table = to_text(decided(result, [0.1, 0.9, 0.5, 0.6, 0.2, 0.3])).splitlines()
    assert re.findall(r"\d\.\d\d[* ]", table[1]) == ["0.10 ", "0.90*", "0.50 ", "0.60*", "0.20 ", "0.30 "]
    assert table[1].startswith(" 0:00.5 -  0:02.0")
    assert table[1].endswith("We <b>meet</b> & greet.")
    assert table[-1] == "2 people in view, face 1 followed: a face in 11 of 11 frames."


def test_doubts_are_told_in_words(result: Result) -> None:
    one = result.predictions[0]
    doubtful = replace(one, clip=replace(one.clip, quality=("clipped", "no-face", "silent")))
    told = notes(replace(result, predictions=(doubtful, *result.predictions[1:])))
    assert told[1:] == [
        "In 1 of 3 utterances the audio is silent.",
        "In 1 of 3 utterances the audio is clipped.",
        "In 1 of 3 utterances no face was found.",
    ]


# ---- the page


def test_the_page_needs_nothing_else_and_holds_every_utterance(page: Path, result: Result) -> None:
    html = page.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert "connect-src" not in html
    assert "default-src 'none'" in html
    assert html.count('class="utterance"') == html.count('class="card"') == 3
    assert "We &lt;b&gt;meet&lt;/b&gt; &amp; greet." in html
    for one in result.predictions:
        for value in one.output.probability:
            assert f"{value:.2f}</td>" in html
    assert "not the paper&#39;s albert-base-v2" in html


def test_the_video_in_the_page_is_the_one_that_was_given(page: Path, result: Result, tmp_path: Path) -> None:
    (inside,) = re.findall(r'id="video-data">([^<]*)<', page.read_text(encoding="utf-8"))
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(inside))
    info = probe(tmp_path / "video.mp4")
    assert (info.duration, info.has_audio) == (pytest.approx(result.seconds, abs=0.1), True)
    numbers = [
        [read_frame_number(frame.image) for frame in frames(path, [1.0, 4.0, 7.0], DecodeLog())]
        for path in (tmp_path / "video.mp4", result.video)
    ]
    np.testing.assert_allclose(*numbers, atol=1)


def test_what_the_attention_dropped_is_faded(page: Path, result: Result) -> None:
    html = page.read_text(encoding="utf-8")
    images = re.findall(r'class="fading" src="data:image/png;base64,([^"]*)"', html)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0]))))
    levels = [level for level in result.predictions[0].output.levels if level.modality == "v"]
    selected = levels[0].selected[0].numpy() | levels[1].selected[0].numpy().repeat(2, 0).repeat(2, 1)
    selected |= levels[2].selected[0].numpy().repeat(4, 0).repeat(4, 1)
    most = shown[..., 3].max()
    np.testing.assert_array_equal(shown[:, :24, 3] < most, selected)
    sound = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[1]))))
    chunks = [level for level in result.predictions[0].output.levels if level.modality == "a"]
    assert (sound[::-1][:, :16, 3][chunks[0].selected[0].numpy()] < most).all(), "low frequencies are at the bottom"


def test_of_many_utterances_some_have_pictures_and_the_page_says_so(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "PICTURED", 2)
    write_page(tmp_path / "page.html", result)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Faces and audio of 2 of the 3 utterances are shown, evenly chosen." in html
    assert len(re.findall(r'<div class="pieces">\s*<div class="piece"', html)) == 2


def test_what_is_missing_stands_at_the_top(result: Result, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", replace(result, missing=("Video and audio can be read up to 8.00 s.",)))
    html = unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert html.index("can be read up to 8.00 s.") < html.index("<main")


def test_a_model_without_attention_shows_none(result: Result, tmp_path: Path) -> None:
    plain = [replace(one, output=replace(one.output, levels=())) for one in result.predictions]
    write_page(tmp_path / "page.html", replace(result, predictions=tuple(plain)))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'class="fading"' not in html
    assert "ttention" not in html.partition("<main")[2]


# ---- in a browser

WAIT = "new Promise(done => video.readyState >= 2 ? done() : video.addEventListener('loadeddata', done))"
SEEKED = "new Promise(done => video.addEventListener('seeked', () => setTimeout(done, 50), {once: true}))"


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it_without_complaint_and_without_scrolling_sideways(
    browser: Page, page: Path, width: int, scheme: str
) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width=width, scheme=scheme)
    browser.run(WAIT)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.querySelectorAll('.card')].every(c => c.scrollWidth <= c.clientWidth)")
    assert [request for request in browser.requests if not request.startswith(("file:", "data:", "blob:"))] == []
    assert browser.complaints == []


@needs_chromium
def test_a_click_on_an_utterance_goes_there_and_shows_it(browser: Page, page: Path) -> None:
    browser.open(page)
    browser.run(WAIT)
    assert browser.run("[video.duration > 7.9, video.videoWidth]") == [True, 480]
    browser.run(f"(() => {{ const there = {SEEKED}; columns[1].click(); return there; }})()")
    assert browser.run("video.currentTime") == pytest.approx(2.21)
    assert browser.run("columns[1].getAttribute('aria-current')") == "true"
    assert browser.run("now.querySelector('.text').textContent") == "““At last.””"
    assert browser.run("now.querySelectorAll('.bars tbody tr').length") == 6
    share = browser.run("head.getBoundingClientRect().left - columns[1].getBoundingClientRect().left")
    assert 0 <= share < 5, "the line of the video stands at the beginning of the column"


@needs_chromium
def test_the_first_utterance_is_shown_before_anything_is_played(browser: Page, page: Path) -> None:
    browser.open(page)
    assert browser.run("columns[0].getAttribute('aria-current')") == "true"
    assert browser.run("now.querySelectorAll('.bars tbody tr').length") == 6
    assert browser.run("now.firstChild.textContent") == "0:00.5 to 0:02.0"


@needs_chromium
def test_one_emotion_stands_above_each_column(browser: Page, page: Path) -> None:
    browser.open(page)
    names = browser.run("columns.map(column => column.querySelector('.name').textContent)")
    tops = browser.run("cards.map(card => card.querySelector('.top .label').textContent)")
    assert names == tops
    assert browser.run("columns.every(column => column.querySelectorAll('.cell.top').length <= 1)")


@needs_chromium
def test_the_keyboard_reaches_every_utterance(browser: Page, page: Path) -> None:
    browser.open(page)
    browser.run(WAIT)
    reached = []
    browser.run("video.tabIndex = -1; video.controls = false")
    for _ in range(8):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.getAttribute('aria-label') || ''"))
    assert [label.partition(",")[0] for label in reached if " to 0:0" in label][:3] == [
        "0:00.5 to 0:02.0",
        "0:02.2 to 0:04.0",
        "0:05.0 to 0:07.0",
    ]


@needs_chromium
def test_nothing_on_the_timeline_is_cut_off(browser: Page, page: Path) -> None:
    browser.open(page, width=390)
    edges = "[...document.querySelectorAll('.ticks span')].map(s => s.getBoundingClientRect().right)"
    end = browser.run("document.querySelector('.track').getBoundingClientRect().right")
    assert max(browser.run(edges)) <= end + 0.5
    rings = """(() => columns.map((column) => {
      column.focus({ focusVisible: true });
      const style = getComputedStyle(column);
      const [offset, around] = [parseFloat(style.outlineOffset), scroll.getBoundingClientRect()];
      const [room, box] = [offset + parseFloat(style.outlineWidth), column.getBoundingClientRect()];
      return [style.outlineStyle, offset >= 0, box.top - room >= around.top, box.left - room >= around.left];
    }))()"""
    assert browser.run(rings) == 3 * [["solid", True, True, True]], "the ring of the focus is seen, and all of it"


@needs_chromium
def test_the_fading_can_be_taken_away(browser: Page, page: Path) -> None:
    browser.open(page)
    shown = "getComputedStyle(document.querySelector('.fading')).display"
    assert browser.run(shown) == "block"
    browser.run("fade.click()")
    assert browser.run(shown) == "none"
