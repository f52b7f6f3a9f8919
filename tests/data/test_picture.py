"""Mels and masks become images: low frequencies at the bottom, what was not selected faded, nothing else changed."""

import io

import numpy as np
import pytest
from PIL import Image

from mesm_data.report.picture import (
    DARK,
    FADED,
    PALE,
    data_uri,
    faded,
    fading,
    jpeg,
    mel_image,
    mel_row,
    side_by_side,
    strip,
)


def test_low_frequencies_are_at_the_bottom_and_loud_is_bright() -> None:
    mel = np.full((128, 10), -13.0, np.float16)
    mel[0] = 0.0
    brightness = mel_image(mel).astype(int).sum(axis=2)
    assert (brightness[-1] > 600).all()
    assert (brightness[:-1] < 20).all()


@pytest.mark.parametrize("frames", [0, 10])
def test_silence_stays_dark(frames: int) -> None:
    image = mel_image(np.full((128, frames), np.log(1e-6), np.float32))
    assert image.shape == (128, frames, 3)
    assert image.max(initial=0) < 100


def test_chunks_lie_side_by_side_in_time() -> None:
    chunks = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    assert side_by_side(chunks).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_a_strip_leaves_places_without_an_image_empty() -> None:
    images = np.stack([np.full((2, 2), n) for n in range(2)])
    assert strip(images, [1, None, 0], empty=7).tolist() == [[1, 1, 7, 7, 0, 0]] * 2


def test_selected_places_stay_as_they_are_and_others_fade() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    shown, dark = (faded(image, np.array([[1.0, 0.5], [0.0, 1.0]]), grey) for grey in (PALE, DARK))
    np.testing.assert_array_equal(shown[:4, :4], 100)
    np.testing.assert_array_equal(shown[4:, 4:], 100)
    np.testing.assert_allclose(shown[7, 0], 100 + FADED * 155, atol=0.5)
    assert (shown[0, 7] < shown[7, 0]).all()
    np.testing.assert_allclose(dark[7, 0], 100 - FADED * (100 - DARK), atol=0.5)


@pytest.mark.parametrize("grey", [DARK, PALE])
def test_the_image_to_lay_over_another_fades_it_in_the_same_way(grey: int) -> None:
    image, share = np.full((2, 2, 3), 100, np.uint8), np.array([[1.0, 0.3], [0.0, 0.6]])
    over = Image.open(io.BytesIO(fading(share, grey)))
    laid = Image.alpha_composite(Image.fromarray(image).convert("RGBA"), over).convert("RGB")
    np.testing.assert_allclose(np.asarray(laid).astype(int), faded(image, share, grey), atol=2)


def test_a_page_holds_images_of_both_kinds() -> None:
    assert data_uri(fading(np.ones((2, 2)), DARK)).startswith("data:image/png;base64,iVBOR")
    assert data_uri(jpeg(np.zeros((8, 8, 3), np.uint8), 80)).startswith("data:image/jpeg;base64,/9j/")


def test_frequencies_lie_on_the_htk_mel_scale() -> None:
    assert [mel_row(hertz, 16_000) for hertz in (0, 8000)] == [0.0, 128.0]
    assert mel_row(1000, 16_000) == pytest.approx(128 * 999.99 / 2840.02, abs=0.01)
