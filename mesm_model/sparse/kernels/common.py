"""What all Triton kernels share: availability, block sizes, accumulation types."""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PASS_COLUMNS = 64  # columns of a block in the passes that only read and write
OLDEST = (8, 0)  # Ampere; Triton promises nothing for older ones, and they have no bfloat16


def available(x: Tensor) -> bool:
    """True where the kernels can run on `x`: on a GPU that Triton compiles for, or anywhere in its interpreter."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return True
    return x.is_cuda and torch.cuda.get_device_capability(x.device) >= OLDEST


def grid(n: int, rows: int, channels: int) -> tuple[tuple[int, int], int]:
    """Programs for blocks of `rows` rows and some columns, and those columns."""
    columns = power_of_two(channels, PASS_COLUMNS)
    return (triton.cdiv(n, rows), triton.cdiv(channels, columns)), columns


def power_of_two(channels: int, most: int) -> int:
    """The block for so many channels: a power of two, at least the 16 that a matrix product needs."""
    return max(16, min(most, triton.next_power_of_2(channels)))


def sum_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def triton_sum_type(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def product_precision() -> str:
    """What PyTorch allows its own convolutions in float32."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
