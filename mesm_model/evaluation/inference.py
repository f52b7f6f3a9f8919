"""Probabilities of a model on one split of a dataset."""

from collections.abc import Callable

import numpy as np
import torch

from mesm_model.batch import Batch
from mesm_model.loader import SplitData, plan_reading, read
from mesm_model.models.common.interface import Model
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.settings import PRECISIONS

READING = 32  # utterances per batch; without gradients, larger batches are not faster


@torch.no_grad()
def probabilities(
    model: Model,
    split_data: SplitData,
    ranks: Distributed,
    precision: str = "fp32",
    batch_memory_mb: float = np.inf,
    workers: int = 0,
) -> np.ndarray:
    """float32 [n, E], in the order of `split_data`; the same in every process and for any number of processes.

    `batch_memory_mb` bounds a batch as in training, `workers` are DataLoader worker processes.
    """
    model.eval()
    batches = plan_reading(split_data.megabytes, READING, batch_memory_mb)
    mine = batches[ranks.rank :: ranks.world]
    found = []
    for batch in read(split_data, mine, workers, ranks.device.type == "cuda"):
        found.append(forward(model, batch.to(ranks.device), precision).sigmoid().cpu().numpy())
    shared = ranks.gather(found)
    in_order = [shared[n % ranks.world][n // ranks.world] for n in range(len(batches))]
    return np.concatenate(in_order) if in_order else np.zeros((0, split_data.labels.shape[1]), np.float32)


def forward(model: Callable[[Batch], torch.Tensor], batch: Batch, precision: str) -> torch.Tensor:
    """Logits float32 [B, E], computed in `precision`, a key of PRECISIONS."""
    dtype = PRECISIONS[precision]
    with torch.autocast(batch.faces.device.type, dtype, enabled=dtype is not None):
        return model(batch).float()
