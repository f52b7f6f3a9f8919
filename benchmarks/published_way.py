"""FE2E and MESM computed as the published implementation does, rewritten from its description, for bench_train.py.

Differences from the models of this project: convolutions in the default memory layout; text padded to 100 tokens
whatever its length; MESM scores and selects frame by frame in Python, and finds the sites of a frame by a scan over all
of them; a sparse convolution gathers, multiplies and scatters all rows of an offset at once, as in SparseConvNet. Face
detection, which the published code runs inside `forward`, is timed separately. In its favour, the tables of neighbours
are those of this project, where SparseConvNet hashes every site; in experiments its convolutions were slower still.

B utterances, E emotions, F frames of the whole batch, n rows of active sites.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mesm_model.batch import FRAMES, Batch
from mesm_model.models import fe2e, mesm
from mesm_model.models.common.layers import NORMALISATION, FrameVectors, UtteranceTransformer
from mesm_model.models.common.text import TextBranch
from mesm_model.sparse.conv import SparseBatchNorm, SparseMaxPool2d
from mesm_model.sparse.sites import CENTRE, Sites

Pairs = list[tuple[int, Tensor, Tensor]]  # offset, rows that have a neighbour there, those neighbours

PADDED = 100  # tokens per utterance, as in the published command


class Published(nn.Module):
    """`forward(batch)` gives logits [B, E]."""

    def __init__(self, config: fe2e.Config | mesm.Config) -> None:
        super().__init__()
        self.text = TextBranch(config.text_encoder, config.emotions)
        branch = MesmBranch if isinstance(config, mesm.Config) else Fe2eBranch
        self.frames = nn.ModuleDict({m: branch(m, self.text.hidden_size, config) for m in FRAMES})
        self.fusion = nn.Linear(3, 1, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        padded, lengths = pad_text(batch.tokens, batch.token_counts)
        text_logits, cls = self.text(padded, lengths)
        logits = [text_logits, *(branch(*batch.frames(m), cls) for m, branch in self.frames.items())]
        return self.fusion(torch.stack(logits, -1)).squeeze(-1)


def pad_text(tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Every utterance padded to PADDED tokens, all of them attended to: the cost is that of masked padding."""
    rows = [torch.cat([row, row.new_zeros(PADDED - len(row))]) for row in tokens.split(counts.tolist())]
    return torch.cat(rows), torch.full_like(counts, PADDED)


class Fe2eBranch(nn.Module):
    """One modality of FE2E."""

    def __init__(self, modality: str, query: int, config: fe2e.Config) -> None:
        super().__init__()
        width = config.width
        self.mean, self.deviation = (
            torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in NORMALISATION[modality]
        )
        self.front = front(modality, width)
        self.blocks = nn.Sequential(
            *(layer for level in range(3) for layer in (*block(width << level, 2 * width << level), nn.MaxPool2d(2)))
        )
        self.after = After(modality, config)

    def forward(self, frames: Tensor, counts: Tensor, cls: Tensor) -> Tensor:
        return self.after(self.blocks(self.front((frames - self.mean) / self.deviation)), counts)


class MesmBranch(nn.Module):
    """One modality of MESM."""

    def __init__(self, modality: str, query: int, config: mesm.Config) -> None:
        super().__init__()
        width = config.width
        self.top_p = config.top_p
        self.mean, self.deviation = (
            torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in NORMALISATION[modality]
        )
        self.front = front(modality, width)
        channels = [width << level for level in range(3)]
        self.keys = nn.ModuleList(nn.Linear(c, c) for c in channels)
        self.queries = nn.ModuleList(nn.Linear(query, c, bias=False) for c in channels)
        self.scores = nn.ModuleList(nn.Linear(c, 1) for c in channels)
        self.convs = nn.ModuleList(Convolution(a, b) for c in channels for a, b in ((c, 2 * c), (2 * c, 2 * c)))
        self.norms = nn.ModuleList(SparseBatchNorm(2 * c) for c in channels for _ in range(2))
        self.pool = SparseMaxPool2d()
        self.after = After(modality, config)

    def forward(self, frames: Tensor, counts: Tensor, cls: Tensor) -> Tensor:
        grid = self.front((frames - self.mean) / self.deviation)
        texts = torch.cat([text.expand(count, -1) for text, count in zip(cls, counts.tolist(), strict=True)])  # [F, Q]
        sites = Sites.all(len(grid), grid.shape[2], grid.shape[3])
        x = sites.from_dense(grid)
        for level in range(3):
            x, sites = self.level(level, x, sites, texts)
        return self.after(sites.to_dense(x), counts)

    def level(self, level: int, x: Tensor, sites: Sites, texts: Tensor) -> tuple[Tensor, Sites]:
        """Attention and selection frame by frame, two convolutions, pooling."""
        selected = torch.zeros(len(x), dtype=torch.bool)
        for frame in range(sites.frames):
            rows = (sites.frame == frame).nonzero().flatten()
            hidden = torch.tanh(self.keys[level](x[rows]) + self.queries[level](texts[frame]))
            attention = self.scores[level](hidden).squeeze(1).softmax(0).detach()
            mass, order = attention.sort(descending=True)
            count = int((mass.cumsum(0) - mass < self.top_p).sum())
            selected[rows[order[:count]]] = True
        x, chosen = x[selected], sites.keep(selected)
        for number in (2 * level, 2 * level + 1):
            x = self.norms[number](self.convs[number](x, chosen), chosen).relu()
        return self.pool(x, chosen)


class Convolution(nn.Module):
    """A 3x3 submanifold convolution [n, Cin] -> [n, Cout], offset by offset."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, cin, cout) * (2 / (9 * cin)) ** 0.5)

    def forward(self, x: Tensor, sites: Sites) -> Tensor:
        if "pairs" not in sites.cache:
            found = [(k, (column >= 0).nonzero().flatten()) for k, column in enumerate(sites.neighbours.unbind(1))]
            sites.cache["pairs"] = [(k, here, sites.neighbours[here, k]) for k, here in found if k != CENTRE]
        return OffsetByOffset.apply(x, self.weight, sites.cache["pairs"])


class OffsetByOffset(torch.autograd.Function):
    """y[here] += x[there] W[k] for each offset k and its pairs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        y = x @ weight[CENTRE]
        for k, here, there in pairs:
            y.index_add_(0, here, x.index_select(0, there) @ weight[k])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight = grad @ weight[CENTRE].t(), torch.empty_like(weight)
        torch.mm(x.t(), grad, out=grad_weight[CENTRE])
        for k, here, there in ctx.pairs:
            grad_here = grad.index_select(0, here)
            grad_x.index_add_(0, there, grad_here @ weight[k].t())
            torch.mm(x.index_select(0, there).t(), grad_here, out=grad_weight[k])
        return grad_x, grad_weight, None


class After(nn.Module):
    """Frame vectors, transformer, head."""

    def __init__(self, modality: str, config: fe2e.Config | mesm.Config) -> None:
        super().__init__()
        _, height, breadth = FRAMES[modality]
        self.vectors = FrameVectors(
            8 * config.width * (height // 16) * (breadth // 16), config.hidden, config.embed_dim
        )
        self.transformer = UtteranceTransformer(
            config.embed_dim,
            config.layers,
            config.heads,
            config.feed_forward,
            config.dropout,
            positional_encoding=False,
        )
        self.head = nn.Linear(config.embed_dim, config.emotions)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        return self.head(self.transformer(self.vectors(x), counts))


def front(modality: str, width: int) -> nn.Sequential:
    """The low-level stage in the default memory layout."""
    first = (nn.Conv2d(FRAMES[modality][0], width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, *block(width, width), *block(width, width))


def block(cin: int, cout: int) -> tuple[nn.Module, ...]:
    """Two convolutions, each with norm and ReLU."""
    return tuple(
        layer
        for a, b in ((cin, cout), (cout, cout))
        for layer in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
    )
