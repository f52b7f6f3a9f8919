"""Square face crops from frames."""

import numpy as np


def smallest_face(min_face: int, height: int) -> int:
    """Side in pixels of the smallest face to detect in a frame of this height: `min_face` per 480 rows, rounded up.

    A video of more pixels shows no smaller speakers, but detecting small faces takes time for every pixel.
    The published loader of CMU-MOSEI halves such frames for the same purpose.
    """
    return min_face * -(-height // 480)


def crop_face(image: np.ndarray, box: np.ndarray, size: int = 48, margin: int = 2) -> np.ndarray:
    """The face [size, size, 3] in the box, widened so that `margin` of the crop's pixels lie outside it.

    The box is widened, truncated to whole pixels and clipped to the frame as facenet-pytorch's `extract_face` does.
    The published code passes it arrays, which it resizes by OpenCV's INTER_AREA; so does `_resize`, without OpenCV.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (float(edge) for edge in box)
    beside, above = (right - left) * margin / (size - margin) / 2, (bottom - top) * margin / (size - margin) / 2
    x0, y0 = int(min(max(left - beside, 0), width - 1)), int(min(max(top - above, 0), height - 1))
    x1, y1 = int(max(min(right + beside, width), x0 + 1)), int(max(min(bottom + above, height), y0 + 1))
    return _resize(image[y0:y1, x0:x1], size, size)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle [size, size, 3] of a frame. (The published crop is too far left, by a quarter of a 224 x 224 frame.)

    A frame with a side shorter than `size` is enlarged until that side fits.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        grown = size / min(height, width)
        height, width = max(size, round(height * grown)), max(size, round(width * grown))
        image = _resize(image, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size].copy()


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image resized as OpenCV's INTER_AREA does, rounded to whole numbers."""
    rows, columns = image.shape[:2]
    weights = _mean_weights if rows >= height and columns >= width else _blend_weights
    flat = weights(rows, height) @ image.reshape(rows, -1).astype(np.float32)  # [height, columns * 3]
    turned = flat.reshape(height, columns, 3).transpose(1, 0, 2).reshape(columns, -1)  # [columns, height * 3]
    pixels = (weights(columns, width) @ turned).reshape(width, height, 3).transpose(1, 0, 2)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _mean_weights(pixels: int, cells: int) -> np.ndarray:
    """float32 [cells, pixels]: the share of each pixel in each cell, when cells are larger than pixels."""
    edges = np.arange(cells + 1)[:, None] * (pixels / cells)
    shared = np.minimum(edges[1:], np.arange(1, pixels + 1)) - np.maximum(edges[:-1], np.arange(pixels))
    return (shared.clip(0) * cells / pixels).astype(np.float32)


def _blend_weights(pixels: int, cells: int) -> np.ndarray:
    """float32 [cells, pixels]: a cell is one pixel, or two neighbours blended where it lies across their border."""
    cell = np.arange(cells)
    first = cell * pixels // cells
    second = np.clip((cell + 1) - (first + 1) * cells / pixels, 0, None) % 1
    weights = np.zeros((cells, pixels), np.float32)
    weights[cell, first] = 1 - second
    weights[cell, np.minimum(first + 1, pixels - 1)] += second
    return weights
