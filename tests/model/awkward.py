"""Masks of active sites that break what is only nearly right; for the tests of everything sparse."""

import torch
from torch import Tensor

from mesm_model.sparse.sites import Sites

SHAPES = {
    "a single place": (1, 1, 1),
    "one frame": (1, 6, 6),
    "several frames": (3, 6, 6),
    "a narrow grid": (2, 64, 16),
    "odd height and width": (2, 5, 7),
    "no frame": (0, 6, 6),
}
DENSITIES = {"no site": 0.0, "few sites": 0.05, "half the sites": 0.5, "all sites": 1.0}


def masks() -> dict[str, Tensor]:
    """bool [N, H, W] by what is special about it: every shape at every density, and some drawn by hand."""
    found = {
        f"{shape}, {density}": random_mask(*SHAPES[shape], share)
        for shape in SHAPES
        for density, share in DENSITIES.items()
    }
    corners = torch.zeros(2, 6, 6, dtype=torch.bool)
    corners[:, ::5, ::5] = True
    border = torch.ones(2, 6, 6, dtype=torch.bool)
    border[:, 1:-1, 1:-1] = False
    middle_frame_empty = random_mask(3, 6, 6, 0.5)
    middle_frame_empty[1] = False
    one_site = torch.zeros(2, 6, 6, dtype=torch.bool)
    one_site[1, 0, 5] = True
    return found | {
        "corners": corners,
        "border": border,
        "a frame without any site": middle_frame_empty,
        "one site": one_site,
    }


def random_mask(frames: int, height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """The given share of the places of every frame, drawn without regard to each other."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(frames, height * width, generator=generator).argsort(-1).argsort(-1)
    return (order < share * height * width).view(frames, height, width)


def with_unused_rows(sites: Sites, room: int | None = None) -> Sites:
    """The same sites in a buffer of `room` rows a frame, as a selection on the GPU leaves them; else 3 are spare."""
    places = sites.height * sites.width
    counts = sites.mask.flatten(1).sum(1)
    if room is None:
        room = int(counts.max()) + 3 if len(counts) else 0
    index = (torch.arange(sites.frames) * places)[:, None].repeat(1, room)
    valid = torch.arange(room) < counts[:, None]
    index[valid] = sites.index
    return Sites(index.flatten(), sites.frames, sites.height, sites.width, valid.flatten())


def with_as_many_rows_as_places(sites: Sites) -> Sites:
    """A buffer that only looks as if row and place were one."""
    return with_unused_rows(sites, sites.height * sites.width)


def on_the_grid(sites: Sites) -> Sites:
    """A row for every place, used or not, as pooling on the GPU leaves them."""
    places = torch.arange(sites.places)
    return Sites(places, sites.frames, sites.height, sites.width, sites.mask.flatten(), on_grid=True)


# The four ways that rows may lie, by name.
FORMS = {
    "packed": lambda sites: sites,
    "with unused rows": with_unused_rows,
    "with as many rows as places": with_as_many_rows_as_places,
    "on the grid": on_the_grid,
}


def spread_rows(features: Tensor, loose: Sites) -> Tensor:
    """The rows of features, [n, C], in a buffer that has unused rows, which are 0."""
    rows = features.new_zeros(len(loose.index), features.shape[1])
    rows[loose.valid] = features
    return rows
