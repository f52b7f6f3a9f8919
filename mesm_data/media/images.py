"""A folder of image_N.jpg read as a video, as the authors' processed CMU-MOSEI tree has it."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mesm_data.errors import MediaError
from mesm_data.media.container import DecodeLog, open_container
from mesm_data.media.frame import Frame, to_rgb

IMAGE_STEP = 0.5  # seconds between image_N.jpg and the next


class ImageFolder:
    """Images half a second apart, of which the one with the lowest number is at 0 s.

    The authors cut on a grid of half seconds, so the last image may have been shown for two steps. A folder claims no
    length. MediaError where it holds no such image.
    """

    def __init__(self, folder: Path) -> None:
        images = list_images(folder)
        first = min(images)
        self._images = {(number - first) * IMAGE_STEP: image for number, image in sorted(images.items())}

    @cached_property
    def end(self) -> float:
        """Second at which the last image ends."""
        return max(self._images) + 2 * IMAGE_STEP

    def frames(
        self, times: Sequence[float], log: DecodeLog, until: float | None = None, height: int | None = None
    ) -> Iterator[Frame]:
        """As `Video.frames`; an image that does not decode is counted in `log`."""
        log.end = self.end
        wanted: dict[float, list[int]] = {}
        for index, time in enumerate(times):
            if -IMAGE_STEP < time < self.end:
                wanted.setdefault(min(self._images, key=lambda second: abs(second - time)), []).append(index)
        for second in sorted(wanted):
            image = _read_image(self._images[second], height)
            if image is None:
                log.errors += 1
                log.missed += wanted[second]
            else:
                yield Frame(wanted[second], second, image)

    def any_frames(self) -> Iterator[Frame]:
        """Every image that decodes, in order."""
        yield from self.frames(list(self._images), DecodeLog())


def list_images(folder: Path) -> dict[int, Path]:
    """The images of a folder by their numbers. MediaError where there is none."""
    found = ((re.fullmatch(r"image_(\d+)\.jpe?g", image.name), image) for image in folder.iterdir())
    images = {int(match[1]): image for match, image in found if match}
    if not images:
        raise MediaError(f"{folder}: found a folder without image_N.jpg, expected a video or audio file")
    return images


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels. MediaError for what is no JPEG file."""
    with open_container(path, "jpeg_pipe") as container:
        codec = container.streams.video[0].codec_context
        return codec.width, codec.height


def _read_image(path: Path, height: int | None) -> np.ndarray | None:
    try:
        with open_container(path, "jpeg_pipe") as container:
            for frame in container.decode(video=0):
                return to_rgb(frame, VideoReformatter(), height)
    except (MediaError, av.FFmpegError):
        pass
    return None
