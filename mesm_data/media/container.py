"""Opening a media file: what is accepted, its streams, packets and clock, and the log of what did not decode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mesm_data.errors import MediaError, not_a_file

AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)

# FFmpeg's names of the formats that are opened. Playlists (hls, dash, concat), captures and raw streams are not:
# a playlist leads to other files and hosts, a raw stream has no time stamps.
_CONTAINERS = (
    "mov,mp4,matroska,avi,mpeg,mpegts,ogg,flv,asf,nut,mxf,gxf,rm,dv,wtv,ivf,"
    "wav,w64,aiff,au,caf,amr,mp3,aac,flac,ac3,eac3,dts,ape,wv,tta,tak,voc"
)
_MAX_FAILURES = 100  # consecutive reads that fail before the rest of a file is given up
_ABSOLUTE_DURATION = ("matroska,webm", "ogg", "nut")  # formats whose duration is the last time stamp, not a length
_HEADERLESS = ("mpeg", "mpegts")  # formats that note no duration, and whose clock jumps where files were joined
_PRIMING = 0.05  # seconds of audio before the first frame that only get its codec going, unless the file starts at 0
_JUMP_AHEAD, _JUMP_BACK = 10.0, 1.0  # seconds from which a step of such a clock is a jump


@dataclass
class DecodeLog:
    """What a pass through one file met. Complete once its frames or audio spans have all been taken."""

    claimed: float | None = None  # seconds that the video or audio lasts by its header
    end: float = 0.0  # second at which the last decoded frame or sample ends
    errors: int = 0  # packets that did not decode, frames that came out damaged, gaps in the file
    missed: list[int] = field(default_factory=list)  # indices of the times within the video whose frame did not decode


def open_container(path: Path, format_name: str | None = None) -> InputContainer:
    """Open a media file, and no other file or host that it may name.

    `format_name` is FFmpeg's name of the one format to accept; None: any container. Raises MediaError for what is no
    regular file, and for what is no container.
    """
    found = not_a_file(path) or ("an empty file" if path.stat().st_size == 0 else None)
    if found:
        raise MediaError(f"{path}: found {found}, expected a video or audio file")
    only = {"protocol_whitelist": "file"} | ({} if format_name else {"format_whitelist": _CONTAINERS})
    try:
        # "file:" keeps a colon in a name from being read as a protocol; old AVI files hold Latin-1 titles.
        return av.open(f"file:{path}", format=format_name, options=only, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: found {_what(path, error)}, expected a video or audio file") from error


def _what(path: Path, error: Exception) -> str:
    """What a file that did not open is, in words."""
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, PermissionError):
        return f"a file that cannot be read ({reason})"
    with path.open("rb") as file:
        head = file.read(1024)
    is_text = all(byte >= 32 or chr(byte).isspace() for byte in head)
    return "text" if is_text else f"nothing that FFmpeg can read ({reason})"


def first_stream(streams: Sequence[AnyStream]) -> AnyStream | None:
    """The first stream that can be decoded and is no cover image."""
    for stream in streams:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream whose frames are decoded. MediaError where there is none."""
    stream = first_stream(container.streams.video)
    if stream is None:
        raise MediaError(f"{path}: found no video that can be decoded, expected a video file")
    return stream


def audio_stream(container: InputContainer, path: Path) -> AudioStream:
    """The stream whose samples are decoded. MediaError where there is none."""
    stream = first_stream(container.streams.audio)
    if stream is None:
        raise MediaError(f"{path}: found no audio that can be decoded, expected an audio file or a video with audio")
    return stream


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet | None]:
    """The packets of the streams (all, if none is named) in decoding order; None where reading failed.

    Time stamps run on where the clock of an MPEG stream jumps, as it does where recordings were joined.
    """
    wanted = {stream.index for stream in streams}
    clock = _SteadyClock() if container.format.name in _HEADERLESS else None
    failures = 0
    while failures < _MAX_FAILURES:
        try:
            for packet in container.demux(*(() if clock else streams)):
                failures = 0
                if not packet.size:  # an empty one repeats the frame before (Theora), or ends the file
                    continue
                if clock:
                    clock.correct(packet)
                if not wanted or packet.stream_index in wanted:
                    yield packet
            return
        except av.FFmpegError:
            failures += 1
            yield None


class _SteadyClock:
    """Moves the time stamps after a jump of the clock, of all streams alike, so that they continue where it was.

    As in the ffmpeg program, a jump is a packet far behind the one before it in its stream, or far ahead of all.
    """

    def __init__(self) -> None:
        self.moved = 0.0  # seconds added to the time stamps
        self.due: dict[int, float] = {}  # for each stream the second at which its next packet is due

    def correct(self, packet: Packet) -> None:
        if packet.dts is None or packet.time_base is None or packet.stream.type not in ("video", "audio"):
            return
        unit = float(packet.time_base)
        time = packet.dts * unit + self.moved
        due, latest = self.due.get(packet.stream_index, time), max(self.due.values(), default=time)
        if time < due - _JUMP_BACK or time > latest + _JUMP_AHEAD:
            expected = due if time < due else latest
            self.moved += expected - time
            time = expected
        self.due[packet.stream_index] = time + (packet.duration or 0) * unit
        if self.moved:
            ticks = round(self.moved / unit)
            packet.dts += ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks


def clock_zero(container: InputContainer) -> float:
    """What the time stamps of this file call the moment of its first frame or sample, in seconds."""
    if container.format.name == "avi" or container.start_time is None:  # AVI counts frames from 0
        return 0.0
    start = container.start_time / av.time_base
    if container.format.name not in _HEADERLESS:  # in MPEG streams, what lies before a wrap of the clock is below 0
        start = max(0.0, start)  # elsewhere, what an audio codec needs to get going
    video = first_stream(container.streams.video)
    if start and video and video.start_time is not None and video.time_base is not None:
        first = float(video.start_time * video.time_base)
        if start < first < start + _PRIMING:
            return first
    return start


def claimed_length(container: InputContainer, stream: Stream) -> float | None:
    """Seconds from the first frame or sample of the stream to its end, by the header; None where it does not say."""
    whole = _claimed_by_file(container)
    if stream.duration is None or stream.time_base is None:
        return whole
    length = float(stream.duration * stream.time_base)
    return min(length, whole or length) if container.format.name in _ABSOLUTE_DURATION else length


def duration(path: Path, container: InputContainer) -> float:
    """Seconds from the first frame or sample of the file to the end of the last, by its header if that says so.

    Counted from the packets of MPEG streams, which have no header, and of files that start late: writers of Matroska
    do not agree whether their duration counts from 0 or from the start.
    """
    name = container.format.name
    unsure = name in _HEADERLESS or (name in _ABSOLUTE_DURATION and clock_zero(container) > 0)
    return (None if unsure else _claimed_by_file(container)) or _counted_length(path)


def _claimed_by_file(container: InputContainer) -> float | None:
    if not container.duration:
        return None
    whole = container.duration / av.time_base
    late = clock_zero(container) if container.format.name in _ABSOLUTE_DURATION else 0.0
    return whole - late if whole > late else whole


def _counted_length(path: Path) -> float:
    with open_container(path) as container:
        streams = [s for s in (first_stream(container.streams.video), first_stream(container.streams.audio)) if s]
        end = zero = clock_zero(container)
        for packet in packets(container, *streams):
            if packet is not None and packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return end - zero


def flushed(stream: VideoStream | AudioStream) -> list:
    """The frames that the decoder still holds at the end of the file."""
    try:
        return stream.decode(None)
    except av.FFmpegError:
        return []
