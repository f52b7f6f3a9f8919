"""Triton kernels. Each has a reference in plain PyTorch that tests compare it with."""
