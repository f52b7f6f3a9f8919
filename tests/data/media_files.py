"""Videos, audio files and image folders made for tests, and what is read from them."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number, stamp

NTSC = Fraction(30000, 1001)

VIDEOS = [
    ("divx.avi", "mpeg4", NTSC, {}),
    ("15.mp4", "mpeg4", Fraction(15), {}),
    ("24.mkv", "mpeg4", Fraction(24), {}),
    ("b_frames.avi", "mpeg4", Fraction(25), {"bf": "2"}),
    ("h264.avi", "libx264", Fraction(25), {"bf": "3"}),
    ("24.mp4", "libx264", Fraction(24), {"bf": "3", "g": "40"}),
    ("25.mp4", "libx264", Fraction(25), {"bf": "3", "g": "40"}),
    ("29.97.mp4", "libx264", NTSC, {"bf": "3", "g": "40"}),
    ("25.mpg", "mpeg2video", Fraction(25), {"bf": "2"}),
    ("1.mpg", "mpeg1video", Fraction(25), {"bf": "2"}),
]


def number_image(number: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """A yuv420p frame of 160 x 96 with its number burnt in and something that moves."""
    image = np.full((96 * 3 // 2, 160), 128, np.uint8)
    image[32:96] = 60 if noise is None else noise.integers(40, 90, (64, 160))
    image[40:72, number * 3 % 120 : number * 3 % 120 + 32] = 200
    stamp(image[:96], number)
    return image


def write_video(
    path: Path,
    codec: str = "mpeg4",
    rate: Fraction = NTSC,
    options: dict[str, str] | None = None,
    numbers: Iterable[int] = range(90),
    turned: int = 0,
    noise: np.random.Generator | None = None,
    pixels: str = "yuv420p",
    matrix: Sequence[int] | None = None,
) -> Path:
    """A video whose frame n, with n burnt in, is shown at n / rate seconds; numbers may be left out."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, pixels
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1
        if turned:
            stream.set_display_rotation(turned)
        if matrix:
            stream.set_display_matrix(matrix)
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(number_image(number, noise), format="yuv420p")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_late(path: Path) -> Path:
    """Two seconds of silence, and from second 1 on 25 frames per second, numbered from 25."""
    with av.open(str(path), "w") as container:
        stream, audio = container.add_stream("libx264", rate=25), container.add_stream("pcm_s16le", rate=16000)
        assert isinstance(stream, av.VideoStream)
        assert isinstance(audio, av.AudioStream)
        stream.width, stream.height, stream.pix_fmt, audio.layout = 160, 96, "yuv420p", "mono"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 32000), np.int16), "s16", "mono")
        silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(silence))
        for number in range(25, 50):
            frame = av.VideoFrame.from_ndarray(number_image(number), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.mux(audio.encode(None))
    return path


def write_audio(path: Path, codec: str, rate: int, channels: np.ndarray, start: int = 0) -> Path:
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


def write_images(folder: Path, numbers: Iterable[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(number_image(number), format="yuv420p")
        frame.reformat(format="yuvj420p", dst_color_range="JPEG").save(folder / f"image_{number}.jpg")
    return folder


def ramps(rate: int, seconds: float) -> np.ndarray:
    """Two channels [2, n] in which every sample has its place in it: a ramp up, and one down of half the height."""
    ramp = np.linspace(-0.9, 0.9, int(rate * seconds))
    return np.stack([ramp, -ramp / 2])


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


def numbers_at(path: Path, times: list[float], log: DecodeLog | None = None, until: float | None = None) -> dict:
    """For each index of the times that was given a frame, the number burnt into it."""
    given = frames(path, times, log or DecodeLog(), until)
    return {index: read_frame_number(frame.image) for frame in given for index in frame.indices}


def hear(
    path: Path, spans: list[tuple[float, float]], channel: int | None = None, log: DecodeLog | None = None
) -> dict:
    return {span.index: span for span in audio_spans(path, spans, channel, log or DecodeLog())}


def furthest(heard: np.ndarray, written: np.ndarray) -> float:
    assert heard.shape == written.shape
    return float(np.abs(heard - written).max(initial=0))
