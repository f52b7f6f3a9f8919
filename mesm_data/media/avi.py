"""Where the packets of an AVI file belong in time: `avi_places`."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from mesm_data.media.container import packets

_HEADER = 8  # bytes of name and size before the data of a chunk


class _Chunk(NamedTuple):
    """A packet as it lies in the file."""

    pos: int  # of its header
    end: int
    stream: int
    dts: int | None


def avi_places(path: Path, container: InputContainer, stream: Stream) -> tuple[list[int | None], set[int]]:
    """For each packet of a stream, the number of ticks before it in the file; and the ticks that have no packet.

    AVI has no time stamps: FFmpeg counts what it reads, and counts too few after a place where chunks are destroyed.
    The index at the end of the file, if it holds all frames that the header promises, gives the true count by where a
    chunk lies. Without it (a file cut short), everything after a gap is None.
    """
    chunks = [_chunk(packet) for packet in packets(container) if packet is not None]
    places: list[int | None] = []
    whole = True
    with path.open("rb") as file:
        end = begin = _first_chunk(file)
        index = _index(stream, chunks, begin)
        for chunk in chunks:
            if whole and end is not None and end < chunk.pos and chunk.pos not in index:
                whole = _chunks_fill(file, end, chunk.pos)
            end = chunk.end
            if chunk.stream == stream.index:
                places.append(index.get(chunk.pos, chunk.dts if whole else None))
    return places, set(index.values()) - set(places)


def _chunk(packet: Packet) -> _Chunk:
    assert packet.pos is not None  # FFmpeg knows it for every chunk of an AVI
    return _Chunk(packet.pos - _HEADER, packet.pos + packet.size + packet.size % 2, packet.stream_index, packet.dts)


def _index(stream: Stream, chunks: Sequence[_Chunk], begin: int | None) -> dict[int, int]:
    """Tick of each chunk of the stream by its position; empty where the file has no complete index.

    Positions in the file's own index count from the first chunk. FFmpeg takes the first one that it can read for that;
    where chunks are destroyed before it, all positions must be moved back.
    """
    entries = stream.index_entries
    if not len(entries) or entries[-1].timestamp + 1 != stream.frames:
        return {}
    met = {chunk.pos for chunk in chunks if chunk.stream == stream.index}
    shifts = {0, chunks[0].pos - begin} if chunks and begin is not None else {0}
    indices = [{entry.pos - shift: entry.timestamp for entry in entries} for shift in sorted(shifts)]
    return max(indices, key=lambda index: len(met & index.keys()))


def _first_chunk(file: BinaryIO) -> int | None:
    """Position of the first chunk with video or audio; None where the header is damaged."""
    place = 12
    while len(head := _read(file, place, 12)) == 12:
        name, size, kind = struct.unpack("<4sI4s", head)
        if name == b"LIST" and kind == b"movi":
            return place + 12
        place += _HEADER + size + size % 2
    return None


def _chunks_fill(file: BinaryIO, start: int, end: int) -> bool:
    """True when undamaged chunks fill the bytes: each leads exactly to the next one."""
    while start < end:
        head = _read(file, start, _HEADER)
        if len(head) < _HEADER:
            return False
        name, size = struct.unpack("<4sI", head)
        start += 12 if name in (b"LIST", b"RIFF") else _HEADER + size + size % 2
    return start == end


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
