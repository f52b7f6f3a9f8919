"""Videos of people who talk: one public-domain photograph, made into several persons who move.

The photograph is `skimage.data.astronaut()` (Eileen Collins, NASA, public domain). A person is that head and suit,
mirrored or not, wider or narrower, lighter or darker. A person's poses (turned and scaled a little) are drawn once; a
frame then only blends one pose over a wall. Everything is made as the three planes that video codes (Y, U, V, with U
and V at half the size), which saves a conversion per frame. P poses, H and W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skimage.data
import skimage.transform

from mesm_data.synth.chance import chance
from mesm_data.synth.stamp import stamp

POSES = 16
SWAY = 4.0  # seconds in which all poses are shown once
_HEAD = (slice(0, 440), slice(30, 420))  # rows and columns of the photograph: hair, face, shoulders
_FACE = (197, 103)  # x and y of the face's middle in that part; the face is about 95 x 125 pixels
_NOISES = 8
_GRAIN = 2.6  # grey levels, standard deviation of the camera's noise: gives the bit rates of real videos

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Look:
    """How the photograph is changed so that persons differ."""

    mirrored: bool
    width: float  # of the face, 1 as photographed
    gamma: float  # above 1 is darker
    blue_suit: bool  # orange as photographed


LOOKS = (
    Look(mirrored=False, width=1.0, gamma=1.0, blue_suit=False),
    Look(mirrored=True, width=0.9, gamma=1.6, blue_suit=True),
    Look(mirrored=False, width=1.08, gamma=0.85, blue_suit=True),
    Look(mirrored=True, width=0.95, gamma=1.3, blue_suit=False),
)


@dataclass(frozen=True)
class Person:
    """Who speaks: what they look like and sound like."""

    look: Look
    pitch: float  # Hz
    tract: float  # length of the vocal tract; formants are divided by it


@dataclass(frozen=True)
class Mood:
    """How an emotion shows, weakly: enough for a model to learn something from."""

    light: int  # grey levels added to the person
    red: int  # added to V
    pitch: float  # factors of the voice
    loudness: float


MOODS = {
    "anger": Mood(light=4, red=12, pitch=1.15, loudness=1.5),
    "disgust": Mood(light=-6, red=-6, pitch=0.95, loudness=0.9),
    "excited": Mood(light=14, red=4, pitch=1.35, loudness=1.3),
    "fear": Mood(light=-10, red=-10, pitch=1.3, loudness=0.6),
    "frustrated": Mood(light=-6, red=8, pitch=1.05, loudness=1.2),
    "happiness": Mood(light=12, red=-2, pitch=1.2, loudness=1.1),
    "neutral": Mood(light=0, red=0, pitch=1.0, loudness=1.0),
    "sadness": Mood(light=-14, red=-4, pitch=0.85, loudness=0.6),
    "surprise": Mood(light=8, red=-8, pitch=1.4, loudness=1.2),
}


@dataclass(frozen=True)
class Actor:
    """One person on one part of the frame: what they feel when, and when they are out of view. Times in seconds."""

    person: Person
    left: float = 0.0  # part of the frame, as fractions of its width
    right: float = 1.0
    feelings: tuple[tuple[float, float, Mood], ...] = ()
    absences: tuple[tuple[float, float], ...] = ()


def make_person(number: int, woman: bool) -> Person:
    """Person `number` of the cast: four in a row look different, five in a row have different pitches."""
    pitch = (205.0 if woman else 115.0) * (1 + 0.03 * (number % 5))
    return Person(LOOKS[number % len(LOOKS)], pitch, tract=1.0 if woman else 1.15)


def draw_people(
    size: tuple[int, int], times: Sequence[float], actors: Sequence[Actor], seed: int
) -> Iterator[np.ndarray]:
    """The frames shown at the given seconds, each uint8 [H * 3 / 2, W]: Y over U over V (yuv420p).

    The number of a frame is burnt into the top left corner of each actor's part (see stamp.py).
    """
    width, height = size
    assert (width % 16, height % 4) == (0, 0), f"{width} x {height} has no halves on the grid of blocks"
    rng = chance(seed, "film", width, height)
    wall = _wall(size, len(actors), rng)
    noises = [_noise((height, width), rng) for _ in range(_NOISES)]
    figures = [_draw_figure(actor.person.look, height) for actor in actors]
    phases = rng.uniform(0, 2 * np.pi, len(actors))
    for number, time in enumerate(times):
        image = wall.copy()
        planes = _planes(image, size)
        for actor, figure, phase in zip(actors, figures, phases, strict=True):
            part = _part(planes, actor)
            if not any(start <= time < end for start, end in actor.absences):
                _place(part, figure, time, phase, _mood_at(actor, time))
        planes[0][:] += noises[number % _NOISES]
        for actor in actors:
            stamp(_part(planes, actor)[0], number)
        yield image


def _mood_at(actor: Actor, time: float) -> Mood:
    return next((mood for start, end, mood in actor.feelings if start <= time < end), MOODS["neutral"])


# ---- planes


def _planes(image: np.ndarray, size: tuple[int, int]) -> Planes:
    """Views of Y [H, W], U and V [H/2, W/2] of one yuv420p image."""
    width, height = size
    quarter = height // 4
    colour = (height // 2, width // 2)
    y, u, v = image[:height], image[height : height + quarter], image[height + quarter :]
    return y, u.reshape(colour), v.reshape(colour)


def _part(planes: Planes, actor: Actor) -> Planes:
    y, u, v = planes
    left, right = round(actor.left * y.shape[1]), round(actor.right * y.shape[1])
    return y[:, left:right], u[:, left // 2 : right // 2], v[:, left // 2 : right // 2]


def _to_planes(rgb: np.ndarray) -> Planes:
    """RGB [..., H, W, 3] from 0 to 1 as Y, U, V of BT.601 in video range, U and V at half the size."""
    r, g, b = (rgb[..., channel] * 255 for channel in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return y, _halve(u), _halve(v)


def _halve(plane: np.ndarray) -> np.ndarray:
    """[..., H, W] -> [..., H/2, W/2], the mean of four."""
    *rest, height, width = plane.shape
    return plane.reshape(*rest, height // 2, 2, width // 2, 2).mean(axis=(-3, -1))


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Camera noise to add to Y; negative numbers wrap, which adding to uint8 undoes."""
    return np.rint(rng.normal(0, _GRAIN, shape)).clip(-12, 12).astype(np.int8).view(np.uint8)


def _wall(size: tuple[int, int], parts: int, rng: np.random.Generator) -> np.ndarray:
    """The room behind: a wall lit from above, of another tone in each part. uint8 [H * 3 / 2, W]."""
    width, height = size
    image = np.empty((height * 3 // 2, width), np.uint8)
    y, u, v = _planes(image, size)
    y[:] = np.linspace(170, 110, height)[:, None]
    u[:], v[:] = 128, 128
    for part in range(parts):
        columns = slice(part * width // parts // 2, (part + 1) * width // parts // 2)
        u[:, columns] += rng.integers(0, 12, dtype=np.uint8)
        v[:, columns] -= rng.integers(0, 12, dtype=np.uint8)
    return image


# ---- figures


@dataclass(frozen=True)
class _Figure:
    """A person's poses, ready to blend. Y and its weight [P, h, w], U, V and theirs [P, h/2, w/2]."""

    planes: Planes  # uint8
    weights: tuple[np.ndarray, np.ndarray]  # uint16, 0 to 256, for Y and for U and V
    face: tuple[int, int]  # x and y of the face's middle in a pose, pixels


@lru_cache(maxsize=len(LOOKS))
def _draw_figure(look: Look, height: int) -> _Figure:
    """The poses of a look for a frame of this height, of which the face takes about a quarter."""
    scale = min(height / 300, 1.6) if height < 400 else min(height / 480, 1.6)
    rgb, weight = _dress(look)
    rgb, weight = _resize(rgb, scale, look.width), _resize(weight, scale, look.width)
    face = (_FACE[0] if not look.mirrored else _HEAD[1].stop - _HEAD[1].start - _FACE[0], _FACE[1])
    face = (round(face[0] * scale * look.width), round(face[1] * scale))
    layers = np.dstack([rgb, weight])
    poses = [_turn(layers, face, 2 * np.pi * pose / POSES) for pose in range(POSES)]
    turned = np.stack(poses)  # [P, h, w, 4]
    y, u, v = (np.rint(plane).astype(np.uint8) for plane in _to_planes(turned[..., :3]))
    full = turned[..., 3] * 256
    return _Figure((y, u, v), (full.astype(np.uint16), _halve(full).astype(np.uint16)), face)


def _dress(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """The photograph in this look, [h, w, 3], and where it is person and not background, [h, w]; 0 to 1."""
    rgb = (skimage.data.astronaut()[_HEAD] / 255).astype(np.float32)
    rows, columns = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    head = 1 - np.hypot((columns - _FACE[0]) / 82, (rows - _FACE[1]) / 105)
    body = 1 - np.hypot((columns - 187) / 180, (rows - 350) / 210)
    weight = np.clip(np.maximum(head, body) / 0.08, 0, 1).astype(np.float32)
    inside = (np.hypot((columns - 195) / 48, (rows - 105) / 70) < 1) | ((abs(columns - 190) < 80) & (rows > 200))
    weight *= np.where(inside, 1.0, _is_person(rgb))
    if look.blue_suit:
        suit = (rows > 185)[..., None]
        rgb = np.where(suit, rgb[..., ::-1], rgb)
    rgb = rgb**look.gamma
    return (rgb[:, ::-1], weight[:, ::-1]) if look.mirrored else (rgb, weight)


def _is_person(rgb: np.ndarray) -> np.ndarray:
    """How far each pixel [h, w] is from the light grey of the studio's wall, 0 to 1."""
    dark = (0.62 - rgb.min(axis=2)) / 0.1
    colourful = (np.ptp(rgb, axis=2) - 0.2) / 0.1
    return np.clip(np.maximum(dark, colourful), 0, 1)


def _resize(image: np.ndarray, scale: float, width: float) -> np.ndarray:
    """Scaled, and to even sides, so that U and V have half of each."""
    shape = (2 * round(image.shape[0] * scale / 2), 2 * round(image.shape[1] * scale * width / 2))
    return skimage.transform.resize(image, shape, order=1, anti_aliasing=scale < 1).astype(np.float32)


def _turn(image: np.ndarray, face: tuple[int, int], phase: float) -> np.ndarray:
    """The image turned by up to 5 degrees and scaled by up to 4 % around the face, by the phase."""
    transform = skimage.transform.AffineTransform
    there, back = transform(translation=(-face[0], -face[1])), transform(translation=face)
    change = transform(rotation=0.09 * np.sin(phase), scale=1 + 0.04 * np.cos(2 * phase))
    return skimage.transform.warp(image, (there + change + back).inverse, order=1, mode="edge")


def _place(part: Planes, figure: _Figure, time: float, phase: float, mood: Mood) -> None:
    """Blend the figure over its part of the frame, in place, where it is at this time."""
    height, width = part[0].shape
    pose = round(POSES * time / SWAY) % POSES
    x = width / 2 + 0.05 * width * np.sin(2 * np.pi * time / 5.3 + phase) - figure.face[0]
    y = 0.42 * height + 0.02 * height * np.sin(2 * np.pi * time / 3.7 + phase) - figure.face[1]
    left, top = 2 * round(x / 2), 2 * round(y / 2)
    full, half = (weights[pose] for weights in figure.weights)
    _blend(part[0], figure.planes[0][pose], mood.light, full, left, top)
    _blend(part[1], figure.planes[1][pose], 0, half, left // 2, top // 2)
    _blend(part[2], figure.planes[2][pose], mood.red, half, left // 2, top // 2)


def _blend(plane: np.ndarray, over: np.ndarray, lighter: int, weight: np.ndarray, left: int, top: int) -> None:
    """Lay `over`, made lighter, on the plane with its corner at (left, top), as far as it lies inside; in place."""
    rows = slice(max(top, 0), min(top + over.shape[0], plane.shape[0]))
    columns = slice(max(left, 0), min(left + over.shape[1], plane.shape[1]))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    w = weight[inner]
    front = over[inner] + np.uint8(lighter % 256)  # no overflow: planes are within 16 and 240, moods within 14
    plane[rows, columns] = (plane[rows, columns] * (256 - w) + front * w) >> 8
