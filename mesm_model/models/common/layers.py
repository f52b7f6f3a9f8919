"""Layers that models share: the convolutional stem, frame vectors, the ragged transformer with CLS, weighted fusion.

B utterances, E emotions, F frames (faces or mel chunks) of the whole batch, L the longest utterance in frames, d the
embedding size after the convolutions.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mesm_model.batch import FRAMES, LOG_FLOOR, pad
from mesm_model.sparse.dense_stem import FirstConv2d, NormRelu

# Mean and deviation of each input channel. Faces: the published values for RGB of 0..255. Mels: fixed, so that a clip
# is the same input in every dataset; the log power of English speech has -8.6 and 4.7 at 16 kHz, -6.8 and 6.0 at
# 44.1 kHz; silence (log 1e-6 = -13.8) becomes -1.2.
NORMALISATION = {"v": ((159, 111, 102), (37, 33, 32)), "a": ((-8,), (5,))}
MELS = {"log": "natural log of power, normalised", "power": "power as it is, as in the published code"}


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU: [F, Cin, H, W] -> [F, Cout, H, W]; `pool` halves H and W.

    The published convolutions have a bias, which the batch norm subtracts again; omitted here, it saves two passes.
    """

    def __init__(self, cin: int, cout: int, pool: bool = False) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), NormRelu(cout),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), NormRelu(cout, pool),
        )  # fmt: skip


class Front(nn.Module):
    """The low-level stage of FE2E and MESM: raw frames [F, C, H, W] -> [F, width, H/2, W/2] in channels-last layout.

    `mel`, one of MELS, is what the convolutions read of mel chunks. `recompute` keeps only the input for the backward
    pass: half the memory of a whole model for a fifth more work.
    """

    def __init__(self, modality: str, width: int, recompute: bool = False, mel: str = "log") -> None:
        super().__init__()
        self.recompute, self.power = recompute, modality == "a" and mel == "power"
        stats = ((0,), (1,)) if self.power else NORMALISATION[modality]
        mean, deviation = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in stats)
        first = FirstConv2d(FRAMES[modality][0], width, mean, deviation)
        self.layers = nn.Sequential(
            first, NormRelu(width, pool=True), ConvBlock(width, width), ConvBlock(width, width)
        )  # fmt: skip

    def forward(self, frames: Tensor) -> Tensor:
        if self.power:
            frames = mel_power(frames)
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.layers(frames)
        return checkpoint(self.layers, frames, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """The second forward pass must not update the running statistics again."""
        return nullcontext(), _without_running_statistics(self.layers)


class FrameVectors(nn.Sequential):
    """The output of the convolutions as one vector per frame: [F, C, H, W] -> [F, d]."""

    def __init__(self, features: int, hidden: int, embed_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embed_dim))


class UtteranceTransformer(nn.Module):
    """A transformer over the frames of each utterance with a CLS vector in front: packed [F, d] -> CLS [B, d].

    Padding is masked. The CLS of an utterance without frames attends to itself only.
    """

    def __init__(
        self, embed_dim: int, layers: int, heads: int, feed_forward: int, dropout: float, positional_encoding: bool
    ) -> None:
        super().__init__()
        self.positional_encoding = positional_encoding
        self.cls = nn.Parameter(torch.randn(1, embed_dim) / math.sqrt(embed_dim))
        layer = nn.TransformerEncoderLayer(embed_dim, heads, feed_forward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        frames, present = pad(frames, counts)  # [B, L, d], [B, L]
        cls = self.cls.to(frames.dtype).expand(len(frames), 1, -1)
        x = torch.cat([cls, frames], 1)  # [B, 1 + L, d]
        if self.positional_encoding:
            x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        padding = torch.cat([present.new_zeros(len(present), 1), ~present], 1)  # [B, 1 + L]
        return self.encoder(x, src_key_padding_mask=padding)[:, 0]


class Fusion(nn.Module):
    """Weighted sum of the logits of M modalities, initialised as their mean: M x [B, E] -> [B, E].

    The logits of one modality alone are returned as they are, in at least float32.
    """

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.weight: nn.Parameter | None
        self.weight = nn.Parameter(torch.full((modalities,), 1 / modalities)) if modalities > 1 else None

    def forward(self, logits: list[Tensor]) -> Tensor:
        if self.weight is None:
            return logits[0].to(torch.promote_types(logits[0].dtype, torch.float32))
        return (torch.stack(logits, -1) * self.weight).sum(-1)  # a matrix product would be half precision in autocast


def mel_power(log_mels: Tensor) -> Tensor:
    """The power of stored mel chunks, natural log of power + LOG_FLOOR; at least float32.

    Stored as float16, it is exact to 0.4 %. Under float16 autocast it is limited to what float16 holds, 65,504.
    """
    power = log_mels.to(torch.promote_types(log_mels.dtype, torch.float32)).exp().sub(LOG_FLOOR).clamp_min(0)
    kind = power.device.type
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return power.clamp_max(torch.finfo(torch.float16).max) if half else power


def sinusoids(length: int, d: int, device: torch.device | None = None) -> Tensor:
    """Positional encoding [length, d] of Vaswani et al. 2017, section 3.5: sine in even columns, cosine in odd ones."""
    rates = torch.exp(torch.arange(0, d, 2, device=device) * (-math.log(10_000.0) / d))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :d]


@contextmanager
def _without_running_statistics(module: nn.Module) -> Iterator[None]:
    """Within it batch norms compute the same but do not update their running statistics and counters."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    counters = [buffer for name, buffer in module.named_buffers() if name.endswith("num_batches_tracked")]
    counted = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, batches in zip(counters, counted, strict=True):
            counter.copy_(batches)
