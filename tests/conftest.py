"""What several tests share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """No test fetches anything from outside, nor finds what the user has fetched."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as cache:
        patch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
        patch.setenv("XDG_CACHE_HOME", cache)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and published lists that may lie beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not (folder / "raw").is_dir():
        pytest.skip("../shared (real recordings and published lists) is not beside this checkout")
    return folder
