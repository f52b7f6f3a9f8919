"""`Detection`, and the protocol of a face detector."""

from typing import NamedTuple, Protocol

import numpy as np


class Detection(NamedTuple):
    """One face that a detector found."""

    box: np.ndarray  # float32 [4]; may reach a little beyond the frame
    score: float  # probability that this is a face
    landmarks: np.ndarray  # float32 [5, 2], x and y: eyes, nose, mouth corners


class FaceDetector(Protocol):
    """A face detector; this is the one method that another detector has to have."""

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        """The faces in each of the frames [N, H, W, 3], the largest first; an empty list where there is none."""
        ...
