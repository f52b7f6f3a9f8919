"""What the models share: the convolutional front, frames to vectors, the ragged transformer with CLS, weighted fusion.

B utterances, E emotions, F frames (faces or mel chunks) of the whole batch, L the most frames of one utterance, d the
model's width behind the convolutions.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mesm_model.batch import FRAMES, pad
from mesm_model.sparse.dense_stem import FirstConv2d, NormRelu

# Mean and deviation of each input channel. Faces: the published figures for RGB of 0..255. Mels: fixed, so that a clip
# is the same input in every dataset; natural log power of English speech measured -8.6 and 4.7 at 16 kHz, -6.8 and 6.0
# at 44.1 kHz; silence (log 1e-6 = -13.8) becomes -1.2.
NORMALISATION = {"v": ((159, 111, 102), (37, 33, 32)), "a": ((-8,), (5,))}


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with norm and ReLU: [F, Cin, H, W] -> [F, Cout, H, W]; `pool` halves H and W.

    The published convolutions add a bias, which the norm behind takes away again: left out here, two passes less each.
    """

    def __init__(self, cin: int, cout: int, pool: bool = False) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), NormRelu(cout),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), NormRelu(cout, pool),
        )  # fmt: skip


class Front(nn.Module):
    """The low-level stage of FE2E and MESM on raw frames: [F, C, H, W] -> [F, width, H/2, W/2], laid out channels last.

    `recompute` keeps only the input for the backward pass: half the memory of a whole model for a fifth more work.
    """

    def __init__(self, modality: str, width: int, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        figures = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in NORMALISATION[modality])
        first = FirstConv2d(FRAMES[modality][0], width, *figures)
        self.layers = nn.Sequential(
            first, NormRelu(width, pool=True), ConvBlock(width, width), ConvBlock(width, width)
        )  # fmt: skip

    def forward(self, frames: Tensor) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.layers(frames)
        return checkpoint(self.layers, frames, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """The second pass must not count in the running statistics once more."""
        return nullcontext(), _without_running_statistics(self.layers)


class FrameVectors(nn.Sequential):
    """What the convolutions leave of a frame, as one vector: [F, C, H, W] -> [F, d]."""

    def __init__(self, features: int, hidden: int, d: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, d))


class UtteranceTransformer(nn.Module):
    """A transformer over the frames of each utterance with a CLS vector in front: packed [F, d] -> CLS [B, d].

    Padding is masked. The CLS of an utterance without frames sees nothing but itself.
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
    """Weighted sum of the modalities' logits, in the order t, a, v; it starts as their mean: M x [B, E] -> [B, E]."""

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((modalities,), 1 / modalities))

    def forward(self, logits: list[Tensor]) -> Tensor:
        return (torch.stack(logits, -1) * self.weight).sum(-1)  # a product would leave single precision under autocast


def sinusoids(length: int, d: int, device: torch.device | None = None) -> Tensor:
    """The positions of Vaswani et al. 2017, section 3.5: sine in even columns, cosine in odd ones, [length, d]."""
    rates = torch.exp(torch.arange(0, d, 2, device=device) * (-math.log(10_000.0) / d))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :d]


@contextmanager
def _without_running_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms go on as before, but leave their running figures and counters as they are."""
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
