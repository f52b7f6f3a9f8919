"""Write films and sound files as the corpora have them: DivX AVI, H.264 MP4, 16-bit WAV. And cut them short."""

import contextlib
import heapq
import itertools
import wave
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

CLOCK = 90_000  # ticks a second: the frames of 15, 24, 25, 29.97 and 30 fps last whole numbers of them
_THREADS = 2  # fixed: what x264 writes depends on it, and must not depend on the machine


class _Format(NamedTuple):
    codec: str
    tag: str
    options: dict[str, str]
    tick: int  # one unit of a frame's time stamp, in ticks of CLOCK
    sound_codec: str
    sound_rate: int | None  # None: as it is given


_AVI = _Format("mpeg4", "DIVX", {"qmin": "4", "qmax": "4", "g": "150"}, 3003, "pcm_s16le", None)
_MP4 = _Format("libx264", "avc1", {"preset": "superfast", "crf": "25", "g": "150", "bf": "3"}, 1, "aac", 44_100)


def frame_ticks(rhythm: Sequence[int], seconds: float) -> list[int]:
    """Ticks of CLOCK at which the frames of a film are shown. `rhythm`: how long each lasts, over and over."""
    ticks = itertools.accumulate(itertools.cycle(rhythm), initial=0)
    return list(itertools.takewhile(lambda tick: tick < seconds * CLOCK, ticks))


def write_avi(path: Path, pictures: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int) -> None:
    """An AVI file like IEMOCAP's: MPEG-4 that calls itself DIVX, 29.97 fps (ticks every 3003), PCM sound.

    Pictures are yuv420p, uint8 [H * 3 / 2, W], one for each tick; `pcm` is int16 [N, channels] at `rate` Hz.
    """
    _write(path, _AVI, pictures, ticks, pcm, rate)


def write_mp4(path: Path, pictures: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int) -> None:
    """An MP4 file like CMU-MOSEI's: H.264 with B-frames, a key frame every 150, AAC sound at 44.1 kHz."""
    _write(path, _MP4, pictures, ticks, pcm, rate)


def write_wav(path: Path, pcm: np.ndarray, rate: int) -> None:
    """A WAV file of int16 [N, channels]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(pcm.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(pcm.astype("<i2").tobytes())


def write_image(path: Path, picture: np.ndarray) -> None:
    """One yuv420p picture, uint8 [H * 3 / 2, W], as a JPEG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p").reformat(format="yuvj420p", dst_color_range="JPEG")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.thread_count = Fraction(1, 1), 1
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))


def cut(path: Path, share: float) -> None:
    """Keep the first part of a file's bytes, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def count_frames(path: Path) -> int:
    """How many frames of a film decode; what does not is not counted."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                count += len(packet.decode())
    return count


def _write(
    path: Path, form: _Format, pictures: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        unit = Fraction(form.tick, CLOCK)
        film = container.add_stream(form.codec, rate=1 / unit if form.tick > 1 else 30, options=form.options)
        assert isinstance(film, av.VideoStream)
        film.pix_fmt, film.time_base = "yuv420p", unit
        film.height, film.width = first.shape[0] * 2 // 3, first.shape[1]
        context = film.codec_context
        context.time_base, context.thread_count, context.codec_tag = unit, _THREADS, form.tag
        sound = container.add_stream(form.sound_codec, rate=form.sound_rate or rate, layout=_layout(pcm))
        assert isinstance(sound, av.AudioStream)
        frames = _frames(itertools.chain([first], pictures), ticks, form.tick)
        shown = ((tick, film.encode(frame)) for tick, frame in frames)
        heard = ((tick, sound.encode(piece)) for tick, piece in _pieces(pcm, rate))
        # Sound goes in as the picture does, so that a file cut short keeps both as far as it goes.
        for _, packets in heapq.merge(shown, heard, key=lambda event: event[0]):
            container.mux(packets)
        container.mux(film.encode(None))
        container.mux(sound.encode(None))


def _frames(pictures: Iterable[np.ndarray], ticks: Sequence[int], unit: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Each picture and the tick of CLOCK at which it is shown."""
    for picture, tick in zip(pictures, ticks, strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = tick // unit, Fraction(unit, CLOCK)
        yield tick, frame


def _pieces(pcm: np.ndarray, rate: int) -> Iterator[tuple[int, av.AudioFrame]]:
    """The sound in frames of a tenth of a second, and the tick of CLOCK at which each begins."""
    size = rate // 10
    for start in range(0, len(pcm), size):
        samples = np.ascontiguousarray(pcm[start : start + size]).reshape(1, -1)
        piece = av.AudioFrame.from_ndarray(samples, format="s16", layout=_layout(pcm))
        piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
        yield start * CLOCK // rate, piece


def _layout(pcm: np.ndarray) -> str:
    return {1: "mono", 2: "stereo"}[pcm.shape[1]]
