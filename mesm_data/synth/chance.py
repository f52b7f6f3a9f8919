"""Random numbers that depend on a seed and names only, never on what was drawn before them."""

import zlib

import numpy as np


def chance(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of one thing: the same seed and names give the same numbers, in whatever order things are made."""
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])
