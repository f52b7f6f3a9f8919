"""Triton kernels: the neighbours of each row, with rows sorted into tiles that lack the same offsets."""

# mypy: disallow-untyped-defs=False
# (Triton reads the parameters of its kernels itself and takes no type hints.)

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from mesm_model.sparse.kernels.select import NONE
from mesm_model.sparse.sites import Sites

UNUSED = tl.constexpr(512)  # the code of a row without a site: sorts after the 9-bit codes


@triton.jit
def code_kernel(INDEX, ROW_OF_PLACE, VALID, CODE, n, H, W, BLOCK: tl.constexpr, ALL_VALID: tl.constexpr):
    """CODE[r], int16: bit k is set if row r has a neighbour at offset k; UNUSED for a row without a site."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = row < n
    if not ALL_VALID:
        valid = valid & (tl.load(VALID + row, mask=valid, other=0) != 0)
    index = tl.load(INDEX + row, mask=valid, other=0)
    place = index % (H * W)
    y = place // W
    x = place % W
    code = tl.zeros((BLOCK,), tl.int32)
    for k in tl.static_range(9):
        inside = valid & (y + k // 3 >= 1) & (y + k // 3 <= H) & (x + k % 3 >= 1) & (x + k % 3 <= W)
        there = tl.load(ROW_OF_PLACE + index + (k // 3 - 1) * W + (k % 3 - 1), mask=inside, other=NONE)
        code = code | tl.where(there >= 0, 1 << k, 0)
    tl.store(CODE + row, tl.where(valid, code, UNUSED).to(tl.int16), mask=row < n)


@triton.jit
def tile_kernel(
    INDEX, ROW_OF_PLACE, CODE, ORDER, ROW, NEIGHBOUR, BITS, COUNT, OFFSETS, VALID_COUNT, n, padded, W,
    ROWS: tl.constexpr,
):  # fmt: skip
    """One tile of rows in code order: their numbers, their neighbours [9, padded], and the offsets present.

    OFFSETS holds those offsets, COUNT of them, 4 bits each; BITS the same as a 9-bit mask.
    """
    tile = tl.program_id(0)
    at = tile * ROWS + tl.arange(0, ROWS)
    row = tl.load(ORDER + at, mask=at < n, other=NONE)
    code = tl.load(CODE + at, mask=at < n, other=UNUSED).to(tl.int32)
    tl.store(ROW + at, row.to(tl.int32))
    valid = code < UNUSED
    index = tl.load(INDEX + row, mask=valid, other=0)
    bits = tl.max(tl.where(valid, code & 1, 0), 0) * 0
    count = bits
    packed = bits.to(tl.int64)
    for k in tl.static_range(9):
        present = valid & (((code >> k) & 1) != 0)
        there = tl.load(ROW_OF_PLACE + index + (k // 3 - 1) * W + (k % 3 - 1), mask=present, other=NONE)
        tl.store(NEIGHBOUR + k * padded + at, there.to(tl.int32))
        any_here = tl.max(present.to(tl.int32), 0)
        bits += any_here << k
        packed += (any_here * k).to(tl.int64) << (4 * count).to(tl.int64)
        count += any_here
    tl.store(BITS + tile, bits)
    tl.store(COUNT + tile, count)
    tl.store(OFFSETS + tile, packed)
    tl.store(VALID_COUNT + tile, tl.sum(valid.to(tl.int32), 0))


@triton.jit
def offset_kernel(BITS, TILE, TILE_COUNT, tiles, BLOCK: tl.constexpr):
    """One offset: the tiles that hold it, ascending, TILE [9, tiles], and their number."""
    offset = tl.program_id(0)
    found = tl.sum(tl.zeros((BLOCK,), tl.int32), 0)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        bits = tl.load(BITS + tile, mask=tile < tiles, other=0)
        holds = (bits >> offset) & 1
        tl.store(TILE + offset * tiles + found + tl.cumsum(holds, 0) - 1, tile, mask=holds != 0)
        found += tl.sum(holds, 0)
    tl.store(TILE_COUNT + offset, found)


ROWS = 64  # per tile: at 128 the tiles execute .73-.79 of the nine offsets, at 64 .69-.73


@dataclass(frozen=True)
class Tables:
    """The order of the rows of one level and their neighbours; shared by all convolutions over the same sites."""

    tiles: int
    row: Tensor  # int32 [tiles * ROWS], rows in code order, -1 after the last
    neighbour: Tensor  # int32 [9, tiles * ROWS], their neighbours, or -1
    count: Tensor  # int32 [tiles], the number of offsets that the tile needs
    offsets: Tensor  # int64 [tiles], those offsets, 4 bits each
    valid_count: Tensor  # int32 [tiles], rows that hold a site
    tile: Tensor  # int32 [9, tiles], the tiles that need each offset, ascending
    tile_count: Tensor  # int32 [9], the number of those tiles


def tables(sites: Sites) -> Tables:
    """The tables of `sites`, computed on first use."""
    if "tables" not in sites.cache:
        sites.cache["tables"] = make_tables(sites, sites)
    return sites.cache["tables"]


def make_tables(sites: Sites, others: Sites) -> Tables:
    """The tables by which rows of `sites` read those of `others`, sites of the same grid."""
    n, device = sites.index.numel(), sites.index.device
    tiles = triton.cdiv(n, ROWS)
    padded = tiles * ROWS
    valid = sites.index if sites.valid is None else sites.valid
    code = torch.empty(n, dtype=torch.int16, device=device)
    code_kernel[(triton.cdiv(n, 256),)](
        sites.index, others.row_of_place, valid, code, n, sites.height, sites.width, 256, sites.valid is None
    )
    code, order = code.sort(stable=True)
    made = Tables(
        tiles,
        row=torch.empty(padded, dtype=torch.int32, device=device),
        neighbour=torch.empty(9, padded, dtype=torch.int32, device=device),
        count=torch.empty(tiles, dtype=torch.int32, device=device),
        offsets=torch.empty(tiles, dtype=torch.int64, device=device),
        valid_count=torch.empty(tiles, dtype=torch.int32, device=device),
        tile=torch.empty(9, tiles, dtype=torch.int32, device=device),
        tile_count=torch.empty(9, dtype=torch.int32, device=device),
    )
    bits = torch.empty(tiles, dtype=torch.int32, device=device)
    tile_kernel[(tiles,)](
        sites.index, others.row_of_place, code, order, made.row, made.neighbour, bits, made.count, made.offsets,
        made.valid_count, n, padded, sites.width, ROWS,
    )  # fmt: skip
    offset_kernel[(9,)](bits, made.tile, made.tile_count, tiles, 1024)
    return made
