"""Train, evaluate and explain FE2E, MESM and their baselines on the shards that `mesm_data` writes.

From Python:

    import mesm_data, mesm_model

    ds = mesm_data.load("out/iemocap")
    run = mesm_model.train(ds, model="mesm", top_p=0.5, epochs=8, out="runs/mesm")
    run.evaluate(ds.split("test")).to_pandas()
    mesm_model.load("runs/mesm").predict("clip.mp4", transcript="words.srt").to_pandas()

The public names are imported when they are first used, so that `mesm --help` stays instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesm_model.api import LoadedRun, evaluate, load, predict, train
    from mesm_model.batch import Batch

__all__ = ["Batch", "LoadedRun", "evaluate", "load", "predict", "train"]

_HOMES = dict.fromkeys(__all__, "mesm_model.api") | {"Batch": "mesm_model.batch"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mesm_model' has no attribute {name!r}; public are {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
