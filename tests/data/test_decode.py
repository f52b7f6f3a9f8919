"""From a recording to clips: whose face, which crop when there is none, and what becomes of media that do not fit."""

import math
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data import decode
from mesm_data.clip import Recipe
from mesm_data.decode import Outcome, frame_times, make_clips
from mesm_data.faces.crops import centre_crop, crop_face
from mesm_data.faces.detector import Detection
from mesm_data.faces.tracking import follow_all
from mesm_data.media.container import DecodeLog
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number, stamp
from mesm_data.synth.video import cut, frame_ticks, write_avi, write_wav
from mesm_data.utterance import Source, Utterance

RATE = 16_000
RECIPE = Recipe()
LEFT, RIGHT = np.array([20, 30, 60, 70], np.float32), np.array([95, 34, 135, 74], np.float32)  # two boxes


class Sees:
    """A detector that sees what it is told to, by the number burnt into a frame."""

    def __init__(self, boxes: dict[int, list[np.ndarray]]) -> None:
        self.boxes = boxes

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        return [[_face(box) for box in self.boxes.get(read_frame_number(image), [])] for image in images]


def _face(box: np.ndarray) -> Detection:
    return Detection(box, 0.99, np.zeros((5, 2), np.float32))


def write_recording(folder: Path, seconds: float = 6.0, sound: float | None = None, loudness: float = 0.3) -> None:
    """film.avi, 160 x 96 at 29.97 fps with its frame numbers burnt in and noise that differs, and sound.wav, a tone."""
    ticks = frame_ticks([3003], seconds)
    noise = np.random.default_rng(0)
    pictures = []
    for number in range(len(ticks)):
        picture = np.full((96 * 3 // 2, 160), 128, np.uint8)
        picture[24:96] = noise.integers(40, 200, (9, 20)).repeat(8, 0).repeat(8, 1)
        stamp(picture[:96], number)
        pictures.append(picture)
    times = np.arange(round((seconds if sound is None else sound) * RATE)) / RATE
    pcm = (loudness * 32767 * np.sin(2 * np.pi * 220 * times)).clip(-32768, 32767).astype(np.int16)[:, None]
    write_avi(folder / "film.avi", pictures, ticks, pcm, RATE)
    write_wav(folder / "sound.wav", pcm, RATE)


def utterance(name: str, start: float, end: float, audio: str | None = "sound.wav") -> Utterance:
    return Utterance(name, Source("film.avi", audio), start, end, "words", (1,), (), "she", "film")


def build(folder: Path, *spans: tuple[float, float], sees: dict[int, list[np.ndarray]] | None = None) -> list[Outcome]:
    utterances = [utterance(f"u{n}", *span) for n, span in enumerate(spans)]
    seen = Sees(sees if sees is not None else {n: [LEFT] for n in range(999)})
    return list(make_clips(folder, utterances, RECIPE, seen).outcomes)


def frame_at(folder: Path, time: float) -> np.ndarray:
    return next(frames(folder / "film.avi", [time], DecodeLog())).image


def number_at(time: float) -> int:
    return round(time * 30_000 / 1001)


def kinds(outcome: Outcome) -> dict[str, str]:
    return {issue.kind: issue.detail for issue in outcome.issues}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    write_recording(folder)
    return folder


def test_faces_are_taken_from_start_on_in_steps_and_at_least_once() -> None:
    assert frame_times(1.25, 2.75, 0.5).tolist() == [1.25, 1.75, 2.25]
    assert frame_times(1.25, 2.76, 0.5).tolist() == [1.25, 1.75, 2.25, 2.75]
    assert frame_times(3.0, 3.12, 0.5).tolist() == [3.0]


def test_a_picture_without_a_face_is_cropped_at_the_nearest_box_of_its_utterance(recording: Path) -> None:
    sees = {number_at(0.5): [LEFT], number_at(2.0): [RIGHT], number_at(4.0): [LEFT]}
    first, second = build(recording, (0.0, 2.5), (3.0, 4.0), sees=sees)
    assert first.clip is not None
    assert second.clip is not None
    assert first.clip.face_found.tolist() == [False, True, False, False, True]
    for k, box in enumerate([LEFT, LEFT, LEFT, RIGHT, RIGHT]):
        np.testing.assert_array_equal(first.clip.faces[k], crop_face(frame_at(recording, 0.5 * k), box))
    assert first.clip.face_boxes[[1, 4]].tolist() == [LEFT.tolist(), RIGHT.tolist()]
    assert not first.clip.face_boxes[[0, 2, 3]].any()
    # the box at 4.0 s is of no utterance: the second one has none to borrow
    assert second.clip.face_found.tolist() == [False, False]
    np.testing.assert_array_equal(second.clip.faces[0], centre_crop(frame_at(recording, 3.0), 48))
    assert kinds(first) == {}
    assert kinds(second) == {"no-face": "no face found in 2 frames"}
    assert second.clip.quality == ("no-face",)


def test_pictures_wait_for_a_box_as_long_as_memory_allows(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sees = {number_at(5.5): [RIGHT]}
    monkeypatch.setattr(decode, "FACES_A_BATCH", 2)
    (waited,) = build(recording, (0.0, 6.0), sees=sees)
    monkeypatch.setattr(decode, "BYTES_HELD", 3 * 160 * 96 * 3)
    (let_go,) = build(recording, (0.0, 6.0), sees=sees)
    assert waited.clip is not None
    assert let_go.clip is not None
    np.testing.assert_array_equal(waited.clip.faces[0], crop_face(frame_at(recording, 0.0), RIGHT))
    np.testing.assert_array_equal(let_go.clip.faces[0], centre_crop(frame_at(recording, 0.0), 48))
    np.testing.assert_array_equal(let_go.clip.faces[11], waited.clip.faces[11])


def test_of_several_faces_the_one_on_the_speakers_track_is_taken(recording: Path) -> None:
    sees = {number: [LEFT] for number in range(999)}
    sees[number_at(1.0)] = [RIGHT, LEFT]
    (outcome,) = build(recording, (0.0, 2.0), sees=sees)
    assert outcome.clip is not None
    assert outcome.clip.face_boxes.tolist() == [LEFT.tolist()] * 4


@pytest.mark.parametrize(("end", "kept"), [(6.2, True), (6.3, False)])
def test_media_may_end_a_quarter_of_a_second_early(recording: Path, end: float, kept: bool) -> None:
    (outcome,) = build(recording, (4.0, end))
    assert (outcome.clip is not None) == kept
    if not kept:
        assert kinds(outcome) == {"media-short": "film.avi: media ends at 6.01 s, utterance ends at 6.30 s"}


def test_what_starts_behind_the_end_is_told_apart_from_what_a_cut_took(tmp_path: Path) -> None:
    write_recording(tmp_path)
    (behind,) = build(tmp_path, (7.0, 8.0))
    assert kinds(behind) == {"after-media-end": "media ends at 6.01 s, utterance starts at 7.00 s"}
    cut(tmp_path / "film.avi", 0.5)
    kept, taken = build(tmp_path, (0.0, 2.0), (4.5, 5.5))
    assert kept.clip is not None
    assert list(kinds(taken)) == ["media-short"]


def test_one_sound_too_short_costs_what_it_cuts_off_and_doubts_the_rest(tmp_path: Path) -> None:
    write_recording(tmp_path, sound=5.0)
    kept, lost = build(tmp_path, (0.0, 2.0), (4.0, 5.5))
    assert kinds(kept) == {"length-differs": "audio is 1.01 s shorter than the video"}
    assert kinds(lost) == {"media-short": "sound.wav: audio ends at 5.00 s, utterance ends at 5.50 s"}


@pytest.mark.parametrize(
    ("loudness", "doubts"), [(0.0, {"silent"}), (0.0005, {"silent"}), (0.9, set()), (2.0, {"clipped"})]
)
def test_silence_and_clipping_are_doubts(tmp_path: Path, loudness: float, doubts: set[str]) -> None:
    write_recording(tmp_path, seconds=1.0, loudness=loudness)
    (outcome,) = build(tmp_path, (0.0, 1.0))
    assert outcome.clip is not None
    assert set(outcome.clip.quality) == set(kinds(outcome)) == doubts


def test_without_a_sound_file_the_film_is_heard(recording: Path) -> None:
    (own,) = make_clips(recording, [utterance("u", 1.0, 2.0, audio=None)], RECIPE, Sees({})).outcomes
    (apart,) = make_clips(recording, [utterance("u", 1.0, 2.0)], RECIPE, Sees({})).outcomes
    assert own.clip is not None
    assert apart.clip is not None
    np.testing.assert_array_equal(own.clip.mels, apart.clip.mels)


def test_a_sound_file_that_does_not_open_costs_its_utterances_and_does_not_show_where_it_lies(tmp_path: Path) -> None:
    write_recording(tmp_path, seconds=1.0)
    (tmp_path / "sound.wav").write_bytes(b"")
    (outcome,) = build(tmp_path, (0.0, 1.0))
    assert outcome.clip is None
    assert kinds(outcome) == {"no-sound": "sound.wav: found an empty file, expected a video or audio file"}


def two_people() -> dict[int, list[np.ndarray]]:
    """LEFT and a smaller one at the RIGHT in every frame."""
    return {number: [LEFT, RIGHT + np.array([8, 8, 0, 0])] for number in range(999)}


def test_another_person_in_view_can_be_chosen(recording: Path) -> None:
    first, second, nobody = (
        make_clips(recording, [utterance("u", 0.0, 2.0)], RECIPE, Sees(two_people()), person=person)
        for person in (1, 2, 3)
    )
    boxes = [decoded.outcomes[0].clip.face_boxes for decoded in (first, second, nobody) if decoded.outcomes[0].clip]
    assert [box[0].tolist() for box in boxes] == [LEFT.tolist(), [103, 42, 135, 74], [0, 0, 0, 0]]
    assert kinds(nobody.outcomes[0]) == {"no-face": "no face found in 4 frames"}
    assert [(at.time, len(at.faces)) for at in first.faces] == [(pytest.approx(0.5 * k, abs=0.02), 2) for k in range(4)]
    assert len(follow_all([at.faces for at in first.faces])) == 2


def test_faces_in_view_are_given_in_time_order_whatever_the_size_of_the_frame(recording: Path) -> None:
    wide = Source("film.avi", "sound.wav")
    halves = [
        Utterance("a", replace(wide, crop=(0.0, 0.0, 0.9, 1.0)), 2.0, 3.0, "", (1,), (), "she", "film"),
        Utterance("b", wide, 0.0, 2.5, "", (1,), (), "she", "film"),
    ]
    decoded = make_clips(recording, halves, RECIPE, Sees({}))
    assert [round(at.time, 1) for at in decoded.faces] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.5]


def test_an_utterance_that_the_recording_ends_within_is_cut_there_if_asked(tmp_path: Path) -> None:
    write_recording(tmp_path, seconds=3.0, sound=2.6)
    spans = [utterance("whole", 0.0, 2.5), utterance("cut", 1.0, 9.0), utterance("behind", 5.0, 6.0)]
    decoded = make_clips(tmp_path, spans, RECIPE, Sees({n: [LEFT] for n in range(999)}), cut=True)
    whole, cut_short, behind = decoded.outcomes
    assert (decoded.video_end, decoded.audio_end, decoded.end) == (pytest.approx(3.0, abs=0.01), 2.6, 2.6)
    assert (whole.utterance.end, cut_short.utterance.end, behind.clip) == (2.5, 2.6, None)
    exact = make_clips(tmp_path, [utterance("cut", 1.0, 2.6)], RECIPE, Sees({n: [LEFT] for n in range(999)}))
    for name, value in vars(exact.outcomes[0].clip).items():
        np.testing.assert_array_equal(value, getattr(cut_short.clip, name))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0.0, 1e9),
        (4e8, 4e8 + 3),
        (0.0, math.inf),
        (math.nan, 1.0),
        (2.0, 2.0),
        (3.0, 1.0),
        (-5.0, 1.0),
        (-math.inf, 1e308),
    ],
)
def test_times_that_no_recording_has_cost_their_utterance_only(recording: Path, start: float, end: float) -> None:
    tracemalloc.start()
    good, bad = build(recording, (0.0, 1.0), (start, end))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert good.clip is not None
    assert bad.clip is None
    assert list(kinds(bad)) == ["bad-times"]
    assert len(kinds(bad)["bad-times"]) < 120
    assert most < 30_000_000


def test_a_recording_of_nonsense_times_alone_is_not_even_opened(tmp_path: Path) -> None:
    (only,) = build(tmp_path, (0.0, 1e9))
    assert list(kinds(only)) == ["bad-times"]


def test_nothing_is_made_as_long_as_an_utterance_claims(recording: Path) -> None:
    tracemalloc.start()
    outcomes = build(recording, *[(0.0, 80_000.0)] * 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {kind for outcome in outcomes for kind in kinds(outcome)} == {"media-short"}
    assert most < 30_000_000  # 20 x 160,000 times would be 400 MB


def test_frames_and_audio_that_do_not_decode_are_reported(tmp_path: Path) -> None:
    write_recording(tmp_path, seconds=8.0)
    content = bytearray((tmp_path / "film.avi").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "film.avi").write_bytes(content)
    (outcome,) = build(tmp_path, (0.0, 7.9))
    assert outcome.clip is not None
    assert outcome.clip.quality == ("decode-errors",)
    found = 16 - len(outcome.clip.faces)
    assert kinds(outcome) == {"decode-errors": f"{found} of 16 frames could not be decoded"}


def test_audio_that_the_file_skips_is_reported(tmp_path: Path) -> None:
    write_recording(tmp_path, seconds=4.0)
    with av.open(str(tmp_path / "sound.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for second in (0, 1, 3):
            tone = (8000 * np.sin(np.arange(RATE) / 9)).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, RATE * second, Fraction(1, RATE)
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    outcomes = make_clips(
        tmp_path,
        [utterance("u", 0.0, 3.5, "sound.mka"), utterance("v", 0.0, 1.5, "sound.mka")],
        RECIPE,
        Sees({0: [LEFT]}),
    ).outcomes
    assert kinds(outcomes[0]) == {"decode-errors": "1.00 s of the audio could not be decoded"}
    assert kinds(outcomes[1]) == {}
