"""Images of mel spectrograms and of masks over them and over faces; used by the pages and figures of both packages.

Images are uint8 [H, W, 3]. A mel [128, frames] and masks on it have the lowest frequency in row 0, images of it in the
last row. Shares are 0 to 1 on a grid that may be coarser than the image.
"""

import base64
import io
import math

import numpy as np
from matplotlib import colormaps
from PIL import Image

RANGE = 13.0  # nats (56 dB) from the brightest to the darkest of a mel image
DARKEST = math.log(1e-6)  # of silence; nothing below it is told apart
QUIETEST = -8.0  # no image is brightened beyond this peak, so silence looks silent
TICKS = (0, 500, 1000, 2000, 4000, 8000, 16_000)  # Hz
FADED = 0.78  # share of the other colour in what was not selected at all
DARK, PALE = 24, 255  # that colour, a grey: faces fade to dark, mels, in which silence is dark, to pale


def side_by_side(chunks: np.ndarray) -> np.ndarray:
    """Mel chunks, or masks on them, [A, H, W], in order of time: [H, A * W]."""
    return chunks.transpose(1, 0, 2).reshape(chunks.shape[1], -1)


def strip(images: np.ndarray, places: list[int | None], empty: int = 0) -> np.ndarray:
    """The images, or masks, [V, H, W, ...] of these places side by side, [H, places * W, ...]; `empty` for None."""
    blank = np.full(images.shape[1:], empty, images.dtype)
    return np.concatenate([blank if place is None else images[place] for place in places], axis=1)


def mel_image(mel: np.ndarray) -> np.ndarray:
    """A mel [128, frames] in colours: bright is loud, and its loudest point brightest."""
    mel = mel.astype(np.float32)
    peak = max(float(mel.max(initial=QUIETEST)), QUIETEST)
    dark = max(peak - RANGE, DARKEST)
    shade = np.clip((mel - dark) / (peak - dark), 0, 1)
    return (colormaps["magma"](shade[::-1])[..., :3] * 255).astype(np.uint8)


def faded(image: np.ndarray, share: np.ndarray, grey: int) -> np.ndarray:
    """The image as it is where `share` is 1, the nearer to DARK or PALE the lower it is: what was selected stays."""
    mixed = FADED * (1 - enlarged(share.astype(np.float32), image.shape[:2]))[..., None]
    return (image + mixed * (grey - image.astype(np.float32))).round().astype(np.uint8)


def fading(share: np.ndarray, grey: int) -> bytes:
    """A PNG of the size of `share` that fades an image in the same way when it is laid over it."""
    pixels = np.full((*share.shape, 4), grey, np.uint8)
    pixels[..., 3] = (255 * FADED * (1 - share)).round().astype(np.uint8)
    return _encoded(pixels, "PNG")


def enlarged(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A grid [h, w, ...] repeated to the size [H, W, ...], a multiple of its own."""
    return grid.repeat(size[0] // grid.shape[0], 0).repeat(size[1] // grid.shape[1], 1)


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """The image as a JPEG file, colours at full resolution."""
    return _encoded(image, "JPEG", quality=quality, subsampling=0)


def data_uri(image: bytes) -> str:
    """A PNG or JPEG file as an address that a page can hold."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def mel_row(hertz: float, sample_rate: int) -> float:
    """The row of 128 at which a frequency lies on the HTK mel scale."""
    return float(128 * np.log10(1 + hertz / 700) / np.log10(1 + sample_rate / 2 / 700))


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, optimize=True, **options)
    return file.getvalue()
