"""What headers claim, and whether anything can be decoded."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data.media.probe import probe, why_unreadable
from tests.data.media_files import number_image, ramps, write_audio, write_late, write_video, write_wave


def test_probe_gives_what_the_headers_claim(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "video.mp4", "libx264", Fraction(25), numbers=range(50)))
    assert (info.has_video, info.has_audio, info.width, info.height) == (True, False, 160, 96)
    assert info.duration == pytest.approx(2.0)
    info = probe(write_wave(tmp_path / "ramp.wav", "pcm_s16le", 22050, ramps(22050, 2)))
    assert (info.has_video, info.has_audio, info.sample_rate, info.channels) == (False, True, 22050, 2)
    assert info.duration == pytest.approx(2.0)


def test_the_duration_is_counted_where_the_header_has_none(tmp_path: Path) -> None:
    live = tmp_path / "live.webm"  # as a browser records it
    with av.open(str(live), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(75):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(number_image(number), format="yuv420p")))
        container.mux(stream.encode(None))
    with av.open(str(live)) as container:
        assert container.duration is None
    assert probe(live).duration == pytest.approx(3.0, abs=0.05)


def test_a_late_start_or_a_damaged_first_key_frame_does_not_make_a_video_unreadable(tmp_path: Path) -> None:
    damaged = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(40))
    content = bytearray(damaged.read_bytes())
    place = content.index(b"00dc") + 8
    content[place : place + 400] = bytes(400)
    damaged.write_bytes(content)
    for video in (damaged, write_late(tmp_path / "late.mkv")):
        assert why_unreadable(video, video=True) is None


def test_why_nothing_can_be_decoded_is_said(tmp_path: Path) -> None:
    tone = write_audio(tmp_path / "tone.wav", "pcm_s16le", 16000, np.zeros((1, 1600)))
    assert why_unreadable(tone, video=False) is None
    assert why_unreadable(tone, video=True) == "found no video that can be decoded, expected a video file"
    zeros = write_video(tmp_path / "video.mp4", "libx264", numbers=range(40))
    content = bytearray(zeros.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    zeros.write_bytes(content)
    assert why_unreadable(zeros, video=True) == "no frame in it can be decoded"
