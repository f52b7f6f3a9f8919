"""Raw recordings of emotional speech in, verified Parquet shards out. Never imports `mesm_model`.

From Python:

    import mesm_data

    ds = mesm_data.load("out/iemocap")
    ds[0].text, ds[0].faces.shape, ds[0].labels
    ds.split("train").to_pandas()

The public names are imported when they are first used, so that `mesm-data --help` stays instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesm_data.clip import Clip, Recipe
    from mesm_data.dataset.item import Item
    from mesm_data.dataset.reader import Dataset, load
    from mesm_data.utterance import Utterance

__all__ = ["Clip", "Dataset", "Item", "Recipe", "Utterance", "load"]

_HOMES = {
    "Clip": "mesm_data.clip",
    "Dataset": "mesm_data.dataset.reader",
    "Item": "mesm_data.dataset.item",
    "Recipe": "mesm_data.clip",
    "Utterance": "mesm_data.utterance",
    "load": "mesm_data.dataset.reader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mesm_data' has no attribute {name!r}; public are {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
