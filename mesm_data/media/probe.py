"""What a media file claims to be, `probe`, and whether anything in it can be decoded, `why_unreadable`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mesm_data.errors import MediaError
from mesm_data.media.audio import AudioSpan, audio_spans
from mesm_data.media.container import DecodeLog, duration, first_stream, open_container
from mesm_data.media.images import IMAGE_STEP, image_size, list_images
from mesm_data.media.video import open_video


@dataclass(frozen=True)
class MediaInfo:
    """What the headers of a file claim. Sizes and counts are 0 where there is nothing of the kind."""

    duration: float  # seconds from its first frame or sample to its end
    has_video: bool
    has_audio: bool
    width: int = 0  # pixels
    height: int = 0
    sample_rate: int = 0  # Hz
    channels: int = 0
    frame_rate: float = 0.0  # frames per second; of a variable rate, the usual one
    counted: float = 0.0  # seconds that its frames last by their number; longer than `duration` in an AVI that was cut


def probe(path: str | Path) -> MediaInfo:
    """What the headers of a file, or the names in a folder of image_N.jpg, claim. MediaError where it is neither.

    The duration of a file whose header has none (MPEG streams, recordings of a browser) is counted from its packets.
    """
    path = Path(path)
    if path.is_dir():
        images = list_images(path)
        width, height = image_size(images[min(images)])
        seconds = (max(images) - min(images) + 1) * IMAGE_STEP
        return MediaInfo(seconds, True, False, width, height, frame_rate=1 / IMAGE_STEP)
    with open_container(path) as container:
        video, audio = first_stream(container.streams.video), first_stream(container.streams.audio)
        if not video and not audio:
            raise MediaError(f"{path}: found neither video nor audio, expected a video or audio file")
        return MediaInfo(
            duration=duration(path, container),
            has_video=video is not None,
            has_audio=audio is not None,
            width=video.codec_context.width if video else 0,
            height=video.codec_context.height if video else 0,
            sample_rate=audio.codec_context.sample_rate if audio else 0,
            channels=audio.codec_context.layout.nb_channels if audio else 0,
            frame_rate=float(video.guessed_rate or video.average_rate or 0) if video else 0.0,
            counted=float(video.frames / video.average_rate) if video and video.average_rate else 0.0,
        )


def why_unreadable(path: Path, *, video: bool) -> str | None:
    """Why not one frame (`video`), or not one sample, of the file can be decoded; None where one can.

    A video that starts late or whose first key frame is damaged can be decoded from a later frame on.
    """
    try:
        parts: Iterator[object] = open_video(path).any_frames() if video else _beginning(path)
        some = next(parts, None)
    except MediaError as error:
        return str(error).removeprefix(f"{path}: ")
    return None if some else f"no {'frame' if video else 'sample'} in it can be decoded"


def reach(path: Path) -> float:
    """Second at which the last packet of a video ends, whatever its header claims; 0 where it does not open.

    All of the file is read and nothing decoded: a truncated file falls short of a whole one.
    """
    try:
        return open_video(path).end
    except MediaError:
        return 0.0


def _beginning(path: Path) -> Iterator[AudioSpan]:
    return audio_spans(path, [(0.0, 0.1)], None, DecodeLog())
