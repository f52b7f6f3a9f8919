"""Figures that the paper printed, to show beside ours: Tables 3 to 5 and Figure 5, from paper_tables.json."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset
from mesm_model.evaluation.metrics import NAMES, Scores


@lru_cache
def figures() -> dict[str, Any]:
    """Everything in the file; its "source" says where it is printed."""
    return json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))


def rows(dataset: Dataset, split: str) -> dict[str, Scores]:
    """The paper's models on the test split of its own corpora, split as it splits them; empty for anything else."""
    if split != "test" or not is_of_paper(dataset):
        return {}
    table = figures()["scores"][dataset.corpus]
    unknown = np.full(len(table["emotions"]), np.nan)
    scores = dict.fromkeys(NAMES, unknown)
    return {
        f"paper: {name}": Scores(positives=unknown, **scores | {kind: np.array(row[kind]) / 100 for kind in row})
        for name, row in table["models"].items()
    }


def is_of_paper(dataset: Dataset) -> bool:
    """True for one of the paper's corpora, with its emotions, split as the paper splits it."""
    table = figures()["scores"].get(dataset.corpus)
    return table is not None and dataset.index["split"] == "paper" and list(dataset.emotions) == table["emotions"]
