"""Following faces from frame to frame: `follow` the speaker, `follow_all` everyone in view."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mesm_data.faces.detector import Detection


def follow(candidates: Sequence[Sequence[Detection]]) -> list[int | None]:
    """For each frame, which of its faces is the speaker's: its index, or None.

    `candidates` are all frames of one speaker in time order. Of all tracks through them the cheapest is chosen. A face
    costs more the smaller it is beside the largest of its frame. A step costs how far the face is from where it was, or
    from where it was going (people cross), in sides of the face, and how much its size changes; at most 1 however far,
    so that the track continues elsewhere after a cut of the video. A frame with faces may be passed over for 0.9: a
    stranger seen alone for one or two frames between frames of the speaker is skipped, one who stays is followed.
    """
    seen = [frame for frame, faces in enumerate(candidates) if faces]
    chosen: list[int | None] = [None] * len(candidates)
    for frame, index in _cheapest_track([_places(faces) for faces in candidates if faces]):
        chosen[seen[frame]] = index
    return chosen


def follow_all(candidates: Sequence[Sequence[Detection]]) -> list[list[int | None]]:
    """The track of each person in view: for each frame the index of their face, or None. `follow`'s comes first.

    After each track, its faces are set aside and the next one is looked for. A person is someone whose face is in at
    least two frames, and in a tenth of the frames that show anybody.
    """
    left = [list(range(len(faces))) for faces in candidates]
    with_faces = sum(bool(indices) for indices in left)
    fewest = max(min(2, with_faces), _PRESENCE * with_faces)
    people: list[list[int | None]] = []
    while any(left):
        picks = follow([[faces[k] for k in indices] for faces, indices in zip(candidates, left, strict=True)])
        track = [None if pick is None else indices.pop(pick) for indices, pick in zip(left, picks, strict=True)]
        if sum(index is not None for index in track) < fewest:
            break
        people.append(track)
    return people


_PRESENCE = 0.1  # share of the frames with faces in which a person's own must be
_SMALLER = 0.7  # cost of a face for each e-fold that it is smaller than the largest of its frame
_JUMP = 1.0  # the most a step can cost
_PASS = 0.9  # cost of a frame passed over: two of them cost less than a jump there and a jump back
_MOST_PASSED = 2
_MOST_FACES = 5  # the speaker is among the largest faces of a frame


class _Place(NamedTuple):
    face: int  # its index among the faces of its frame
    x: float
    y: float
    side: float


class _Track(NamedTuple):
    cost: float
    frame: int
    place: _Place
    before: "_Track | None"


def _places(faces: Sequence[Detection]) -> list[_Place]:
    """The largest faces of a frame, the largest first."""
    places = []
    for index, face in enumerate(faces):
        left, top, right, bottom = (float(edge) for edge in face.box)
        side = math.sqrt(max(1.0, right - left) * max(1.0, bottom - top))
        places.append(_Place(index, (left + right) / 2, (top + bottom) / 2, side))
    return sorted(places, key=lambda place: -place.side)[:_MOST_FACES]


def _cheapest_track(frames: Sequence[list[_Place]]) -> list[tuple[int, int]]:
    """Frames and indices of the faces on it, in time order; from the first frame to the last. No frame is empty.

    For each face and each face before it the cheapest track so far is kept (Viterbi over pairs, for a step looks at
    two faces before it).
    """
    ends: list[list[_Track]] = []  # for each frame, tracks that end in it
    for frame, places in enumerate(frames):
        cheapest: dict[tuple[int, int, int], _Track] = {}
        earlier = [track for tracks in ends[max(0, frame - 1 - _MOST_PASSED) :] for track in tracks]
        for place in places:
            smaller = _SMALLER * math.log(places[0].side / place.side)
            if frame == 0:
                cheapest[place.face, -1, -1] = _Track(smaller, 0, place, None)
            for track in earlier:
                cost = track.cost + _step(track, place) + smaller + _PASS * (frame - track.frame - 1)
                pair = (place.face, track.frame, track.place.face)
                if pair not in cheapest or cost < cheapest[pair].cost:
                    cheapest[pair] = _Track(cost, frame, place, track)
        ends.append(list(cheapest.values()))
    faces = []
    last = min(ends[-1], key=lambda track: track.cost) if ends else None
    while last:
        faces.append((last.frame, last.place.face))
        last = last.before
    return faces[::-1]


def _step(track: _Track, place: _Place) -> float:
    """Cost of a step to the place: how far it is from where the face was or was going to, and how much it grew."""
    last, before = track.place, track.before and track.before.place
    away = math.hypot(place.x - last.x, place.y - last.y)
    if before and math.hypot(last.x - before.x, last.y - before.y) < last.side:  # it moved there, it did not jump
        away = min(away, math.hypot(place.x - 2 * last.x + before.x, place.y - 2 * last.y + before.y))
    side = (place.side + last.side) / 2
    return min(_JUMP, away / side + abs(math.log(place.side / last.side)))
