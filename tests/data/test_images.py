"""A folder of images is a video of two frames per second."""

from pathlib import Path

import pytest

from mesm_data.errors import MediaError
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from tests.data.media_files import numbers_at, write_images


def test_a_folder_of_images_is_a_video_of_two_frames_a_second(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", range(12))
    log = DecodeLog()
    assert numbers_at(folder, [0.0, 0.2, 0.5, 5.4, 5.5, 6.0, 9.0], log) == {0: 0, 1: 0, 2: 1, 3: 11, 4: 11, 5: 11}
    assert (log.end, log.errors) == (6.5, 0)  # the last image may have been shown for two steps
    info = probe(folder)
    assert (info.duration, info.has_video, info.has_audio, info.width, info.height) == (6.0, True, False, 160, 96)


def test_a_damaged_image_is_counted_and_a_missing_one_moves_no_other(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "clip", [0, 1, 3, 4])
    (folder / "image_1.jpg").write_bytes(b"not a JPEG")
    (folder / "audio.wav").write_bytes(b"")
    log = DecodeLog()
    assert numbers_at(folder, [0.0, 0.5, 1.5, 2.0], log) == {0: 0, 2: 3, 3: 4}
    assert log.errors == 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"found a folder without image_N\.jpg, expected a video or audio file"):
        probe(tmp_path)
