"""What is printed while a run trains: one line per epoch, to stderr, above the progress bar."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from mesm_model.evaluation import metrics
from mesm_model.evaluation.metrics import NAMES, Scores
from mesm_model.evaluation.tables import percent
from mesm_model.loader import SplitData
from mesm_model.models.common.interface import Model, encoder_description


class EpochTable:
    """Loss, scores on valid and speed of each epoch, below the rows that need no model."""

    def __init__(
        self, run: Path, name: str, model: Model, corpus: str, splits: Mapping[str, SplitData], resuming: int | None
    ) -> None:
        train, valid = splits["train"], splits["valid"]
        size = sum(p.numel() for p in model.parameters())
        device = next(model.parameters()).device
        say(
            f"{run}: {name} with {size:,} parameters on {device}, {len(train)} utterances of {corpus} to train on, "
            f"{len(valid)} to validate" + (f", resuming in epoch {resuming + 1}" if resuming is not None else "")
        )
        encoder = encoder_description(model)
        if encoder:
            say(f"text encoder: {encoder}")
        self._row("epoch", "loss", [*NAMES.values()], "utt/s")
        for row, scores in metrics.trivial(valid.labels).items():
            self._row(row, "", [percent(scores.mean(kind)) for kind in NAMES], "")

    def add(self, epoch: int, loss: float, scores: Scores, best: bool, speed: float) -> None:
        """One epoch; `speed` in utterances per second of training."""
        means = [percent(scores.mean(kind)) for kind in NAMES]
        self._row(str(epoch), f"{loss:.4f}", means, f"{speed:.1f}", "  best" if best else "")

    def _row(self, name: str, loss: str, means: list[str], speed: str, remark: str = "") -> None:
        say(f"{name:<20}{loss:>8}" + "".join(f"{mean:>8}" for mean in means) + f"{speed:>9}{remark}")


def say(line: str) -> None:
    """Print a line to stderr without disturbing a progress bar."""
    tqdm.write(line, file=sys.stderr)
