"""The features that are computed here: `bark_mfcc` of sound and `face_geometry_pca` of faces. Plain numbers from what the shards hold.

S steps of sound, V faces, P pixels of a face.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh

from mesm_data.clip import Recipe

# ---- sound

BARK_MFCC = 34
COLUMNS_A_STEP = 4  # of the mel spectrogram: 50 ms a step with the paper's hop of 12.5 ms, as MulT's CMU-MOSEI has it
MFCC = 12
MFCC_BANDS = 32  # four mels each: the lowest single ones are narrower than a bin at 16 kHz, and some hold none


# Zwicker's critical bands in Hz. The last ends above the half of 16 kHz: there it holds what there is.
BARK = (
    0, 100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300, 6400,
    7700, 9500,
)  # fmt: skip


def bark_mfcc(mels: np.ndarray, seconds: float, sample_rate: int, recipe: Recipe) -> np.ndarray:
    """22 Bark-band energies and 12 MFCC of each step of 50 ms: float32 [S, 34], from mel chunks [A, mels, columns].

    The energies are natural logarithms. They come from the mel bands, each shared among the Bark bands that it lies in.
    The padding of the last chunk, beyond `seconds`, is left out.
    """
    power = np.exp(mels.astype(np.float64)) - recipe.log_floor  # [A, mels, columns]
    power = power.transpose(1, 0, 2).reshape(power.shape[1], -1).clip(min=0)
    power = power[:, : round(seconds / recipe.hop) + 1]
    if not power.shape[1]:
        return np.zeros((0, BARK_MFCC), np.float32)
    starts = np.arange(0, power.shape[1], COLUMNS_A_STEP)
    power = np.add.reduceat(power, starts, axis=1) / np.diff([*starts, power.shape[1]])  # [mels, S]
    energies = np.log(_bark_shares(recipe, sample_rate) @ power + recipe.log_floor)  # [22, S]
    bands = power.reshape(MFCC_BANDS, -1, power.shape[1]).sum(1)
    cepstrum = _cosines(MFCC_BANDS, MFCC) @ np.log(bands + recipe.log_floor)  # [12, S]
    return np.concatenate([energies, cepstrum]).T.astype(np.float32)


def mel_filters(recipe: Recipe, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The triangles that the mel spectrogram was made with, [mels, bins], and the bins' frequencies in Hz."""
    window = round(sample_rate * recipe.window)
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    ends = _hertz(np.linspace(0, _mel(sample_rate / 2), recipe.mels + 2))
    rising = (frequencies - ends[:-2, None]) / (ends[1:-1] - ends[:-2])[:, None]
    falling = (ends[2:, None] - frequencies) / (ends[2:] - ends[1:-1])[:, None]
    return np.minimum(rising, falling).clip(min=0), frequencies


@lru_cache
def _bark_shares(recipe: Recipe, sample_rate: int) -> np.ndarray:
    """The share of each mel band that lies in each Bark band, [22, mels]; a mel band without a bin has none."""
    filters, frequencies = mel_filters(recipe, sample_rate)
    band_of = np.searchsorted(BARK, frequencies, side="right") - 1
    inside = band_of == np.arange(len(BARK) - 1)[:, None]  # [22, bins]
    return inside @ filters.T / np.maximum(filters.sum(1), 1e-12)


@lru_cache
def _cosines(bands: int, count: int) -> np.ndarray:
    """Rows 1 to `count` of the orthogonal discrete cosine transform; row 0, the loudness, is in the energies."""
    return np.sqrt(2 / bands) * np.cos(np.pi / bands * np.arange(1, count + 1)[:, None] * (np.arange(bands) + 0.5))


def _mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


# ---- faces

FACE_GEOMETRY_PCA = 35
COMPONENTS = 20
PIXELS = 48 * 48
AT_ONCE = 2048  # faces
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class FaceFit:
    """The average face and the directions in which faces differ most, over the training part."""

    mean: np.ndarray  # float32 [P]
    components: np.ndarray  # float32 [COMPONENTS, P], of length 1


class FaceMoments:
    """Sums over faces, added up bit by bit, from which `fit` makes a FaceFit."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = np.zeros(PIXELS)
        self.products = np.zeros((PIXELS, PIXELS))
        self.waiting: list[np.ndarray] = []  # faces: a product of a few is as slow as one of many

    def add(self, faces: np.ndarray) -> None:
        """uint8 [V, 48, 48, 3]."""
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
        """Principal components; zeros where there were no faces. Each points to where its largest entry is positive."""
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
    """Of each face [V, 35]: 10 coordinates of landmarks, 4 numbers of its box, its probability, 20 components.

    Landmarks are fractions of the box, from its middle. The box is told by how far it is from the utterance's average
    box, in widths of that, and by the logarithms of its width and height against those. What was not found is 0.
    """
    shape = np.zeros((len(faces), 15), np.float32)
    if found.any():
        shape[found] = _shape(boxes[found], scores[found], landmarks[found].reshape(-1, 5, 2))
    return np.concatenate([shape, (_grey(faces) - fit.mean) @ fit.components.T], 1).astype(np.float32)


def _shape(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[V, 15] of found faces."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1)  # pixels
    points = (landmarks - middle[:, None]) / sides[:, None]
    moved = (middle - middle.mean(0)) / sides.mean(0)
    grown = np.log(sides / sides.mean(0))
    return np.concatenate([points.reshape(-1, 10), moved, grown, scores[:, None]], 1)


def _grey(faces: np.ndarray) -> np.ndarray:
    """Brightness with mean 0 and deviation 1 over each face, so that the light in the room does not count: [V, P]."""
    grey = (faces.astype(np.float32) @ LUMINANCE).reshape(len(faces), PIXELS)
    grey = grey - grey.mean(1, keepdims=True)
    return grey / np.maximum(grey.std(1, keepdims=True), 1)
