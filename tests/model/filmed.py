"""A dataset of made-up utterances whose recording can be written too."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mesm_data.dataset.reader import Dataset, load
from mesm_data.utterance import Source
from tests.data.synthetic_rows import synthetic_rows, write_synthetic


def write_filmed(folder: Path) -> Dataset:
    """Twenty utterances of 1.5 s, one every quarter of a second of what `test_encode.write_recording` writes."""
    rows = []
    for n, row in enumerate(synthetic_rows(20)):
        start = 0.25 * n
        source = Source("film.avi", "sound.wav", (0.0, 0.0, 0.5, 1.0), 0)
        utterance = replace(row.utterance, source=source, start=start, end=start + 1.5)
        times = (start + 0.5 * np.arange(3)).astype(np.float32)
        clip = replace(row.clip, face_times=times, mels=np.concatenate([row.clip.mels, row.clip.mels]))
        rows.append(row._replace(utterance=utterance, clip=clip))
    return load(write_synthetic(folder, rows))
