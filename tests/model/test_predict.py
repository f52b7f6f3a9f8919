"""Any video is predicted as the dataset that the model was trained on was built; what cannot be used is said."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from click.testing import Result as Done

from mesm_data import synth
from mesm_data.build import Settings, build
from mesm_data.clip import Recipe
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError, MediaError
from mesm_data.synth.video import cut, write_wav
from mesm_data.utterance import read_utterances
from mesm_model.batch import collate
from mesm_model.cli import main
from mesm_model.loader import open_split
from mesm_model.models.common.text import tokenize
from mesm_model.prediction import timeline
from mesm_model.prediction.predict import Model, load_model, predict, run_model
from mesm_model.prediction.transcripts import Segment
from tests.data.synthetic_rows import synthetic_rows, write_synthetic
from tests.data.test_encode import write_recording
from tests.model.untrained import write_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(write_synthetic(tmp_path_factory.mktemp("data") / "set", synthetic_rows(5)))


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
    build("mosei", folder / "raw", folder / "set", Settings(scheme="random", recipe=Recipe(0.4, sample_rate=44_100)))
    return load(folder / "set"), folder / "raw"


@pytest.mark.parametrize("name", ["mesm", "fe2e"])
def test_a_built_utterance_is_predicted_as_the_dataset_has_it(
    built: tuple[Dataset, Path], tmp_path: Path, name: str
) -> None:
    dataset, raw = built
    model = load_model(write_run(tmp_path / "run", dataset, name))
    utterances = sorted(read_utterances(dataset.folder / "utterances.jsonl"), key=lambda u: u.start)
    expected = {}
    for split in dataset.splits:
        members = open_split(dataset, split, model.encoder, tmp_path / "cache")
        for n, name_of_member in enumerate(members.ids):
            with torch.no_grad():
                expected[name_of_member] = model.network(collate([members[n]])).sigmoid()[0].numpy()
    video = raw / utterances[0].source.video
    result = predict(model, video, [Segment(u.start, u.end, u.text) for u in utterances])
    assert len(result.predictions) == len(utterances) >= 2
    spread = np.ptp(list(expected.values()), axis=0).max()
    assert spread > 1e-3, "the model tells utterances apart"
    for u, one in zip(utterances, result.predictions, strict=True):
        np.testing.assert_allclose(one.output.probability, expected[u.id], atol=1e-5)


# ---- words


def test_one_text_is_for_the_whole_video(model: Model, dialogue: Path) -> None:
    result = predict(model, dialogue, text="We meet at last.")
    (one,) = result.predictions
    assert (one.utterance.start, one.utterance.end) == (0.0, pytest.approx(8.0, abs=0.1))
    assert one.utterance.text == "We meet at last."


@pytest.mark.parametrize("words", [None, "", " \n"])
def test_without_words_a_model_that_reads_them_asks_for_them(model: Model, dialogue: Path, words: str | None) -> None:
    with pytest.raises(DataError, match=r"this mesm reads text, and there is none; give --transcript FILE, --text"):
        predict(model, dialogue, text=words)


def test_a_model_without_text_needs_no_words_and_is_asked_stretch_by_stretch(
    dataset: Dataset, dialogue: Path, tmp_path: Path
) -> None:
    model = load_model(write_run(tmp_path / "run", dataset, modalities="av"))
    result = predict(model, dialogue, None)
    (one,) = result.predictions
    assert set(one.without) == {"a", "v"}
    assert (one.utterance.start, one.utterance.end) == (0.0, pytest.approx(8.0, abs=0.1))


def test_text_matters_to_a_model_that_reads_it(model: Model, dialogue: Path) -> None:
    one, other = (predict(model, dialogue, text=words).predictions[0].output for words in ("so happy", "a sad day"))
    assert np.abs(one.probability - other.probability).max() > 1e-6


# ---- what moved the decision


def test_without_a_modality_means_that_the_model_gets_nothing_of_it(model: Model, dialogue: Path) -> None:
    whole = predict(model, dialogue, text="so happy").predictions[0]
    np.testing.assert_allclose(whole.without["t"], run_model(model, whole.clip, "").probability, atol=1e-4)
    assert set(whole.without) == set("tav")
    for letter in "av":
        assert np.abs(whole.without[letter] - whole.output.probability).max() > 1e-6


def test_the_trace_is_that_of_the_whole_utterance_alone(model: Model, dialogue: Path) -> None:
    one = predict(model, dialogue, lines(1.0)).predictions[0]
    assert [(level.modality, level.level) for level in one.output.levels] == [(m, n) for m in "av" for n in (1, 2, 3)]
    for level in one.output.levels:
        assert len(level.selected) == {"a": len(one.clip.mels), "v": len(one.clip.faces)}[level.modality]


# ---- who is in view


def test_the_largest_face_is_followed_and_another_can_be_chosen(model: Model, dialogue: Path) -> None:
    first, second = (predict(model, dialogue, lines(1.0, 3.0), face=face) for face in (1, 2))
    assert (first.people, second.people) == (2, 2)
    boxes = [np.concatenate([one.clip.face_boxes for one in result.predictions]) for result in (first, second)]
    middles = [(box[:, 0] + box[:, 2]) / 2 for box in boxes]
    assert (middles[0] < 240).all() != (middles[1] < 240).all()
    assert all(len(set(middle < 240)) == 1 for middle in middles), "nobody changes sides"
    assert np.prod(boxes[0][:, 2:] - boxes[0][:, :2], 1).mean() > np.prod(boxes[1][:, 2:] - boxes[1][:, :2], 1).mean()


def test_a_face_that_is_not_there_is_told_with_how_many_are(model: Model, dialogue: Path) -> None:
    with pytest.raises(DataError, match=r"found 2 people in view, there is no face 3"):
        predict(model, dialogue, text="So.", face=3)


def test_a_film_without_a_face_is_predicted_and_says_so(model: Model, tmp_path: Path) -> None:
    result = predict(model, tmp_path / write_recording(tmp_path), text="So.")
    assert result.people == 0
    assert not result.predictions[0].clip.face_found.any()
    assert "No face found in any of 13 frames; the model was given the middle of each." in timeline.notes(result)
    with pytest.raises(DataError, match=r"found 0 people in view, there is no face 1"):
        predict(model, tmp_path / "film.avi", text="So.", face=1)


# ---- one pass through the video


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every media file that is opened, each time it is."""
    names: list[str] = []
    really_open = av.open

    def counting(file: str, *arguments: Any, **options: Any) -> Any:
        names.append(Path(file).name)
        return really_open(file, *arguments, **options)

    monkeypatch.setattr(av, "open", counting)
    return names


@pytest.mark.parametrize(("face", "starts"), [(1, [1.0, 3.0]), (2, [1.0, 3.0]), (1, [1.0, 60.0])])
def test_a_video_is_decoded_once(
    model: Model, dialogue: Path, opened: list[str], face: int, starts: list[float]
) -> None:
    predict(model, dialogue, lines(*starts), face=face)
    assert opened == 5 * [dialogue.name], "headers; times, then frames; in an AVI, times, then samples"


def test_the_tokenizer_is_loaded_once(model: Model, dialogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def counting(encoder: Path, texts: Sequence[str]) -> list[list[int]]:
        asked.append(texts)
        return tokenize(encoder, texts)

    monkeypatch.setattr("mesm_model.prediction.predict.tokenize", counting)
    predict(model, dialogue, lines(1.0, 3.0))
    assert asked == [["Segment 0 is it.", "Segment 1 is it.", ""]]


# ---- files that cannot be used, and those that can in part


def test_of_a_film_cut_short_the_readable_part_is_predicted_and_the_rest_is_told(model: Model, tmp_path: Path) -> None:
    video = tmp_path / write_recording(tmp_path, seconds=6.0)
    whole = predict(model, video, lines(0.5, 4.8))
    cut(video, 0.6)
    result = predict(model, video, lines(0.5, 3.0, 4.8))
    assert 3.1 < result.seconds < 3.9
    assert [one.utterance.start for one in result.predictions] == [0.5, 3.0]
    assert result.predictions[1].utterance.end == pytest.approx(result.seconds)
    assert result.missing == (
        f"Video and audio can be read up to {result.seconds:.2f} s.",
        "1 utterance is after that and left out.",
        "1 utterance is cut there.",
    )
    np.testing.assert_allclose(
        result.predictions[0].output.probability, whole.predictions[0].output.probability, atol=1e-5
    )


def test_of_a_film_cut_short_one_text_for_all_of_it_tells_what_is_missing(model: Model, tmp_path: Path) -> None:
    video = tmp_path / write_recording(tmp_path, seconds=6.0)
    assert predict(model, video, text="Seven.").missing == ()
    cut(video, 0.6)
    result = predict(model, video, text="Seven.")
    (told,) = result.missing
    assert told == f"Video and audio can be read up to {result.seconds:.2f} s, of 6.01 s by the number of frames."
    assert 3.1 < result.seconds < 3.9


def test_words_behind_the_end_of_a_whole_film_are_told(model: Model, dialogue: Path) -> None:
    result = predict(model, dialogue, lines(1.0, 60.0))
    assert len(result.predictions) == 1
    assert result.missing[1] == "1 utterance is after that and left out."
    with pytest.raises(MediaError, match=r"nothing in it can be used; Video and audio can be read up to 8\.\d\d s\."):
        predict(model, dialogue, lines(60.0))


def test_words_before_the_beginning_and_beyond_all_measure_are_cut_and_reported(model: Model, dialogue: Path) -> None:
    said = [
        Segment(-2.0, -1.0, "Gone."),
        Segment(-1.0, 1.0, "Early."),
        Segment(7.0, 4e8, "Late."),
        Segment(4e8, 5e8, ""),
    ]
    result = predict(model, dialogue, said)
    assert [(one.utterance.start, one.utterance.end) for one in result.predictions] == [
        (0.0, 1.0), (7.0, pytest.approx(result.seconds)),
    ]  # fmt: skip
    assert result.missing == (
        "1 utterance is before the video begins and left out.",
        "1 utterance is cut at 0 s, where the video begins.",
        f"Video and audio can be read up to {result.seconds:.2f} s.",
        "1 utterance is after that and left out.",
        "1 utterance is cut there.",
    )


# ---- from Python


def test_a_run_and_a_transcript_may_be_names_and_the_result_is_a_table(
    run: Path, dialogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.srt").write_bytes("1\n00:00:01 --> 00:00:02\nSchöne Grüße.\n".encode("cp1252"))
    result = predict(str(run), str(dialogue), str(tmp_path / "words.srt"))
    assert result.assumed == ("words.srt: not UTF-8; read as windows-1252, the likeliest encoding.",)
    assert result.assumed[0] in timeline.notes(result)
    table = result.to_pandas()
    emotions = list(result.model.emotions)
    assert list(table.columns) == [
        "start", "end", "text", *emotions, "decided", "top_emotion", "top_modality", "faces", "faces_found", "quality",
    ]  # fmt: skip
    (row,) = table.to_dict("records")
    assert (row["start"], row["end"], row["text"], row["faces"]) == (1.0, 2.0, "Schöne Grüße.", 2)
    told = timeline.to_json(result)["utterances"][0]
    assert [row[name] for name in emotions] == pytest.approx(list(told["probabilities"].values()), abs=1e-6)
    assert (row["top_emotion"], row["top_modality"]) == (told["top_emotion"], told["top_modality"])
    assert all(len(repr(one)) < 300 for one in (result, result.model, result.predictions[0]))


# ---- what is refused


def mesm(*words: str | Path) -> Done:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("junk.mp4", b"\x00\x01" * 40, "found nothing that FFmpeg can read"),
        ("empty.mp4", b"", "found an empty file"),
        ("text.mp4", b"Hello.\n", "expected a video or audio file"),
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


def test_a_pipe_is_refused_and_not_waited_for(run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video.mp4")
    done = mesm("predict", tmp_path / "video.mp4", "--text", "So.", "--checkpoint", run)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"mesm: {tmp_path / 'video.mp4'}: found a pipe, expected ")
    assert len(done.stderr.splitlines()) == 1


def test_a_name_may_begin_with_a_dash(
    run: Path, dialogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(dialogue, tmp_path / "-x.avi")
    monkeypatch.chdir(tmp_path)
    done = mesm("predict", "-x.avi", "--text", "So.", "--checkpoint", run, "--out", "page.html")
    assert done.exit_code == 0, done.output
    assert "<title>-x.avi: emotions over time</title>" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_text_encoder_is_one_line(
    run: Path, dialogue: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "text" / name).write_bytes(content)
    done = mesm("predict", dialogue, "--text", "So.", "--checkpoint", tmp_path / "run")
    assert done.exit_code == 1, done.exception
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "run" / "text") in done.stderr


def test_nonsense_times_are_one_line(run: Path, dialogue: Path, tmp_path: Path) -> None:
    for times in ("400000000.0 500000000.0", f"0 {'9' * 400}", "-9 -8"):
        (tmp_path / "words.txt").write_text(f"{times} So.\n")
        done = mesm("predict", dialogue, "--transcript", tmp_path / "words.txt", "--checkpoint", run)
        assert done.exit_code == 1, done.exception
        assert len(done.stderr.splitlines()) == 1


def test_sound_without_picture_and_picture_without_sound_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    from tests.data.media_files import write_video

    write_wav(tmp_path / "voice.wav", np.zeros((16_000, 1), np.int16), 16_000)
    for video, what in ((tmp_path / "voice.wav", "video"), (write_video(tmp_path / "mute.mp4"), "audio")):
        done = mesm("predict", video, "--text", "So.", "--checkpoint", run)
        assert done.exit_code == 1
        assert done.stderr == f"mesm: {video}: found no {what} stream, expected a file with video and audio\n"


def test_a_model_that_takes_features_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path / "run", dataset, "lf-lstm")
    with pytest.raises(
        DataError, match=r"lf-lstm takes precomputed features, not faces and audio; expected a run of fe2e"
    ):
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
    assert "0:01.0 -  0:02.5" in done.stdout
    assert "2 people in view, face 2 followed" in done.stdout
    assert f"Written to {out[0]} and {out[1]}" in done.stdout
    told = json.loads(out[1].read_text())
    assert [one["text"] for one in told["utterances"]] == ["We meet.", "At last."]
    assert out[0].read_text().count('class="utterance"') == 2


def test_only_one_source_of_words_is_taken(run: Path, dialogue: Path, tmp_path: Path) -> None:
    done = mesm("predict", dialogue, "--text", "So.", "--asr", tmp_path, "--checkpoint", run)
    assert done.exit_code == 2
    assert "--transcript, --text and --asr exclude each other" in done.stderr


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
    result = predict(model, shared / "media" / "hello" / f"movie-hello.{kind}", lines(1.0, 3.0))
    assert result.people == 1
    assert all(one.clip.face_found.all() for one in result.predictions)
    assert result.missing == ()


def test_a_real_phone_clip_without_a_face_is_predicted(shared: Path, model: Model) -> None:
    result = predict(model, shared / "media" / "hello" / "VID_20191220_170832.mp4", text="What is this?")
    assert result.people == 0
    assert len(result.predictions) == 1


def test_real_talking_heads_are_found_in_every_picture(shared: Path, model: Model) -> None:
    result = predict(model, shared / "media" / "grid" / "bbaf2n.mpg", text="Bin blue at F two now.")
    assert (result.people, result.predictions[0].clip.face_found.all()) == (1, True)


def test_seconds_of_a_prediction_are_those_of_the_video(model: Model, dialogue: Path) -> None:
    one = predict(model, dialogue, lines(2.0)).predictions[0]
    np.testing.assert_allclose(one.clip.face_times, [2.0, 2.5], atol=0.02)
    assert replace(one.utterance, text="").start == 2.0
