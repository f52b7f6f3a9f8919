"""The learning rate and p as functions of the position in a run, so that a resumed run has the same ones."""

import math
from dataclasses import dataclass

PLATEAU_FACTOR = 0.1  # what a plateau multiplies the learning rate by
THRESHOLD = 1e-4  # share by which the loss must fall to count as better


def lr_factor(schedule: str, done: float) -> float:
    """What the learning rates are multiplied by when the share `done` of all epochs is trained.

    `schedule` "cosine" is half a cosine from 1 to 0 (Loshchilov & Hutter 2017, eq. 5); 1 for any other.
    """
    return 0.5 + 0.5 * math.cos(math.pi * done) if schedule == "cosine" else 1.0


@dataclass
class Plateau:
    """The schedule "plateau": torch's ReduceLROnPlateau on the loss on valid, as values that a checkpoint can hold."""

    best: float | None = None  # lowest loss on valid
    bad: int = 0  # epochs since then, or since the last reduction
    factor: float = 1.0  # what the learning rates are multiplied by

    def step(self, loss: float, patience: int) -> None:
        """After an epoch: reduce the factor when the loss has not improved for more than `patience` epochs."""
        if self.best is None or loss < self.best * (1 - THRESHOLD):
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > patience:
            self.factor, self.bad = self.factor * PLATEAU_FACTOR, 0


def annealed_top_p(top_p: float, anneal: float, epoch: int, epochs: int) -> float:
    """The p of epoch number `epoch`, from 0: falls linearly from 1 to `top_p` over the share `anneal` of all epochs."""
    length = anneal * epochs
    left = max(0.0, 1 - epoch / length) if length else 0.0
    return top_p + (1 - top_p) * left
