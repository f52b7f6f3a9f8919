"""Features computed from the shards: `bark_mfcc` of the audio, `face_geometry_pca` of the faces.

S steps of audio, V faces, P pixels of a face.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh

from mesm_data.clip import Recipe
from mesm_data.media.mel import mel_filters, window_length

# ---- audio

BARK_MFCC = 34
COLUMNS_PER_STEP = 4  # of the mel spectrogram: steps of 50 ms at the paper's hop of 12.5 ms, as in MulT's CMU-MOSEI
MFCC = 12
MFCC_BANDS = 32  # of four mels each: at 16 kHz the lowest mels are narrower than a frequency bin, and some have none


# Edges of Zwicker's critical bands in Hz (Zwicker 1961). At 16 kHz the last band is cut at 8000 Hz.
BARK = (
    0, 100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300, 6400,
    7700, 9500,
)  # fmt: skip


def bark_mfcc(mels: np.ndarray, seconds: float, sample_rate: int, recipe: Recipe) -> np.ndarray:
    """22 Bark-band energies and 12 MFCC per step of 50 ms: float32 [S, 34], from log-mel chunks [A, mels, columns].

    The energies are natural logarithms; each mel band is divided among the Bark bands that its filter overlaps. The
    padding of the last chunk, after `seconds`, is ignored.
    """
    power = np.exp(mels.astype(np.float64)) - recipe.log_floor  # [A, mels, columns]
    power = power.transpose(1, 0, 2).reshape(power.shape[1], -1).clip(min=0)
    power = power[:, : round(seconds / recipe.hop) + 1]
    if not power.shape[1]:
        return np.zeros((0, BARK_MFCC), np.float32)
    starts = np.arange(0, power.shape[1], COLUMNS_PER_STEP)
    power = np.add.reduceat(power, starts, axis=1) / np.diff([*starts, power.shape[1]])  # [mels, S]
    energies = np.log(_bark_shares(recipe, sample_rate) @ power + recipe.log_floor)  # [22, S]
    bands = power.reshape(MFCC_BANDS, -1, power.shape[1]).sum(1)
    cepstrum = _cosines(MFCC_BANDS, MFCC) @ np.log(bands + recipe.log_floor)  # [12, S]
    return np.concatenate([energies, cepstrum]).T.astype(np.float32)


@lru_cache
def _bark_shares(recipe: Recipe, sample_rate: int) -> np.ndarray:
    """The share of each mel filter that lies in each Bark band, [22, mels]; zeros for a filter without a bin."""
    filters = mel_filters(recipe, sample_rate).astype(np.float64)
    window = window_length(recipe, sample_rate)
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    band_of = np.searchsorted(BARK, frequencies, side="right") - 1
    inside = band_of == np.arange(len(BARK) - 1)[:, None]  # [22, bins]
    return inside @ filters.T / np.maximum(filters.sum(1), 1e-12)


@lru_cache
def _cosines(bands: int, count: int) -> np.ndarray:
    """Rows 1 to `count` of the orthogonal DCT-II; row 0 is the loudness, which the energies already hold."""
    return np.sqrt(2 / bands) * np.cos(np.pi / bands * np.arange(1, count + 1)[:, None] * (np.arange(bands) + 0.5))


# ---- faces

FACE_GEOMETRY_PCA = 35
COMPONENTS = 20
PIXELS = 48 * 48
AT_ONCE = 2048  # faces in a matrix product
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class FaceFit:
    """The average face and the principal components, over the faces of train."""

    mean: np.ndarray  # float32 [P]
    components: np.ndarray  # float32 [COMPONENTS, P], orthonormal


class FaceMoments:
    """Running sums over faces, from which `fit` makes a FaceFit."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = np.zeros(PIXELS)
        self.products = np.zeros((PIXELS, PIXELS))
        self.waiting: list[np.ndarray] = []  # grey faces, for products of AT_ONCE or more

    def add(self, faces: np.ndarray) -> None:
        """Count these faces, uint8 [V, 48, 48, 3]."""
        self.count += len(faces)
        self.waiting.append(_grey(faces))
        if sum(map(len, self.waiting)) >= AT_ONCE:
            self._add_up()

    def _add_up(self) -> None:
        if self.waiting:
            grey = np.concatenate(self.waiting)
            self.sum += grey.sum(0)
            self.products += grey.T @ grey
            self.waiting.clear()

    def fit(self) -> FaceFit:
        """Principal components, signed so that the largest entry of each is positive; zeros if there were no faces."""
        self._add_up()
        mean = self.sum / max(self.count, 1)
        covariance = self.products / max(self.count, 1) - np.outer(mean, mean)
        _, vectors = eigh(covariance, subset_by_index=[PIXELS - COMPONENTS, PIXELS - 1])
        components = vectors.T[::-1] * (self.count > 0)
        largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
        return FaceFit(mean.astype(np.float32), (components * np.where(largest < 0, -1, 1)).astype(np.float32))


def face_geometry_pca(
    faces: np.ndarray, boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, found: np.ndarray, fit: FaceFit
) -> np.ndarray:
    """float32 [V, 35]: 10 landmark coordinates, 4 numbers of the box, its probability, 20 principal components.

    Landmarks are relative to the centre of the box, in its widths and heights. The box is given by the offset of its
    centre from the average box of the utterance, in widths and heights of that, and by the logarithms of its width and
    height relative to those. The first 15 numbers are 0 where no face was found.
    """
    shape = np.zeros((len(faces), 15), np.float32)
    if found.any():
        shape[found] = _shape(boxes[found], scores[found], landmarks[found].reshape(-1, 5, 2))
    return np.concatenate([shape, (_grey(faces) - fit.mean) @ fit.components.T], 1).astype(np.float32)


def _shape(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The first 15 numbers of faces that were found: [V, 15]."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1)  # pixels
    points = (landmarks - middle[:, None]) / sides[:, None]
    moved = (middle - middle.mean(0)) / sides.mean(0)
    grown = np.log(sides / sides.mean(0))
    return np.concatenate([points.reshape(-1, 10), moved, grown, scores[:, None]], 1)


def _grey(faces: np.ndarray) -> np.ndarray:
    """Luminance, standardised per face so that the lighting does not count: float32 [V, P]."""
    grey = (faces.astype(np.float32) @ LUMINANCE).reshape(len(faces), PIXELS)
    grey = grey - grey.mean(1, keepdims=True)
    return grey / np.maximum(grey.std(1, keepdims=True), 1)
