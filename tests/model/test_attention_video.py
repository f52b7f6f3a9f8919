"""An utterance is a film with its sound: the speaker, the face as the model saw it, a cursor over the mel."""

from pathlib import Path

import numpy as np
import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_model.prediction import attention_video
from mesm_model.prediction.attention_maps import explain
from mesm_model.prediction.attention_video import FACE, MEL, SIZES, SPEAKER, _board, _fitted, write_video
from mesm_model.prediction.predict import Model, load_model
from tests.data.test_encode import CLICKS, write_recording
from tests.data.test_encode import RATE as HZ
from tests.model.filmed import write_filmed
from tests.model.untrained import write_run

ID = "Ses01F_impro01_F004"  # from 1 to 2.5 s


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_filmed(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_run(tmp_path_factory.mktemp("runs") / "mesm", dataset, top_p=0.5))


@pytest.fixture(scope="module")
def film(dataset: Dataset, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    write_recording(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_video, "RATE", 8)
        write_video(folder / "overlay.mp4", explain(dataset, model, [ID])[0], model, folder)
    return folder / "overlay.mp4"


def test_the_film_is_as_long_as_the_utterance_and_has_its_sound(film: Path) -> None:
    info = probe(film)
    assert (info.width, info.height) == (1280, 720)
    assert info.duration == pytest.approx(1.5, abs=0.15)
    (sound,) = audio_spans(film, [(0.0, 10.0)], None, DecodeLog())
    loud = np.flatnonzero(sound.samples > 0.2) / sound.rate
    assert loud.min() == pytest.approx((-HZ % CLICKS[0]) / HZ, abs=0.03)


def test_the_film_shows_speaker_face_and_a_cursor_that_moves(film: Path) -> None:
    shown = [frame.image for frame in frames(film, [0.13, 1.25], DecodeLog())]
    cursors = []
    for image in shown:
        x, y, width, height = MEL
        band = image[y + 4 : y + height - 4, x : x + width].astype(int)
        cursors.append(int((band[..., 2] - band[..., 0]).mean(0).argmax()) / width)
        x, y, width, height = SPEAKER
        assert (image[y : y + height, x : x + width] > 100).mean() > 0.2
    assert cursors == [pytest.approx(time / 1.5, abs=0.03) for time in (0.125, 1.25)]
    x, y, width, height = FACE
    faces = [image[y : y + height, x : x + width].astype(int) for image in shown]
    assert np.abs(faces[0] - faces[1]).mean() > 20, "another face is shown a second later"


def test_without_the_raw_corpus_the_film_is_silent(dataset: Dataset, model: Model, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_video, "RATE", 4)
        write_video(tmp_path / "film.mp4", explain(dataset, model, [ID])[0], model, None)
    assert not probe(tmp_path / "film.mp4").has_audio


def test_only_a_silent_film_says_that_it_is_silent(dataset: Dataset, model: Model) -> None:
    (one,) = explain(dataset, model, [ID])
    x, y, width, height = SPEAKER
    written = [_board(one, model, silent)[y : y + height, x : x + width].max() > 150 for silent in (True, False)]
    assert written == [True, False], "a narrow film would leave some of the words in sight"


@pytest.mark.parametrize("count", [1, 25, 60, 100])
def test_long_words_are_written_smaller_and_not_cut_off(count: int) -> None:
    words = " ".join(["seven"] * count)
    lines, size = _fitted(words)
    assert " ".join(lines) == words
    assert len(lines) <= {points: most for points, _, most in SIZES}[size]


def test_words_beyond_all_measure_end_in_dots() -> None:
    lines, size = _fitted("seven " * 400)
    assert (len(lines), size) == (SIZES[-1][2], SIZES[-1][0])
    assert lines[-1].endswith(" ...")


def test_a_raw_folder_without_the_recording_is_told(dataset: Dataset, model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"film\.avi is not there; expected the raw corpus that the dataset was built"):
        write_video(tmp_path / "film.mp4", explain(dataset, model, [ID])[0], model, tmp_path)
