"""Audio to the sample, from every codec and container, whole or damaged."""

import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from tests.data.media_files import furthest, hear, number_image, ramps, write_audio, write_wave


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"])
def test_samples_of_every_format_come_from_exactly_where_they_were_asked(tmp_path: Path, codec: str, rate: int) -> None:
    channels = ramps(rate, 2)
    path = write_wave(tmp_path / "ramp.wav", codec, rate, channels)
    log = DecodeLog()
    heard = hear(path, [(0.2503, 0.75), (0.0, 2.0)], 0, log)
    first, last = round(0.2503 * rate), round(0.75 * rate)
    error = {"pcm_u8": 2 / 128, "pcm_s16le": 1 / 32768}.get(codec, 1e-6)
    assert heard[0].rate == rate
    assert heard[0].samples.dtype == np.float32
    assert furthest(heard[0].samples, channels[0, first:last]) < error
    assert furthest(heard[1].samples, channels[0]) < error
    assert (log.end, log.errors) == (2.0, 0)


def test_a_channel_is_picked_or_all_are_averaged(tmp_path: Path) -> None:
    channels = ramps(16000, 1)
    path = write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, channels)
    left, right, both, lacking = (hear(path, [(0, 1)], channel)[0].samples for channel in (0, 1, None, 5))
    assert furthest(left, channels[0]) < 1e-4
    assert furthest(right, channels[1]) < 1e-4
    assert furthest(both, channels.mean(0)) < 1e-4
    assert (lacking == both).all()


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("tone.mp4", "aac", 44100, 2),
        ("tone.mp4", "aac", 48000, 6),
        ("tone.mp3", "libmp3lame", 44100, 2),
        ("tone.m4a", "alac", 44100, 1),
        ("tone.flac", "flac", 16000, 2),
        ("tone.avi", "mp2", 32000, 2),
        ("tone.mpg", "mp2", 44100, 2),
        ("tone.mkv", "libopus", 48000, 2),
    ],
)
def test_a_click_in_compressed_audio_stays_where_it_was(
    tmp_path: Path, name: str, codec: str, rate: int, layout: int
) -> None:
    """To 30 ms: codecs smear a click, and not every one notes down its delay."""
    tone = np.zeros(3 * rate)
    tone[2 * rate : 2 * rate + rate // 100] = 0.8 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    path = write_audio(tmp_path / name, codec, rate, np.stack([tone] * layout))
    audio = hear(path, [(1.5, 2.5)])[0]
    loud = np.flatnonzero(np.abs(audio.samples) > 0.25) / audio.rate
    assert len(audio.samples) == round(2.5 * audio.rate) - round(1.5 * audio.rate)
    assert loud.min() == pytest.approx(0.5, abs=0.03)
    assert loud.max() == pytest.approx(0.51, abs=0.03)


def test_audio_that_starts_later_than_the_video_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("pcm_s16le", rate=16000)
        assert isinstance(video, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        video.width, video.height, video.pix_fmt, audio.layout = 160, 96, "yuv420p", "mono"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(number_image(number), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        piece = av.AudioFrame.from_ndarray(np.full((1, 16000), 16384, np.int16), "s16", "mono")
        piece.sample_rate, piece.pts, piece.time_base = 16000, 8000, Fraction(1, 16000)  # from 0.5 s to 1.5 s
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    log = DecodeLog()
    samples = hear(path, [(0.0, 2.0)], None, log)[0].samples
    assert (samples[:7990] == 0).all()
    assert (samples[8010:] == 0.5).all()
    assert log.end == pytest.approx(1.5, abs=0.001)


def test_spans_overlap_come_in_any_order_and_as_soon_as_they_are_heard(tmp_path: Path) -> None:
    channels = ramps(16000, 3)
    path = write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, channels)
    spans = [(1.0, 2.0), (0.0, 1.5), (0.2, 0.4), (1.0, 1.0), (2.5, 3.5), (4.0, 5.0)]
    log = DecodeLog()
    given = list(audio_spans(path, spans, 0, log))
    assert [audio.index for audio in given] == [2, 3, 1, 0, 4]
    for audio in given:
        start, end = (round(edge * 16000) for edge in spans[audio.index])
        assert furthest(audio.samples, channels[0, start:end]) < 1e-4
    assert log.end == 3.0


def test_audio_is_decoded_no_further_than_the_last_span(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, ramps(16000, 30))
    log = DecodeLog()
    hear(path, [(1.0, 2.0)], 0, log)
    assert 2.0 <= log.end < 3.0


def test_only_open_spans_of_audio_are_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        for _ in range(120):
            audio.writeframes(bytes(2 * 16000))
    tracemalloc.start()
    for _ in audio_spans(path, [(k, k + 1) for k in range(120)], None, DecodeLog()):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000  # all of it would be 7.7 MB


def test_damaged_audio_gives_its_good_parts_at_their_time(tmp_path: Path) -> None:
    seconds = np.arange(10 * 44100) / 44100
    loudness = np.where((seconds % 1) < 0.5, 0.5, 0.0)  # loud in the first half of every second
    path = write_audio(tmp_path / "beats.mp4", "aac", 44100, np.sin(seconds * 2 * np.pi * 440)[None] * loudness)
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for share in (0.4, 0.5):
        place = int(len(content) * share)
        content[place : place + 400] = noise.bytes(400)
    path.write_bytes(content)
    log = DecodeLog()
    samples = hear(path, [(0.0, 10.0)], None, log)[0].samples
    loud = np.abs(samples[: 10 * 44100].reshape(20, -1)).mean(1) > 0.1
    assert log.errors > 0
    assert (loud == np.tile([True, False], 10))[[0, 1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19]].all()


def test_what_a_file_skips_is_silent_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for start in (0, 24000):  # 0 to 1 s, and 1.5 to 2.5 s
            piece = av.AudioFrame.from_ndarray(np.full((1, 16000), 16384, np.int16), "s16", "mono")
            piece.sample_rate, piece.pts, piece.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    given = hear(path, [(0.5, 2.0), (0.0, 1.0), (1.25, 1.75)])
    assert [given[index].missing for index in range(3)] == pytest.approx([0.5, 0.0, 0.25], abs=0.01)
    assert (given[0].samples == 0).mean() == pytest.approx(1 / 3, abs=0.01)


def test_the_audio_of_joined_files_runs_on(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(2 * 44100) * 2 * np.pi * 440 / 44100)[None]
    first, second = (
        write_audio(tmp_path / "1.ts", "mp2", 44100, tone),
        write_audio(tmp_path / "2.ts", "mp2", 44100, tone / 2),
    )
    (tmp_path / "joined.ts").write_bytes(first.read_bytes() + second.read_bytes())
    log = DecodeLog()
    span = hear(tmp_path / "joined.ts", [(0.0, 10.0)], None, log)[0]
    loudness = [float(np.abs(piece).mean()) for piece in np.array_split(span.samples, 8)]
    assert log.end == pytest.approx(4.0, abs=0.1)
    assert min(loudness[:4]) > 0.28 > 0.18 > max(loudness[4:]) > min(loudness[4:]) > 0.12
