"""Stretches of a recording as mp4 videos, cut to the frame and to the sample. Home of ffmpeg-python.

Decoded frames are encoded again, so a video keeps the clock of the whole project, whatever the container, the frame
rate or the damage. Copied streams would begin at a key frame, up to seconds early.
"""

import tempfile
import wave
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from PIL import Image

from mesm_data.errors import DataError, MediaError
from mesm_data.files import commit_file
from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import open_video
from mesm_data.utterance import Utterance

PIECE = 60.0  # seconds of audio held at once
MAX_PADDING = 1.0  # seconds for which the last frame is repeated after the end of the recording
_NO_MARKS = "+bitexact"  # no names of encoders, no dates: the same input gives the same bytes


@dataclass(frozen=True)
class VideoStyle:
    """Size and quality of a written video. The defaults keep what one can see and hear of the recording."""

    height: int | None = None  # pixels; None: that of the recording
    max_rate: float = 120.0  # frames per second
    crf: int = 18  # of x264: 18 is as good as the source, 30 is for a small video on a page
    preset: str = "veryfast"  # of x264: faster ones make larger files
    max_kbps: int | None = None  # of the video
    audio_kbps: int = 128


def write_videos(
    root: Path, utterances: Sequence[Utterance], outs: Sequence[Path], style: VideoStyle = VideoStyle()
) -> None:
    """Write each utterance of ONE recording as an mp4 (H.264, AAC): the speaker's part of the frame, their channel.

    The frame rate is constant, the recording's usual one. Each frame is the one shown nearest to its time; a frame that
    does not decode is replaced by the one before. Raises MediaError where an utterance has no video or no audio.
    """
    video = root / utterances[0].source.video
    offset = utterances[0].source.offset
    reader = open_video(video)
    utterances = [replace(u, end=min(u.end, max(u.start, reader.end + offset) + MAX_PADDING)) for u in utterances]
    rate = Fraction(max(1.0, min(probe(video).frame_rate or 25.0, style.max_rate))).limit_denominator(1001)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        wavs = [Path(folder) / f"{n}.wav" for n in range(len(utterances))]
        _write_audio(root, utterances, wavs)
        outputs = [
            stack.enter_context(_open_output(u, out, wav, rate, style))
            for u, out, wav in zip(utterances, outs, wavs, strict=True)
        ]
        wanted = sorted(
            (time - offset, n, k) for n, output in enumerate(outputs) for k, time in enumerate(output.times)
        )
        for frame in reader.frames([time for time, _, _ in wanted], DecodeLog(), height=style.height):
            for _, n, k in (wanted[index] for index in frame.indices):
                outputs[n].show(k, frame.image)
        for output in outputs:
            output.finish()


@contextmanager
def _open_output(utterance: Utterance, out: Path, wav: Path, rate: Fraction, style: VideoStyle) -> "Iterator[_Output]":
    """A video that is being written; when something fails, its encoder is stopped and nothing is left."""
    output = _Output(utterance, out, wav, rate, style)
    try:
        yield output
    finally:
        output.stop()


class _Output:
    """One video that is being written: frames come in by their number, in order, with gaps."""

    def __init__(self, utterance: Utterance, out: Path, wav: Path, rate: Fraction, style: VideoStyle) -> None:
        self.utterance, self.out, self.wav, self.rate, self.style = utterance, out, wav, rate, style
        self.unfinished = out.with_name(f"{out.stem}.unfinished.mp4")
        count = max(1, round((utterance.end - utterance.start) * rate))
        self.times = utterance.start + np.arange(count) / float(rate)  # seconds of the recording
        self.shown = 0
        self.last: np.ndarray | None = None
        self.encoder: Any = None
        self.finished = False

    def show(self, number: int, frame: np.ndarray) -> None:
        image = _part(frame, self.utterance.source.crop)
        if self.last is None:
            self._start(image)
        elif image.shape != self.last.shape:  # some broadcasts change their size on the way
            height, width = self.last.shape[:2]
            image = np.asarray(Image.fromarray(image).resize((width, height)))
        self._write(image if self.last is None else self.last, number - self.shown)
        self._write(image, 1)
        self.last = image
        if self.shown == len(self.times):
            self.finish()

    def finish(self) -> None:
        """Repeat the last frame to the end, and give the file its name."""
        if self.finished:
            return
        if self.last is None:
            u = self.utterance
            raise MediaError(f"{u.source.video}: found no video between {u.start:.2f} s and {u.end:.2f} s for {u.id}")
        self._write(self.last, len(self.times) - self.shown)
        self.encoder.stdin.close()
        if self.encoder.wait() != 0:
            raise DataError(self._failure())
        self.encoder.stderr.close()
        commit_file(self.unfinished, self.out)
        self.finished = True

    def stop(self) -> None:
        if self.encoder and not self.finished:
            self.encoder.kill()
            self.encoder.wait()
            with suppress(OSError):  # frames that it no longer takes
                self.encoder.stdin.close()
            self.encoder.stderr.close()
            self.unfinished.unlink(missing_ok=True)

    def _start(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        style = self.style
        frames = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", video_size=(width, height), framerate=str(self.rate)
        )
        if style.height and style.height < height:
            frames = frames.filter("scale", -2, style.height)
        limits = {"maxrate": f"{style.max_kbps}k", "bufsize": f"{2 * style.max_kbps}k"} if style.max_kbps else {}
        marks = {"fflags": _NO_MARKS, "flags:v": _NO_MARKS, "flags:a": _NO_MARKS, "map_metadata": -1}
        # one thread: what x264 writes depends on their number
        command = ffmpeg.output(
            frames, ffmpeg.input(str(self.wav)), str(self.unfinished),
            vcodec="libx264", preset=style.preset, crf=style.crf, pix_fmt="yuv420p", threads=1,
            acodec="aac", audio_bitrate=f"{style.audio_kbps}k", movflags="+faststart", **limits, **marks,
        )  # fmt: skip
        self.encoder = ffmpeg.run_async(
            command.global_args("-v", "error"),
            cmd=_program(),
            pipe_stdin=True,
            pipe_stderr=True,
            overwrite_output=True,
        )

    def _write(self, image: np.ndarray, times: int) -> None:
        try:
            for _ in range(times):
                self.encoder.stdin.write(image.data)
        except OSError:
            raise DataError(self._failure()) from None
        self.shown += times

    def _failure(self) -> str:
        said = self.encoder.stderr.read().decode(errors="replace").strip().splitlines()
        return f"{self.out}: could not be encoded ({said[0] if said else 'ffmpeg says nothing'})"


def _part(image: np.ndarray, crop: tuple[float, float, float, float]) -> np.ndarray:
    """The pixels between the fractions left, top, right, bottom; both sides even, as H.264 needs them."""
    height, width = image.shape[:2]
    left, top = round(crop[0] * width), round(crop[1] * height)
    wide, high = round(crop[2] * width) - left, round(crop[3] * height) - top
    return np.ascontiguousarray(image[top : top + max(2, high // 2 * 2), left : left + max(2, wide // 2 * 2)])


def _write_audio(root: Path, utterances: Sequence[Utterance], wavs: Sequence[Path]) -> None:
    """The audio of each utterance as 16-bit mono, at the recording's own rate."""
    tracks: dict[tuple[str, int | None], list[int]] = {}
    for n, u in enumerate(utterances):
        tracks.setdefault((u.source.audio or u.source.video, u.source.channel), []).append(n)
    for (name, channel), members in tracks.items():
        pieces = [(n, *piece) for n in members for piece in _pieces(utterances[n])]
        with ExitStack() as opened:
            writers: dict[int, wave.Wave_write] = {}
            for span in audio_spans(root / name, [(start, end) for _, start, end in pieces], channel, DecodeLog()):
                n = pieces[span.index][0]
                if n not in writers:
                    writers[n] = opened.enter_context(wave.open(str(wavs[n]), "wb"))
                    writers[n].setparams((1, 2, span.rate, 0, "NONE", ""))
                writers[n].writeframes((span.samples * 32767).round().astype("<i2").tobytes())
        for n in members:
            if n not in writers:
                u = utterances[n]
                raise MediaError(f"{name}: found no audio between {u.start:.2f} s and {u.end:.2f} s for {u.id}")


def _pieces(u: Utterance) -> list[tuple[float, float]]:
    """The utterance in stretches of PIECE seconds of its file."""
    start, end = u.start - u.source.offset, u.end - u.source.offset
    edges = [*np.arange(start, end, PIECE).tolist(), end]
    return list(pairwise(edges))


def _program() -> str:
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise DataError(f"ffmpeg: {error} (`pip install imageio-ffmpeg` brings one)") from None
