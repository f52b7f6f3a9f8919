"""What the headers of a media file claim: `probe`."""

from dataclasses import dataclass
from pathlib import Path

import av

from mesm_data.errors import MediaError
from mesm_data.media.container import first_stream, open_container, video_stream
from mesm_data.media.images import IMAGE_STEP, list_images


@dataclass(frozen=True)
class MediaInfo:
    """What the headers of a file claim. Sizes and counts are 0 where there is nothing of the kind."""

    duration: float | None  # seconds; None where the file does not say
    has_video: bool
    has_audio: bool
    width: int = 0  # pixels
    height: int = 0
    sample_rate: int = 0  # Hz
    channels: int = 0
    frame_rate: float = 0.0  # pictures a second; of a varying rate, the usual one
    counted: float = (
        0.0  # seconds that its pictures last by their number; longer than `duration` in an AVI that was cut
    )


def probe(path: str | Path) -> MediaInfo:
    """What the headers of a file, or the names in a folder of image_N.jpg, claim. MediaError where it is neither."""
    path = Path(path)
    if path.is_dir():
        images = list_images(path)
        with open_container(images[min(images)]) as container:
            codec = video_stream(container, path).codec_context
            seconds = (max(images) - min(images) + 1) * IMAGE_STEP
            return MediaInfo(seconds, True, False, codec.width, codec.height, frame_rate=1 / IMAGE_STEP)
    with open_container(path) as container:
        video, audio = first_stream(container.streams.video), first_stream(container.streams.audio)
        if not video and not audio:
            raise MediaError(f"{path}: found neither picture nor sound, expected a video or sound file")
        return MediaInfo(
            duration=container.duration / av.time_base if container.duration else None,
            has_video=video is not None,
            has_audio=audio is not None,
            width=video.codec_context.width if video else 0,
            height=video.codec_context.height if video else 0,
            sample_rate=audio.codec_context.sample_rate if audio else 0,
            channels=audio.codec_context.layout.nb_channels if audio else 0,
            frame_rate=float(video.guessed_rate or video.average_rate or 0) if video else 0.0,
            counted=float(video.frames / video.average_rate) if video and video.average_rate else 0.0,
        )
