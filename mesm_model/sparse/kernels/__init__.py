"""Triton kernels. Each has a reference in plain PyTorch, and tests hold the two together."""
