"""A training run on disk: its settings, checkpoints, folder and processes."""
