"""A checkpoint: one file that says what was trained, on what, how well it does, and holds the weights.

The text encoder's tokenizer and shape lie beside it, in the run's folder `text`. Files are read with `weights_only`,
so a checkpoint from elsewhere cannot run code.
"""

import errno
import pickle
import platform
import subprocess
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import commit_file
from mesm_model import models
from mesm_model.features import store

FORMAT = 2  # 1: convolutions with a bias before the norm
TEXT = "text"  # folder of the text encoder, in that of the run
LIBRARIES = ("mesm", "numpy", "pyarrow", "tokenizers", "torch", "transformers")


class CheckpointError(DataError):
    """A checkpoint that does not read, or that does not go with the data or the command."""


@dataclass(frozen=True)
class Checkpoint:
    """Plain values and tensors only."""

    model: str
    config: dict[str, Any]  # of the model; its text encoder is the one in the folder TEXT
    settings: dict[str, Any]  # of the training
    data: dict[str, Any]  # `about` of the dataset
    thresholds: list[float]  # of each emotion, chosen on valid
    scores: dict[str, list[float | None]]  # on valid, with these thresholds
    epoch: int  # how many were trained
    made_with: dict[str, str | None]  # versions of libraries, git revision
    weights: dict[str, torch.Tensor]
    resume: dict[str, Any] | None = None  # what only going on needs: optimiser, scaler, position


def about(dataset: Dataset) -> dict[str, Any]:
    """What a run and its checkpoints remember of a dataset."""
    names = ("corpus", "emotions", "content", "split", "split_digest", "recipe_digest", "recipe")
    found = store.features_info(dataset)
    of_features = {"digest": found["digest"], "names": store.named(found)} if found else None
    return {name: dataset.index[name] for name in names} | {"features": of_features}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file whole or not at all. Raises CheckpointError where it cannot be written; an older one stays."""
    temporary = path.with_name(path.name + ".tmp")
    stored = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT} | stored, file)
        commit_file(temporary, path)
    except (OSError, RuntimeError) as error:  # torch hides a full disk behind a RuntimeError of its own
        temporary.unlink(missing_ok=True)
        reason = error.__context__ or error
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); make room, and the same command goes on"
        ) from None


def load(path: Path) -> Checkpoint:
    """The checkpoint of a file, or the best one of a run's folder; on the CPU. Raises CheckpointError."""
    if path.is_dir():
        path = path / "best.pt"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: not found; expected the folder of a run of `mesm train`, or a file best.pt of one"
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found = stored.pop("format")
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, AttributeError, TypeError) as error:
        way = "delete it to begin again" if path.name == "last.pt" else "take another one, or train again"
        raise CheckpointError(f"{path}: not a whole checkpoint of mesm ({_reason(error)}); {way}") from None
    names = {field.name for field in fields(Checkpoint)}
    if found != FORMAT or set(stored) != names:
        raise CheckpointError(f"{path}: checkpoint format {found}, this mesm reads {FORMAT}; train again")
    return Checkpoint(**stored)


def build_model(checkpoint: Checkpoint, folder: Path) -> nn.Module:
    """The trained model, ready to evaluate. `folder` is the run's, where the text encoder lies."""
    if not checkpoint.thresholds:
        raise CheckpointError(f"{folder}: last.pt is where training goes on and has no thresholds; give best.pt")
    module = models.load(checkpoint.model)
    known = {field.name for field in fields(module.Config)}
    if set(checkpoint.config) != known:
        differing = ", ".join(sorted(set(checkpoint.config) ^ known))
        raise CheckpointError(
            f"{folder}: a {checkpoint.model} of another version of mesm, differing in {differing}; train again"
        )
    model = make_model(checkpoint.model, module.Config(**checkpoint.config), folder)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def make_model(name: str, config: Any, folder: Path) -> nn.Module:
    """A new model whose text encoder is the one in the run's `folder`."""
    settings = asdict(config)
    if reads_text(config):
        encoder = folder / TEXT
        if not encoder.is_dir():
            raise CheckpointError(
                f"{encoder}: not found; the text encoder of a run lies beside its checkpoint, keep both"
            )
        settings["text_encoder"] = str(encoder)
    return models.load(name).Model(type(config)(**settings))


def reads_text(config: Any) -> bool:
    """True for a model with a text encoder; the two-phase baselines have features instead."""
    return hasattr(config, "text_encoder") and "t" in config.modalities


def check_data(checkpoint: Checkpoint, dataset: Dataset, run: Path) -> None:
    """Raises CheckpointError unless the dataset has the emotions and the recipe that the model was trained with."""
    trained, given = checkpoint.data, dataset.index
    if list(trained["emotions"]) != list(given["emotions"]):
        raise CheckpointError(
            f"{run} was trained for the emotions {', '.join(trained['emotions'])}; {dataset.folder} has "
            f"{', '.join(given['emotions'])}"
        )
    if trained["recipe_digest"] != given["recipe_digest"]:
        differing = [
            f"{name} {trained['recipe'].get(name)} there, {given['recipe'].get(name)} here"
            for name in sorted(trained["recipe"] | given["recipe"])
            if trained["recipe"].get(name) != given["recipe"].get(name)
        ]
        raise CheckpointError(
            f"{run} was trained on clips of recipe {trained['recipe_digest'][:12]}, {dataset.folder} has clips of "
            f"recipe {given['recipe_digest'][:12]}: {'; '.join(differing)}. Build the dataset with the same recipe, or "
            "train on it"
        )
    _check_features(trained["features"], dataset, run)


def _reason(error: Exception) -> str:
    """What went wrong, without torch's advice: it is to read the file in a way that may run code."""
    line = next(iter(str(error).strip().splitlines()), "").partition(". ")[0].rstrip(".")
    beyond_the_end = getattr(error, "errno", None) == errno.EINVAL
    told = " " in line and not line.startswith("Weights only load failed")
    return line if told and not beyond_the_end else "cut short, or another kind of file"


@lru_cache
def made_with() -> dict[str, str | None]:
    """What this process computes with."""
    return {name: version(name) for name in LIBRARIES} | {"python": platform.python_version(), "git": _revision()}


def _check_features(trained: dict[str, Any] | None, dataset: Dataset, run: Path) -> None:
    given = store.features_info(dataset)
    if trained and given and trained["digest"] != given["digest"]:
        raise CheckpointError(
            f"{run} was trained on the features {trained['names']} with digest {trained['digest'][:12]}, "
            f"{given['folder']} holds {store.named(given)} with digest {given['digest'][:12]}"
        )


def _revision() -> str | None:
    """The commit of the checkout that this file lies in, with "+" when files differ; None outside of a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git here, or no commit yet
        return None
    return said.stdout.strip()
