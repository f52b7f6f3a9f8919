"""Frames as RGB arrays, and a folder of image_N.jpg read as a video."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from mesm_data.errors import MediaError
from mesm_data.media.container import DecodeLog, open_container

IMAGE_STEP = 0.5  # seconds between image_N.jpg and the next in the authors' processed tree


@dataclass(frozen=True)
class Frame:
    """One picture, and the wanted times that it is nearest to."""

    indices: list[int]
    time: float  # second at which it is shown
    image: np.ndarray  # uint8 [H, W, 3] RGB


def to_rgb(picture: VideoFrame, convert: VideoReformatter, height: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3], upright: phones film sideways and note down the turn."""
    shrink = min(1.0, height / picture.height) if height else 1.0
    width, height = round(picture.width * shrink), round(picture.height * shrink)
    image = convert.reformat(picture, width, height, "rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90)))


def list_images(folder: Path) -> dict[int, Path]:
    """The images of a folder by their numbers."""
    found = ((re.fullmatch(r"image_(\d+)\.jpe?g", image.name), image) for image in folder.iterdir())
    images = {int(match[1]): image for match, image in found if match}
    if not images:
        raise MediaError(f"{folder}: found a folder without image_N.jpg, expected a video or sound file")
    return images


def image_frames(folder: Path, times: Sequence[float], log: DecodeLog) -> Iterator[Frame]:
    """As `frames`, from images half a second apart of which the one with the lowest number is at 0 s.

    The authors cut on a grid of half seconds, so the last image may have been shown for two steps. Its folder claims no
    length of its own.
    """
    images = list_images(folder)
    first = min(images)
    seconds = {(number - first) * IMAGE_STEP: image for number, image in sorted(images.items())}
    log.end = max(seconds) + 2 * IMAGE_STEP
    wanted: dict[float, list[int]] = {}
    for index, time in enumerate(times):
        if -IMAGE_STEP < time < log.end:
            wanted.setdefault(min(seconds, key=lambda second: abs(second - time)), []).append(index)
    for second in sorted(wanted):
        image = _read_image(seconds[second])
        if image is None:
            log.errors += 1
        else:
            yield Frame(wanted[second], second, image)


def _read_image(path: Path) -> np.ndarray | None:
    try:
        with open_container(path) as container:
            for picture in container.decode(video=0):
                return to_rgb(picture, VideoReformatter())
    except (MediaError, av.FFmpegError):
        pass
    return None
