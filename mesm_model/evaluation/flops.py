"""What models cost on the utterances of a dataset, in multiply-adds: behind `mesm flops` and `mesm sweep`."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from mesm_data.dataset.reader import Dataset
from mesm_model import models
from mesm_model.batch import FRAMES, Batch
from mesm_model.evaluation.evaluate import open_run
from mesm_model.evaluation.inference import READING
from mesm_model.features.store import as_model_input
from mesm_model.loader import Part, open_part, plan_reading, read
from mesm_model.models.common import text
from mesm_model.models.common.flops import MacCount
from mesm_model.models.common.interface import Model, SelectsSites, encoder_description
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import TEXT
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import text_folder
from mesm_model.runs.settings import RunConfig

STAGES = ("low level", "attention", "convolution", "flatten", "recurrent", "transformer", "text")


# Figure 5 and Tables 3 and 4: GFLOPs at each p, and of FE2E.
PAPER = {0.1: 2.93, 0.2: 3.23, 0.3: 3.58, 0.4: 3.94, 0.5: 4.34, 0.6: 4.71, 0.7: 5.18, 0.8: 5.66, 0.9: 6.47}
PAPER_FE2E = 8.65
PAPER_WIDTH = 64


@dataclass(frozen=True)
class Count:
    """The work of a model on a part of a dataset."""

    utterances: int
    frames: dict[str, int]  # faces under "v", mel chunks under "a"
    work: tuple[MacCount, ...]  # one for each modality and stage
    top_p: float | None  # of a sparse model
    encoder: str | None = None  # the text encoder, in words
    dense: "Count | None" = None  # of a sparse model: the work of FE2E of the same sizes
    width: int = PAPER_WIDTH  # channels of the first convolutions, where there are any

    def macs(self, modality: str = "tav", stages: Iterable[str] = STAGES, without_padding: bool = False) -> int:
        """The sum over these modalities and stages."""
        chosen = [work for work in self.work if work.modality in modality and work.stage in stages]
        return sum(work.macs_without_padding if without_padding else work.macs for work in chosen)


@torch.no_grad()
def count(model: Model, batches: Iterable[Batch]) -> Count:
    """What `model.macs(batch)` says, added up."""
    model.eval()
    utterances, frames = 0, dict.fromkeys(FRAMES, 0)
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for batch in batches:
        utterances += len(batch)
        for modality in FRAMES:
            frames[modality] += int(batch.frames(modality)[1].sum())
        for one in model.macs(batch):
            before = totals.get((one.modality, one.stage), (0, 0))
            totals[one.modality, one.stage] = (before[0] + one.macs, before[1] + one.macs_without_padding)
    work = tuple(MacCount(*key, *macs) for key, macs in totals.items())
    width = getattr(model.config, "width", PAPER_WIDTH)
    return Count(
        utterances,
        frames,
        work,
        model.top_p if isinstance(model, SelectsSites) else None,
        encoder_description(model),
        width=width,
    )


def table(counts: Mapping[str, Count]) -> str:
    """The counts of the models by stage; then those with convolutions beside the paper's figures."""
    parts = [_stages(name, counted) for name, counted in counts.items()]
    of_paper = {name: counted for name, counted in counts.items() if counted.macs(stages=["convolution"])}
    if of_paper:
        parts.append(_aligned([_FIGURES, *(_figures(name, counted) for name, counted in of_paper.items())]))
    shares = [_share(name, counted, counted.dense) for name, counted in counts.items() if counted.dense]
    if shares:
        parts.append(_aligned([_SHARES, *shares]))
    return "\n\n".join([*parts, _REMARK] if of_paper else parts)


_TRUNK = ("low level", "attention", "convolution")
_FIGURES = ["GFLOP", "trunk of 9 faces", "paper"]
_SHARES = ["share of FE2E", "trunk", "without borders", "whole model", "without borders", "paper"]
_REMARK = f"""\
The paper gives {PAPER_FE2E} GFLOPs for FE2E and does not say what it counts. Closest is the visual trunk over 9 faces,
4.5 s at one face in 0.5 s: 8.61 GFLOPs of convolutions, 8.65 with norms and biases. That cannot be proven, so compare
the shares, not the figures. Shares are of FE2E of the same sizes."""


def _stages(name: str, counted: Count) -> str:
    """One model: GMAC a face, a chunk and an utterance, and GFLOP an utterance."""
    rows = [[name, "GMAC a face", "a chunk", "an utterance", "without borders", "GFLOP an utterance"]]
    shown = [(stage, (stage,)) for stage in STAGES] + [("trunk", _TRUNK), ("whole model", STAGES)]
    for label, stages in shown:
        if not counted.macs(stages=stages):
            continue
        a_frame = [
            counted.macs(modality, stages) / counted.frames[modality] / 1e9 if counted.frames[modality] else 0.0
            for modality in "va"
        ]
        whole, unpadded = (counted.macs("tav", stages, only) / counted.utterances / 1e9 for only in (False, True))
        rows.append([label, *(f"{value:.4f}" for value in (*a_frame, whole, unpadded)), f"{2 * whole:.4f}"])
    return _aligned(rows)


def _figures(name: str, counted: Count) -> list[str]:
    """What the paper may have counted, and its figure for this p, if the model is as wide."""
    faces, paper = counted.frames["v"], PAPER.get(round(counted.top_p, 2)) if counted.top_p else PAPER_FE2E
    nine = f"{2 * 9 * counted.macs('v', _TRUNK) / faces / 1e9:.2f}" if faces else "-"
    return [name, nine, f"{paper:.2f}" if paper and counted.width == PAPER_WIDTH else "-"]


def _share(name: str, counted: Count, dense: Count) -> list[str]:
    """Trunk and whole model, each with and without borders, and what the paper has for this p."""
    shares = [
        _ratio(counted.macs("tav", stages, unpadded), dense.macs("tav", stages, unpadded))
        for stages in (_TRUNK, STAGES)
        for unpadded in (False, True)
    ]
    paper = PAPER.get(round(counted.top_p, 2)) if counted.top_p else None
    return [name, *shares, f"{paper / PAPER_FE2E:.2f}" if paper else "-"]


def _ratio(above: int, below: int) -> str:
    return f"{above / below:.3f}" if below else "-"


def _aligned(rows: list[list[str]]) -> str:
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, wide, strict=True))
        )
        for row in rows
    )
    return "\n".join(lines)


def count_models(
    dataset: Dataset, part: str, choices: dict[str, RunConfig], ranks: Distributed, cache: Path | None = None
) -> dict[str, Count]:
    """The work of untrained models on one part, by their names."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        training = open_part(dataset, "train", None, cache)
        for name, choice in choices.items():
            if checkpoints.reads_text(choice.config):
                text.prepare(
                    choice.config.text_encoder, training.texts, Path(folder) / TEXT, choice.settings.max_tokens
                )
            torch.manual_seed(choice.settings.seed)
            model = checkpoints.make_model(choice.model, choice.config, Path(folder))
            suiting = as_model_input(dataset, choice.model, choice.config)
            opened = open_part(suiting, part, text_folder(model, Path(folder)), cache)
            counts[name] = _beside_dense(model, opened, Path(folder), ranks)
    return counts


def count_run(run: Path, dataset: Dataset, part: str, ranks: Distributed, cache: Path | None = None) -> Count:
    """The work of a trained run on one part."""
    opened = open_run(run, dataset, part, ranks, cache)
    return _beside_dense(opened.model, opened.part, run if run.is_dir() else run.parent, ranks)


def count_part(model: Model, part: Part, ranks: Distributed) -> Count:
    """The work of a model on the utterances of a part."""
    batches = read(part, plan_reading(part.megabytes, READING, float("inf")))
    return count(model.to(ranks.device), (batch.to(ranks.device) for batch in batches))


def _beside_dense(model: Model, part: Part, folder: Path, ranks: Distributed) -> Count:
    """The work of a model whose text encoder lies in `folder`; of a sparse one with that of FE2E of its sizes."""
    counted = count_part(model, part, ranks)
    if not isinstance(model, SelectsSites):
        return counted
    kind = models.load("fe2e").Config
    twin = kind(**{field.name: getattr(model.config, field.name) for field in fields(kind)})
    return replace(counted, dense=count_part(checkpoints.make_model("fe2e", twin, folder), part, ranks))
