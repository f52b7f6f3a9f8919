"""Frames come out upright and mirrored as the file's display matrix says, in RGB."""

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from mesm_data.media.container import DecodeLog
from mesm_data.media.video import frames
from mesm_data.synth.stamp import read_frame_number
from tests.data.media_files import NTSC, write_video


@pytest.mark.parametrize(("turned", "corner"), [(90, (0, -1)), (-90, (-1, 0)), (180, (-1, -1))])
def test_a_video_that_a_phone_held_sideways_is_turned_upright(
    tmp_path: Path, turned: int, corner: tuple[int, int]
) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", numbers=range(5), turned=turned)
    frame = next(frames(video, [0.0], DecodeLog()))
    assert frame.image.shape == ((96, 160, 3) if turned == 180 else (160, 96, 3))
    assert read_frame_number(np.rot90(frame.image, -turned // 90)) == 0


MATRICES = {
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "half a turn": (-1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counterclockwise": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
    "twice as wide, mirrored": (-2, 0, 0, 1),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_whole_display_matrix_is_applied_as_ffmpeg_does(tmp_path: Path, name: str) -> None:
    a, b, c, d = (value * 65536 for value in MATRICES[name])
    matrix = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    noise = np.random.default_rng(0)
    options = {"crf": "1"}
    video = write_video(tmp_path / "video.mp4", "libx264", NTSC, options, numbers=[0], noise=noise, matrix=matrix)
    frame = next(frames(video, [0.0], DecodeLog())).image
    shown = shown_by_ffmpeg(video, tmp_path / "shown.png")
    assert frame.shape == shown.shape
    assert np.abs(frame.astype(int) - shown).mean() < 3


def shown_by_ffmpeg(video: Path, image: Path) -> np.ndarray:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video), "-frames:v", "1", str(image)]
    subprocess.run(command, check=True)
    return np.asarray(Image.open(image).convert("RGB"))


def test_a_matrix_of_any_angle_turns_about_the_middle(tmp_path: Path) -> None:
    cos, sin = (round(65536 * value) for value in (np.cos(np.pi / 6), np.sin(np.pi / 6)))
    matrix = (cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    noise = np.random.default_rng(0)
    video = write_video(tmp_path / "video.mp4", "libx264", NTSC, {}, numbers=[0], noise=noise, matrix=matrix)
    frame = next(frames(video, [0.0], DecodeLog())).image
    shown = shown_by_ffmpeg(video, tmp_path / "shown.png")
    assert frame.shape == shown.shape
    assert np.abs(frame[30:66, 50:110].astype(int) - shown[30:66, 50:110]).mean() < 8


def test_a_matrix_of_nonsense_leaves_the_frame_as_it_is(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", "libx264", numbers=[0])
    nothing = write_video(tmp_path / "nothing.mp4", "libx264", numbers=[0], matrix=(0,) * 9)
    first, second = (next(frames(path, [0.0], DecodeLog())).image for path in (plain, nothing))
    np.testing.assert_array_equal(first, second)


def test_height_is_that_of_the_frame_as_shown(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", "libx264", numbers=[0], turned=90)
    assert next(frames(video, [0.0], DecodeLog(), height=80)).image.shape == (80, 48, 3)
    assert next(frames(video, [0.0], DecodeLog(), height=160)).image.shape == (160, 96, 3)


def test_frames_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 0] = 250
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode(None))
    image = next(frames(path, [0.0], DecodeLog())).image
    assert image.dtype == np.uint8
    assert image.shape == (48, 64, 3)
    assert np.abs(image.mean((0, 1)) - [250, 0, 0]).max() < 8
