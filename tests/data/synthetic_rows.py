"""A made-up dataset with everything a build writes, for tests of what looks at datasets."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesm_data import files
from mesm_data.clip import Recipe
from mesm_data.dataset import schema, writer
from mesm_data.dataset.schema import Row
from mesm_data.errors import Issue
from mesm_data.utterance import Vote
from tests.data.rows import synthetic_row

EMOTIONS = ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]
LEFT_OUT = (
    Issue("Ses02M_impro01_F000", "media-short", "Ses02M_impro01.avi: media ends at 13.04 s, utterance ends at 21.30 s"),
    Issue("Ses02M_impro01_F001", "media-short", "Ses02M_impro01.avi: media ends at 13.04 s, utterance ends at 25.00 s"),
    Issue("Ses03F_impro02_M007", "no-media", "<Ses03F_impro02.avi>: not found below the raw folder"),
)


def synthetic_rows(count: int = 20) -> list[Row]:
    """Rows in three splits, with three raters each; every third is doubtful."""
    splits = ["train"] * (count - 4) + ["valid"] * 2 + ["test"] * 2
    return [_rated(synthetic_row(n, split), n) for n, split in enumerate(splits)]


def write_synthetic(
    folder: Path,
    rows: Sequence[Row],
    left_out: Sequence[Issue] = LEFT_OUT,
    corpus: str = "iemocap",
    scheme: str = "random:0",
    **more: Any,
) -> Path:
    """The dataset of these rows, one shard per split, as a build writes it; `more` goes into its index."""
    folder.mkdir(parents=True)
    metadata = writer.describe(
        corpus,
        EMOTIONS,
        Recipe(),
        scheme=scheme,
        split_digest="0" * 64,
        reader={},
        raw="1" * 64,
        tools=("mesm", "pyarrow"),
        **more,
    )
    plan = {name: metadata[name] for name in ("schema_version", "corpus", "reader", "raw", "recipe", "split")}
    files.write_json(folder / "build.json", plan)
    tables = [
        (writer.shard_name(split, 0, 1), schema.to_table([row for row in rows if row.split == split]))
        for split in dict.fromkeys(row.split for row in rows)
    ]
    doubts = [Issue(row.clip.utterance, kind, "made up") for row in rows for kind in row.clip.quality]
    issues = sorted([*left_out, *doubts], key=lambda issue: (issue.utterance, issue.kind))
    writer.write_dataset(folder, metadata, tables, (row.utterance for row in rows), issues, more=["build.json"])
    return folder


def _rated(row: Row, n: int) -> Row:
    votes = (
        Vote("C-E1", "Anger", 1.0),
        Vote("C-E2", "Anger" if n % 2 else "Neutral state", 1.0),
        Vote("C-F1", "Sadness", 1.0),
        Vote("A-E1", "valence", 1.0 + n % 5),
        Vote("A-E2", "valence", 1.0 + n % 4),
    )
    return row._replace(utterance=replace(row.utterance, votes=votes))
