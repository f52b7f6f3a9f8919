"""Only files that hold video or audio are opened; their clocks and lengths are true."""

import os
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data.errors import MediaError
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from tests.data.media_files import hear, number_image, numbers_at, ramps, write_audio, write_video, write_wave


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("gone.mp4", None, "no file"),
        ("empty.mp4", b"", "an empty file"),
        (
            "noise.mp4",
            bytes(range(256)) * 40,
            r"nothing that FFmpeg can read (Invalid data found when processing input)",
        ),
        ("words.txt", b"What is said here is not a video.\n" * 50, "text"),
    ],
)
def test_what_is_no_media_is_refused_in_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, found: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for use in (probe, lambda path: list(frames(path, [0.0], DecodeLog())), lambda path: hear(path, [(0.0, 1.0)])):
        with pytest.raises(MediaError) as refusal:
            use(path)
        assert str(refusal.value) == f"{path}: found {found}, expected a video or audio file"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("video.mp4", "ffconcat version 1.0\nfile other.mp4\n"),
        ("video.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n"),
        ("video.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("video.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n'),
        ("video.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("video.avi", "[playlist]\nFile1=other.mp4\nNumberOfEntries=1\n"),
    ],
)
def test_a_playlist_is_not_followed_to_other_files(tmp_path: Path, name: str, content: str) -> None:
    write_video(tmp_path / "other.mp4", "libx264", numbers=range(5))
    write_video(tmp_path / "other.ts", "libx264", numbers=range(5))
    (tmp_path / name).write_text(content)
    for use in (probe, lambda path: list(frames(path, [0.0], DecodeLog()))):
        with pytest.raises(MediaError, match="found text, expected a video or audio file"):
            use(tmp_path / name)


@pytest.mark.parametrize("name", ["image.png", "anim.gif", "raw.h264", "raw.m2v"])
def test_images_and_raw_streams_are_no_recordings(tmp_path: Path, name: str) -> None:
    codec = {"image.png": "png", "anim.gif": "gif", "raw.h264": "libx264", "raw.m2v": "mpeg2video"}[name]
    form = {"image.png": "rgb24", "anim.gif": "rgb8"}.get(name, "yuv420p")
    if name == "image.png":
        av.VideoFrame.from_ndarray(number_image(0), format="yuv420p").save(tmp_path / name)
    else:
        write_video(tmp_path / name, codec, Fraction(25), numbers=range(5), pixels=form)
    with pytest.raises(MediaError, match="found nothing that FFmpeg can read"):
        probe(tmp_path / name)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (os.mkfifo, "a pipe"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to(path), "a link that leads back to itself"),
        (lambda path: path.symlink_to("gone"), "a link to a file that is gone"),
    ],
)
def test_what_is_no_file_is_named_and_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], found: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 letters
    path = Path("video.mp4")
    make(path)
    for use in (probe, lambda path: list(frames(path, [0.0], DecodeLog())), lambda path: hear(path, [(0.0, 1.0)])):
        with pytest.raises(MediaError, match=f"video.mp4: found {found}, expected a video or audio file"):
            use(path)


# ---- clocks


CLOCKS = [("mp4", "libx264", "aac"), ("mkv", "libx264", "aac"), ("webm", "libvpx", "libopus"), ("mov", "mpeg4", "aac")]
CLOCKS += [("ts", "libx264", "aac"), ("mpg", "mpeg2video", "mp2"), ("flv", "libx264", "aac"), ("nut", "mpeg4", "mp2")]
WRAP = 2**33 / 90_000  # seconds at which the clock of MPEG streams begins anew


@pytest.mark.parametrize(("kind", "codec", "audio"), CLOCKS, ids=[clock[0] for clock in CLOCKS])
@pytest.mark.parametrize("start", [0.0, 10.0])
def test_times_count_from_the_first_frame_wherever_the_clock_starts(
    tmp_path: Path, kind: str, codec: str, audio: str, start: float
) -> None:
    check_recording(write_recording(tmp_path / f"video.{kind}", codec, audio, start))


@pytest.mark.parametrize(("kind", "codec", "audio"), [("ts", "libx264", "aac"), ("mpg", "mpeg2video", "mp2")])
@pytest.mark.parametrize("before", [0.5, 1.7, 3.9])
def test_a_clock_that_wraps_moves_nothing(tmp_path: Path, kind: str, codec: str, audio: str, before: float) -> None:
    check_recording(write_recording(tmp_path / f"video.{kind}", codec, audio, WRAP - before))


def write_recording(path: Path, codec: str, audio_codec: str, start: float, seconds: int = 4) -> Path:
    """Frame n at n / 25 s and a beep from 2.0 to 2.1 s, by a clock that starts at `start`."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            codec,
            rate=25,
            options={"g": "25"} | ({"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}),
        )
        audio = container.add_stream(audio_codec, rate=48_000, layout="mono")
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        noise = np.random.default_rng(0)
        for tenth in range(10 * seconds):
            times = np.arange(4800) / 48_000
            beep = 0.8 * np.sin(2 * np.pi * 1000 * times) * (tenth == 20)
            piece = av.AudioFrame.from_ndarray(beep[None].astype(np.float32), "flt", "mono")
            piece.sample_rate, piece.time_base = 48_000, Fraction(1, 48_000)
            piece.pts = round(start * 48_000) + 4800 * tenth
            container.mux(audio.encode(piece))
            for number in range(-(-tenth * 25 // 10), -(-(tenth + 1) * 25 // 10)):
                frame = av.VideoFrame.from_ndarray(number_image(number, noise), format="yuv420p")
                frame.pts, frame.time_base = round(start * 90_000) + 3600 * number, Fraction(1, 90_000)
                container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def check_recording(path: Path) -> None:
    log = DecodeLog()
    given = numbers_at(path, [n / 25 + 0.005 for n in range(100)], log)
    assert (given, log.missed, log.errors) == ({n: n for n in range(100)}, [], 0)
    assert log.end == pytest.approx(4.0, abs=0.03)
    heard = DecodeLog()
    span = hear(path, [(0.0, 60.0)], None, heard)[0]
    loud = np.flatnonzero(np.abs(span.samples) > 0.4) / span.rate
    assert (loud.min(), loud.max()) == (pytest.approx(2.0, abs=0.03), pytest.approx(2.1, abs=0.03))
    assert heard.end == pytest.approx(4.0, abs=0.06)
    assert probe(path).duration == pytest.approx(4.0, abs=0.1)


# ---- streams and lengths


def test_audio_without_video_and_video_without_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="found no audio that can be decoded, expected an audio file or a video"):
        hear(write_video(tmp_path / "video.mp4"), [(0.0, 1.0)])
    tone = write_audio(tmp_path / "tone.wav", "pcm_s16le", 16000, np.zeros((1, 1600)))
    with pytest.raises(MediaError, match="found no video that can be decoded, expected a video file"):
        list(frames(tone, [0.0], DecodeLog()))


def test_video_and_audio_each_have_a_claimed_length(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(25), numbers=range(50))
    log = DecodeLog()
    numbers_at(video, [0.0], log)
    assert log.claimed == pytest.approx(2.0)
    log = DecodeLog()
    hear(write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, ramps(16000, 3)), [(0, 1)], 0, log)
    assert log.claimed == pytest.approx(3.0)
