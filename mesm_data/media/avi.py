"""Where the packets of an AVI file belong in time: `avi_places`."""

import struct
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer
from av.stream import Stream

from mesm_data.media.container import packets


def avi_places(path: Path, container: InputContainer, stream: Stream) -> tuple[list[int | None], set[int]]:
    """For each packet of a stream, the number of ticks before it in the file; and the ticks that have no packet.

    AVI has no time stamps: FFmpeg counts what it reads, and counts too few after a place where chunks are destroyed.
    The index at the end of the file, if it holds all frames that the header promises, gives the true count by where a
    chunk lies. Without it (a file cut short), everything after a gap is None.
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
