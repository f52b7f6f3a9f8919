"""MulT: the multimodal transformer (Tsai et al. 2019), a two-phase baseline of the paper; sequences need no alignment.

A temporal convolution brings each modality to one width. Each modality then attends to the two others by crossmodal
transformers, six in all; their outputs go through a transformer of its own; its last step, concatenated with those of
the other modalities, gives the logits. Sizes and dropouts are those of Dai et al.'s copy for IEMOCAP (width 40, 4
layers), whose attention is not causal; the original has width 30, 5 layers, 5 heads and convolutions of one step.

Four deviations: the convolutions keep the length, so that one word is enough; the last step is that of the utterance,
not of the padding; positions are encoded as printed by Vaswani et al., from 0, with interleaved sines and cosines; and
dropout of the embedding drops the same step as key and as value.

B utterances, E emotions, L the longest utterance in steps, C channels, M modalities.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_model.batch import Batch, pad
from mesm_model.models import check, check_modalities
from mesm_model.models.common import flops
from mesm_model.models.common.layers import sinusoids
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.models.common.two_phase import FixedInputs, sizes

# The training settings of the original that differ from `TrainSettings`.
SUGGESTED = {"lr": 1e-3, "batch": 24, "epochs": 40, "patience": 8, "grad_clip_norm": 0.8}
SPACE = {
    "lr": Between(1e-4, 3e-3, log=True),
    "batch": OneOf(16, 24, 32),
    "layers": OneOf(2, 4),
    "embedding_dropout": Between(0.0, 0.4),
    "attention_dropout": Between(0.0, 0.4),
}
PRESETS = {
    "published": {  # training as in the original, with ReduceLROnPlateau; sizes and dropouts of Dai et al.'s copy
        "any": SUGGESTED
        | {
            "lr_schedule": "plateau", "plateau_patience": 20, "channels": 40, "heads": 10, "layers": 4,
            "text_kernel": 3, "audio_kernel": 5, "vision_kernel": 3, "embedding_dropout": 0.3,
            "attention_dropout": 0.25, "audio_attention_dropout": 0.0, "vision_attention_dropout": 0.0, "dropout": 0.1,
        },
        "mosei": {"heads": 8, "embedding_dropout": 0.2, "attention_dropout": 0.2},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The sizes of Dai et al.'s copy; those of the inputs follow from `--features`."""

    emotions: int = 6
    modalities: str = "tav"
    text_size: int = 300
    audio_size: int = 142
    vision_size: int = 35
    channels: int = 40
    heads: int = 10  # 8 for CMU-MOSEI
    layers: int = 4
    text_kernel: int = 3  # steps
    audio_kernel: int = 5
    vision_kernel: int = 3
    embedding_dropout: float = 0.3  # of the word vectors and of the inputs of a transformer
    attention_dropout: float = 0.25  # of attention to text, and of a modality to itself
    audio_attention_dropout: float = 0.0  # of attention to audio
    vision_attention_dropout: float = 0.0  # of attention to vision
    dropout: float = 0.1  # of the feed-forward layers and the residuals

    def __post_init__(self) -> None:
        check_modalities(self.modalities)
        for name in ("emotions", "text_size", "audio_size", "vision_size", "channels", "heads", "layers"):
            check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        check(self.channels % self.heads == 0, "channels", self.channels, f"a multiple of heads, {self.heads}")
        for name in ("text_kernel", "audio_kernel", "vision_kernel"):
            kernel = getattr(self, name)
            check(kernel > 0 and kernel % 2 == 1, name, kernel, "an odd number")
        for name in (field.name for field in fields(self) if field.name.endswith("dropout")):
            check(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 or more and less than 1")


class Layer(nn.Module):
    """Attention of `x` [B, L, d] to `source` [B, K, d] and a feed-forward layer, pre-norm with residuals."""

    def __init__(self, d: int, config: Config, attention_dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d)  # one for query, key and value, as in the original
        self.attention = nn.MultiheadAttention(d, config.heads, attention_dropout, batch_first=True)
        self.forward_norm = nn.LayerNorm(d)
        self.feed_forward = nn.Sequential(
            nn.Linear(d, 4 * d), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(4 * d, d)
        )
        self.dropout = nn.Dropout(config.dropout)
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, source: Tensor, absent: Tensor) -> Tensor:
        """`absent` bool [B, K] is true where `source` has no step."""
        keys = self.norm(source)
        attended, _ = self.attention(self.norm(x), keys, keys, key_padding_mask=absent, need_weights=False)
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.forward_norm(x)))


class Encoder(nn.Module):
    """A transformer in which `x` attends to `source` in every layer; without `source`, to itself."""

    def __init__(self, d: int, layers: int, config: Config, attention_dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(Layer(d, config, attention_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d)

    def forward(self, x: Tensor, absent: Tensor, source: Tensor | None = None) -> Tensor:
        """`absent` is that of `source` where there is one, else of `x`."""
        x = self._embed(x)
        if source is not None:
            source = self._embed(source)
        for layer in self.layers:
            x = layer(x, x if source is None else source, absent)
        return self.norm(x)

    def _embed(self, x: Tensor) -> Tensor:
        positions = sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        return self.dropout(math.sqrt(x.shape[2]) * x + positions)


class Model(nn.Module):
    """`forward(batch)` returns logits [B, E]. Of two modalities each attends to the other; one attends to itself."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels, found = config.channels, sizes(config)
        self.inputs = FixedInputs(found)
        self.convolutions = nn.ModuleDict({m: _convolution(m, size, config) for m, size in found.items()})
        self.crossings = nn.ModuleDict(
            {
                target + m: Encoder(channels, config.layers, config, _attention_dropout(config, m))
                for target in found
                for m in found
                if m != target
            }
        )
        self.width = channels * max(len(found) - 1, 1)  # of the outputs of a modality's crossmodal transformers
        memory = (self.width, max(config.layers, 3), config, config.attention_dropout)
        self.memories = nn.ModuleDict({m: Encoder(*memory) for m in found})
        joined = self.width * len(found)
        self.hidden = nn.Sequential(
            nn.Linear(joined, joined), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(joined, joined)
        )
        self.head = nn.Linear(joined, config.emotions)

    def forward(self, batch: Batch) -> Tensor:
        steps, absent, lasts = {}, {}, []
        for modality in self.convolutions:
            steps[modality], absent[modality] = self._convolved(batch, modality)
        for target, own in steps.items():
            crossed = [self.crossings[target + m](own, absent[m], steps[m]) for m in steps if m != target]
            x = torch.cat(crossed, -1) if crossed else own  # [B, L, width]
            x = self.memories[target](x, absent[target])
            lasts.append(_last(x, batch.features[target][1]))
        joined = torch.cat(lasts, -1)  # [B, M width]
        return self.head(joined + self.hidden(joined))

    def macs(self, batch: Batch) -> list[flops.MacCount]:
        """Multiply-adds of `forward(batch)`, by modality and stage."""
        config, found, work = self.config, sizes(self.config), []
        joined = self.width * len(found)
        counts = {m: batch.features[m][1].clamp(min=1) for m in found}
        for modality, size in found.items():
            products = int(counts[modality].sum()) * _kernel(config, modality) * size * config.channels
            work.append(flops.MacCount.exact(modality, "convolution", products))
            reading = sum(_crossing(counts[modality], counts[m], config) for m in found if m != modality)
            memory = flops.transformer(counts[modality], self.width, max(config.layers, 3), 4 * self.width)
            head = len(batch) * self.width * (2 * joined + config.emotions)  # this modality's share
            work.append(flops.MacCount.exact(modality, "transformer", reading + memory + head))
        return work

    def _convolved(self, batch: Batch, modality: str) -> tuple[Tensor, Tensor]:
        """Features [B, L, C], and bool [B, L], true where there is no step; one of zeros if an utterance has none."""
        x, present = pad(*_with_a_step(*self.inputs(batch, modality)))  # [B, L, size]; 0 where not present
        if modality == "t":
            x = F.dropout(x, self.config.embedding_dropout, self.training)
        x = self.convolutions[modality](x.transpose(1, 2)).transpose(1, 2)
        return x * present[:, :, None], ~present


def _kernel(config: Config, modality: str) -> int:
    return {"t": config.text_kernel, "a": config.audio_kernel, "v": config.vision_kernel}[modality]


def _attention_dropout(config: Config, source: str) -> float:
    """The dropout of attention to a modality."""
    return {
        "t": config.attention_dropout,
        "a": config.audio_attention_dropout,
        "v": config.vision_attention_dropout,
    }[source]


def _convolution(modality: str, size: int, config: Config) -> nn.Conv1d:
    kernel = _kernel(config, modality)
    return nn.Conv1d(size, config.channels, kernel, padding=kernel // 2, bias=False)


def _with_a_step(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows, with a row of zeros for each utterance without any: softmax needs one key at least."""
    if bool((counts > 0).all()):
        return rows, counts
    filled = counts.clamp(min=1)
    own = torch.repeat_interleave(counts > 0, filled).nonzero().squeeze(1)
    return rows.new_zeros(int(filled.sum()), rows.shape[1]).index_copy(0, own.to(rows.device), rows), filled


def _last(x: Tensor, counts: Tensor) -> Tensor:
    """The last step of each utterance: [B, L, d] -> [B, d]."""
    at = (counts - 1).clamp(min=0).to(x.device)
    return x[torch.arange(len(x), device=x.device), at]


def _crossing(targets: Tensor, sources: Tensor, config: Config) -> int:
    """Multiply-adds of one crossmodal transformer, without padding."""
    d = config.channels
    of_target = int(targets.sum()) * (2 * d * d + 8 * d * d)  # query and output projections, feed-forward
    of_source = int(sources.sum()) * 2 * d * d  # keys and values
    return config.layers * (of_target + of_source + int((targets * sources).sum()) * 2 * d)
