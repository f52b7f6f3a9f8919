"""The paper's own figures, to print beside ours: Tables 3 to 5 and Figure 5, from paper_tables.json."""

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


def rows(dataset: Dataset, part: str) -> dict[str, Scores]:
    """The paper's models on the test part of its own split of its own corpora; no rows for anything else."""
    if part != "test" or not is_of_paper(dataset):
        return {}
    table = figures()["scores"][dataset.corpus]
    positives = np.full(len(table["emotions"]), np.nan)
    unknown = dict.fromkeys(NAMES, positives)
    return {
        f"paper: {name}": Scores(positives, **unknown | {kind: np.array(row[kind]) / 100 for kind in row})
        for name, row in table["models"].items()
    }


def is_of_paper(dataset: Dataset) -> bool:
    """True when this is one of the paper's corpora, split as the paper splits it."""
    table = figures()["scores"].get(dataset.corpus)
    return table is not None and dataset.index["split"] == "paper" and list(dataset.emotions) == table["emotions"]
