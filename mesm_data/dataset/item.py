"""`Item`: one row of a dataset, as `ds[0]` and `for item in ds` return it."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten

import numpy as np

from mesm_data.clip import Clip
from mesm_data.utterance import Utterance, Vote


@dataclass(frozen=True, repr=False)
class Item:
    """One utterance of a dataset: what was annotated (`utterance`), what was decoded (`clip`), and its split.

    V is the number of faces (one every `recipe.step` seconds), A the number of mel chunks (400 ms each). Arrays are
    read-only views of the row group they were read from; copy one to change it or to keep it for long.
    """

    split: str  # "train", "valid" or "test"
    emotions: tuple[str, ...]  # names of the labels, in their order
    utterance: Utterance
    clip: Clip

    @property
    def id(self) -> str:
        """Name of the utterance, unique in its dataset."""
        return self.utterance.id

    @property
    def text(self) -> str:
        """The transcript."""
        return self.utterance.text

    @property
    def start(self) -> float:
        """Second of the recording at which the utterance starts."""
        return self.utterance.start

    @property
    def end(self) -> float:
        """Second of the recording at which the utterance ends."""
        return self.utterance.end

    @property
    def speaker(self) -> str:
        """Who speaks."""
        return self.utterance.speaker

    @property
    def group(self) -> str:
        """The dialogue or video that the utterance is from."""
        return self.utterance.group

    @property
    def votes(self) -> tuple[Vote, ...]:
        """What each rater chose: (rater, name, value)."""
        return self.utterance.votes

    @property
    def labels(self) -> Mapping[str, int]:
        """Emotion -> 0 or 1, in the order of `Dataset.emotions`."""
        return dict(zip(self.emotions, self.utterance.labels, strict=True))

    @property
    def faces(self) -> np.ndarray:
        """Aligned face crops, RGB: uint8 [V, 48, 48, 3]."""
        return self.clip.faces

    @property
    def mels(self) -> np.ndarray:
        """Log-mel chunks, natural log of (power + 1e-6): float16 [A, 128, 32], 128 mels by 32 steps of 12.5 ms."""
        return self.clip.mels

    def __repr__(self) -> str:
        named = ", ".join(name for name, label in self.labels.items() if label) or "none"
        return (
            f"Item({self.id!r}, {self.split}, speaker {self.speaker}, {self.start:.2f} s to {self.end:.2f} s, "
            f"emotions: {named}, {len(self.faces)} faces, {len(self.mels)} mel chunks, "
            f"{shorten(self.text, 60, placeholder='...')!r})"
        )
