"""One line with the way out where memory, of a GPU or the machine, does not suffice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from mesm_data.errors import DataError
from mesm_model.batch import Batch
from mesm_model.runs.settings import TrainSettings

SMALLER = "lower --set width=... or hidden"


@contextmanager
def enough_memory(message: Callable[[], str]) -> Iterator[None]:
    """Raises DataError with this message where torch runs out of memory inside."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise DataError(f"out of memory{message()}") from None
        raise


def too_large(batch: Batch, settings: TrainSettings) -> str:
    """What was in a batch that did not fit, and which options need less."""
    return (
        f" in a batch of {len(batch)} utterances with {len(batch.faces)} faces, {len(batch.mels)} mel chunks and "
        f"{len(batch.tokens)} tokens; lower --batch (now {settings.batch}) or --set batch_memory_mb=... (now "
        f"{settings.batch_memory_mb:g} megabytes), or give --precision bf16 or --set recompute_front=true"
    )
