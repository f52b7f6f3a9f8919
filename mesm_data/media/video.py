"""Frames at given times, decoded in one forward pass: `open_video`, `Video.frames`."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from mesm_data.media.avi import avi_places
from mesm_data.media.container import (
    DecodeLog,
    claimed_length,
    clock_zero,
    flushed,
    open_container,
    packets,
    video_stream,
)
from mesm_data.media.frame import Frame, to_rgb
from mesm_data.media.images import ImageFolder

# Decoders of which a test shows that leaving out frames on which no other builds changes none of the others, and that
# it saves any. libdav1d takes the wish for a later packet than that for which it is made, and loses wanted frames.
SKIPPING_DECODERS = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"})

_ROUNDING = 1e-6  # seconds by which sums of floats may differ that ought to be equal
_LATE_START = 0.25  # seconds by which the first frame may be late and still serve


def open_video(path: str | Path) -> "Video | ImageFolder":
    """A video file, or a folder of image_N.jpg, ready to be decoded. MediaError where it is neither.

    This reads the packets of the file and decodes nothing: it finds out when every frame is shown.
    """
    path = Path(path)
    return ImageFolder(path) if path.is_dir() else Video(path)


def frames(
    path: str | Path, times: Sequence[float], log: DecodeLog, until: float | None = None, height: int | None = None
) -> Iterator[Frame]:
    """For each of the times the frame shown nearest to it, see `Video.frames`."""
    yield from open_video(path).frames(times, log, until, height)


class Video:
    """A video file of which it is known when each frame is shown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schedule = _read_schedule(path)

    @property
    def end(self) -> float:
        """Second at which the last frame ends, if it decodes."""
        return self._schedule.end

    def frames(
        self, times: Sequence[float], log: DecodeLog, until: float | None = None, height: int | None = None
    ) -> Iterator[Frame]:
        """For each of the times the frame shown nearest to it, in order of presentation; one may serve several times.

        A time that the video does not reach gets none. A time before its first frame, or whose frame is damaged or
        does not come out, gets none and is noted in `log.missed`. Decoding stops after the last time, or after the
        second `until` if that is later: so far `log.end` says whether there is video. Frames higher than `height` are
        made smaller. Frames that are not wanted and on which no other builds are left out, which halves the time of an
        h264 file.
        """
        schedule = self._schedule
        log.claimed = schedule.claimed
        log.errors += schedule.counted and None in schedule.ticks
        wanted: dict[int, list[int]] = {}
        for index, time in enumerate(times):
            if time <= schedule.begin - _LATE_START:
                log.missed.append(index)
            elif time < schedule.end - _ROUNDING:
                wanted.setdefault(schedule.nearest(time), []).append(index)
        if not schedule.shown:
            return
        needed = {*wanted, schedule.nearest(max([*times, until or 0.0]))}
        convert = VideoReformatter()
        for tick, frame in _undamaged(_decoded(self._path, schedule, needed), schedule, needed, log):
            if tick in wanted:
                yield Frame(wanted.pop(tick), schedule.second(tick), to_rgb(frame, convert, height))
        log.missed += [index for indices in wanted.values() for index in indices]

    def any_frames(self) -> Iterator[Frame]:
        """Every frame that comes out undamaged, in order of presentation."""
        schedule, convert = self._schedule, VideoReformatter()
        if schedule.shown:
            needed = set(schedule.shown)
            for tick, frame in _undamaged(_decoded(self._path, schedule, needed), schedule, needed, DecodeLog()):
                yield Frame([], schedule.second(tick), to_rgb(frame, convert))


@dataclass(frozen=True)
class _Schedule:
    """When each frame is shown, found from the packets. Ticks are the stream's own unit of time."""

    ticks: list[int | None]  # for each packet, in decoding order; None: unknown, or not to be shown
    counted: bool  # AVI: these are the places of the packets in the file, not the times of the frames in them
    gone: set[int]  # ticks of which nothing is left in the file
    unit: float  # seconds per tick
    zero: float  # seconds to subtract
    frame: float  # seconds that a frame lasts on average
    end: float  # second at which the last frame ends
    claimed: float | None
    begins_whole: bool  # the first frame builds on no other

    @cached_property
    def shown(self) -> list[int]:
        return sorted({tick for tick in self.ticks if tick is not None} | self.gone)

    @cached_property
    def seconds(self) -> list[float]:
        return [self.second(tick) for tick in self.shown]

    @property
    def begin(self) -> float:
        return self.seconds[0] if self.seconds else 0.0

    @cached_property
    def _gone_in_order(self) -> list[int]:
        return sorted(self.gone)

    def has_gone(self, first: int, end: int) -> bool:
        """True where a tick from `first` on and before `end` has no packet."""
        return bisect_left(self._gone_in_order, first) < bisect_left(self._gone_in_order, end)

    def second(self, tick: int) -> float:
        return tick * self.unit - self.zero

    def nearest(self, time: float) -> int:
        """The tick shown nearest to the time, of two equally near the earlier one."""
        after = min(bisect_left(self.seconds, time), len(self.shown) - 1)
        before = max(0, after - 1)
        nearer = time - self.seconds[before] <= self.seconds[after] - time + _ROUNDING
        return self.shown[before if nearer else after]


def _read_schedule(path: Path) -> _Schedule:
    with open_container(path) as container:
        stream = video_stream(container, path)
        unit, zero = float(stream.time_base or 1), clock_zero(container)
        rate = stream.average_rate or stream.guessed_rate
        frame = float(1 / rate) if rate else 0.04
        counted = container.format.name == "avi"
        ticks: list[int | None] = []
        gone: set[int] = set()
        keys: list[bool] = []
        end = 0.0
        if counted:
            ticks, gone = avi_places(path, container, stream)
            end = (max((tick for tick in ticks if tick is not None), default=-1) + 1) * unit
        else:
            for packet in packets(container, stream):
                if packet is not None:
                    keys.append(packet.is_keyframe)
                    ticks.append(packet.pts if _is_shown(packet, stream.codec_context) else None)
                    if ticks[-1] is not None:
                        end = max(end, ticks[-1] * unit + (packet.duration * unit if packet.duration else frame) - zero)
        whole = not any(keys) or keys[0]
        return _Schedule(ticks, counted, gone, unit, zero, frame, end, claimed_length(container, stream), whole)


def _is_shown(packet: Packet, codec: VideoCodecContext) -> bool:
    """False for what an edit list cuts off, and for frames of VP8 that are only there for others to build on."""
    return not packet.is_discard and (codec.name != "vp8" or bool(bytes(packet)[0] & 0x10))


def _decoded(path: Path, schedule: _Schedule, needed: set[int]) -> Iterator[tuple[int, VideoFrame | None]]:
    """Every frame that comes out of the decoder and the tick at which it is shown, in that order; None: one was lost.

    Its `opaque` is the tick of the packet that it came in. Frames that are not needed and on which no other builds are
    left out where time stamps tell them apart and the decoder is known to leave out no others.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        codec = stream.codec_context
        codec.thread_count = 1
        codec.copy_opaque = True
        if codec.name == "h264":  # it would conceal errors and not say so
            codec.options = {"err_detect": "explode"}
        skips = codec.name in SKIPPING_DECODERS and not schedule.counted
        ticks = iter(schedule.ticks)
        tick = -1 if schedule.counted else 0
        for packet in packets(container, stream):
            if packet is None:
                yield tick, None
                continue
            place = next(ticks, None)
            if schedule.counted:
                if place is None:  # after a gap, where nobody knows how many frames were lost
                    return
                if schedule.has_gone(tick + 1, place):
                    yield place - 1, None
            if skips:
                codec.skip_frame = "DEFAULT" if place in needed else "NONREF"
            packet.opaque = tick = tick if place is None else place
            if packet.is_corrupt:  # a transport stream lacks a part of it
                yield tick, None
            try:
                decoded = stream.decode(packet)
            except av.FFmpegError:
                yield tick, None
                continue
            for frame in decoded:
                # A decoder holds back as many frames as may yet be overtaken; what leaves it is in order again.
                shown = tick - codec.reorder_depth if schedule.counted else frame.pts
                if shown is not None:
                    yield shown, frame
        for held, frame in enumerate(flushed(stream), 1):
            shown = tick - codec.reorder_depth + held if schedule.counted else frame.pts
            if shown is not None:
                yield shown, frame


def _undamaged(
    decoded: Iterator[tuple[int, VideoFrame | None]], schedule: _Schedule, needed: set[int], log: DecodeLog
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames that no damage reaches, up to the last needed one; damage that FFmpeg does not report is not known.

    Frames build on each other: once one is lost or damaged, and where the file begins between key frames, all are
    suspect until a key frame is shown. A B-frame also
    builds on the next frame that is none, so it waits for that one.
    """
    last, lost = max(needed), None if schedule.begins_whole else schedule.shown[0] - 1
    waiting: list[tuple[int, VideoFrame]] = []
    for tick, frame in decoded:
        if frame is not None:
            lasts = frame.duration * schedule.unit if frame.duration else schedule.frame
            log.end = max(log.end, schedule.second(tick) + lasts)
        if frame is None or frame.is_corrupt:
            log.errors += 1
            lost = tick if lost is None else max(lost, tick)
            waiting.clear()
        elif lost is not None and frame.key_frame:
            read_at = frame.opaque if isinstance(frame.opaque, int) else tick
            lost = None if read_at > lost else lost
        if frame is not None and lost is None:
            if frame.pict_type == PictureType.B:
                if tick in needed:
                    waiting.append((tick, frame))
            else:
                yield from waiting
                waiting.clear()
                yield tick, frame
        if tick >= last and frame is not None and not waiting:
            return
    yield from waiting
