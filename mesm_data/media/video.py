"""Frames at given times and sound between given times, in one forward pass; what headers claim. Home of PyAV.

Seconds count from the first thing that a file presents, be it picture or sound. What is decoded is trusted, headers are
not: a `DecodeLog` tells how far a file reached and how much of it was damaged.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from mesm_data.media.container import (
    DecodeLog,
    avi_places,
    claimed_seconds,
    clock_zero,
    flushed,
    open_container,
    packets,
    video_stream,
)
from mesm_data.media.images import Frame, image_frames, to_rgb

_ROUNDING = 1e-6  # seconds by which sums of floats may differ that ought to be equal
_LATE_START = 0.25  # seconds by which the first frame may be late and still serve


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
        yield from image_frames(path, times, log)
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
            yield Frame(wanted.pop(tick), schedule.second(tick), to_rgb(picture, convert, height))


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
    with open_container(path) as container:
        stream = video_stream(container, path)
        unit, zero, rate = (
            float(stream.time_base or 1),
            clock_zero(container),
            stream.average_rate or stream.guessed_rate,
        )
        frame = float(1 / rate) if rate else 0.04
        counted = container.format.name == "avi"
        ticks: list[int | None] = []
        gone: set[int] = set()
        end = 0.0
        if counted:
            ticks, gone = avi_places(path, container, stream)
            end = (max((tick for tick in ticks if tick is not None), default=-1) + 1) * unit
        else:
            for packet in packets(container, stream):
                if packet is not None:
                    ticks.append(None if packet.is_discard else packet.pts)
                    if ticks[-1] is not None:
                        end = max(end, (ticks[-1] + (packet.duration or 0)) * unit - zero)
        return _Schedule(ticks, counted, gone, unit, zero, frame, end, claimed_seconds(container, stream))


def _decoded(path: Path, schedule: _Schedule, needed: set[int]) -> Iterator[tuple[int, VideoFrame | None]]:
    """Every frame that comes out of the decoder and the tick at which it is shown, in that order; None: one was lost.

    Its `opaque` is the tick of the packet that it came in. Frames that are not needed and that no other builds on are
    left out where time stamps tell them apart.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        codec = stream.codec_context
        codec.thread_count = 1
        codec.copy_opaque = True
        ticks = iter(schedule.ticks)
        tick = 0
        for packet in packets(container, stream):
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
        for held, picture in enumerate(flushed(stream), 1):
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
