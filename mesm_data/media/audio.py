"""Samples between given times, decoded in one forward pass: `audio_spans`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from mesm_data.media.avi import avi_places
from mesm_data.media.container import (
    DecodeLog,
    audio_stream,
    claimed_length,
    clock_zero,
    flushed,
    open_container,
    packets,
)

_STAMP_ERROR = 0.05  # seconds by which audio time stamps may be off (rounded to ms, jitter) before they mean a gap


@dataclass(frozen=True)
class AudioSpan:
    """One wanted span of audio, as far as the file reaches."""

    index: int
    samples: np.ndarray  # float32 [n], mono, -1..1
    rate: int  # Hz, the file's own
    missing: float = 0.0  # seconds that the file skips; silent in `samples`


def audio_spans(
    path: str | Path, spans: Sequence[tuple[float, float]], channel: int | None, log: DecodeLog
) -> Iterator[AudioSpan]:
    """The samples from round(start * rate) to round(end * rate) of each span, as soon as they are decoded.

    Spans may come in any order and overlap; memory holds only those that are open. `channel` picks one channel; None,
    or a channel that the file lacks (a mono copy has but one), gives the mean of all. What the file skips is silent; a
    span that it cuts off is short, one that it does not reach is not given. MediaError where there is no audio.
    """
    path = Path(path)
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    waiting, opened = order[::-1], list[_Span]()
    for first, samples, rate in _blocks(path, channel, log):
        while waiting and round(spans[waiting[-1]][0] * rate) < first + len(samples):
            start, end = spans[waiting[-1]]
            opened.append(_Span(waiting.pop(), round(start * rate), round(end * rate), rate))
        for span in opened:
            span.take(first, samples)
        yield from (span.result() for span in opened if span.end <= first + len(samples))
        opened = [span for span in opened if span.end > first + len(samples)]
        if not waiting and not opened:
            return
    yield from (span.result() for span in opened if span.pieces)


class _Span:
    """A wanted stretch of samples that is being filled."""

    def __init__(self, index: int, start: int, end: int, rate: int) -> None:
        self.index, self.end, self.rate = index, end, rate
        self.place = start  # the next sample to come
        self.missing = 0
        self.pieces: list[np.ndarray] = []

    def take(self, first: int, samples: np.ndarray) -> None:
        """Take what belongs here of the samples, the first of which has this place in the file."""
        silence = min(first, self.end) - self.place
        if silence > 0:
            self.pieces.append(np.zeros(silence, np.float32))
            self.place += silence
            self.missing += silence
        piece = samples[max(0, self.place - first) : max(0, self.end - first)]
        if len(piece):
            self.pieces.append(piece)
            self.place += len(piece)

    def result(self) -> AudioSpan:
        samples = np.concatenate([np.zeros(0, np.float32), *self.pieces])
        return AudioSpan(self.index, samples, self.rate, self.missing / self.rate)


def _blocks(path: Path, channel: int | None, log: DecodeLog) -> Iterator[tuple[int, np.ndarray, int]]:
    """All audio in order: place of the first sample, samples float32 [n], and their rate, which never changes."""
    with open_container(path) as container:
        stream = audio_stream(container, path)
        log.claimed = claimed_length(container, stream)
        zero, rate, place = clock_zero(container), 0, None
        for frame in _decoded(path, container, stream, log):
            rate = rate or frame.sample_rate
            if frame.sample_rate != rate:
                log.errors += 1
                continue
            samples = _mono(frame, channel)
            stamp = None if frame.time is None else round((frame.time - zero) * rate)
            if place is None or (stamp is not None and abs(stamp - place) > _STAMP_ERROR * rate):
                place = stamp or 0
            log.end = max(log.end, (place + len(samples)) / rate)
            yield place, samples, rate
            place += len(samples)


def _decoded(path: Path, container: InputContainer, stream: AudioStream, log: DecodeLog) -> Iterator[AudioFrame]:
    places: Iterator[int | None] | None = None
    if container.format.name == "avi":
        with open_container(path) as again:
            places = iter(avi_places(path, again, audio_stream(again, path))[0])
    for packet in packets(container, stream):
        if packet is None or (places and next(places, None) is None):
            log.errors += 1
            if packet is None:
                continue
            return  # after a gap in an AVI, where nobody knows how much audio was lost
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            log.errors += 1
    yield from flushed(stream)


def _mono(frame: AudioFrame, channel: int | None) -> np.ndarray:
    """float32 [n] in -1..1, one channel or the mean of all."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if channel is not None and channel < len(values):
        values = values[channel : channel + 1]
    samples = values.mean(0, dtype=np.float64)
    if values.dtype == np.uint8:
        samples = (samples - 128) / 128
    elif values.dtype.kind == "i":
        samples /= 2.0 ** (8 * values.itemsize - 1)
    return samples.clip(-1, 1).astype(np.float32)
