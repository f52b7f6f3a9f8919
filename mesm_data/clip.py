"""The input of a model for one utterance, `Clip`, and every number that shapes it, `Recipe`."""

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the bytes of a clip; the defaults are the paper's and its code's."""

    step: float = 0.5  # seconds between two faces
    face_size: int = 48  # pixels
    face_margin: int = 2  # pixels of the crop that lie outside the box
    min_face: int = 20  # pixels per 480 rows of the frame, rounded up: the smallest face detected
    face_thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)  # of MTCNN's three networks
    sample_rate: int = 16_000  # Hz; 16000 for IEMOCAP, 44100 for CMU-MOSEI
    window: float = 0.025  # seconds
    hop: float = 0.0125  # seconds
    mels: int = 128
    chunk: int = 32  # mel frames a chunk: 400 ms
    log_floor: float = 1e-6  # added to the power before the logarithm

    @property
    def digest(self) -> str:
        """sha256 over every field: two recipes of one digest make the same clips."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, repr=False)
class Clip:
    """One utterance, decoded. V faces, A mel chunks; both may be 0 for a model, never from a build."""

    utterance: str
    faces: np.ndarray  # uint8 [V, 48, 48, 3], RGB
    face_times: np.ndarray  # float32 [V], seconds of the recording at which the frame is shown
    face_boxes: np.ndarray  # float32 [V, 4], left, top, right, bottom in pixels of the whole frame; 0 where none
    face_scores: np.ndarray  # float32 [V], the detector's probability; 0 where no face was found
    face_landmarks: np.ndarray  # float32 [V, 5, 2], x and y in pixels: eyes, nose, mouth corners; 0 where none
    face_found: np.ndarray  # bool [V]
    mels: np.ndarray  # float16 [A, 128, 32], natural log of power + 1e-6
    sample_rate: int
    quality: tuple[str, ...]  # kinds of the doubtful Issues of this utterance, sorted

    def __repr__(self) -> str:
        doubts = f", {', '.join(self.quality)}" if self.quality else ""
        return (
            f"Clip({self.utterance!r}, faces {self.faces.dtype} {list(self.faces.shape)}, "
            f"{int(self.face_found.sum())} of them found, mels {self.mels.dtype} {list(self.mels.shape)}, "
            f"{self.sample_rate} Hz{doubts})"
        )
