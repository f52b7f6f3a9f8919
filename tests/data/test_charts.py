"""Charts are inline SVG without size, font, style or ids of their own, and say their numbers as text."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mesm_data.report import charts
from tests.browser import needs_chromium, open_browser

SHARES = {"anger": {"train": 0.25, "test": 0.125}, "none of them": {"train": 0.0, "test": 1.0}}


def texts(svg: str) -> list[str]:
    """The text elements of a chart, in order; fails where it is no XML."""
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def bar_lengths(svg: str) -> list[float]:
    """Lengths of the horizontal bars, in the order of drawing."""
    paths = re.findall(r'<path d="M (\S+) \S+\s+L (\S+) [^"]*z\s*" clip-path', svg)
    return [float(end) - float(start) for start, end in paths]


def test_grouped_bars_are_as_long_as_the_shares_they_name() -> None:
    svg = charts.grouped_bars("labels", SHARES)
    assert {"anger", "none of them", "train", "test", "25.0 %", "12.5 %", "0.0 %", "100.0 %"} <= set(texts(svg))
    lengths = bar_lengths(svg)  # train of both groups, then test of both
    assert [length / lengths[-1] for length in lengths] == pytest.approx([0.25, 0.0, 0.125, 1.0], abs=1e-3)


def test_bars_may_point_to_both_sides_and_be_held_against_marks() -> None:
    svg = charts.bars("alpha", {"up": 0.5, "down": -0.25}, ["0.50", "-0.25"], marks=(0.8,))
    assert texts(svg) == ["up", "down", "0.50", "-0.25", "0.8"]
    up, down = bar_lengths(svg)
    assert down / up == pytest.approx(-0.5, abs=1e-3)


def test_a_histogram_counts_every_value_and_marks_the_median() -> None:
    svg = charts.histogram("words", [1, 2, 2, 3, 3, 3, 200], "words")
    assert "median 3" in texts(svg)
    assert "words" in texts(svg)


def test_a_histogram_of_one_value_or_of_zeros_is_drawn() -> None:
    assert "median 4" in texts(charts.histogram("one", [4], "words"))
    assert "median 0" in texts(charts.histogram("zeros", [0, 0], "words"))
    assert "median 0.6" in texts(charts.histogram("part", [0.6], "seconds"))


def test_a_chart_leaves_size_font_and_style_to_the_page_and_takes_its_colours() -> None:
    svg = charts.grouped_bars("labels", SHARES)
    head = svg[: svg.index(">")]
    assert "viewBox" in head
    assert "width" not in head
    assert "<style" not in svg
    assert "font-family" not in svg
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    assert colours <= {"currentColor", "var(--faint)", "var(--series-1)", "var(--series-2)"}


def test_no_text_is_too_small_for_a_phone() -> None:
    drawn = [
        charts.grouped_bars("labels", SHARES),
        charts.bars("alpha", {"up": 0.5}, ["0.50"], marks=(0.667, 0.8)),
        charts.whiskers("scores", {"mesm": (50.0, 40.0, 60.0)}, {"chance": 20.0}),
        charts.histogram("words", [1, 2, 3], "words"),
        charts.lines("loss", {"a": [(1, 2.0), (2, 1.0)], "b": [(1, 1.0)]}, "epoch", "loss"),
    ]
    sizes = [float(size) for svg in drawn for size in re.findall(r"font-size: ([\d.]+)px", svg)]
    assert min(sizes) >= 10, "a chart is 360 wide, as a phone is"


def test_ids_of_two_charts_on_a_page_never_meet() -> None:
    one, other = (set(re.findall(r'\bid="([^"]+)"', charts.histogram(name, [1, 2, 3], "s"))) for name in ("a", "b"))
    assert one
    assert not one & other


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert charts.histogram("a", [1, 2, 3], "s") == charts.histogram("a", [1, 2, 3], "s")


@needs_chromium
@pytest.mark.parametrize(("scheme", "is_light"), [("light", True), ("dark", False)])
def test_a_figure_that_is_written_to_a_file_follows_the_readers_scheme(
    tmp_path: Path, scheme: str, is_light: bool
) -> None:
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot([1, 2], [1, 2])
    charts.save_svg(figure, tmp_path / "one.svg")
    charts.save_svg(figure, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    ET.parse(tmp_path / "one.svg")
    (tmp_path / "page.html").write_text('<body style="margin: 0"><img src="one.svg">')
    with open_browser() as page:
        page.open(tmp_path / "page.html", width=300, height=200, scheme=scheme)
        page.picture(tmp_path / "page.png")
    assert (Image.open(tmp_path / "page.png").convert("L").getpixel((2, 2)) > 128) == is_light
