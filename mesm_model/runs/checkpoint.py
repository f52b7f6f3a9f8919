"""A checkpoint: one file with the weights, what was trained, on what data, and its scores on valid.

The text encoder's tokenizer and configuration lie beside it, in the run's folder `text`. Files are read with
`weights_only`, so a checkpoint from elsewhere cannot run code. Each holds a SHA-256 of its values, checked when it is
loaded: torch.load itself returns changed weights where a bit of the file flipped.
"""

import errno
import hashlib
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import commit_file, sha256_of
from mesm_model import models
from mesm_model.features import store
from mesm_model.models.common.interface import Config, Model

FORMAT = 3  # 2: without digests; 1: convolutions with a bias before the norm
TEXT = "text"  # folder of the text encoder, inside the run's
LIBRARIES = ("mesm", "numpy", "pyarrow", "tokenizers", "torch", "transformers")


class CheckpointError(DataError):
    """A checkpoint that cannot be read, or does not fit the data or the command."""


@dataclass(frozen=True)
class Checkpoint:
    """Plain values and tensors only."""

    model: str
    config: dict[str, Any]  # of the model; its text encoder is the one in the folder TEXT
    settings: dict[str, Any]  # of the training
    data: dict[str, Any]  # `about` of the dataset
    text: dict[str, str]  # file name -> SHA-256 of the folder TEXT; empty for a model without text
    thresholds: list[float]  # of each emotion, chosen on valid
    scores: dict[str, list[float | None]]  # on valid, with these thresholds
    epoch: int  # epochs trained
    made_with: dict[str, str | None]  # versions of libraries, git revision
    weights: dict[str, torch.Tensor]
    resume: dict[str, Any] | None = None  # only in last.pt: optimiser, gradient scaler, position


def about(dataset: Dataset) -> dict[str, Any]:
    """What a run and its checkpoints record about a dataset."""
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
            torch.save({"format": FORMAT, "digest": digest_of(stored)} | stored, file)
        commit_file(temporary, path)
    except (OSError, RuntimeError) as error:  # torch hides a full disk behind a RuntimeError of its own
        temporary.unlink(missing_ok=True)
        reason = error.__context__ or error
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); make room, and the same command resumes"
        ) from None


def load(path: Path) -> Checkpoint:
    """The checkpoint in a file, or the best one of a run's folder; tensors on the CPU.

    Raises CheckpointError for a file that is missing, cut short, changed in any value, or of another format.
    """
    if path.is_dir():
        path = _best_of(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: not found; expected the folder of a run of `mesm train`, or its best.pt")
    way_out = "delete it to start over" if path.name == "last.pt" else "take another one, or train again"
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found, digest = stored.pop("format"), stored.pop("digest", None)
    except Exception as error:  # noqa: BLE001  (of a damaged file torch and pickle raise nearly every kind)
        raise CheckpointError(f"{path}: not a whole checkpoint of mesm ({_reason(error)}); {way_out}") from None
    if found != FORMAT or set(stored) != {field.name for field in fields(Checkpoint)}:
        raise CheckpointError(f"{path}: checkpoint format {found}, this mesm reads {FORMAT}; train again")
    if digest_of(stored) != digest:
        raise CheckpointError(f"{path}: its values are not those that were saved (SHA-256 differs); {way_out}")
    return Checkpoint(**stored)


def digest_of(value: Any) -> str:
    """SHA-256 of nested dicts, lists, tensors and plain values: of every key, type, shape and byte, in order."""
    hashed = hashlib.sha256()
    for piece in _pieces(value):
        hashed.update(piece)
    return hashed.hexdigest()


def text_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a run's text encoder, by name; empty where there is none.

    Without its weights: the checkpoint has its own.
    """
    files = sorted((folder / TEXT).glob("*")) if (folder / TEXT).is_dir() else []
    return {path.name: sha256_of(path) for path in files if path.is_file() and path.suffix != ".safetensors"}


def build_model(checkpoint: Checkpoint, folder: Path) -> Model:
    """The trained model in evaluation mode. `folder` is the run's, where the text encoder lies.

    Raises CheckpointError for last.pt, for a model of another version, and for a text encoder that is lost or changed.
    """
    if not checkpoint.thresholds:
        raise CheckpointError(f"{folder}: last.pt is for resuming and has no thresholds; give best.pt")
    module = models.load(checkpoint.model)
    known = {field.name for field in fields(module.Config)}
    if set(checkpoint.config) != known:
        differing = ", ".join(sorted(set(checkpoint.config) ^ known))
        raise CheckpointError(
            f"{folder}: a {checkpoint.model} of another version of mesm, differing in {differing}; train again"
        )
    model = make_model(checkpoint.model, module.Config(**checkpoint.config), folder)
    check_text(checkpoint, folder)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def check_text(checkpoint: Checkpoint, folder: Path) -> None:
    """Raises CheckpointError unless the text encoder's files are those that the checkpoint was trained with."""
    found = text_digests(folder) if checkpoint.text else {}
    for name, digest in checkpoint.text.items():
        if found.get(name) != digest:
            state = "changed" if name in found else "not found"
            raise CheckpointError(f"{folder / TEXT / name}: {state} since training; copy the run again, or train again")


def make_model(name: str, config: Config, folder: Path) -> Model:
    """A model with initial weights whose text encoder is the one in the run's `folder`."""
    settings = asdict(config)
    if reads_text(config):
        encoder = folder / TEXT
        if not encoder.is_dir():
            raise CheckpointError(
                f"{encoder}: not found; the text encoder of a run lies beside its checkpoint, keep both"
            )
        settings["text_encoder"] = str(encoder)
    return models.load(name).Model(type(config)(**settings))


def reads_text(config: Config) -> bool:
    """True for a model with a text encoder; two-phase models take features instead."""
    return "t" in config.modalities and "text_encoder" in config.__dataclass_fields__


def check_data(checkpoint: Checkpoint, dataset: Dataset, run: Path) -> None:
    """Raises CheckpointError unless the dataset has the emotions, recipe and features of the training data."""
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
    """What went wrong, without torch's advice, which is to read the file in a way that may run code."""
    line = next(iter(str(error).strip().splitlines()), "").partition(". ")[0].rstrip(".")
    beyond_the_end = getattr(error, "errno", None) == errno.EINVAL
    readable = " " in line and not line.startswith("Weights only load failed")
    return line if readable and not beyond_the_end else "cut short, or another kind of file"


def _best_of(run: Path) -> Path:
    """best.pt of a run's folder; the error names the seeds where the folder holds several."""
    seeds = sorted(path.parent.name for path in run.glob("seed-*/best.pt"))
    if seeds and not (run / "best.pt").is_file():
        raise CheckpointError(f"{run}: holds the runs {', '.join(seeds)}; give one of them, as {run / seeds[0]}")
    return run / "best.pt"


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    """The bytes that `digest_of` hashes; each piece starts with its kind and length, so that none run together."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        yield f"tensor {array.dtype} {tuple(array.shape)};".encode()
        yield array.reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, dict):
        yield f"dict {len(value)};".encode()
        for key, one in value.items():
            yield from _pieces(key)
            yield from _pieces(one)
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} {len(value)};".encode()
        for one in value:
            yield from _pieces(one)
    else:
        text = repr(value)
        yield f"{type(value).__name__} {len(text)};{text}".encode()


@lru_cache
def made_with() -> dict[str, str | None]:
    """Versions of what this process computes with."""
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
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git here, or no commit yet
        return None
    return described.stdout.strip()
