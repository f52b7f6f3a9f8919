"""Write video and audio files as the corpora have them: DivX AVI, H.264 MP4, 16-bit WAV. And cut them short."""

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

CLOCK = 90_000  # ticks per second: the frames of 15, 24, 25, 29.97 and 30 fps last whole numbers of them
_THREADS = 2  # fixed: what x264 writes depends on it, and must not depend on the machine


class _Format(NamedTuple):
    codec: str
    tag: str
    options: dict[str, str]
    tick: int  # one unit of a frame's time stamp, in ticks of CLOCK
    audio_codec: str
    audio_rate: int | None  # None: as given


_AVI = _Format("mpeg4", "DIVX", {"qmin": "4", "qmax": "4", "g": "150"}, 3003, "pcm_s16le", None)
_MP4 = _Format("libx264", "avc1", {"preset": "superfast", "crf": "25", "g": "150", "bf": "3"}, 1, "aac", 44_100)


def frame_ticks(rhythm: Sequence[int], seconds: float) -> list[int]:
    """Ticks of CLOCK at which the frames of a video are shown. `rhythm`: how long each lasts, repeated."""
    ticks = itertools.accumulate(itertools.cycle(rhythm), initial=0)
    return list(itertools.takewhile(lambda tick: tick < seconds * CLOCK, ticks))


def write_avi(path: Path, images: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int) -> None:
    """An AVI file like IEMOCAP's: MPEG-4 tagged DIVX, 29.97 fps (ticks every 3003), PCM audio.

    Images are yuv420p, uint8 [H * 3 / 2, W], one per tick; `pcm` is int16 [N, channels] at `rate` Hz.
    """
    _write(path, _AVI, images, ticks, pcm, rate)


def write_mp4(path: Path, images: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int) -> None:
    """An MP4 file like CMU-MOSEI's: H.264 with B-frames, a key frame every 150, AAC audio at 44.1 kHz."""
    _write(path, _MP4, images, ticks, pcm, rate)


def write_wav(path: Path, pcm: np.ndarray, rate: int) -> None:
    """A WAV file of int16 [N, channels]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(pcm.shape[1])
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(pcm.astype("<i2").tobytes())


def write_image(path: Path, image: np.ndarray) -> None:
    """One yuv420p image, uint8 [H * 3 / 2, W], as a JPEG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = av.VideoFrame.from_ndarray(image, format="yuv420p").reformat(format="yuvj420p", dst_color_range="JPEG")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.thread_count = Fraction(1, 1), 1
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))


def cut(path: Path, share: float) -> None:
    """Keep the first part of a file's bytes, as an interrupted download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def count_frames(path: Path) -> int:
    """How many frames of a video decode."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                count += len(packet.decode())
    return count


def _write(
    path: Path, form: _Format, images: Iterable[np.ndarray], ticks: Sequence[int], pcm: np.ndarray, rate: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = iter(images)
    first = next(images)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        unit = Fraction(form.tick, CLOCK)
        video = container.add_stream(form.codec, rate=1 / unit if form.tick > 1 else 30, options=form.options)
        assert isinstance(video, av.VideoStream)
        video.pix_fmt, video.time_base = "yuv420p", unit
        video.height, video.width = first.shape[0] * 2 // 3, first.shape[1]
        context = video.codec_context
        context.time_base, context.thread_count, context.codec_tag = unit, _THREADS, form.tag
        audio = container.add_stream(form.audio_codec, rate=form.audio_rate or rate, layout=_layout(pcm))
        assert isinstance(audio, av.AudioStream)
        frames = _frames(itertools.chain([first], images), ticks, form.tick)
        shown = ((tick, video.encode(frame)) for tick, frame in frames)
        pieces = ((tick, audio.encode(piece)) for tick, piece in _pieces(pcm, rate))
        # Audio and video are interleaved, so that a file cut short keeps both as far as it goes.
        for _, packets in heapq.merge(shown, pieces, key=lambda event: event[0]):
            container.mux(packets)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _frames(images: Iterable[np.ndarray], ticks: Sequence[int], unit: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Each frame and the tick of CLOCK at which it is shown."""
    for image, tick in zip(images, ticks, strict=True):
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = tick // unit, Fraction(unit, CLOCK)
        yield tick, frame


def _pieces(pcm: np.ndarray, rate: int) -> Iterator[tuple[int, av.AudioFrame]]:
    """The audio in frames of a tenth of a second, and the tick of CLOCK at which each begins."""
    size = rate // 10
    for start in range(0, len(pcm), size):
        samples = np.ascontiguousarray(pcm[start : start + size]).reshape(1, -1)
        piece = av.AudioFrame.from_ndarray(samples, format="s16", layout=_layout(pcm))
        piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
        yield start * CLOCK // rate, piece


def _layout(pcm: np.ndarray) -> str:
    return {1: "mono", 2: "stereo"}[pcm.shape[1]]
