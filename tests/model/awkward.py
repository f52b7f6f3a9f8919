"""Masks of active sites that break code that is only nearly right, and cases of a mask and a form of its rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_model.sparse.sites import Sites


def masks() -> dict[str, Tensor]:
    """bool [N, H, W] by what is special about it."""
    corners = torch.zeros(2, 6, 6, dtype=torch.bool)
    corners[:, ::5, ::5] = True
    border = torch.ones(2, 6, 6, dtype=torch.bool)
    border[:, 1:-1, 1:-1] = False
    middle_frame_empty = random_mask(3, 6, 6, 0.5)
    middle_frame_empty[1] = False
    one_site = torch.zeros(2, 6, 6, dtype=torch.bool)
    one_site[1, 0, 5] = True
    return {
        "a single place, active": random_mask(1, 1, 1, 1.0),
        "a single place, not active": random_mask(1, 1, 1, 0.0),
        "no frame": random_mask(0, 6, 6, 0.5),
        "no site": random_mask(3, 6, 6, 0.0),
        "one site": one_site,
        "all sites": random_mask(1, 6, 6, 1.0),
        "half the sites of several frames": random_mask(3, 6, 6, 0.5),
        "few sites of a narrow grid": random_mask(2, 64, 16, 0.05),
        "odd height and width": random_mask(2, 5, 7, 0.5),
        "corners": corners,
        "border": border,
        "a frame without any site": middle_frame_empty,
    }


def random_mask(frames: int, height: int, width: int, share: float, seed: int = 0) -> Tensor:
    """The given share of the places of every frame, drawn independently."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(frames, height * width, generator=generator).argsort(-1).argsort(-1)
    return (order < share * height * width).view(frames, height, width)


def with_unused_rows(sites: Sites, room: int | None = None) -> Sites:
    """The same sites in a buffer of `room` rows per frame, as a selection on a GPU returns; by default 3 are unused."""
    places = sites.height * sites.width
    counts = sites.mask.flatten(1).sum(1)
    if room is None:
        room = int(counts.max()) + 3 if len(counts) else 0
    index = (torch.arange(sites.frames) * places)[:, None].repeat(1, room)
    valid = torch.arange(room) < counts[:, None]
    index[valid] = sites.index
    return Sites(index.flatten(), sites.frames, sites.height, sites.width, valid.flatten())


def with_as_many_rows_as_places(sites: Sites) -> Sites:
    """A buffer with as many rows as places, in which row r is not place r."""
    return with_unused_rows(sites, sites.height * sites.width)


def on_the_grid(sites: Sites) -> Sites:
    """A row for every place, used or not, as pooling on a GPU returns."""
    places = torch.arange(sites.places)
    return Sites(places, sites.frames, sites.height, sites.width, sites.mask.flatten(), on_grid=True)


# The four forms that rows may have, by name.
FORMS: dict[str, Any] = {
    "packed": lambda sites: sites,
    "with unused rows": with_unused_rows,
    "with as many rows as places": with_as_many_rows_as_places,
    "on the grid": on_the_grid,
}


# The masks on which the three forms other than packed rows differ from each other.
TELLING = (
    "half the sites of several frames", "odd height and width", "a frame without any site", "no frame", "all sites",
)  # fmt: skip


def cases(*without: str) -> list[Any]:
    """Parameters (mask, form): every mask with packed rows, the telling ones with each other form."""
    pairs = [(name, "packed") for name in masks()] + [(name, form) for form in list(FORMS)[1:] for name in TELLING]
    return [
        pytest.param(masks()[name], FORMS[form], id=f"{name}, {form}") for name, form in pairs if name not in without
    ]


every_case = pytest.mark.parametrize(("mask", "form"), cases())


def spread_rows(features: Tensor, loose: Sites) -> Tensor:
    """The rows of features [n, C] in a buffer with unused rows, which are 0."""
    rows = features.new_zeros(len(loose.index), features.shape[1])
    rows[loose.valid] = features
    return rows
