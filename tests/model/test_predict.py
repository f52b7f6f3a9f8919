"""Any video is predicted as the dataset that the model was trained on was built; what cannot be used is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from click.testing import Result as Done

from mesm_data import synth
from mesm_data.build import Settings, build
from mesm_data.clip import Recipe
from mesm_data.dataset.reader import Dataset, open_dataset
from mesm_data.errors import DataError, MediaError
from mesm_data.faces.detector import Detection
from mesm_data.synth.film import cut, write_wav
from mesm_data.utterance import read_utterances
from mesm_model.batch import collate
from mesm_model.cli import main
from mesm_model.loader import open_part
from mesm_model.prediction import timeline
from mesm_model.prediction.predict import Model, _people, answer, load_model, predict
from mesm_model.prediction.transcripts import Segment
from tests.data.synthetic_rows import synthetic_rows, write_synthetic
from tests.data.test_encode import write_recording
from tests.model.untrained import write_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_synthetic(tmp_path_factory.mktemp("data") / "set", synthetic_rows(5)))


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mesm", dataset)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load_model(run)


@pytest.fixture(scope="module")
def dialogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side, eight seconds."""
    raw = tmp_path_factory.mktemp("raw") / "iemocap"
    synth.write_iemocap(raw, 1, seconds=8, awkward=False, size=(480, 240))
    return next(path for path in raw.rglob("*.avi") if not path.name.startswith("."))


def lines(*starts: float) -> list[Segment]:
    return [Segment(start, start + 1.0, f"Segment {n} is it.") for n, start in enumerate(starts)]


# ---- the same way as the build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A dataset of one film, whose sound is its own, and its raw folder."""
    folder = tmp_path_factory.mktemp("built")
    synth.write_mosei(folder / "raw", 1, seconds=8, awkward=False, size=(320, 240))
    shutil.rmtree(folder / "raw" / "Raw" / "Audio")
    build("mosei", folder / "raw", folder / "set", Settings(split="random", recipe=Recipe(0.4, sample_rate=44_100)))
    return open_dataset(folder / "set"), folder / "raw"


@pytest.mark.parametrize("name", ["mesm", "fe2e"])
def test_a_built_utterance_is_predicted_as_the_dataset_has_it(
    built: tuple[Dataset, Path], tmp_path: Path, name: str
) -> None:
    dataset, raw = built
    model = load_model(write_run(tmp_path / "run", dataset, name))
    utterances = sorted(read_utterances(dataset.folder / "utterances.jsonl"), key=lambda u: u.start)
    expected = {}
    for part in dataset.splits:
        members = open_part(dataset, part, model.encoder, tmp_path / "cache")
        for n, name_of_member in enumerate(members.ids):
            with torch.no_grad():
                expected[name_of_member] = model.network(collate([members[n]])).sigmoid()[0].numpy()
    video = raw / utterances[0].source.video
    result = predict(video, model, [Segment(u.start, u.end, u.text) for u in utterances])
    assert len(result.predictions) == len(utterances) >= 2
    spread = np.ptp(list(expected.values()), axis=0).max()
    assert spread > 1e-3, "the model tells utterances apart"
    for u, one in zip(utterances, result.predictions, strict=True):
        np.testing.assert_allclose(one.answer.probability, expected[u.id], atol=1e-5)


# ---- words


def test_one_text_is_for_the_whole_video(model: Model, dialogue: Path) -> None:
    result = predict(dialogue, model, "We meet at last.")
    (one,) = result.predictions
    assert (one.utterance.start, one.utterance.end) == (0.0, pytest.approx(8.0, abs=0.1))
    assert one.utterance.text == "We meet at last."


@pytest.mark.parametrize("words", [None, "", " \n"])
def test_without_words_a_model_that_reads_them_asks_for_them(model: Model, dialogue: Path, words: str | None) -> None:
    with pytest.raises(DataError, match=r"this mesm reads words, and there are none; give --transcript FILE, --text"):
        predict(dialogue, model, words)


def test_a_model_without_text_needs_no_words_and_is_asked_stretch_by_stretch(
    dataset: Dataset, dialogue: Path, tmp_path: Path
) -> None:
    model = load_model(write_run(tmp_path / "run", dataset, modalities="av"))
    result = predict(dialogue, model, None)
    (one,) = result.predictions
    assert set(one.without) == {"a", "v"}
    assert (one.utterance.start, one.utterance.end) == (0.0, pytest.approx(8.0, abs=0.1))


def test_text_matters_to_a_model_that_reads_it(model: Model, dialogue: Path) -> None:
    one, other = (predict(dialogue, model, words).predictions[0].answer for words in ("so happy", "a sad day"))
    assert np.abs(one.probability - other.probability).max() > 1e-6


# ---- what moved the decision


def test_without_a_modality_means_that_the_model_gets_nothing_of_it(model: Model, dialogue: Path) -> None:
    whole = predict(dialogue, model, "so happy").predictions[0]
    np.testing.assert_allclose(whole.without["t"], answer(model, whole.clip, "").probability, atol=1e-4)
    assert set(whole.without) == set("tav")
    for letter in "av":
        assert np.abs(whole.without[letter] - whole.answer.probability).max() > 1e-6


def test_the_trace_is_that_of_the_whole_utterance_alone(model: Model, dialogue: Path) -> None:
    one = predict(dialogue, model, lines(1.0)).predictions[0]
    assert [(level.modality, level.level) for level in one.answer.levels] == [(m, n) for m in "av" for n in (1, 2, 3)]
    for level in one.answer.levels:
        assert len(level.selected) == {"a": len(one.clip.mels), "v": len(one.clip.faces)}[level.modality]


# ---- who is in view


def test_the_largest_face_is_followed_and_another_can_be_chosen(model: Model, dialogue: Path) -> None:
    first, second = (predict(dialogue, model, lines(1.0, 3.0), face) for face in (1, 2))
    assert (first.people, second.people) == (2, 2)
    boxes = [np.concatenate([one.clip.face_boxes for one in result.predictions]) for result in (first, second)]
    middles = [(box[:, 0] + box[:, 2]) / 2 for box in boxes]
    assert (middles[0] < 240).all() != (middles[1] < 240).all()
    assert all(len(set(middle < 240)) == 1 for middle in middles), "nobody changes sides"
    assert np.prod(boxes[0][:, 2:] - boxes[0][:, :2], 1).mean() > np.prod(boxes[1][:, 2:] - boxes[1][:, :2], 1).mean()


def test_a_face_that_is_not_there_is_told_with_how_many_are(model: Model, dialogue: Path) -> None:
    with pytest.raises(DataError, match=r"saw 2 people, there is no face 3"):
        predict(dialogue, model, "So.", face=3)


def test_a_film_without_a_face_is_predicted_and_says_so(model: Model, tmp_path: Path) -> None:
    result = predict(tmp_path / write_recording(tmp_path), model, "So.")
    assert result.people == 0
    assert not result.predictions[0].clip.face_found.any()
    assert "No face found in any of 13 pictures; the model saw the middle of each." in timeline.notes(result)
    with pytest.raises(DataError, match=r"saw 0 people, there is no face 1"):
        predict(tmp_path / "film.avi", model, "So.", face=1)


def detection(x: float, side: float = 50.0) -> Detection:
    return Detection(np.array([x, 0, x + side, side], np.float32), 0.99, np.zeros((5, 2), np.float32))


def test_a_face_seen_once_among_many_is_nobody() -> None:
    seen = [[detection(100.0, 60), detection(300.0)] for _ in range(20)]
    seen[7].append(detection(500.0, 20))
    people = _people(seen)
    assert [[face.box[0] for face in person if face] for person in people] == [[100.0] * 20, [300.0] * 20]
    assert _people([[], []]) == []
    assert len(_people([[detection(1.0)]])) == 1


# ---- files that cannot be used, and those that can in part


def test_of_a_film_cut_short_the_readable_part_is_predicted_and_the_rest_is_told(model: Model, tmp_path: Path) -> None:
    video = tmp_path / write_recording(tmp_path, seconds=6.0)
    whole = predict(video, model, lines(0.5, 4.8))
    cut(video, 0.6)
    result = predict(video, model, lines(0.5, 3.0, 4.8))
    assert 3.1 < result.seconds < 3.9
    assert [one.utterance.start for one in result.predictions] == [0.5, 3.0]
    assert result.predictions[1].utterance.end == pytest.approx(result.seconds)
    assert result.missing == (
        f"Picture and sound can be read up to {result.seconds:.2f} s.",
        "1 utterance is behind that and left out.",
        "1 utterance is cut there.",
    )
    np.testing.assert_allclose(
        result.predictions[0].answer.probability, whole.predictions[0].answer.probability, atol=1e-5
    )


def test_of_a_film_cut_short_one_text_for_all_of_it_tells_what_is_missing(model: Model, tmp_path: Path) -> None:
    video = tmp_path / write_recording(tmp_path, seconds=6.0)
    assert predict(video, model, "Seven.").missing == ()
    cut(video, 0.6)
    result = predict(video, model, "Seven.")
    (told,) = result.missing
    assert told == f"Picture and sound can be read up to {result.seconds:.2f} s, of 6.01 s that the file counts."
    assert 3.1 < result.seconds < 3.9


def test_words_behind_the_end_of_a_whole_film_are_told(model: Model, dialogue: Path) -> None:
    result = predict(dialogue, model, lines(1.0, 60.0))
    assert len(result.predictions) == 1
    assert result.missing[1] == "1 utterance is behind that and left out."
    with pytest.raises(MediaError, match=r"nothing in it can be used; Picture and sound can be read up to 8\.\d\d s\."):
        predict(dialogue, model, lines(60.0))


def mesm(*words: str | Path) -> Done:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("junk.mp4", b"\x00\x01" * 40, "found nothing that FFmpeg can read"),
        ("empty.mp4", b"", "found an empty file"),
        ("text.mp4", b"Hello.\n", "expected a video or sound file"),
    ],
)
def test_what_is_no_video_is_told_in_one_line(
    run: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = mesm("predict", tmp_path / name, "--text", "So.", "--checkpoint", run)
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_sound_without_picture_and_picture_without_sound_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    from tests.data.test_media import write_film

    write_wav(tmp_path / "voice.wav", np.zeros((16_000, 1), np.int16), 16_000)
    for video, what in ((tmp_path / "voice.wav", "picture"), (write_film(tmp_path / "mute.mp4"), "sound")):
        done = mesm("predict", video, "--text", "So.", "--checkpoint", run)
        assert done.exit_code == 1
        assert done.stderr == f"mesm: {video}: has no {what}, expected a video with picture and sound\n"


def test_a_model_that_takes_features_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path / "run", dataset, "lf-lstm")
    with pytest.raises(DataError, match=r"a lf-lstm takes fixed features, not faces and sound; expected a run of fe2e"):
        load_model(tmp_path / "run")


# ---- the command


def test_the_command_prints_a_table_and_writes_page_and_json(run: Path, dialogue: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.vtt"
    words.write_text("WEBVTT\n\n00:01.000 --> 00:02.500\nWe meet.\n\n00:03.000 --> 00:04.000\nAt last.\n")
    out = (tmp_path / "page.html", tmp_path / "result.json")
    done = mesm(
        "predict",
        dialogue,
        "--transcript",
        words,
        "--checkpoint",
        run,
        "--out",
        out[0],
        "--json",
        out[1],
        "--face",
        "2",
    )
    assert done.exit_code == 0, done.output
    assert "1.00 -   2.50" in done.stdout
    assert "2 people in view, face 2 followed" in done.stdout
    assert f"Written to {out[0]} and {out[1]}" in done.stdout
    told = json.loads(out[1].read_text())
    assert [one["text"] for one in told["utterances"]] == ["We meet.", "At last."]
    assert out[0].read_text().count('class="utterance"') == 2


def test_only_one_source_of_words_is_taken(run: Path, dialogue: Path, tmp_path: Path) -> None:
    done = mesm("predict", dialogue, "--text", "So.", "--asr", tmp_path, "--checkpoint", run)
    assert done.exit_code == 2
    assert "--transcript, --text and --asr say the same thing" in done.stderr


def test_speech_recognition_gives_the_words(run: Path, dialogue: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra asr)")
    converters = pytest.importorskip("ctranslate2.converters")
    from tests.model.scripted_whisper import write_transformers_whisper

    said = ["<|0.40|>", *"Well", "<|1.00|>"]
    source = write_transformers_whisper(tmp_path / "transformers", said)
    converters.TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(tmp_path / "model"))
    done = mesm("predict", dialogue, "--asr", tmp_path / "model", "--checkpoint", run)
    assert done.exit_code == 0, done.output
    assert "  Well\n" in done.stdout


# ---- real films


@pytest.mark.parametrize("kind", ["avi", "mp4", "mpeg", "ogg"])
def test_a_real_scene_is_predicted_from_every_container(shared: Path, model: Model, kind: str) -> None:
    result = predict(shared / "media" / "hello" / f"movie-hello.{kind}", model, lines(1.0, 3.0))
    assert result.people == 1
    assert all(one.clip.face_found.all() for one in result.predictions)
    assert result.missing == ()


def test_a_real_phone_clip_without_a_face_is_predicted(shared: Path, model: Model) -> None:
    result = predict(shared / "media" / "hello" / "VID_20191220_170832.mp4", model, "What is this?")
    assert result.people == 0
    assert len(result.predictions) == 1


def test_real_talking_heads_are_found_in_every_picture(shared: Path, model: Model) -> None:
    result = predict(shared / "media" / "grid" / "bbaf2n.mpg", model, "Bin blue at F two now.")
    assert (result.people, result.predictions[0].clip.face_found.all()) == (1, True)


def test_seconds_of_a_prediction_are_those_of_the_video(model: Model, dialogue: Path) -> None:
    one = predict(dialogue, model, lines(2.0)).predictions[0]
    np.testing.assert_allclose(one.clip.face_times, [2.0, 2.5], atol=0.02)
    assert replace(one.utterance, text="").start == 2.0
