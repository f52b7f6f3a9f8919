"""The right frame at the right time, from every codec and container, whole or damaged."""

import itertools
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data.media.container import DecodeLog
from mesm_data.media.frame import Frame
from mesm_data.media.video import frames, open_video
from mesm_data.synth.stamp import read_frame_number
from tests.data.media_files import (
    NTSC,
    VIDEOS,
    hear,
    numbers_at,
    write_late,
    write_video,
)


@pytest.mark.parametrize(("name", "codec", "rate", "options"), VIDEOS, ids=[video[0] for video in VIDEOS])
def test_every_frame_is_given_at_its_own_time(
    tmp_path: Path, name: str, codec: str, rate: Fraction, options: dict[str, str]
) -> None:
    video = write_video(tmp_path / name, codec, rate, options)
    log = DecodeLog()
    assert numbers_at(video, [float(n / rate) for n in range(90)], log) == {n: n for n in range(90)}
    assert log.errors == 0
    assert log.end == pytest.approx(float(90 / rate), abs=0.001)


@pytest.mark.parametrize(("name", "codec", "rate", "options"), VIDEOS, ids=[video[0] for video in VIDEOS])
def test_the_nearest_frame_is_given_where_times_lie_between_frames(
    tmp_path: Path, name: str, codec: str, rate: Fraction, options: dict[str, str]
) -> None:
    video = write_video(tmp_path / name, codec, rate, options)
    times = [0.071 + 0.313 * k for k in range(9)]
    assert numbers_at(video, times) == {k: round(float(time * rate)) for k, time in enumerate(times)}


def test_frames_say_when_they_are_shown_and_come_in_that_order(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(25), {"bf": "3"})
    given = list(frames(video, [2.01, 0.5, 0.51, 2.0], DecodeLog()))
    assert [(frame.indices, round(frame.time, 4)) for frame in given] == [([1], 0.48), ([2], 0.52), ([0, 3], 2.0)]


def test_of_two_frames_equally_near_the_earlier_one_is_given(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(25))
    assert numbers_at(video, [0.5, 1.5, 2.5]) == {0: 12, 1: 37, 2: 62}


def test_frames_of_a_variable_frame_rate_are_found_by_their_time_stamps(tmp_path: Path) -> None:
    shown = [0, 1, 2, 3, 20, 21, 22, 40, 41, 42, 43, 44, 45, 80]
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(30), {"bf": "2"}, numbers=shown)
    times = [k * 0.1 for k in range(27)]
    nearest = {k: min(shown, key=lambda n: abs(n / 30 - time)) for k, time in enumerate(times)}
    assert numbers_at(video, times) == nearest


def test_frames_that_an_avi_leaves_out_do_not_shift_those_after(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", numbers=[n for n in range(90) if n not in (20, 21, 50)])
    given = numbers_at(video, [float(n / NTSC) for n in range(90)])
    assert {n: given[n] for n in (19, 22, 49, 51, 89)} == {19: 19, 22: 22, 49: 49, 51: 51, 89: 89}


def test_b_frames_packed_two_in_a_packet_as_divx_does_keep_their_times(tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "video.avi", "mpeg4", Fraction(25), {"bf": "1", "b_strategy": "0"}, numbers=range(40)
    )
    packed = pack_b_frames(video, tmp_path / "packed.avi")
    assert numbers_at(packed, [n / 25 for n in range(40)]) == {n: n for n in range(40)}


def pack_b_frames(source: Path, target: Path) -> Path:
    """Copy an MPEG-4 AVI so that each B-frame lies in the packet of the P-frame before it, and an empty one follows."""
    start_code, note = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2DivX503b1393p"
    with av.open(str(source)) as container, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        packets = [packet for packet in container.demux(video=0) if packet.size]
        payloads = [bytes(packet) for packet in packets]
        kinds = ["IPBS"[payload[payload.index(start_code) + 4] >> 6] for payload in payloads]
        assert kinds[:4] == ["I", "P", "B", "P"]
        for n in range(1, len(payloads) - 1):
            if kinds[n : n + 2] == ["P", "B"]:
                payloads[n] += payloads[n + 1]
                payloads[n + 1] = start_code + bytes([0x50, 0x8F])  # a P-frame that is "not coded"
        first = payloads[0].index(start_code)
        payloads[0] = payloads[0][:first] + note + payloads[0][first:]  # B-frames are packed
        for n, (payload, packet) in enumerate(zip(payloads, packets, strict=True)):
            whole = av.Packet(payload)
            whole.stream, whole.time_base, whole.pts, whole.dts = stream, packet.time_base, n, n
            whole.is_keyframe = packet.is_keyframe
            copy.mux(whole)
    return target


@pytest.mark.parametrize("name", ["video.avi", "video.mp4"])
def test_times_that_the_video_does_not_reach_get_no_frame_and_the_end_is_reported(tmp_path: Path, name: str) -> None:
    video = write_video(tmp_path / name, "mpeg4", Fraction(25), numbers=range(50))
    log = DecodeLog()
    assert numbers_at(video, [1.0, 1.99, 2.0, 2.5, 60.0], log) == {0: 25, 1: 49}
    assert log.end == pytest.approx(2.0)
    log = DecodeLog()
    assert numbers_at(video, [5.0], log) == {}
    assert log.end == pytest.approx(2.0)


def test_decoding_stops_after_the_last_time_or_after_until(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(25), {"bf": "3"}, numbers=range(250))
    log = DecodeLog()
    assert numbers_at(video, [1.0], log) == {0: 25}
    assert 1.0 <= log.end < 1.5
    log = DecodeLog()
    assert numbers_at(video, [1.0], log, until=4.0) == {0: 25}
    assert 4.0 <= log.end < 4.5
    log = DecodeLog()
    assert numbers_at(video, [1.0], log, until=99.0) == {0: 25}
    assert log.end == pytest.approx(10.0)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        video = write_video(tmp_path / f"{seconds}.avi", numbers=range(30 * seconds))
        tracemalloc.start()
        for _ in frames(video, [0.5 * k for k in range(2 * seconds)], DecodeLog()):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)
    assert peak(60) < peak(10) + 30 * 50 * 500  # a note of a few hundred bytes a frame; a frame would be 46,080


def test_a_video_cut_short_gives_its_good_frames_and_where_it_ends(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", numbers=range(90))
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 3 // 4])
    log = DecodeLog()
    given = numbers_at(video, [float(n / NTSC) for n in range(90)], log)
    assert 30 < len(given) < 80
    assert given == {n: n for n in range(len(given))}
    assert log.end == pytest.approx(float(len(given) / NTSC), abs=0.07)


def test_an_mp4_cut_short_gives_its_good_frames_and_where_it_ends(tmp_path: Path) -> None:
    options = {"bf": "3", "g": "30"}
    video = write_video(tmp_path / "video.mp4", "libx264", Fraction(25), options, range(100))
    with (
        av.open(str(video)) as container,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"movflags": "faststart"}) as c,
    ):
        stream = c.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                c.mux(packet)
    content = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 3 // 4])
    log = DecodeLog()
    given = numbers_at(tmp_path / "cut.mp4", [n / 25 for n in range(100)], log)
    assert 40 < len(given) < 95
    assert all(index == number for index, number in given.items())
    assert log.errors > 0
    assert log.end < 3.9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("video.avi", "mpeg4", {"g": "15", "b": "300000"}),
        ("video.avi", "mpeg4", {"g": "15", "bf": "2", "b": "300000"}),
        ("video.mp4", "libx264", {"g": "20", "bf": "3", "crf": "28"}),
    ],
    ids=["avi", "avi with B-frames", "mp4"],
)
def test_frames_of_a_damaged_video_are_at_their_right_time_or_not_given(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], seed: int
) -> None:
    """Noise of 3000 bytes: 300 within a slice of H.264 can give a wrong frame without an error (1 video of 30)."""
    noise = np.random.default_rng(seed)
    video = write_video(tmp_path / name, codec, Fraction(25), options, range(200), noise=noise)
    content = bytearray(video.read_bytes())
    for place in noise.integers(len(content) // 5, len(content) * 4 // 5, 3):
        content[place : place + 3000] = noise.bytes(3000)
    video.write_bytes(content)
    log = DecodeLog()
    given = numbers_at(video, [n / 25 for n in range(200)], log)
    assert all(index == number for index, number in given.items())
    assert 100 < len(given) < 200
    assert log.errors > 0


def destroy_chunk(video: Path, number: int) -> None:
    """Overwrite one frame of an AVI, the name and size of its chunk included."""
    with av.open(str(video)) as container:
        packet = next(itertools.islice(container.demux(video=0), number, None))
        start, end = (packet.pos or 0) - 8, (packet.pos or 0) + packet.size
    content = bytearray(video.read_bytes())
    content[start:end] = b"\xa5" * (end - start)
    video.write_bytes(content)


def test_frames_of_an_avi_after_a_destroyed_chunk_keep_their_times_by_its_index(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(video, 40)
    log = DecodeLog()
    assert numbers_at(video, [float(n / NTSC) for n in range(90)], log) == {
        n: n
        for n in range(90)
        if not 40 <= n < 45  # frame 45 is the next key frame
    }
    assert log.errors > 0
    assert log.end == pytest.approx(float(90 / NTSC))


def test_an_avi_whose_first_chunk_is_destroyed_gives_frames_from_the_next_key_frame_on(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(video, 0)
    log = DecodeLog()
    given = numbers_at(video, [float(n / NTSC) for n in range(90)], log)
    assert given == {n: n for n in range(15, 90)}
    assert log.missed == list(range(15))


def test_an_avi_without_index_gives_nothing_after_a_destroyed_chunk(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(video, 40)
    content = video.read_bytes()
    video.write_bytes(content[: content.rindex(b"idx1") - 100])
    log = DecodeLog()
    assert numbers_at(video, [float(n / NTSC) for n in range(90)], log) == {n: n for n in range(40)}
    assert log.errors > 0
    assert log.end == pytest.approx(float(40 / NTSC))


def test_one_scene_in_four_containers_is_one_scene(shared: Path) -> None:
    """The same frame at the same times, though codec, size, frame rate and the first time stamp differ."""
    videos = [shared / "media" / "hello" / f"movie-hello.{kind}" for kind in ("mp4", "avi", "mpeg", "ogg")]
    shown = [[grey(frame) for frame in frames(video, [1.0, 3.0, 5.0, 7.0], DecodeLog())] for video in videos]
    for images in shown[1:]:
        assert np.abs(np.subtract(images, shown[0])).max() < 12


def grey(frame: Frame) -> np.ndarray:
    """16 x 16 mean brightnesses of a frame."""
    height, width = frame.image.shape[0] // 16 * 16, frame.image.shape[1] // 16 * 16
    return frame.image[:height, :width].mean(2).reshape(16, height // 16, 16, width // 16).mean((1, 3))


def test_every_frame_of_a_phone_clip_with_uneven_stamps_is_found(shared: Path) -> None:
    clip = shared / "media" / "hello" / "VID_20191220_170832.mp4"
    with av.open(str(clip)) as container:
        stamps = sorted((p.pts or 0) * float(p.time_base) for p in container.demux(video=0) if p.size)
    assert [frame.time for frame in frames(clip, stamps, DecodeLog())] == pytest.approx(stamps)


def test_the_dialogue_that_was_cut_short_ends_where_its_frames_end(shared: Path) -> None:
    video = shared / "raw/IEMOCAP_full_release/Session4/dialog/avi/DivX/Ses04M_impro03.avi"
    log = DecodeLog()
    given = list(frames(video, [0.5 * k for k in range(52)], log, until=26.0))
    assert [index for frame in given for index in frame.indices] == list(range(27))
    assert log.end == pytest.approx(13.05, abs=0.01)
    log = DecodeLog()
    assert len(hear(video, [(0.0, 26.0)], None, log)[0].samples) / 16000 == pytest.approx(13.05, abs=0.01)


# ---- every decoder

# name, codec, options, pixel format: every codec that PyAV's wheel encodes and a recording may have
DECODERS = [
    ("h264.mp4", "libx264", {"bf": "8", "b_pyramid": "normal", "g": "40"}, "yuv420p"),
    ("open_gop.mkv", "libx264", {"x264-params": "open-gop=1:bframes=3:keyint=25"}, "yuv420p"),
    ("interlaced.mkv", "libx264", {"bf": "3", "flags": "+ildct+ilme"}, "yuv420p"),
    ("h264.ts", "libx264", {"bf": "3", "g": "30"}, "yuv420p"),
    ("hevc.mp4", "libx265", {"x265-params": "bframes=6:open-gop=1:keyint=25:log-level=none"}, "yuv420p"),
    ("vp8.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "40"}, "yuv420p"),
    ("vp9.webm", "libvpx-vp9", {"lag-in-frames": "16", "g": "40", "cpu-used": "6"}, "yuv420p"),
    ("av1.mp4", "libsvtav1", {"preset": "10", "g": "40"}, "yuv420p"),
    ("mpeg4.mp4", "mpeg4", {"bf": "3", "flags": "+qpel"}, "yuv420p"),
    ("divx.avi", "mpeg4", {"bf": "2"}, "yuv420p"),
    ("mpeg2.mpg", "mpeg2video", {"bf": "2"}, "yuv420p"),
    ("mpeg2.ts", "mpeg2video", {"bf": "2"}, "yuv420p"),
    ("mpeg1.mpg", "mpeg1video", {"bf": "2"}, "yuv420p"),
    ("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
    ("wmv1.wmv", "wmv1", {}, "yuv420p"),
    ("wmv2.wmv", "wmv2", {}, "yuv420p"),
    ("msmpeg4.mkv", "msmpeg4", {}, "yuv420p"),
    ("h263.flv", "flv", {}, "yuv420p"),
    ("prores.mov", "prores", {}, "yuv422p10le"),
    ("ffv1.mkv", "ffv1", {}, "yuv420p"),
]


@pytest.mark.parametrize(("name", "codec", "options", "form"), DECODERS, ids=[decoder[0] for decoder in DECODERS])
def test_sparse_frames_equal_those_of_a_full_decoding(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], form: str
) -> None:
    # Small frames share a packet of MPEG's program streams, where FFmpeg guesses the time stamps of all but the first.
    noise = None if name.endswith(".mpg") else np.random.default_rng(0)
    video = write_video(tmp_path / name, codec, Fraction(25), options, noise=noise, pixels=form)
    every = {frame.indices[0]: frame.image for frame in frames(video, [n / 25 for n in range(90)], DecodeLog())}
    assert [read_frame_number(image) for _, image in sorted(every.items())] == list(range(90))
    for first in range(3):
        log = DecodeLog()
        numbers = range(first, 90, 13)
        found = list(frames(video, [n / 25 for n in numbers], log))
        assert (log.missed, log.errors, len(found)) == ([], 0, len(numbers))
        for frame in found:
            np.testing.assert_array_equal(frame.image, every[numbers[frame.indices[0]]])


def test_the_frames_of_real_theora_are_the_same_whatever_is_wanted(shared: Path) -> None:
    video = shared / "media" / "hello" / "movie-hello.ogg"
    times = [0.04 * k for k in range(1, 200)]
    every = {
        time: frame.image
        for frame in frames(video, times, DecodeLog())
        for time in map(times.__getitem__, frame.indices)
    }
    log = DecodeLog()
    for frame in frames(video, times[::17], log):
        np.testing.assert_array_equal(frame.image, every[times[::17][frame.indices[0]]])
    assert log.missed == []


def test_an_image_that_vp8_only_builds_on_is_never_the_nearest_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.webm", "libvpx", Fraction(25), {}, numbers=range(50))
    hidden = tmp_path / "hidden.webm"
    with av.open(str(video)) as source, av.open(str(hidden), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            content = bytearray(bytes(packet))
            if n == 20:
                content[0] &= ~0x10  # show_frame
            changed = av.Packet(bytes(content))
            changed.stream, changed.time_base, changed.pts, changed.dts = (
                stream,
                packet.time_base,
                packet.pts,
                packet.dts,
            )
            changed.is_keyframe = packet.is_keyframe
            copy.mux(changed)
    log = DecodeLog()
    assert numbers_at(hidden, [0.72, 0.801, 0.84], log) == {0: 18, 1: 21, 2: 21}
    assert log.missed == []


# ---- frames that are not there


def test_a_time_before_the_first_frame_is_noted(tmp_path: Path) -> None:
    video = write_late(tmp_path / "late.mkv")
    log = DecodeLog()
    assert numbers_at(video, [0.0, 0.5, 0.8, 1.0, 1.5], log) == {2: 25, 3: 25, 4: 37}
    assert log.missed == [0, 1]


def test_a_damaged_frame_that_was_wanted_is_noted(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(video, 40)
    log = DecodeLog()
    numbers_at(video, [float(n / NTSC) for n in (0, 41, 50)], log)
    assert log.missed == [1]


def test_a_video_may_start_late_or_with_a_damaged_key_frame_and_still_be_decoded(tmp_path: Path) -> None:
    assert next(open_video(write_late(tmp_path / "late.mkv")).any_frames()).time == pytest.approx(1.0)
    damaged = write_video(tmp_path / "video.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(damaged, 0)
    assert read_frame_number(next(open_video(damaged).any_frames()).image) == 15


@pytest.mark.parametrize(("name", "codec"), [("h264.ts", "libx264"), ("mpeg2.ts", "mpeg2video"), ("mpeg4.ts", "mpeg4")])
def test_a_recording_that_begins_between_key_frames_gives_frames_from_the_next_key_frame_on(
    tmp_path: Path, name: str, codec: str
) -> None:
    video = write_video(tmp_path / name, codec, Fraction(25), {"g": "30", "bf": "0"}, noise=np.random.default_rng(0))
    content = video.read_bytes()
    tables, start = content[: 188 * 3], len(content) // 188 // 9 * 188
    video.write_bytes(tables + content[start:])
    log = DecodeLog()
    given = numbers_at(video, [n / 25 + 0.001 for n in range(80)], log)
    assert 0 < min(given) == len(log.missed)
    first = min(given.values())
    assert first > 0
    assert list(given.values()) == list(range(first, 90))[: len(given)]


# ---- joined files


def test_a_clock_that_jumps_where_recordings_were_joined_runs_on(tmp_path: Path) -> None:
    first = write_video(tmp_path / "1.ts", "libx264", Fraction(25), {"bf": "2"}, numbers=range(50))
    second = write_video(tmp_path / "2.ts", "libx264", Fraction(25), {"bf": "2"}, numbers=range(1000, 1050))
    for order in ((first, second), (second, first)):
        joined = tmp_path / "joined.ts"
        joined.write_bytes(b"".join(path.read_bytes() for path in order))
        log = DecodeLog()
        given = numbers_at(joined, [n / 25 + 0.001 for n in range(100)], log)
        halves = [range(50), range(1000, 1050)]
        numbers = [n for half in (halves if order[0] is first else halves[::-1]) for n in half]
        # What is torn off at the join cannot be told from what ends there: FFmpeg calls the last frames corrupt.
        assert set(log.missed) <= set(range(45, 50))
        assert given == {n: numbers[n] for n in range(100) if n not in log.missed}
        assert log.end == pytest.approx(4.0, abs=0.05)


def test_frames_after_a_part_missing_from_a_transport_stream_are_not_built_on_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    video = write_video(tmp_path / "video.ts", "mpeg2video", Fraction(25), {"g": "15", "bf": "0"}, noise=noise)
    content = video.read_bytes()
    middle = len(content) // 188 // 2 * 188
    video.write_bytes(content[:middle] + content[middle + 188 * 5 :])
    log = DecodeLog()
    given = numbers_at(video, [n / 25 + 0.001 for n in range(90)], log)
    assert all(index == number for index, number in given.items())
    assert 0 < len(log.missed) <= 16
