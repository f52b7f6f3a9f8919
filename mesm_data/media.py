"""Frames at given times and sound between given times, in one forward pass; what headers claim. Home of PyAV.

Seconds count from the first thing that a file presents, be it picture or sound. What is decoded is trusted, headers are
not: a `DecodeLog` tells how far a file reached and how much of it was damaged.
"""

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from mesm_data.errors import MediaError

AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)

_ROUNDING = 1e-6  # seconds by which sums of floats may differ that ought to be equal
_LATE_START = 0.25  # seconds by which the first frame may be late and still serve
_MOST_FAILURES = 100  # reads that fail one after the other before the rest of a file is given up
_STAMP_ERROR = 0.05  # seconds by which stamps of sound may be off (rounded to ms, jittering) before they tell of a gap
IMAGE_STEP = 0.5  # seconds between image_N.jpg and the next in the authors' processed tree


@dataclass(frozen=True)
class MediaInfo:
    """What the headers of a file claim. Sizes and counts are 0 where there is nothing of the kind."""

    duration: float | None  # seconds; None where the file does not say
    has_video: bool
    has_audio: bool
    width: int = 0  # pixels
    height: int = 0
    sample_rate: int = 0  # Hz
    channels: int = 0
    frame_rate: float = 0.0  # pictures a second; of a varying rate, the usual one
    counted: float = (
        0.0  # seconds that its pictures last by their number; longer than `duration` in an AVI that was cut
    )


@dataclass
class DecodeLog:
    """What a pass through one file met. True once its frames or sounds have all been taken."""

    claimed: float | None = None  # seconds that the picture or the sound lasts by its header
    end: float = 0.0  # second at which the last decoded frame or sample ends
    errors: int = 0  # packets that did not decode, frames that came out damaged, gaps in the file


@dataclass(frozen=True)
class Frame:
    """One picture, and the wanted times that it is nearest to."""

    indices: list[int]
    time: float  # second at which it is shown
    image: np.ndarray  # uint8 [H, W, 3] RGB


@dataclass(frozen=True)
class Sound:
    """One wanted span of sound, as far as the file reaches."""

    index: int
    samples: np.ndarray  # float32 [n], mono, -1..1
    rate: int  # Hz, the file's own


def probe(path: str | Path) -> MediaInfo:
    """What the headers of a file, or the names in a folder of image_N.jpg, claim. MediaError where it is neither."""
    path = Path(path)
    if path.is_dir():
        images = _images(path)
        with _open(images[min(images)]) as container:
            codec = _picture(container, path).codec_context
            seconds = (max(images) - min(images) + 1) * IMAGE_STEP
            return MediaInfo(seconds, True, False, codec.width, codec.height, frame_rate=1 / IMAGE_STEP)
    with _open(path) as container:
        video, audio = _first(container.streams.video), _first(container.streams.audio)
        if not video and not audio:
            raise MediaError(f"{path}: found neither picture nor sound, expected a video or sound file")
        return MediaInfo(
            duration=container.duration / av.time_base if container.duration else None,
            has_video=video is not None,
            has_audio=audio is not None,
            width=video.codec_context.width if video else 0,
            height=video.codec_context.height if video else 0,
            sample_rate=audio.codec_context.sample_rate if audio else 0,
            channels=audio.codec_context.layout.nb_channels if audio else 0,
            frame_rate=float(video.guessed_rate or video.average_rate or 0) if video else 0.0,
            counted=float(video.frames / video.average_rate) if video and video.average_rate else 0.0,
        )


def frames(
    path: str | Path, times: Sequence[float], log: DecodeLog, until: float | None = None, height: int | None = None
) -> Iterator[Frame]:
    """For each of the times the frame shown nearest to it, in order of presentation. One frame may serve several times.

    A time that the film does not reach, or whose frame is damaged, gets none. Decoding stops behind the last time, or
    behind the second `until` if that is later: so far `log.end` tells whether there is film. A folder of image_N.jpg is
    a film too. A film that is higher than `height` is made smaller. MediaError where the file cannot be opened.

    A first pass reads the packets and decodes nothing: it learns when every frame is shown. The second decodes and
    leaves out frames that nobody wants and no other frame builds on, which halves the time of an h264 film.
    """
    path = Path(path)
    if path.is_dir():
        yield from _image_frames(path, times, log)
        return
    schedule = _schedule(path)
    log.claimed = schedule.claimed
    log.errors += schedule.counted and None in schedule.ticks
    wanted: dict[int, list[int]] = {}
    for index, time in enumerate(times):
        if schedule.begin - _LATE_START < time < schedule.end - _ROUNDING:
            wanted.setdefault(schedule.nearest(time), []).append(index)
    if not schedule.shown:
        return
    needed = {*wanted, schedule.nearest(max([*times, until or 0.0]))}
    convert = VideoReformatter()
    for tick, picture in _whole(_decoded(path, schedule, needed), schedule, needed, log):
        if tick in wanted:
            yield Frame(wanted.pop(tick), schedule.second(tick), _rgb(picture, convert, height))


def sounds(
    path: str | Path, spans: Sequence[tuple[float, float]], channel: int | None, log: DecodeLog
) -> Iterator[Sound]:
    """The samples from round(start * rate) to round(end * rate) of each span, as soon as they are decoded.

    Spans may come in any order and overlap; memory holds only those that are open. `channel` picks one channel; None,
    or a channel that the file lacks (a mono copy has but one), gives the mean of all. What the file skips is silent; a
    span that it cuts off is short, one that it does not reach is not given. MediaError where there is no sound.
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
        yield from (span.sound() for span in opened if span.end <= first + len(samples))
        opened = [span for span in opened if span.end > first + len(samples)]
        if not waiting and not opened:
            return
    yield from (span.sound() for span in opened if span.pieces)


# ---- files


def _open(path: Path) -> InputContainer:
    try:
        # "file:" keeps a colon in a name from being read as a protocol; old AVI files hold Latin-1 titles.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        found = f"nothing that FFmpeg can read ({error.strerror})"
        if not path.exists():
            found = "no file"
        elif path.is_file() and path.stat().st_size == 0:
            found = "an empty file"
        raise MediaError(f"{path}: found {found}, expected a video or sound file") from error
    if container.format.name == "tty":  # FFmpeg takes any text file for a film of a terminal
        container.close()
        raise MediaError(f"{path}: found text, expected a video or sound file")
    return container


def _first(streams: Sequence[AnyStream]) -> AnyStream | None:
    """The first stream that can be decoded and is no cover picture."""
    for stream in streams:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _picture(container: InputContainer, path: Path) -> VideoStream:
    stream = _first(container.streams.video)
    if stream is None:
        raise MediaError(f"{path}: found no picture that can be decoded, expected a video file")
    return stream


def _packets(container: InputContainer, *streams: Stream) -> Iterator[Packet | None]:
    """The packets of the streams (all, if none is named) in order of decoding; None where reading failed."""
    failures = 0
    while failures < _MOST_FAILURES:
        try:
            for packet in container.demux(*streams):
                failures = 0
                if packet.size:  # an empty one repeats the frame before (Theora), or ends the file
                    yield packet
            return
        except av.FFmpegError:
            failures += 1
            yield None


def _zero(container: InputContainer) -> float:
    """What the stamps of this file call the moment at which it begins, in seconds."""
    if container.format.name == "avi" or container.start_time is None:  # AVI counts frames from 0
        return 0.0
    return max(0.0, container.start_time / av.time_base)  # below 0 lies what a sound codec needs to get going


def _claimed(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


# ---- the picture


@dataclass(frozen=True)
class _Schedule:
    """When each frame is shown, learnt from the packets. Ticks are the stream's own unit of time."""

    ticks: list[int | None]  # for each packet, in order of decoding; None: not to be told, or not to be shown
    counted: bool  # AVI: these are the places of the packets in the file, not the times of the frames in them
    gone: set[int]  # ticks of which nothing is left in the file
    unit: float  # seconds a tick
    zero: float  # seconds to subtract
    frame: float  # seconds that a frame lasts on average
    end: float  # second at which the last frame ends
    claimed: float | None

    @cached_property
    def shown(self) -> list[int]:
        return sorted({tick for tick in self.ticks if tick is not None} | self.gone)

    @cached_property
    def seconds(self) -> list[float]:
        return [self.second(tick) for tick in self.shown]

    @property
    def begin(self) -> float:
        return self.seconds[0] if self.seconds else 0.0

    def second(self, tick: int) -> float:
        return tick * self.unit - self.zero

    def nearest(self, time: float) -> int:
        """The tick shown nearest to the time, of two equally near the earlier one."""
        after = min(bisect_left(self.seconds, time), len(self.shown) - 1)
        before = max(0, after - 1)
        nearer = time - self.seconds[before] <= self.seconds[after] - time + _ROUNDING
        return self.shown[before if nearer else after]


def _schedule(path: Path) -> _Schedule:
    with _open(path) as container:
        stream = _picture(container, path)
        unit, zero, rate = float(stream.time_base or 1), _zero(container), stream.average_rate or stream.guessed_rate
        frame = float(1 / rate) if rate else 0.04
        counted = container.format.name == "avi"
        ticks: list[int | None] = []
        gone: set[int] = set()
        end = 0.0
        if counted:
            ticks, gone = _places(path, container, stream)
            end = (max((tick for tick in ticks if tick is not None), default=-1) + 1) * unit
        else:
            for packet in _packets(container, stream):
                if packet is not None:
                    ticks.append(None if packet.is_discard else packet.pts)
                    if ticks[-1] is not None:
                        end = max(end, (ticks[-1] + (packet.duration or 0)) * unit - zero)
        return _Schedule(ticks, counted, gone, unit, zero, frame, end, _claimed(container, stream))


def _places(path: Path, container: InputContainer, stream: Stream) -> tuple[list[int | None], set[int]]:
    """For each packet of an AVI's stream, how many ticks lie before it in the file; and the ticks that have no packet.

    AVI has no time stamps: FFmpeg counts what it reads, and counts too little behind a place where chunks are
    destroyed. The index at the end of the file, if it holds all frames that the header promises, tells the true count
    by where a chunk lies. Without it (a file cut short), None is all that can be said of what lies behind a gap.
    """
    header = 8  # bytes of name and size before the data of a chunk, at which the index points
    entries = stream.index_entries
    complete = len(entries) > 0 and entries[-1].timestamp + 1 == stream.frames
    index = {entry.pos + header: entry.timestamp for entry in entries} if complete else {}
    places: list[int | None] = []
    whole, end = True, None
    with path.open("rb") as file:
        for packet in _packets(container):
            if packet is None:
                continue
            assert packet.pos is not None  # FFmpeg knows it for every chunk of an AVI
            if whole and end is not None and end < packet.pos - header and packet.pos not in index:
                whole = _chunks_fill(file, end, packet.pos - header)
            end = packet.pos + packet.size + packet.size % 2
            if packet.stream_index == stream.index:
                places.append(index.get(packet.pos, packet.dts if whole else None))
    return places, set(index.values()) - set(places)


def _chunks_fill(file: BinaryIO, start: int, end: int) -> bool:
    """True when undamaged chunks fill the bytes: each leads exactly to the next one."""
    while start < end:
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return False
        name, size = struct.unpack("<4sI", head)
        start += 12 if name in (b"LIST", b"RIFF") else 8 + size + size % 2
    return start == end


def _decoded(path: Path, schedule: _Schedule, needed: set[int]) -> Iterator[tuple[int, VideoFrame | None]]:
    """Every frame that comes out of the decoder and the tick at which it is shown, in that order; None: one was lost.

    Its `opaque` is the tick of the packet that it came in. Frames that are not needed and that no other builds on are
    left out where time stamps tell them apart.
    """
    with _open(path) as container:
        stream = _picture(container, path)
        codec = stream.codec_context
        codec.thread_count = 1
        codec.copy_opaque = True
        ticks = iter(schedule.ticks)
        tick = 0
        for packet in _packets(container, stream):
            if packet is None:
                yield tick, None
                continue
            place = next(ticks, None)
            if schedule.counted:
                if place is None:  # behind a gap, where nobody knows how many frames went before
                    return
                if not schedule.gone.isdisjoint(range(tick + 1, place)):
                    yield place - 1, None
            else:
                codec.skip_frame = "DEFAULT" if place in needed else "NONREF"
            packet.opaque = tick = tick if place is None else place
            try:
                pictures = stream.decode(packet)
            except av.FFmpegError:
                yield tick, None
                continue
            for picture in pictures:
                # A decoder holds back as many frames as may yet be overtaken; what leaves it is in order again.
                shown = tick - codec.reorder_depth if schedule.counted else picture.pts
                if shown is not None:
                    yield shown, picture
        for held, picture in enumerate(_flushed(stream), 1):
            shown = tick - codec.reorder_depth + held if schedule.counted else picture.pts
            if shown is not None:
                yield shown, picture


def _whole(
    decoded: Iterator[tuple[int, VideoFrame | None]], schedule: _Schedule, needed: set[int], log: DecodeLog
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames that no damage reaches, up to the last needed one; damage of which FFmpeg says nothing is not known.

    Frames build on each other: once one is lost or damaged, all are suspect until a key frame is shown. A B-frame also
    builds on the next frame that is none, so it waits for that one.
    """
    last, lost = max(needed), None
    waiting: list[tuple[int, VideoFrame]] = []
    for tick, picture in decoded:
        if picture is not None:
            lasts = picture.duration * schedule.unit if picture.duration else schedule.frame
            log.end = max(log.end, schedule.second(tick) + lasts)
        if picture is None or picture.is_corrupt:
            log.errors += 1
            lost = tick if lost is None else max(lost, tick)
            waiting.clear()
        elif lost is not None and picture.key_frame:
            read_at = picture.opaque if isinstance(picture.opaque, int) else tick
            lost = None if read_at > lost else lost
        if picture is not None and lost is None:
            if picture.pict_type == PictureType.B:
                if tick in needed:
                    waiting.append((tick, picture))
            else:
                yield from waiting
                waiting.clear()
                yield tick, picture
        if tick >= last and picture is not None and not waiting:
            return
    yield from waiting


def _flushed(stream: VideoStream | AudioStream) -> list:
    """The frames that the decoder still holds at the end of the file."""
    try:
        return stream.decode(None)
    except av.FFmpegError:
        return []


def _rgb(picture: VideoFrame, convert: VideoReformatter, height: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3], upright: phones film sideways and note down the turn."""
    shrink = min(1.0, height / picture.height) if height else 1.0
    width, height = round(picture.width * shrink), round(picture.height * shrink)
    image = convert.reformat(picture, width, height, "rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90)))


# ---- a folder of image_N.jpg


def _images(folder: Path) -> dict[int, Path]:
    """The images of a folder by their numbers."""
    found = ((re.fullmatch(r"image_(\d+)\.jpe?g", image.name), image) for image in folder.iterdir())
    images = {int(match[1]): image for match, image in found if match}
    if not images:
        raise MediaError(f"{folder}: found a folder without image_N.jpg, expected a video or sound file")
    return images


def _image_frames(folder: Path, times: Sequence[float], log: DecodeLog) -> Iterator[Frame]:
    """As `frames`, from images half a second apart of which the one with the lowest number is at 0 s.

    The authors cut on a grid of half seconds, so the last image may have been shown for two steps. Its folder claims no
    length of its own.
    """
    images = _images(folder)
    first = min(images)
    seconds = {(number - first) * IMAGE_STEP: image for number, image in sorted(images.items())}
    log.end = max(seconds) + 2 * IMAGE_STEP
    wanted: dict[float, list[int]] = {}
    for index, time in enumerate(times):
        if -IMAGE_STEP < time < log.end:
            wanted.setdefault(min(seconds, key=lambda second: abs(second - time)), []).append(index)
    for second in sorted(wanted):
        image = _read_image(seconds[second])
        if image is None:
            log.errors += 1
        else:
            yield Frame(wanted[second], second, image)


def _read_image(path: Path) -> np.ndarray | None:
    try:
        with _open(path) as container:
            for picture in container.decode(video=0):
                return _rgb(picture, VideoReformatter())
    except (MediaError, av.FFmpegError):
        pass
    return None


# ---- the sound


class _Span:
    """A wanted stretch of samples that is being filled."""

    def __init__(self, index: int, start: int, end: int, rate: int) -> None:
        self.index, self.end, self.rate = index, end, rate
        self.place = start  # the next sample to come
        self.pieces: list[np.ndarray] = []

    def take(self, first: int, samples: np.ndarray) -> None:
        """What of the samples, of which the first has this place in the file, belongs here."""
        silence = min(first, self.end) - self.place
        if silence > 0:
            self.pieces.append(np.zeros(silence, np.float32))
            self.place += silence
        piece = samples[max(0, self.place - first) : max(0, self.end - first)]
        if len(piece):
            self.pieces.append(piece)
            self.place += len(piece)

    def sound(self) -> Sound:
        return Sound(self.index, np.concatenate([np.zeros(0, np.float32), *self.pieces]), self.rate)


def _blocks(path: Path, channel: int | None, log: DecodeLog) -> Iterator[tuple[int, np.ndarray, int]]:
    """All sound in order: place of the first sample, samples float32 [n], and their rate, which never changes."""
    with _open(path) as container:
        stream = _sound(container, path)
        log.claimed = _claimed(container, stream)
        zero, rate, place = _zero(container), 0, None
        for frame in _sound_frames(path, container, stream, log):
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


def _sound_frames(path: Path, container: InputContainer, stream: AudioStream, log: DecodeLog) -> Iterator[AudioFrame]:
    places: Iterator[int | None] | None = None
    if container.format.name == "avi":
        with _open(path) as again:
            places = iter(_places(path, again, _sound(again, path))[0])
    for packet in _packets(container, stream):
        if packet is None or (places and next(places, None) is None):
            log.errors += 1
            if packet is None:
                continue
            return  # behind a gap in an AVI, where nobody knows how much sound went before
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            log.errors += 1
    yield from _flushed(stream)


def _sound(container: InputContainer, path: Path) -> AudioStream:
    stream = _first(container.streams.audio)
    if stream is None:
        raise MediaError(f"{path}: found no sound that can be decoded, expected a sound file or a video with sound")
    return stream


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
