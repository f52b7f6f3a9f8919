"""Availability, block sizes and accumulation types of all Triton kernels."""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PASS_COLUMNS = 64  # columns per block in passes that only read and write
OLDEST = (8, 0)  # Ampere; Triton does not support older GPUs, and they have no bfloat16


def available(x: Tensor) -> bool:
    """True where the kernels can run on `x`: on a GPU that Triton compiles for, or anywhere in its interpreter."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True
    return x.is_cuda and torch.cuda.get_device_capability(x.device) >= OLDEST


def grid(n: int, rows: int, channels: int) -> tuple[tuple[int, int], int]:
    """The grid of programs for blocks of `rows` rows, and the columns per block."""
    columns = power_of_two(channels, PASS_COLUMNS)
    return (triton.cdiv(n, rows), triton.cdiv(channels, columns)), columns


def power_of_two(channels: int, most: int) -> int:
    """The block size for this number of channels: a power of two, at least the 16 that a matrix product needs."""
    return max(16, min(most, triton.next_power_of_2(channels)))


def sum_type(x: Tensor) -> torch.dtype:
    """The dtype to accumulate in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def triton_sum_type(x: Tensor) -> Any:
    """`sum_type` as Triton names it."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def product_precision() -> str:
    """The precision of float32 products that PyTorch allows its own convolutions."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
