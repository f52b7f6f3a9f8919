"""The learning rate and p as functions of the position in a run, so that a resumed run has the same ones."""

import math


def lr_factor(schedule: str, done: float) -> float:
    """What the learning rates are multiplied by when the share `done` of all epochs is trained.

    `schedule` is "constant" (1 throughout) or "cosine" (half a cosine from 1 to 0: Loshchilov & Hutter 2017, eq. 5).
    """
    return 0.5 + 0.5 * math.cos(math.pi * done) if schedule == "cosine" else 1.0


def annealed_top_p(top_p: float, anneal: float, epoch: int, epochs: int) -> float:
    """The p of epoch number `epoch`, from 0: falls linearly from 1 to `top_p` over the share `anneal` of all epochs."""
    length = anneal * epochs
    left = max(0.0, 1 - epoch / length) if length else 0.0
    return top_p + (1 - top_p) * left
