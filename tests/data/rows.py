"""Made-up rows of a dataset, for tests of what reads and writes shards."""

import numpy as np

from mesm_data.clip import Clip
from mesm_data.dataset.schema import Row
from mesm_data.utterance import Source, Utterance, Vote


def synthetic_row(n: int, split: str = "train", faces: int = 3, chunks: int = 2) -> Row:
    """Row number n, the same for the same arguments."""
    draw = np.random.default_rng(n)
    utterance = Utterance(
        id=f"Ses01F_impro01_F{n:03d}",
        source=Source("film.avi", "sound.wav", (0.0, 0.0, 0.5, 1.0), 0),
        start=float(n),
        end=n + 1.5,
        text=f"Line {n}: “quite so”, he said.",
        labels=tuple(int(k == n % 6) for k in range(6)),
        votes=(Vote("C-E1", "Anger", 1.0), Vote("A-E1", "valence", 2.0)),
        speaker="Ses01F",
        group="Ses01F_impro01",
    )
    clip = Clip(
        utterance=utterance.id,
        faces=draw.integers(0, 256, (faces, 48, 48, 3), np.uint8),
        face_times=(n + 0.5 * np.arange(faces)).astype(np.float32),
        face_boxes=draw.random((faces, 4), np.float32),
        face_scores=draw.random(faces, np.float32),
        face_landmarks=draw.random((faces, 5, 2), np.float32),
        face_found=np.arange(faces) % 2 == 0,
        mels=draw.standard_normal((chunks, 128, 32)).astype(np.float16),
        sample_rate=16_000,
        quality=("clipped",) if n % 3 == 0 else (),
    )
    return Row("iemocap", split, utterance, clip)
