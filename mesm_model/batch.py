"""`Batch`, the input of every model. Ragged and packed: the frames of all utterances in one tensor, with counts.

B utterances, E emotions; T tokens, V faces, A mel chunks, each counted over the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mesm_data.errors import DataError

FACE = (3, 48, 48)  # RGB, 0..255
MEL = (1, 128, 32)  # natural log of power + LOG_FLOOR: 128 mels, 32 steps of 12.5 ms
LOG_FLOOR = 1e-6  # as in mesm_data.clip.Recipe
FRAMES = {"a": MEL, "v": FACE}  # the modalities of frames, and the shape of one


@dataclass(frozen=True)
class Example:
    """The model input of one utterance. Faces and mels may be empty; tokens too, for models without text."""

    id: str
    text: str
    tokens: Tensor  # int64 [T]
    faces: Tensor  # uint8 [V, 3, 48, 48]
    mels: Tensor  # float16 [A, 1, 128, 32]
    labels: Tensor  # float32 [E], 0 or 1
    features: Mapping[str, Tensor] = field(default_factory=dict)  # "t", "a", "v" -> float32 [S, size], see features.py


@dataclass(frozen=True)
class Batch:
    """Utterances, stacked in order. Shapes and counts are checked here, once; raises DataError.

    The counts stay on the CPU: they decide shapes, and reading each from a GPU would make the host wait.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    tokens: Tensor  # int64 [T]
    token_counts: Tensor  # int64 [B]
    faces: Tensor  # uint8 or float [V, 3, 48, 48]
    face_counts: Tensor  # int64 [B]
    mels: Tensor  # float [A, 1, 128, 32]
    mel_counts: Tensor  # int64 [B]
    labels: Tensor  # float32 [B, E]
    features: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # modality -> [S, size], int64 [B]

    def __post_init__(self) -> None:
        utterances = len(self.ids)
        _expect(utterances > 0, "an empty batch", "at least one utterance")
        _expect(len(self.texts) == utterances, f"{len(self.texts)} texts", f"{utterances}, one per utterance")
        _expect_shape("labels", self.labels, (utterances, None))
        for name, rows, counts, shape in (
            ("tokens", self.tokens, self.token_counts, ()),
            ("faces", self.faces, self.face_counts, FACE),
            ("mels", self.mels, self.mel_counts, MEL),
            *((f"features {name}", *ragged, (None,)) for name, ragged in self.features.items()),
        ):
            _expect_shape(name, rows, (None, *shape))
            _expect_shape(f"counts of {name}", counts, (utterances,))
            _expect(not counts.is_cuda, f"counts of {name} on {counts.device}", "counts on the CPU")
            total = int(counts.sum())
            _expect(int(counts.min()) >= 0, f"a negative count of {name}", "0 or more")
            _expect(total == len(rows), f"{len(rows)} {name}", f"{total}, the sum of their counts")

    def __len__(self) -> int:
        return len(self.ids)

    def frames(self, modality: str) -> tuple[Tensor, Tensor]:
        """The frames of modality "a" or "v" and their counts."""
        return {"a": (self.mels, self.mel_counts), "v": (self.faces, self.face_counts)}[modality]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its data on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by a DataLoader."""
        return self._with(Tensor.pin_memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: in shared memory, where torch puts the tensors of a worker process, a full one hangs.

        Containers have little of it: 64 MB in Docker.
        """
        return _unpickle, ({one.name: _to_numpy(getattr(self, one.name)) for one in fields(self)},)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same batch with its data changed; the counts stay."""
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in _DATA}
        features = {name: (change(rows), counts) for name, (rows, counts) in self.features.items()}
        return replace(self, **changed, features=features)


def model_input(
    id: str, text: str, tokens: Sequence[int], faces: np.ndarray, mels: np.ndarray, labels: np.ndarray
) -> Example:
    """An utterance and its clip as a model takes them.

    `faces` are uint8 [V, 48, 48, 3], `mels` float16 [A, 128, 32] as in a Clip, `labels` float32 [E].
    """
    return Example(
        id=id,
        text=text,
        tokens=torch.tensor(tokens, dtype=torch.int64),
        faces=torch.from_numpy(np.array(faces.transpose(0, 3, 1, 2), order="C")),
        mels=torch.from_numpy(np.array(mels[:, None])),
        labels=torch.from_numpy(labels),
    )


def collate(examples: Sequence[Example]) -> Batch:
    """One batch of the given utterances, in their order."""
    return Batch(
        ids=tuple(example.id for example in examples),
        texts=tuple(example.text for example in examples),
        tokens=torch.cat([example.tokens for example in examples]),
        token_counts=torch.tensor([len(example.tokens) for example in examples]),
        faces=torch.cat([example.faces for example in examples]),
        face_counts=torch.tensor([len(example.faces) for example in examples]),
        mels=torch.cat([example.mels for example in examples]),
        mel_counts=torch.tensor([len(example.mels) for example in examples]),
        labels=torch.stack([example.labels for example in examples]),
        features={name: _ragged([example.features[name] for example in examples]) for name in examples[0].features},
    )


def owners(counts: Tensor, device: torch.device) -> Tensor:
    """The utterance of each packed row: int64 [sum of counts], on `device`."""
    return torch.repeat_interleave(counts).to(device, non_blocking=True)


def pad(rows: Tensor, counts: Tensor, fill: float = 0) -> tuple[Tensor, Tensor]:
    """Packed rows [sum of counts, ...] as [B, L, ...], bool [B, L], true where there is one; L: the largest count."""
    longest = int(counts.max())
    places = _places(counts, longest).to(rows.device, non_blocking=True)
    padded = rows.new_full((len(counts) * longest, *rows.shape[1:]), fill).index_copy(0, places, rows)
    present = torch.arange(longest) < counts[:, None]
    return padded.view(len(counts), longest, *rows.shape[1:]), present.to(rows.device, non_blocking=True)


def _to_numpy(value: Any) -> Any:
    """Tensors as arrays, also those of features."""
    if isinstance(value, Mapping):
        return {name: tuple(map(_to_numpy, ragged)) for name, ragged in value.items()}
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _to_torch(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: tuple(map(_to_torch, ragged)) for name, ragged in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _unpickle(values: dict[str, Any]) -> Batch:
    return Batch(**{name: _to_torch(value) for name, value in values.items()})


def _ragged(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat(list(rows)), torch.tensor([len(own) for own in rows])


_DATA = ("tokens", "faces", "mels", "labels")


def _places(counts: Tensor, longest: int) -> Tensor:
    """Where each packed row goes in the flattened padded tensor."""
    starts = counts.cumsum(0) - counts
    shift = torch.arange(len(counts)) * longest - starts
    return torch.arange(int(counts.sum())) + shift.repeat_interleave(counts)


def _expect_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """None stands for any length."""
    fits = tensor.ndim == len(shape) and all(
        want in (None, found) for want, found in zip(shape, tensor.shape, strict=True)
    )
    wanted = ["any" if length is None else length for length in shape]
    _expect(fits, f"{name} of shape {list(tensor.shape)}", str(wanted).replace("'", ""))


def _expect(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise DataError(f"batch: found {found}, expected {expected}")
