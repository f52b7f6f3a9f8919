"""The CNN parts of FE2E and MESM, from raw frames to the last feature maps, and random frames; for the benchmarks.

F frames, U utterances of FRAMES_EACH frames, Q size of the query of MESM's attention.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_model.batch import FRAMES
from mesm_model.models import fe2e, mesm
from mesm_model.models.common.attention import Trace
from mesm_model.sparse.sites import Sites

FRAMES_EACH = 9  # per utterance: 4.5 seconds of faces
QUERY = 768  # of ALBERT-base
WIDTH = 64  # channels of the front


class Fe2eCnn(nn.Module):
    """Raw frames -> [F, 512, H/16, W/16]; the query is not used."""

    def __init__(self, modality: str) -> None:
        super().__init__()
        branch = fe2e.FrameBranch(modality, fe2e.Config())
        self.front, self.blocks = branch.front, branch.blocks

    def forward(self, frames: Tensor, query: Tensor, owner: Tensor) -> Tensor:
        return self.blocks(self.front(frames))


class MesmCnn(nn.Module):
    """The same with attention, selection and sparse blocks, at share `top_p`."""

    def __init__(self, modality: str, top_p: float, backend: str = "auto", gradient: str = "straight-through") -> None:
        super().__init__()
        branch = mesm.FrameBranch(modality, QUERY, mesm.Config(backend=backend, attention_gradient=gradient))
        self.front, self.levels, self.top_p = branch.front, branch.levels, top_p

    def forward(self, frames: Tensor, query: Tensor, owner: Tensor, trace: Trace | None = None) -> Tensor:
        grid = self.front(frames)
        sites = Sites.all(len(grid), grid.shape[2], grid.shape[3], grid.device)
        x = sites.from_dense(grid)
        for level in self.levels:
            x, sites = level(x, sites, query, owner, self.top_p, trace)
        return sites.to_dense(x)

    @torch.no_grad()
    def trace_of(self, frames: Tensor, query: Tensor, owner: Tensor) -> Trace:
        """The candidates and the selected sites of each level."""
        trace = Trace()
        self(frames, query, owner, trace)
        return trace


def front_products(modality: str) -> float:
    """Multiply-adds of the front per frame."""
    channels, height, width = FRAMES[modality]
    return height * width * 25 * channels * WIDTH + 4 * (height * width // 4) * 9 * WIDTH**2


def block_products(modality: str, trace: Trace | None = None) -> float:
    """Multiply-adds per frame after the front: of FE2E, or of MESM with the sites and pairs of `trace`."""
    _, height, width = FRAMES[modality]
    found = 0.0
    for number in range(3):
        cin = WIDTH << number
        sites, pairs = 0.0, 9.0 * (height * width // 4 >> 2 * number)
        if trace is not None:
            level = trace.levels[number]
            sites, pairs = (counts.sum().item() / len(level.pairs) for counts in (level.candidates, level.pairs))
        found += pairs * (2 * cin * cin + 4 * cin * cin) + sites * cin * cin  # convolutions, attention
    return found


def activations(model: nn.Module, data: tuple[Tensor, Tensor, Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward pass, each storage once, without parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers(), *data)}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.train()(*data)
    del output
    return sum(kept.values())


def inputs(modality: str, frames: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Random frames as smooth as images, a query for each utterance, and the utterance of each frame."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = FRAMES[modality]
    drawn = torch.zeros(frames, channels, height, width)
    for scale in (1, 2, 4, 8, 16):
        small = torch.randn(frames, channels, height // scale, width // scale, generator=generator)
        drawn += scale * F.interpolate(small, (height, width), mode="bilinear")
    drawn = (drawn - drawn.mean()) / drawn.std()
    drawn = (110 + 35 * drawn).clamp(0, 255) if modality == "v" else (-8 + 5 * drawn).clamp(-13.8, 8)
    owner = torch.arange(frames) // FRAMES_EACH
    query = torch.tanh(torch.randn(int(owner[-1]) + 1, QUERY, generator=generator))
    return drawn.to(device), query.to(device), owner.to(device)
