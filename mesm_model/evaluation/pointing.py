"""How well the nuclei of a model cover the places that the text of a pointer dataset names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.state import read_state_lines
from mesm_model.batch import Batch
from mesm_model.evaluation.inference import READING
from mesm_model.evaluation.scores import Pointing
from mesm_model.loader import SplitData, plan_reading, read
from mesm_model.models.common.attention import Trace
from mesm_model.models.common.interface import Model, SelectsSites
from mesm_model.runs.distributed import Distributed

_BOX = [float, float, float, float]  # left, top, right, bottom
_SHAPE = {"id": str, "v": _BOX, "a": _BOX}  # of a line of places.jsonl


@torch.no_grad()
def pointing(model: Model, split_data: SplitData, dataset: Dataset, ranks: Distributed) -> dict[str, Pointing]:
    """Nucleus against true place, by modality and level.

    Empty for a dataset without places.jsonl, for a model without nuclei, and in all processes but the main one. Raises
    DataError for a places.jsonl that is damaged.
    """
    path = dataset.folder / "places.jsonl"
    if not path.is_file() or not isinstance(model, SelectsSites) or not ranks.is_main:
        return {}
    places = _read_places(path, split_data.ids)
    counts: dict[str, np.ndarray] = {}
    for batch in read(split_data, plan_reading(split_data.megabytes, READING, np.inf)):
        trace = Trace()
        model.eval()(batch.to(ranks.device), trace)
        for level in trace.levels:
            true = _true_sites(batch, level.modality, places, level.selected.shape, 2**level.level)
            sites = np.array([int(x.sum()) for x in (level.selected & true, level.selected, true)] + [true.numel()])
            name = f"{level.modality} level {level.level}"
            counts[name] = counts.get(name, np.zeros(4)) + sites
    return {
        name: Pointing(inside=float(both / selected), chance=float(true / sites), covered=float(both / true))
        for name, (both, selected, true, sites) in sorted(counts.items())
    }


def _read_places(path: Path, ids: Sequence[str]) -> dict[str, Any]:
    """The place of each utterance by its id. Raises DataError for a damaged file, and where one of `ids` is missing."""
    mend = f"delete {path.parent} and make it again with `mesm-data synth pointer`"
    places = {place["id"]: place for place in read_state_lines(path, _SHAPE, mend)}
    if lacking := [name for name in ids if name not in places]:
        raise DataError(f"{path}: lacks {lacking[0]}, which the shards have; {mend}")
    return places


def _true_sites(
    batch: Batch, modality: str, places: Mapping[str, Any], shape: Sequence[int], scale: int
) -> torch.Tensor:
    """bool [F, H, W]: the sites whose centre lies in the place that the text of their utterance names."""
    counts = batch.frames(modality)[1].tolist()
    _, height, width = shape
    x, y = (torch.arange(width) + 0.5) * scale, (torch.arange(height) + 0.5) * scale
    frames = []
    for name, count in zip(batch.ids, counts, strict=True):
        left, top, right, bottom = places[name][modality]
        place = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None, :]
        frames.append(place.expand(count, -1, -1))
    return torch.cat(frames)
