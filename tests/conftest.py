"""What several tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and published lists that may lie beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not (folder / "raw").is_dir():
        pytest.skip("../shared (real recordings and published lists) is not beside this checkout")
    return folder
