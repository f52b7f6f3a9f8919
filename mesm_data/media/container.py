"""Opening a media file: streams, packets, the file's clock, and the log of what did not decode. Home of PyAV."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mesm_data.errors import MediaError

AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)
_MOST_FAILURES = 100  # reads that fail one after the other before the rest of a file is given up


@dataclass
class DecodeLog:
    """What a pass through one file met. True once its frames or sounds have all been taken."""

    claimed: float | None = None  # seconds that the picture or the sound lasts by its header
    end: float = 0.0  # second at which the last decoded frame or sample ends
    errors: int = 0  # packets that did not decode, frames that came out damaged, gaps in the file


def open_container(path: Path) -> InputContainer:
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


def first_stream(streams: Sequence[AnyStream]) -> AnyStream | None:
    """The first stream that can be decoded and is no cover picture."""
    for stream in streams:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    stream = first_stream(container.streams.video)
    if stream is None:
        raise MediaError(f"{path}: found no picture that can be decoded, expected a video file")
    return stream


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet | None]:
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


def clock_zero(container: InputContainer) -> float:
    """What the stamps of this file call the moment at which it begins, in seconds."""
    if container.format.name == "avi" or container.start_time is None:  # AVI counts frames from 0
        return 0.0
    return max(0.0, container.start_time / av.time_base)  # below 0 lies what a sound codec needs to get going


def claimed_seconds(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def avi_places(path: Path, container: InputContainer, stream: Stream) -> tuple[list[int | None], set[int]]:
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
        for packet in packets(container):
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


def flushed(stream: VideoStream | AudioStream) -> list:
    """The frames that the decoder still holds at the end of the file."""
    try:
        return stream.decode(None)
    except av.FFmpegError:
        return []
