"""bark_mfcc and face_geometry_pca: against tones in known bands, and scikit-learn's components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mesm_data.clip import Recipe
from mesm_data.media.mel import mel_chunks, mel_filters
from mesm_model.features.descriptors import (
    BARK,
    COMPONENTS,
    FaceFit,
    FaceMoments,
    bark_mfcc,
    face_geometry_pca,
)

RECIPE = Recipe()


def log_mels(power: np.ndarray) -> np.ndarray:
    """Chunks [1, mels, 32] of a sound that has this power in each bin of the Fourier transform, at all times."""
    column = np.log(mel_filters(RECIPE, 16_000) @ power + RECIPE.log_floor)
    return np.repeat(column[:, None], 32, axis=1)[None].astype(np.float16)


def fitted(faces: np.ndarray) -> FaceFit:
    moments = FaceMoments()
    for some in np.array_split(faces, 5):
        moments.add(some)
    return moments.fit()


def drawn_faces(count: int, seed: int = 0) -> np.ndarray:
    """Faces that differ in three ways, more in the first than in the third, and a little in every pixel."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48] / 24 - 1
    patterns = np.stack([np.sin(3 * x), np.cos(5 * y), np.sin(4 * (x + y))]) * np.array([40, 25, 15])[:, None, None]
    grey = 120 + np.tensordot(draw.standard_normal((count, 3)), patterns, 1) + draw.standard_normal((count, 48, 48))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, :, None], 3, axis=3)


# ---- audio


def test_bark_bands_are_those_of_the_filters_of_the_spectrogram_at_an_odd_rate() -> None:
    """At 11,025 Hz a window of 25 ms has 275.6 samples; the spectrogram takes 275."""
    recipe = Recipe(sample_rate=11_025)
    hertz = 1000
    tone = np.sin(2 * np.pi * hertz * np.arange(11_025) / 11_025).astype(np.float32)
    energies = bark_mfcc(mel_chunks(tone, recipe), 1.0, 11_025, recipe)[:, :22]
    assert (energies[2:-2].argmax(1) == np.searchsorted(BARK, hertz, side="right") - 1).all()
    assert mel_filters(recipe, 11_025).shape == (128, 138)


@pytest.mark.parametrize("hertz", [480, 1000, 2000, 4000])
def test_a_tone_is_loudest_in_its_bark_band(hertz: int) -> None:
    power = np.zeros(201)
    power[hertz // 40] = 1.0  # the bins are 40 Hz apart
    energies = bark_mfcc(log_mels(power), 0.4, 16_000, RECIPE)[0, :22]
    assert energies.argmax() == np.searchsorted(BARK, hertz, side="right") - 1


def test_bark_bands_hold_the_energy_of_a_flat_spectrum_in_proportion_to_their_width() -> None:
    frequencies = np.arange(201) * 40
    energies = np.exp(bark_mfcc(log_mels(np.ones(201)), 0.4, 16_000, RECIPE)[0, 2:21])
    bins = np.histogram(frequencies, BARK)[0][2:21]
    np.testing.assert_allclose(energies, bins, rtol=0.35)  # a band of the mel scale may lie in two of Bark's
    assert abs(energies.sum() / bins.sum() - 1) < 0.05


def test_the_cepstrum_is_the_cosine_transform_of_the_log_of_four_mels_together() -> None:
    from scipy.fft import dct

    power = np.random.default_rng(0).gamma(1, size=201)
    chunk = log_mels(power)
    bands = (np.exp(chunk[0, :, 0].astype(float)) - 1e-6).clip(min=0).reshape(32, 4).sum(1)
    by_scipy = dct(np.log(bands + 1e-6), norm="ortho")[1:13]
    np.testing.assert_allclose(bark_mfcc(chunk, 0.4, 16_000, RECIPE)[0, 22:], by_scipy, atol=1e-4)


def test_twenty_steps_a_second_and_nothing_of_the_padding() -> None:
    mels = np.concatenate([log_mels(np.ones(201))] * 3)
    assert bark_mfcc(mels, 1.0, 16_000, RECIPE).shape == (21, 34)  # 81 columns of 12.5 ms, four a step
    assert bark_mfcc(mels, 9.0, 16_000, RECIPE).shape == (24, 34)  # not more than there are
    assert bark_mfcc(mels[:0], 1.0, 16_000, RECIPE).shape == (0, 34)


def test_silence_is_finite() -> None:
    silent = np.full((1, 128, 32), np.log(1e-6), np.float16)
    assert np.isfinite(bark_mfcc(silent, 0.4, 16_000, RECIPE)).all()


# ---- faces


def test_the_components_are_scikit_learns() -> None:
    faces = drawn_faces(60)
    grey = (faces.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).reshape(60, -1)
    grey = (grey - grey.mean(1, keepdims=True)) / grey.std(1, keepdims=True)
    theirs = PCA(3, svd_solver="full").fit(grey)
    ours = fitted(faces)
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-4)
    assert np.abs((ours.components[:3] * theirs.components_).sum(1)).min() > 0.999
    assert (np.take_along_axis(ours.components, np.abs(ours.components).argmax(1)[:, None], 1) > 0).all()


def test_a_brighter_picture_with_more_contrast_is_the_same_face() -> None:
    faces = drawn_faces(12)
    fit = fitted(faces)
    none = np.zeros((12, 4), np.float32), np.zeros(12), np.zeros((12, 5, 2)), np.zeros(12, bool)
    lit = (faces // 2 + 90).astype(np.uint8)
    np.testing.assert_allclose(
        face_geometry_pca(faces, *none, fit)[:, 15:], face_geometry_pca(lit, *none, fit)[:, 15:], atol=0.8
    )


def test_where_a_face_is_and_how_large_follow_from_its_box() -> None:
    boxes = np.array([[10, 10, 50, 60], [30, 10, 70, 60], [0, 0, 80, 100]], np.float32)
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    landmarks = middle[:, None] + sides[:, None] * np.array(
        [[-0.2, -0.1], [0.2, -0.1], [0, 0.1], [-0.1, 0.3], [0.1, 0.3]]
    )
    fit = fitted(drawn_faces(12))
    rows = face_geometry_pca(drawn_faces(3), boxes, np.array([0.9, 0.8, 0.7]), landmarks, np.ones(3, bool), fit)
    assert rows.shape == (3, 35)
    np.testing.assert_allclose(rows[:, :10], rows[[0, 0, 0], :10], atol=1e-5)  # the same face in three places
    np.testing.assert_allclose(rows[0, :4], [-0.2, -0.1, 0.2, -0.1], atol=1e-5)
    assert rows[1, 10] > rows[0, 10]  # to the right of it
    assert rows[2, 12] > 0 > rows[0, 12]  # wider, narrower than the average
    np.testing.assert_allclose(rows[:, 14], [0.9, 0.8, 0.7])


def test_what_was_not_found_is_zero_and_does_not_shift_the_others() -> None:
    boxes = np.array([[10, 10, 50, 60], [0, 0, 0, 0]], np.float32)
    shape = boxes, np.array([0.9, 0.0]), np.ones((2, 5, 2)) * 30, np.array([True, False])
    faces, fit = drawn_faces(2), fitted(drawn_faces(12))
    rows = face_geometry_pca(faces, *shape, fit)
    alone = face_geometry_pca(faces[:1], *(x[:1] for x in shape), fit)
    assert not rows[1, :15].any()
    assert rows[1, 15:].any()
    np.testing.assert_allclose(rows[0], alone[0], atol=1e-5)


def test_without_any_training_face_the_components_are_zero() -> None:
    fit = FaceMoments().fit()
    assert fit.components.shape == (COMPONENTS, 48 * 48)
    assert not fit.components.any()
