"""Decoding: the right frame at the right time, sound to the sample, and the truth about broken files."""

import itertools
import tracemalloc
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mesm_data.errors import MediaError
from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.frame import Frame
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number, stamp

FILM = Fraction(30000, 1001)

# name, codec, frame rate, options: B-frames are in all but the first three
FILMS = [
    ("divx.avi", "mpeg4", FILM, {}),
    ("15.mp4", "mpeg4", Fraction(15), {}),
    ("24.mkv", "mpeg4", Fraction(24), {}),
    ("b_frames.avi", "mpeg4", Fraction(25), {"bf": "2"}),
    ("h264.avi", "libx264", Fraction(25), {"bf": "3"}),
    ("24.mp4", "libx264", Fraction(24), {"bf": "3", "g": "40"}),
    ("25.mp4", "libx264", Fraction(25), {"bf": "3", "g": "40"}),
    ("29.97.mp4", "libx264", FILM, {"bf": "3", "g": "40"}),
    ("25.mpg", "mpeg2video", Fraction(25), {"bf": "2"}),
    ("1.mpg", "mpeg1video", Fraction(25), {"bf": "2"}),
]


def number_picture(number: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """A yuv420p picture of 160 x 96 with its number burnt in and something that moves."""
    picture = np.full((96 * 3 // 2, 160), 128, np.uint8)
    picture[32:96] = 60 if noise is None else noise.integers(40, 90, (64, 160))
    picture[40:72, number * 3 % 120 : number * 3 % 120 + 32] = 200
    stamp(picture[:96], number)
    return picture


def write_film(
    path: Path,
    codec: str = "mpeg4",
    rate: Fraction = FILM,
    options: dict[str, str] | None = None,
    numbers: Iterable[int] = range(90),
    turned: int = 0,
    noise: np.random.Generator | None = None,
) -> Path:
    """A film whose frame n, with n burnt in, is shown at n / rate seconds; numbers may be left out."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1
        if turned:
            stream.set_display_rotation(turned)
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(number_picture(number, noise), format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, codec: str, rate: int, channels: np.ndarray, start: int = 0) -> Path:
    """Sound of float [C, n] in -1..1, whose first sample is at start / rate seconds."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        for first in range(0, channels.shape[1], 1000):
            piece = np.ascontiguousarray(channels[:, first : first + 1000], np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start + first, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers_at(path: Path, times: list[float], log: DecodeLog | None = None, until: float | None = None) -> dict:
    """For each index of the times that was given a frame, the number burnt into it."""
    given = frames(path, times, log or DecodeLog(), until)
    return {index: read_frame_number(frame.image) for frame in given for index in frame.indices}


@pytest.mark.parametrize(("name", "codec", "rate", "options"), FILMS, ids=[film[0] for film in FILMS])
def test_every_frame_is_given_at_its_own_time(
    tmp_path: Path, name: str, codec: str, rate: Fraction, options: dict[str, str]
) -> None:
    film = write_film(tmp_path / name, codec, rate, options)
    log = DecodeLog()
    assert numbers_at(film, [float(n / rate) for n in range(90)], log) == {n: n for n in range(90)}
    assert log.errors == 0
    assert log.end == pytest.approx(float(90 / rate), abs=0.001)


@pytest.mark.parametrize(("name", "codec", "rate", "options"), FILMS, ids=[film[0] for film in FILMS])
def test_the_nearest_frame_is_given_where_times_lie_between_frames(
    tmp_path: Path, name: str, codec: str, rate: Fraction, options: dict[str, str]
) -> None:
    film = write_film(tmp_path / name, codec, rate, options)
    times = [0.071 + 0.313 * k for k in range(9)]
    assert numbers_at(film, times) == {k: round(float(time * rate)) for k, time in enumerate(times)}


def test_frames_say_when_they_are_shown_and_come_in_that_order(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(25), {"bf": "3"})
    given = list(frames(film, [2.01, 0.5, 0.51, 2.0], DecodeLog()))
    assert [(frame.indices, round(frame.time, 4)) for frame in given] == [([1], 0.48), ([2], 0.52), ([0, 3], 2.0)]


def test_of_two_frames_equally_near_the_earlier_one_is_given(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(25))
    assert numbers_at(film, [0.5, 1.5, 2.5]) == {0: 12, 1: 37, 2: 62}


def test_frames_of_a_variable_frame_rate_are_found_by_their_time_stamps(tmp_path: Path) -> None:
    shown = [0, 1, 2, 3, 20, 21, 22, 40, 41, 42, 43, 44, 45, 80]
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(30), {"bf": "2"}, numbers=shown)
    times = [k * 0.1 for k in range(27)]
    nearest = {k: min(shown, key=lambda n: abs(n / 30 - time)) for k, time in enumerate(times)}
    assert numbers_at(film, times) == nearest


def test_frames_that_an_avi_leaves_out_do_not_shift_those_behind(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", numbers=[n for n in range(90) if n not in (20, 21, 50)])
    given = numbers_at(film, [float(n / FILM) for n in range(90)])
    assert {n: given[n] for n in (19, 22, 49, 51, 89)} == {19: 19, 22: 22, 49: 49, 51: 51, 89: 89}


def test_b_frames_packed_two_in_a_packet_as_divx_does_keep_their_times(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", "mpeg4", Fraction(25), {"bf": "1", "b_strategy": "0"}, numbers=range(40))
    packed = pack_b_frames(film, tmp_path / "packed.avi")
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
        payloads[0] = payloads[0][:first] + note + payloads[0][first:]  # tells decoders that B-frames are packed
        for n, (payload, packet) in enumerate(zip(payloads, packets, strict=True)):
            whole = av.Packet(payload)
            whole.stream, whole.time_base, whole.pts, whole.dts = stream, packet.time_base, n, n
            whole.is_keyframe = packet.is_keyframe
            copy.mux(whole)
    return target


@pytest.mark.parametrize(("turned", "corner"), [(90, (0, -1)), (-90, (-1, 0)), (180, (-1, -1))])
def test_a_film_that_a_phone_held_sideways_is_turned_upright(
    tmp_path: Path, turned: int, corner: tuple[int, int]
) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", numbers=range(5), turned=turned)
    frame = next(frames(film, [0.0], DecodeLog()))
    assert frame.image.shape == ((96, 160, 3) if turned == 180 else (160, 96, 3))
    assert read_frame_number(np.rot90(frame.image, -turned // 90)) == 0


def test_pictures_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 0] = 250
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode(None))
    image = next(frames(path, [0.0], DecodeLog())).image
    assert image.dtype == np.uint8
    assert image.shape == (48, 64, 3)
    assert np.abs(image.mean((0, 1)) - [250, 0, 0]).max() < 8


# ---- the end, and how far it is truthful


@pytest.mark.parametrize("name", ["film.avi", "film.mp4"])
def test_times_that_the_film_does_not_reach_get_no_frame_and_the_end_is_told(tmp_path: Path, name: str) -> None:
    film = write_film(tmp_path / name, "mpeg4", Fraction(25), numbers=range(50))
    log = DecodeLog()
    assert numbers_at(film, [1.0, 1.99, 2.0, 2.5, 60.0], log) == {0: 25, 1: 49}
    assert log.end == pytest.approx(2.0)
    log = DecodeLog()
    assert numbers_at(film, [5.0], log) == {}
    assert log.end == pytest.approx(2.0)


def test_decoding_stops_behind_the_last_time_or_behind_until(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(25), {"bf": "3"}, numbers=range(250))
    log = DecodeLog()
    assert numbers_at(film, [1.0], log) == {0: 25}
    assert 1.0 <= log.end < 1.5
    log = DecodeLog()
    assert numbers_at(film, [1.0], log, until=4.0) == {0: 25}
    assert 4.0 <= log.end < 4.5
    log = DecodeLog()
    assert numbers_at(film, [1.0], log, until=99.0) == {0: 25}
    assert log.end == pytest.approx(10.0)


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        film = write_film(tmp_path / f"{seconds}.avi", numbers=range(30 * seconds))
        tracemalloc.start()
        for _ in frames(film, [0.5 * k for k in range(2 * seconds)], DecodeLog()):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)
    assert peak(60) < peak(10) + 30 * 50 * 500  # a note of a few hundred bytes a frame; a picture would be 46,080


# ---- broken files


def test_a_film_cut_short_gives_its_good_frames_and_where_it_ends(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", numbers=range(90))
    content = film.read_bytes()
    film.write_bytes(content[: len(content) * 3 // 4])
    log = DecodeLog()
    given = numbers_at(film, [float(n / FILM) for n in range(90)], log)
    assert 30 < len(given) < 80
    assert given == {n: n for n in range(len(given))}
    assert log.end == pytest.approx(float(len(given) / FILM), abs=0.07)


def test_an_mp4_cut_short_gives_its_good_frames_and_where_it_ends(tmp_path: Path) -> None:
    options = {"bf": "3", "g": "30"}
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(25), options, range(100))
    with (
        av.open(str(film)) as container,
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
        ("film.avi", "mpeg4", {"g": "15", "b": "300000"}),
        ("film.avi", "mpeg4", {"g": "15", "bf": "2", "b": "300000"}),
        ("film.mp4", "libx264", {"g": "20", "bf": "3", "crf": "28"}),
    ],
    ids=["avi", "avi with B-frames", "mp4"],
)
def test_frames_of_a_damaged_film_are_at_their_right_time_or_not_given(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], seed: int
) -> None:
    """Noise of 3000 bytes: 300 within a slice of H.264 can give a wrong picture without an error (1 film of 30)."""
    noise = np.random.default_rng(seed)
    film = write_film(tmp_path / name, codec, Fraction(25), options, range(200), noise=noise)
    content = bytearray(film.read_bytes())
    for place in noise.integers(len(content) // 5, len(content) * 4 // 5, 3):
        content[place : place + 3000] = noise.bytes(3000)
    film.write_bytes(content)
    log = DecodeLog()
    given = numbers_at(film, [n / 25 for n in range(200)], log)
    assert all(index == number for index, number in given.items())
    assert 100 < len(given) < 200
    assert log.errors > 0


def destroy_chunk(film: Path, number: int) -> None:
    """Overwrite one frame of an AVI, the name and size of its chunk included."""
    with av.open(str(film)) as container:
        packet = next(itertools.islice(container.demux(video=0), number, None))
        start, end = (packet.pos or 0) - 8, (packet.pos or 0) + packet.size
    content = bytearray(film.read_bytes())
    content[start:end] = b"\xa5" * (end - start)
    film.write_bytes(content)


def test_frames_of_an_avi_behind_a_destroyed_chunk_are_told_apart_by_its_index(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(film, 40)
    log = DecodeLog()
    assert numbers_at(film, [float(n / FILM) for n in range(90)], log) == {
        n: n
        for n in range(90)
        if not 40 <= n < 45  # frame 45 is the next key frame
    }
    assert log.errors > 0
    assert log.end == pytest.approx(float(90 / FILM))


def test_an_avi_without_index_gives_nothing_behind_a_destroyed_chunk(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", options={"g": "15"}, numbers=range(90))
    destroy_chunk(film, 40)
    content = film.read_bytes()
    film.write_bytes(content[: content.rindex(b"idx1") - 100])
    log = DecodeLog()
    assert numbers_at(film, [float(n / FILM) for n in range(90)], log) == {n: n for n in range(40)}
    assert log.errors > 0
    assert log.end == pytest.approx(float(40 / FILM))


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
        ("words.txt", b"What is said here is not a film.\n" * 50, "text"),
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


def test_sound_without_picture_and_picture_without_sound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="found no audio that can be decoded, expected an audio file or a video"):
        hear(write_film(tmp_path / "film.mp4"), [(0.0, 1.0)])
    tone = write_sound(tmp_path / "tone.wav", "pcm_s16le", 16000, np.zeros((1, 1600)))
    with pytest.raises(MediaError, match="found no video that can be decoded, expected a video file"):
        list(frames(tone, [0.0], DecodeLog()))


# ---- a folder of images


def write_images(folder: Path, numbers: Iterable[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(number_picture(number), format="yuv420p")
        frame.reformat(format="yuvj420p", dst_color_range="JPEG").save(folder / f"image_{number}.jpg")
    return folder


def test_a_folder_of_images_is_a_film_of_two_frames_a_second(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", range(12))
    log = DecodeLog()
    assert numbers_at(folder, [0.0, 0.2, 0.5, 5.4, 5.5, 6.0, 9.0], log) == {0: 0, 1: 0, 2: 1, 3: 11, 4: 11, 5: 11}
    assert (log.end, log.errors) == (6.5, 0)  # the last image may have been shown for two steps
    info = probe(folder)
    assert (info.duration, info.has_video, info.has_audio, info.width, info.height) == (6.0, True, False, 160, 96)


def test_a_damaged_image_is_counted_and_a_missing_one_moves_no_other(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", [0, 1, 3, 4])
    (folder / "image_1.jpg").write_bytes(b"not a JPEG")
    (folder / "audio.wav").write_bytes(b"")
    log = DecodeLog()
    assert numbers_at(folder, [0.0, 0.5, 1.5, 2.0], log) == {0: 0, 2: 3, 3: 4}
    assert log.errors == 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"found a folder without image_N\.jpg, expected a video or audio file"):
        probe(tmp_path)


# ---- sound


def hear(
    path: Path, spans: list[tuple[float, float]], channel: int | None = None, log: DecodeLog | None = None
) -> dict:
    return {sound.index: sound for sound in audio_spans(path, spans, channel, log or DecodeLog())}


def ramps(rate: int, seconds: float) -> np.ndarray:
    """Two channels [2, n] in which every sample tells its place: a ramp up, and one down of half the height."""
    ramp = np.linspace(-0.9, 0.9, int(rate * seconds))
    return np.stack([ramp, -ramp / 2])


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


def furthest(heard: np.ndarray, written: np.ndarray) -> float:
    assert heard.shape == written.shape
    return float(np.abs(heard - written).max(initial=0))


def write_wave(path: Path, codec: str, rate: int, channels: np.ndarray) -> Path:
    formats = {
        "pcm_u8": ("u8", 127, np.uint8),
        "pcm_s16le": ("s16", 32768, np.int16),
        "pcm_f32le": ("flt", 1, np.float32),
    }
    form, scale, dtype = formats.get(codec, ("s32", 2**31, np.int32))
    values = np.ascontiguousarray(channels.T).reshape(1, -1) * scale + (128 if codec == "pcm_u8" else 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(
            np.round(values, 7 if codec == "pcm_f32le" else 0).astype(dtype), form, "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


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
def test_a_click_in_compressed_sound_stays_where_it_was(
    tmp_path: Path, name: str, codec: str, rate: int, layout: int
) -> None:
    """To 30 ms: codecs smear a click, and not every one notes down its delay."""
    tone = np.zeros(3 * rate)
    tone[2 * rate : 2 * rate + rate // 100] = 0.8 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    path = write_sound(tmp_path / name, codec, rate, np.stack([tone] * layout))
    sound = hear(path, [(1.5, 2.5)])[0]
    loud = np.flatnonzero(np.abs(sound.samples) > 0.25) / sound.rate
    assert len(sound.samples) == round(2.5 * sound.rate) - round(1.5 * sound.rate)
    assert loud.min() == pytest.approx(0.5, abs=0.03)
    assert loud.max() == pytest.approx(0.51, abs=0.03)


def test_sound_that_starts_later_than_the_picture_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        film, sound = container.add_stream("libx264", rate=25), container.add_stream("pcm_s16le", rate=16000)
        assert isinstance(film, av.VideoStream)
        assert isinstance(sound, av.AudioStream)
        film.width, film.height, film.pix_fmt, sound.layout = 160, 96, "yuv420p", "mono"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(number_picture(number), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
        piece = av.AudioFrame.from_ndarray(np.full((1, 16000), 16384, np.int16), "s16", "mono")
        piece.sample_rate, piece.pts, piece.time_base = 16000, 8000, Fraction(1, 16000)  # from 0.5 s to 1.5 s
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
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
    assert [sound.index for sound in given] == [2, 3, 1, 0, 4]
    for sound in given:
        start, end = (round(edge * 16000) for edge in spans[sound.index])
        assert furthest(sound.samples, channels[0, start:end]) < 1e-4
    assert log.end == 3.0


def test_sound_is_decoded_no_further_than_the_last_span(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, ramps(16000, 30))
    log = DecodeLog()
    hear(path, [(1.0, 2.0)], 0, log)
    assert 2.0 <= log.end < 3.0


def test_only_open_spans_of_sound_are_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        for _ in range(120):
            sound.writeframes(bytes(2 * 16000))
    tracemalloc.start()
    for _ in audio_spans(path, [(k, k + 1) for k in range(120)], None, DecodeLog()):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000  # all of it would be 7.7 MB


def test_damaged_sound_gives_its_good_parts_at_their_time(tmp_path: Path) -> None:
    seconds = np.arange(10 * 44100) / 44100
    loudness = np.where((seconds % 1) < 0.5, 0.5, 0.0)  # loud in the first half of every second
    path = write_sound(tmp_path / "beats.mp4", "aac", 44100, np.sin(seconds * 2 * np.pi * 440)[None] * loudness)
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


# ---- headers, and real recordings


def test_probe_tells_what_the_headers_claim(tmp_path: Path) -> None:
    info = probe(write_film(tmp_path / "film.mp4", "libx264", Fraction(25), numbers=range(50)))
    assert (info.has_video, info.has_audio, info.width, info.height) == (True, False, 160, 96)
    assert info.duration == pytest.approx(2.0)
    info = probe(write_wave(tmp_path / "ramp.wav", "pcm_s16le", 22050, ramps(22050, 2)))
    assert (info.has_video, info.has_audio, info.sample_rate, info.channels) == (False, True, 22050, 2)
    assert info.duration == pytest.approx(2.0)


def test_the_header_of_picture_and_sound_is_told_apart(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "libx264", Fraction(25), numbers=range(50))
    log = DecodeLog()
    numbers_at(film, [0.0], log)
    assert log.claimed == pytest.approx(2.0)
    log = DecodeLog()
    hear(write_wave(tmp_path / "ramp.wav", "pcm_s16le", 16000, ramps(16000, 3)), [(0, 1)], 0, log)
    assert log.claimed == pytest.approx(3.0)


def test_one_scene_in_four_containers_is_one_scene(shared: Path) -> None:
    """The same picture at the same times, though codec, size, frame rate and the first time stamp differ."""
    films = [shared / "media" / "hello" / f"movie-hello.{kind}" for kind in ("mp4", "avi", "mpeg", "ogg")]
    shown = [[grey(frame) for frame in frames(film, [1.0, 3.0, 5.0, 7.0], DecodeLog())] for film in films]
    for pictures in shown[1:]:
        assert np.abs(np.subtract(pictures, shown[0])).max() < 12


def grey(frame: Frame) -> np.ndarray:
    """16 x 16 mean brightnesses of a picture."""
    height, width = frame.image.shape[0] // 16 * 16, frame.image.shape[1] // 16 * 16
    return frame.image[:height, :width].mean(2).reshape(16, height // 16, 16, width // 16).mean((1, 3))


def test_every_frame_of_a_phone_clip_with_uneven_stamps_is_found(shared: Path) -> None:
    clip = shared / "media" / "hello" / "VID_20191220_170832.mp4"
    with av.open(str(clip)) as container:
        stamps = sorted((p.pts or 0) * float(p.time_base) for p in container.demux(video=0) if p.size)
    assert [frame.time for frame in frames(clip, stamps, DecodeLog())] == pytest.approx(stamps)


def test_the_dialogue_that_was_cut_short_ends_where_its_frames_end(shared: Path) -> None:
    film = shared / "raw/IEMOCAP_full_release/Session4/dialog/avi/DivX/Ses04M_impro03.avi"
    log = DecodeLog()
    given = list(frames(film, [0.5 * k for k in range(52)], log, until=26.0))
    assert [index for frame in given for index in frame.indices] == list(range(27))
    assert log.end == pytest.approx(13.05, abs=0.01)
    log = DecodeLog()
    assert len(hear(film, [(0.0, 26.0)], None, log)[0].samples) / 16000 == pytest.approx(13.05, abs=0.01)
