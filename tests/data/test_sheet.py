"""An utterance can be looked at: its faces and its mel stand at their times, whatever its length and pace."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mesm_data.cli import main
from mesm_data.dataset.reader import load
from mesm_data.errors import ShardError
from mesm_data.report.sheet import Example, examples, face_slots, pieces, utterance_sheet
from tests.data.synthetic_rows import synthetic_rows, write_synthetic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made") / "up", synthetic_rows())


def example(seconds: float = 3.0, step: float = 0.5, **changes: object) -> Example:
    """An utterance whose k-th face is grey k, and whose mel gets louder from frame to frame."""
    times = np.arange(0, seconds, step)
    frames = round(seconds / 0.0125)
    plain = Example(
        id="Ses01F_impro01_F000",
        split="train",
        text="So.",
        emotions=("anger",),
        votes=(),
        start=10.0,
        end=10.0 + seconds,
        speaker="Ses01F",
        group="Ses01F_impro01",
        quality=(),
        faces=np.broadcast_to(
            np.arange(len(times), dtype=np.uint8)[:, None, None, None], (len(times), 48, 48, 3)
        ).copy(),
        face_times=times,
        face_scores=np.full(len(times), 0.9),
        face_found=np.full(len(times), True),
        mel=np.broadcast_to(np.linspace(-13, 0, frames, dtype=np.float32), (128, frames)),
        hop=0.0125,
        sample_rate=16_000,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def test_an_example_has_the_values_of_the_dataset(dataset: Path) -> None:
    row = synthetic_rows()[5]
    (found,) = examples(load(dataset), [row.utterance.id, "no such utterance"])
    assert (found.id, found.split, found.text, found.votes) == (
        row.utterance.id,
        "train",
        row.utterance.text,
        row.utterance.votes,
    )
    assert found.emotions == ("sadness",)
    np.testing.assert_array_equal(found.faces, row.clip.faces)
    np.testing.assert_allclose(found.face_times, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(found.mel[:, :32], row.clip.mels[0].astype(np.float32))


def test_the_padding_of_the_last_chunk_is_not_shown(dataset: Path) -> None:
    rows = synthetic_rows()
    short = replace(rows[0].utterance, end=rows[0].utterance.start + 0.5)
    folder = write_synthetic(dataset.parent / "short", [rows[0]._replace(utterance=short)])
    (found,) = examples(load(folder), [short.id])
    assert found.mel.shape == (128, 40)


def test_pieces_are_two_seconds_of_faces_over_the_same_two_seconds_of_mel() -> None:
    first, second = pieces(example(3.3), 12.0)
    assert (first.start, len(first.scores), second.start, len(second.scores)) == (0.0, 4, 2.0, 3)
    faces = picture(second.faces)
    assert faces.shape == (48, 3 * 48, 3)
    assert [round(float(faces[:, k * 48 : (k + 1) * 48].mean())) for k in range(3)] == [4, 5, 6]
    assert picture(first.mel).shape == (128, 160, 3)
    assert picture(second.mel).shape == (128, 104, 3)
    assert second.share == pytest.approx(1.3 / 1.5)


def test_only_the_first_seconds_are_cut_into_pieces_when_asked() -> None:
    assert [piece.start for piece in pieces(example(30.0), 4.0)] == [0.0, 2.0]


def test_of_a_faster_pace_one_face_a_half_second_is_shown() -> None:
    assert face_slots(example(2.0, step=0.1)) == {0: 0, 1: 3, 2: 8, 3: 13, 4: 18}


def test_a_slower_pace_leaves_slots_without_a_picture() -> None:
    (piece,) = pieces(example(2.0, step=1.0), 12.0)
    assert piece.scores == (0.9, None, 0.9, None)


def test_a_face_not_found_has_score_0_and_is_shown_all_the_same() -> None:
    found = np.array([True, False])
    (piece,) = pieces(example(1.0, face_found=found, face_scores=np.where(found, 0.9, 0.0)), 12.0)
    assert piece.scores == (0.9, 0.0)


def test_an_utterance_without_mel_is_cut_into_pieces_without_one() -> None:
    (piece,) = pieces(example(1.0, mel=np.zeros((128, 0), np.float32)), 12.0)
    assert (piece.mel, piece.share) == (b"", 0.0)


def test_a_sheet_is_an_image_that_is_the_same_every_time(dataset: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        utterance_sheet(dataset, "Ses01F_impro01_F005", tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    shown = Image.open(tmp_path / "one.png")
    assert shown.width > 800
    assert len(shown.convert("RGB").getcolors(1 << 24) or []) > 500, "faces and mel are in it"


def test_a_long_utterance_has_a_line_for_every_eight_seconds(tmp_path: Path) -> None:
    row = synthetic_rows()[0]
    heights = []
    for seconds in (7.0, 9.0, 17.0):
        utterance = replace(row.utterance, start=0.0, end=seconds)
        folder = write_synthetic(tmp_path / str(seconds), [row._replace(utterance=utterance)])
        utterance_sheet(folder, utterance.id, tmp_path / "sheet.png")
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[1] - heights[0] > 300
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=1)


def test_the_error_for_a_dropped_id_gives_the_reason(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"Ses02M_impro01_F000 was dropped, media-short: .* ends at 13\.04 s"):
        utterance_sheet(dataset, "Ses02M_impro01_F000", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_the_error_for_an_unknown_id_names_similar_ones(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no utterance 'Ses01F_impro1_F005'; nearest are Ses01F_impro01_F005, "):
        utterance_sheet(dataset, "Ses01F_impro1_F005", tmp_path / "sheet.png")


def test_a_text_with_dollars_and_other_scripts_is_drawn_as_it_is(tmp_path: Path) -> None:
    row = synthetic_rows()[0]
    utterance = replace(row.utterance, text="It is $5 and $x^2$, привет, naïve — " + "on and on " * 40)
    folder = write_synthetic(tmp_path / "set", [row._replace(utterance=utterance)])
    utterance_sheet(folder, utterance.id, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["-iRBcNs9oI8_0", "--qXJuDtHPw_5", "_q7DM8WkzAQ_1"])
def test_the_command_shows_ids_that_look_like_options(tmp_path: Path, name: str) -> None:
    row = synthetic_rows()[0]
    folder = write_synthetic(tmp_path / "set", [row._replace(utterance=replace(row.utterance, id=name))])
    out = tmp_path / "new" / "sheet.png"
    done = CliRunner().invoke(main, ["show", str(folder), name, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert Image.open(out).width > 500


def test_the_command_tells_of_an_id_it_does_not_have_in_one_line(dataset: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["show", str(dataset), "Ses03F_impro02_M007", "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "was dropped, no-media" in done.output
