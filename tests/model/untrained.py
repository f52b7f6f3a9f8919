"""The folder of a run whose model was never trained: enough to be asked, made in no time."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mesm_data.dataset.reader import Dataset
from mesm_model import models
from mesm_model.models.common import text
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.settings import TrainSettings
from tests.model.conftest import TEXT
from tests.model.narrow import NARROW


def write_run(folder: Path, dataset: Dataset, name: str = "mesm", thresholds: float = 0.5, **settings: Any) -> Path:
    """A narrow model for the emotions and the recipe of a dataset, with weights drawn from seed 0."""
    config_class = models.load(name).Config
    known = {key: value for key, value in NARROW.items() if key in config_class.__dataclass_fields__}
    encoder = {"text_encoder": "tiny"} if "text_encoder" in config_class.__dataclass_fields__ else {}
    config = config_class(**known | {"emotions": len(dataset.emotions)} | encoder | settings)
    folder.mkdir(parents=True)
    if checkpoints.reads_text(config):
        text.prepare("tiny", [TEXT], folder / checkpoints.TEXT)
    torch.manual_seed(0)
    network = checkpoints.make_model(name, config, folder)
    stored = checkpoints.Checkpoint(
        model=name,
        config=asdict(config),
        settings=asdict(TrainSettings()),
        data=checkpoints.about(dataset),
        text=checkpoints.text_digests(folder),
        thresholds=[thresholds] * len(dataset.emotions),
        scores={},
        epoch=0,
        made_with=checkpoints.made_with(),
        weights=network.state_dict(),
    )
    checkpoints.save(folder / "best.pt", stored)
    return folder
