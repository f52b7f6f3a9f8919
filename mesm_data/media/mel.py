"""Mel spectrograms in chunks. Home of librosa, of which only the parts in use are imported, when they are used.

The settings are those of the published code's torchaudio call: HTK mel scale, filters without norm, Hann window, power,
centred frames with reflected edges. (librosa's own defaults are off by a factor of a thousand.) Importing librosa's
filters takes a second, half of it for numba: once per process, and not for `--help`.
"""

import warnings
from functools import cache

import numpy as np

from mesm_data.clip import Recipe


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """float32 [ceil(n * target / rate)] at the target rate, band-limited."""
    if rate == target or not len(samples):
        return samples.astype(np.float32, copy=False)
    import librosa

    return librosa.resample(samples, orig_sr=rate, target_sr=target).astype(np.float32, copy=False)


def mel_chunks(samples: np.ndarray, recipe: Recipe) -> np.ndarray:
    """float16 [A, mels, chunk] of float32 [n] at the recipe's rate: natural log of power + floor, at least one chunk.

    There are 1 + n // hop frames; the rest of the last chunk is silence. Audio shorter than half a window is padded
    with silence, since it is too short to be reflected.
    """
    import librosa

    window, hop = window_length(recipe, recipe.sample_rate), int(recipe.sample_rate * recipe.hop)
    frame_count = 1 + len(samples) // hop
    long_enough = np.pad(samples, (0, max(0, window // 2 + 1 - len(samples))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is too large for input signal")  # it works all the same
        spectrum = librosa.stft(long_enough, n_fft=window, hop_length=hop, window="hann", pad_mode="reflect")
    power = mel_filters(recipe, recipe.sample_rate) @ np.abs(spectrum[:, :frame_count]) ** 2  # [mels, frames]
    power = np.pad(power, ((0, 0), (0, -frame_count % recipe.chunk)))
    chunks = power.reshape(recipe.mels, -1, recipe.chunk).transpose(1, 0, 2)
    return np.log(chunks + np.float32(recipe.log_floor)).astype(np.float16)


def window_length(recipe: Recipe, rate: int) -> int:
    """Samples in a window of the Fourier transform at this rate."""
    return int(rate * recipe.window)


@cache
def mel_filters(recipe: Recipe, rate: int) -> np.ndarray:
    """float32 [mels, 1 + window // 2]. At 16 kHz four of the 128 lie between two frequencies and stay empty."""
    import librosa

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")
        return librosa.filters.mel(
            sr=rate, n_fft=window_length(recipe, rate), n_mels=recipe.mels, fmin=0, fmax=rate / 2, htk=True, norm=None
        )
