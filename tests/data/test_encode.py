"""A video is cut to the frame and to the sample, wherever key frames lie and whatever the container."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mesm_data.errors import DataError, MediaError
from mesm_data.media import encode
from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.encode import VideoStyle, write_videos
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number, stamp
from mesm_data.synth.video import CLOCK, frame_ticks, write_avi, write_mp4, write_wav
from mesm_data.utterance import Source, Utterance

RATE = 16_000
CLICKS = {0: 1000, 1: 5000}  # channel -> a click at every multiple of so many samples
STEADY, UNEVEN = [3003], [1500, 4500, 3003]  # ticks of CLOCK that frames last


def write_recording(folder: Path, kind: str = "avi", rhythm: list[int] = STEADY, seconds: float = 6.0) -> str:
    """A film whose frame n has n on its left half and 1000 + n on its right, and clicks on both channels."""
    ticks = frame_ticks(rhythm, seconds)
    pictures = []
    for number in range(len(ticks)):
        picture = np.full((96 * 3 // 2, 288), 128, np.uint8)
        stamp(picture[:96, :144], number)
        stamp(picture[:96, 144:], 1000 + number)
        pictures.append(picture)
    write = {"avi": write_avi, "mp4": write_mp4}[kind]
    write(folder / f"film.{kind}", pictures, ticks, clicks(seconds), RATE)
    write_wav(folder / "sound.wav", clicks(seconds), RATE)
    return f"film.{kind}"


def clicks(seconds: float) -> np.ndarray:
    pcm = np.zeros((round(seconds * RATE), 2), np.int16)
    for channel, every in CLICKS.items():
        pcm[::every, channel] = 20_000
    return pcm


def utterance(video: str, start: float, end: float, side: int = 0) -> Utterance:
    source = Source(video, "sound.wav", (0.5 * side, 0.0, 0.5 + 0.5 * side, 1.0), side)
    return Utterance(f"u{start}", source, start, end, "So.", (0,), (), "S", "G")


def numbers_in(film: Path) -> list[int]:
    info = probe(film)
    count = round((info.duration or 0) * info.frame_rate)
    shown = frames(film, [n / info.frame_rate for n in range(count)], DecodeLog())
    return [read_frame_number(frame.image) for frame in shown for _ in frame.indices]


def heard_in(film: Path) -> tuple[np.ndarray, int]:
    (sound,) = audio_spans(film, [(0.0, 1000.0)], None, DecodeLog())
    return sound.samples, sound.rate


@pytest.mark.parametrize("kind", ["avi", "mp4"])
def test_a_video_has_the_frames_of_its_utterance_and_no_others(tmp_path: Path, kind: str) -> None:
    video = write_recording(tmp_path, kind)
    cuts = [utterance(video, 2.0, 3.5), utterance(video, 3.2, 4.0), utterance(video, 0.0, 0.02)]
    outs = [tmp_path / f"{n}.mp4" for n in range(3)]
    write_videos(tmp_path, cuts, outs)
    found = [numbers_in(out) for out in outs]
    assert found == [list(range(60, 105)), list(range(96, 120)), [0]]


def test_of_an_uneven_rate_each_frame_is_the_one_shown_nearest_to_its_time(tmp_path: Path) -> None:
    video = write_recording(tmp_path, "mp4", UNEVEN)
    write_videos(tmp_path, [utterance(video, 2.0, 3.0)], [tmp_path / "cut.mp4"])
    rate = probe(tmp_path / "cut.mp4").frame_rate
    shown = np.array(frame_ticks(UNEVEN, 6.0)) / CLOCK
    expected = [int(np.abs(shown - (2.0 + k / rate)).argmin()) for k in range(round(rate))]
    assert numbers_in(tmp_path / "cut.mp4") == expected


@pytest.mark.parametrize("side", [0, 1])
def test_a_video_has_the_speakers_part_of_the_frame_and_their_channel(tmp_path: Path, side: int) -> None:
    video = write_recording(tmp_path)
    write_videos(tmp_path, [utterance(video, 2.0, 3.0, side)], [tmp_path / "cut.mp4"])
    assert numbers_in(tmp_path / "cut.mp4") == [side * 1000 + n for n in range(60, 90)]
    assert (probe(tmp_path / "cut.mp4").width, probe(tmp_path / "cut.mp4").channels) == (144, 1)
    samples, rate = heard_in(tmp_path / "cut.mp4")
    assert rate == RATE
    peaks = np.flatnonzero(samples > 0.3)
    first = -(-round(2.0 * RATE) // CLICKS[side]) * CLICKS[side] - round(2.0 * RATE)
    expected = np.arange(first, RATE, CLICKS[side])
    near = [int(np.abs(peaks - place).min()) for place in expected]
    assert max(near) <= 8, "half a millisecond"
    assert len(samples) == pytest.approx(RATE, abs=1024)


def test_audio_is_the_same_however_it_is_cut_into_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = utterance(write_recording(tmp_path), 1.003, 5.0)
    write_videos(tmp_path, [cut], [tmp_path / "whole.mp4"])
    monkeypatch.setattr(encode, "PIECE", 0.7)
    write_videos(tmp_path, [cut], [tmp_path / "pieces.mp4"])
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "pieces.mp4").read_bytes()


def test_what_the_recording_lacks_at_its_end_is_its_last_frame(tmp_path: Path) -> None:
    video = write_recording(tmp_path, seconds=3.0)
    write_videos(tmp_path, [utterance(video, 2.0, 3.5)], [tmp_path / "cut.mp4"])
    assert numbers_in(tmp_path / "cut.mp4") == [*range(60, 90), *[89] * 15]


def test_no_more_is_written_than_the_recording_holds(tmp_path: Path) -> None:
    video = write_recording(tmp_path, seconds=1.0)
    write_videos(tmp_path, [utterance(video, 0.5, 1e9)], [tmp_path / "cut.mp4"])
    assert probe(tmp_path / "cut.mp4").duration == pytest.approx(1.5, abs=0.1)  # with a second of padding


def test_a_small_style_is_a_small_file_of_the_same_length(tmp_path: Path) -> None:
    cut = utterance(write_recording(tmp_path), 1.0, 5.0)
    write_videos(tmp_path, [cut], [tmp_path / "large.mp4"])
    write_videos(tmp_path, [cut], [tmp_path / "small.mp4"], VideoStyle(height=48, max_rate=10, crf=30, max_kbps=50))
    small = probe(tmp_path / "small.mp4")
    assert (small.height, small.frame_rate, small.duration) == (48, 10.0, pytest.approx(4.0, abs=0.1))
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "large.mp4").stat().st_size


def test_an_utterance_that_the_recording_does_not_reach_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    video = write_recording(tmp_path, seconds=2.0)
    with pytest.raises(MediaError, match=r"sound\.wav: found no audio between 4\.00 s and 5\.00 s for u4\.0"):
        write_videos(tmp_path, [utterance(video, 4.0, 5.0)], [tmp_path / "cut.mp4"])
    longer = utterance(video, 4.0, 5.0)
    write_wav(tmp_path / "sound.wav", clicks(6.0), RATE)
    with pytest.raises(MediaError, match=r"film\.avi: found no video between 4\.00 s and 5\.00 s for u4\.0"):
        write_videos(tmp_path, [utterance(video, 0.0, 1.0), longer], [tmp_path / "one.mp4", tmp_path / "cut.mp4"])
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["one.mp4"]


def test_what_ffmpeg_complains_of_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = utterance(write_recording(tmp_path), 1.0, 2.0)
    monkeypatch.setattr(encode, "_program", lambda: "false")
    with pytest.raises(DataError, match=r"cut\.mp4: could not be encoded \(ffmpeg says nothing\)"):
        write_videos(tmp_path, [cut], [tmp_path / "cut.mp4"])
    full = tmp_path / "full"  # takes every picture, and fails when it should end the file
    full.write_text("#!/bin/sh\ncat > /dev/null\necho No space left on device >&2\nexit 1\n")
    full.chmod(0o755)
    monkeypatch.setattr(encode, "_program", lambda: str(full))
    with pytest.raises(DataError, match=r"cut\.mp4: could not be encoded \(No space left on device\)"):
        write_videos(tmp_path, [cut], [tmp_path / "cut.mp4"])
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"nowhere/cut\.mp4: could not be encoded \(.*No such file"):
        write_videos(tmp_path, [cut], [tmp_path / "nowhere" / "cut.mp4"])


def test_a_recording_that_starts_later_than_its_file_keeps_its_clock(tmp_path: Path) -> None:
    cut = utterance(write_recording(tmp_path), 12.0, 13.0)
    write_videos(tmp_path, [replace(cut, source=replace(cut.source, offset=10.0))], [tmp_path / "cut.mp4"])
    assert numbers_in(tmp_path / "cut.mp4") == list(range(60, 90))
