"""Mel chunks: the numbers of the published settings, whatever the length of the sound."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mesm_data.clip import Recipe
from mesm_data.media.mel import mel_chunks, resample

SILENCE = np.float16(np.log(1e-6))


def torch_mels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Log mel power [128, frames] straight from torch.stft and the definition of HTK's triangles."""
    window = int(rate * 0.025)
    spectrum = torch.stft(
        torch.from_numpy(samples.astype(np.float64)),
        n_fft=window,
        hop_length=window // 2,
        window=torch.hann_window(window, dtype=torch.float64),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    frequencies = np.arange(window // 2 + 1) * rate / window
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), 130) / 2595) - 1)  # Hz
    rising = (frequencies - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - frequencies) / np.diff(corners)[1:, None]
    triangles = np.minimum(rising, falling).clip(0)
    return np.log(triangles @ (spectrum.abs() ** 2).numpy() + 1e-6)


def speech(rate: int, seconds: float) -> np.ndarray:
    """Something like speech: harmonics that come and go, and noise."""
    time = np.arange(int(rate * seconds)) / rate
    voice = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 30))
    noise = np.random.default_rng(0).normal(0, 0.02, len(time))
    return (0.2 * voice * np.sin(2 * np.pi * 3 * time) ** 2 + noise).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_chunks_equal_a_direct_computation_with_torch(rate: int) -> None:
    samples = speech(rate, 2.03)
    chunks = mel_chunks(samples, Recipe(sample_rate=rate))
    expected = torch_mels(samples, rate)
    frames = chunks.transpose(1, 0, 2).reshape(128, -1)
    assert chunks.dtype == np.float16
    assert chunks.shape == (6, 128, 32)
    assert expected.shape[1] == 1 + len(samples) // int(rate * 0.0125)
    difference = np.abs(frames[:, : expected.shape[1]] - expected)
    assert difference.max() < 0.01  # float16 rounds to 0.004 between 4 and 14
    assert (frames[:, expected.shape[1] :] == SILENCE).all()


@pytest.mark.parametrize(("rate", "window", "hop"), [(16_000, 400, 200), (44_100, 1102, 551)])
def test_a_tone_is_loudest_in_its_own_band(rate: int, window: int, hop: int) -> None:
    tone = np.sin(np.arange(rate) * 2 * np.pi * 1000 / rate).astype(np.float32)
    chunks = mel_chunks(tone, Recipe(sample_rate=rate))
    band = 1000 / 700
    assert len(chunks) == -(-(1 + rate // hop) // 32)
    expected = round(130 * np.log10(1 + band) / np.log10(1 + rate / 2 / 700)) - 1
    assert abs(int(chunks[0, :, 16].argmax()) - expected) <= 1
    assert chunks[0, :, 16].max() == pytest.approx(2 * np.log(window / 4), abs=0.7)  # a Hann window lets through n / 4


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("count", [0, 1, 2, 150, 200, 201, 551, 552, 6200, 6399, 6400])
def test_sounds_of_every_length_have_the_chunks_that_their_length_asks_for(count: int, rate: int) -> None:
    samples = np.full(count, 0.1, np.float32)
    chunks = mel_chunks(samples, Recipe(sample_rate=rate))
    frames = 1 + count // int(rate * 0.0125)
    assert chunks.shape == (-(-frames // 32), 128, 32)
    assert np.isfinite(chunks.astype(np.float32)).all()
    assert (chunks.transpose(1, 0, 2).reshape(128, -1)[:, frames:] == SILENCE).all()


def test_silence_and_nothing_are_the_floor() -> None:
    assert (mel_chunks(np.zeros(16_000, np.float32), Recipe()) == SILENCE).all()
    assert (mel_chunks(np.zeros(0, np.float32), Recipe()) == SILENCE).all()


def test_full_scale_does_not_overflow() -> None:
    loud = np.sign(np.sin(np.arange(44_100) * 2 * np.pi * 200 / 44_100)).astype(np.float32)
    assert mel_chunks(loud, Recipe(sample_rate=44_100)).max() < 12


def test_the_recipe_decides_the_shape() -> None:
    recipe = Recipe(sample_rate=22_050, mels=64, chunk=16)
    assert mel_chunks(np.zeros(22_050, np.float32), recipe).shape == (6, 64, 16)


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (48_000, 44_100), (8_000, 16_000), (16_000, 44_100)])
def test_a_tone_stays_the_same_tone_at_another_rate(rate: int, target: int) -> None:
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate).astype(np.float32)
    changed = resample(tone, rate, target)
    expected = np.sin(np.arange(target) * 2 * np.pi * 440 / target)
    inner = slice(target // 10, -target // 10)
    assert changed.dtype == np.float32
    assert len(changed) == target
    assert np.abs(changed[inner] - expected[inner]).max() < 1e-3


def test_what_a_lower_rate_cannot_hold_is_filtered_away() -> None:
    whistle = np.sin(np.arange(44_100) * 2 * np.pi * 12_000 / 44_100).astype(np.float32)
    assert np.abs(resample(whistle, 44_100, 16_000)[2000:-2000]).max() < 1e-3


def test_sound_at_the_right_rate_and_no_sound_are_left_as_they_are() -> None:
    samples = speech(16_000, 0.1)
    assert resample(samples, 16_000, 16_000) is samples
    assert resample(np.zeros(0, np.float32), 44_100, 16_000).shape == (0,)
    assert resample(np.full(3, 0.5, np.float32), 44_100, 16_000).shape == (2,)


def test_librosa_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, mesm_data.media.mel; print([name for name in ('numba', 'scipy', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
