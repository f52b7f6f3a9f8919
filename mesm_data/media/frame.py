"""A decoded frame as RGB pixels, upright."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image


@dataclass(frozen=True)
class Frame:
    """One frame, and the wanted times that it is nearest to."""

    indices: list[int]
    time: float  # second at which it is shown
    image: np.ndarray  # uint8 [H, W, 3] RGB


def to_rgb(frame: VideoFrame, convert: VideoReformatter, height: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3], turned and mirrored as the file's display matrix says; no higher than `height` pixels."""
    matrix = _display_matrix(frame)
    upright = frame.height if matrix is None or not _swaps_axes(matrix) else frame.width
    shrink = min(1.0, height / upright) if height else 1.0
    image = convert.reformat(frame, round(frame.width * shrink), round(frame.height * shrink), "rgb24").to_ndarray()
    return image if matrix is None else np.ascontiguousarray(_apply(matrix, image))


def _display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """float [2, 2], a row of x and one of y: from a place in the frame to the place where it is shown.

    None where the two are equal, and where the matrix is nonsense.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    matrix = np.frombuffer(memoryview(data), np.int32).reshape(3, 3)[:2, :2] / 65536
    scales = np.hypot(*matrix)
    return None if not scales.all() or (matrix / scales == np.eye(2)).all() else matrix / scales


def _clockwise(matrix: np.ndarray) -> float:
    """Degrees, 0 to 360."""
    return float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) % 360)


def _swaps_axes(matrix: np.ndarray) -> bool:
    return abs(_clockwise(matrix) % 180 - 90) < 1


def _apply(matrix: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The image through the matrix, by the rules of the ffmpeg program: mirrored, in quarter turns, or by any angle."""
    (a, b), (c, d) = matrix  # x shown = a x + c y, y shown = b x + d y
    clockwise = _clockwise(matrix)
    if min(clockwise % 90, -clockwise % 90) >= 1:
        return np.array(Image.fromarray(image).rotate(-round(clockwise), Image.Resampling.BILINEAR))
    if _swaps_axes(matrix):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
