"""`Sites`: the active places of a stack of frames, their neighbours, and conversion from and to a dense grid.

Legend: N frames, H x W places in each, S = H * W; n rows, one active site each; C channels. Row -1 means none.

Rows are sorted by (frame, y, x), so that row order is site order and frames never mix. On a GPU, where counting the
active sites would make the host wait, rows may instead be in a buffer of fixed size, some of them unused: `valid` marks
the rows that hold a site, and the features of the others are 0. Everything below accepts both forms.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Rows per block of the rulebook: what its products read and write fits a core's L2 cache. On the largest grids a
# training step of a convolution took .6 to .7 of the time of one pass over all rows.
BLOCK = 2048
CENTRE = 4  # the offset of a site itself, of the nine

# For each block of rows, for each of the eight offsets: the rows with a neighbour there, counted from the first row of
# the block, and those neighbours.
Rulebook = list[list[tuple[int, Tensor, Tensor]]]


@dataclass(frozen=True, eq=False)
class Sites:
    """The active sites of N frames of H x W. Build one with `Sites.all` or `Sites.from_mask`, not by hand."""

    index: Tensor  # int64 [n], frame * S + y * W + x, ascending; an unused row holds any place of its own frame
    frames: int
    height: int
    width: int
    valid: Tensor | None = None  # bool [n], the rows that hold a site; None: all of them
    on_grid: bool = False  # row r is place r, used or not; implied where every place is active
    cache: dict[str, Any] = field(default_factory=dict, repr=False)  # what backends derive from the rows above

    @classmethod
    def all(cls, frames: int, height: int, width: int, device: torch.device | str | None = None) -> "Sites":
        """Every place of every frame."""
        return cls(torch.arange(frames * height * width, device=device), frames, height, width)

    @classmethod
    def from_mask(cls, mask: Tensor) -> "Sites":
        """The places where `mask`, bool [N, H, W], is true. Synchronises with a GPU to count them."""
        return cls(mask.flatten().nonzero().flatten(), *mask.shape)

    def keep(self, rows_mask: Tensor) -> "Sites":
        """The sites of the rows where `rows_mask`, bool [n], is true. Synchronises with a GPU to count them."""
        if self.valid is not None:
            rows_mask = rows_mask & self.valid
        return Sites(self.index[rows_mask], self.frames, self.height, self.width)

    def without(self, other: "Sites") -> "Sites":
        """The sites that are not in `other`; in the same rows as here if either has unused rows."""
        absent = other.row_of_place.index_select(0, self.index) < 0
        if self.valid is None and other.valid is None:
            return Sites(self.index[absent], self.frames, self.height, self.width)
        valid = absent if self.valid is None else absent & self.valid
        return Sites(self.index, self.frames, self.height, self.width, valid, self.covers_grid)

    def pool(self) -> tuple["Sites", Tensor]:
        """Sites of the grid of half the size, active where any of 2x2 places is; rows of the four, int64 [m, 4].

        An odd last row or column of the grid is dropped, as in `max_pool2d`.
        """
        height, width = self.height // 2, self.width // 2
        row_of_place = self.row_of_place.view(self.frames, self.height, self.width)[:, : 2 * height, : 2 * width]
        children = row_of_place.reshape(self.frames, height, 2, width, 2).permute(0, 1, 3, 2, 4).reshape(-1, 4)
        if self.all_active:
            return Sites.all(self.frames, height, width, self.index.device), children
        active = (children >= 0).any(1)
        if self.valid is not None:
            places = torch.arange(active.numel(), device=active.device)
            return Sites(places, self.frames, height, width, active, on_grid=True), children
        pooled = Sites.from_mask(active.view(self.frames, height, width))
        return pooled, children[pooled.index]

    def to_dense(self, features: Tensor) -> Tensor:
        """`features` [n, C] on the grid [N, C, H, W], in channels-last layout; 0 at inactive places."""
        channels = features.shape[1]
        if not self.covers_grid:
            index = self.index if self.valid is None else self._index_or_end
            grid = features.new_zeros(self.places + (self.valid is not None), channels)
            features = grid.index_copy(0, index, features)[: self.places]
        return features.view(self.frames, self.height, self.width, channels).permute(0, 3, 1, 2)

    def from_dense(self, grid: Tensor) -> Tensor:
        """The rows [n, C] of `grid` [N, C, H, W]; without a copy if it is channels last and every place is active."""
        rows = grid.permute(0, 2, 3, 1).reshape(self.places, grid.shape[1])
        if not self.covers_grid:
            rows = rows.index_select(0, self.index)
        return rows if self.valid is None else rows * self.valid[:, None]

    def scatter(self, values: Tensor, fill: float) -> Tensor:
        """One value per row, [n], on the places of the frames, [N, S]; `fill` at inactive places."""
        if self.all_active:
            return values.view(self.frames, self.height * self.width)
        grid = values.new_full((self.places + 1,), fill).index_copy(0, self._index_or_end, values)
        return grid[: self.places].view(self.frames, self.height * self.width)

    def gather(self, grid: Tensor) -> Tensor:
        """The values [n] of `grid` [N, S] at the places of the rows."""
        return grid.flatten() if self.covers_grid else grid.flatten().index_select(0, self.index)

    def rows_in(self, other: "Sites") -> Tensor:
        """int64 [n], the row in `other` of the same site, or -1."""
        rows = other.row_of_place.index_select(0, self.index)
        return rows if self.valid is None else torch.where(self.valid, rows, -1)

    @property
    def places(self) -> int:
        """N * S."""
        return self.frames * self.height * self.width

    @property
    def covers_grid(self) -> bool:
        """True if there is a row for every place, used or not, so that rows and grid are the same memory."""
        return self.on_grid or (self.valid is None and self.index.numel() == self.places)

    @property
    def all_active(self) -> bool:
        """True if every place is active."""
        return self.covers_grid and self.valid is None

    @property
    def density(self) -> float:
        """Rows per place: for a buffer of fixed size, unused rows count too."""
        return self.index.numel() / max(1, self.places)

    @cached_property
    def frame(self) -> Tensor:
        """int64 [n], the frame of each row."""
        return torch.div(self.index, max(1, self.height * self.width), rounding_mode="floor")

    @cached_property
    def counts_per_frame(self) -> Tensor:
        """int64 [N], the number of sites of each frame."""
        return self.mask.flatten(1).sum(1)

    @cached_property
    def row_of_place(self) -> Tensor:
        """int64 [N * S], the row of each place, or -1."""
        if "row_of_place" in self.cache:
            return self.cache["row_of_place"]
        rows = torch.arange(self.index.numel(), device=self.index.device)
        if self.covers_grid:
            return rows if self.valid is None else torch.where(self.valid, rows, -1)
        row_of_place = rows.new_full((self.places + 1,), -1)
        return row_of_place.index_copy_(0, self._index_or_end, rows)[: self.places]

    @cached_property
    def mask(self) -> Tensor:
        """bool [N, H, W], true at the active sites."""
        return (self.row_of_place >= 0).view(self.frames, self.height, self.width)

    @cached_property
    def neighbours(self) -> Tensor:
        """int64 [n, 9], the rows of the 3x3 places around each row, or -1; by (dy, dx), row by row."""
        return self.neighbours_in(self)

    def neighbours_in(self, other: "Sites") -> Tensor:
        """The same with rows of `other`, sites of the same grid: int64 [n, 9]."""
        padded = F.pad(other.row_of_place.view(self.frames, self.height, self.width), (1, 1, 1, 1), value=-1)
        place = self.index - self.frame * (self.height * self.width)
        y = torch.div(place, max(1, self.width), rounding_mode="floor")
        stride = self.width + 2
        corner = self.frame * ((self.height + 2) * stride) + y * stride + (place - y * self.width)
        steps = torch.tensor([dy * stride + dx for dy in range(3) for dx in range(3)], device=corner.device)
        table = padded.flatten()[corner[:, None] + steps]
        return table if self.valid is None else table.masked_fill(~self.valid[:, None], -1)

    @cached_property
    def rulebook(self) -> Rulebook:
        """The pairs of neighbours, by block and offset."""
        return rulebook(self.neighbours)

    @property
    def _index_or_end(self) -> Tensor:
        """`index`, with one past the last place for unused rows."""
        return self.index if self.valid is None else torch.where(self.valid, self.index, self.places)


def blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """`rows` [n, C] split into the blocks of a rulebook."""
    return rows.split(BLOCK)


def rulebook(neighbours: Tensor) -> Rulebook:
    """The rulebook of a table [n, 9] of neighbours, without the fifth column, the site itself."""
    book: Rulebook = [[] for _ in blocks(neighbours)]
    for offset, column in enumerate(neighbours.unbind(1)):
        if offset == CENTRE:
            continue
        here = (column >= 0).nonzero().flatten()
        there = column.index_select(0, here)
        counts = torch.bincount(here // BLOCK, minlength=len(book)).tolist()
        for pairs, mine, others in zip(book, (here % BLOCK).split(counts), there.split(counts), strict=True):
            if len(mine):
                pairs.append((offset, mine, others))
    return book


def select_rows(features: Tensor, sites: Sites, selected: Sites) -> Tensor:
    """The rows [m, C] of `features` [n, C] at the sites `selected`, a subset of `sites`."""
    if selected is sites:
        return features
    if sites.valid is None and selected.valid is None:
        return features.index_select(0, selected.rows_in(sites))
    return _SelectRows.apply(features, selected.rows_in(sites), sites.rows_in(selected))


def channels_last(grid: Tensor) -> Tensor:
    """[N, C, H, W] in channels-last layout, with channels-last strides also for C = 1, where they are ambiguous.

    Otherwise torch takes a grid of one channel for channels first, and copies what is computed from it.
    """
    _, channels, height, width = grid.shape
    strides = (channels * height * width, 1, width * channels, channels)
    return grid.contiguous(memory_format=torch.channels_last).as_strided(grid.shape, strides)


def links(children: Tensor, n: int) -> Tensor:
    """The inverse of `children` of `Sites.pool`: for each of n rows 4 * its pooled row + its child number, or -1."""
    target = torch.where(children < 0, n, children).flatten()
    numbers = torch.arange(target.numel(), device=target.device)
    return numbers.new_full((n + 1,), -1).index_copy_(0, target, numbers)[:n]


class _SelectRows(torch.autograd.Function):
    """Gather rows by number; the backward pass gathers by the inverse table, so it is deterministic."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _rows_or_zero(features, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return _rows_or_zero(grad, back), None, None


def _rows_or_zero(features: Tensor, rows: Tensor) -> Tensor:
    """The given rows of `features`; zeros for row -1."""
    if len(features) == 0:
        return features.new_zeros(len(rows), *features.shape[1:])
    return features.index_select(0, rows.clamp_min(0)) * (rows >= 0)[:, None]
