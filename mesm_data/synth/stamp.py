"""A frame number burnt into an image, and read back: how tests know which frame a decoder gave them.

The number is 16 bits, the highest first, in the top left corner: a row of 16 blocks of 8 x 8 pixels, white for 1 and
black for 0, and below it the same row with black and white exchanged. A bit is the difference of its two blocks, so
lossy coding does not harm it, and an image without a number is recognised. Blocks lie on the 8-pixel grid on which
MPEG-4 and H.264 code their frames.
"""

import numpy as np

BLOCK = 8  # pixels
BITS = 16
HEIGHT, WIDTH = 2 * BLOCK, BITS * BLOCK  # of the whole stamp, pixels
_BLACK, _WHITE = 16, 235  # luma, as video codes it
_CONTRAST = 60  # grey levels between the two blocks of a bit; they differ by 219 before coding


def stamp(luma: np.ndarray, number: int) -> None:
    """Burn the number into the top left corner of a luma plane [H, W], in place."""
    bits = np.array([number >> shift & 1 for shift in reversed(range(BITS))])
    rows = np.stack([bits, 1 - bits])
    luma[:HEIGHT, :WIDTH] = np.where(rows.repeat(BLOCK, 0).repeat(BLOCK, 1), _WHITE, _BLACK)


def read_frame_number(image: np.ndarray) -> int:
    """The number in the top left corner of an image, uint8 [H, W, 3] or [H, W]. ValueError where there is none."""
    corner = image[:HEIGHT, :WIDTH].astype(np.float32)
    if corner.shape[:2] != (HEIGHT, WIDTH):
        raise ValueError(f"no frame number: the image is {image.shape[1]} x {image.shape[0]}, the stamp 128 x 16")
    grey = corner.mean(axis=2) if corner.ndim == 3 else corner
    blocks = grey.reshape(2, BLOCK, BITS, BLOCK).mean(axis=(1, 3))  # [2, 16]
    difference = blocks[0] - blocks[1]
    if np.abs(difference).min() < _CONTRAST:
        raise ValueError("no frame number in the top left corner: expected 2 rows of 16 black and white blocks")
    return int("".join("1" if bit > 0 else "0" for bit in difference), 2)
