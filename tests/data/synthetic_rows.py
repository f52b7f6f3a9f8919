"""A made-up dataset with everything a build writes, for tests of what looks at datasets."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mesm_data import files
from mesm_data.clip import Recipe
from mesm_data.dataset import schema, writer
from mesm_data.dataset.schema import Row
from mesm_data.errors import Issue
from mesm_data.utterance import Vote, write_utterances
from tests.data.rows import synthetic_row

EMOTIONS = ["anger", "excited", "frustrated", "happiness", "neutral", "sadness"]
LEFT_OUT = (
    Issue("Ses02M_impro01_F000", "media-short", "Ses02M_impro01.avi: media ends at 13.04 s, utterance ends at 21.30 s"),
    Issue("Ses02M_impro01_F001", "media-short", "Ses02M_impro01.avi: media ends at 13.04 s, utterance ends at 25.00 s"),
    Issue("Ses03F_impro02_M007", "no-media", "<Ses03F_impro02.avi>: not found below the raw folder"),
)


def synthetic_rows(count: int = 20) -> list[Row]:
    """Rows in three parts, with three raters each; every third is doubtful."""
    parts = ["train"] * (count - 4) + ["valid"] * 2 + ["test"] * 2
    return [_rated(synthetic_row(n, part), n) for n, part in enumerate(parts)]


def write_synthetic(
    folder: Path, rows: Sequence[Row], left_out: Sequence[Issue] = LEFT_OUT, corpus: str = "iemocap"
) -> Path:
    """The dataset of these rows, one shard a part, with the index that a build would write."""
    (folder / "shards").mkdir(parents=True)
    metadata = {
        "schema_version": schema.SCHEMA_VERSION,
        "corpus": corpus,
        "emotions": EMOTIONS,
        "recipe": asdict(Recipe()),
        "recipe_digest": Recipe().digest,
        "split": "random:0",
        "split_digest": "0" * 64,
        "tools": {"mesm": "0.1.0", "pyarrow": "26.0.0"},
    }
    listed, hashes, light = [], [], []
    for part in dict.fromkeys(row.split for row in rows):
        table = schema.to_table([row for row in rows if row.split == part])
        name = f"shards/{part}-00000-of-00001.parquet"
        writer.write_table(folder / name, table, metadata)
        listed.append({"name": name, "split": part, "rows": table.num_rows})
        hashes += schema.content_hashes(table)
        light += table.select(["id", "split", "labels"]).to_pylist()
    doubts = [Issue(row.clip.utterance, kind, "made up") for row in rows for kind in row.clip.quality]
    issues = sorted([*left_out, *doubts], key=lambda issue: (issue.utterance, issue.kind))
    (folder / "issues.jsonl").write_text("".join(json.dumps(asdict(issue)) + "\n" for issue in issues))
    (folder / "build.json").write_text("{}\n")
    write_utterances(folder / "utterances.jsonl", [row.utterance for row in rows])
    names = [shard["name"] for shard in listed] + ["build.json", "issues.jsonl", "utterances.jsonl"]
    index = metadata | {
        "shards": listed,
        "files": {n: {"bytes": (folder / n).stat().st_size, "sha256": files.sha256_of(folder / n)} for n in names},
        "content": schema.overall_hash(hashes),
        "counts": schema.count_rows(light, EMOTIONS),
        "issues": dict(sorted(Counter(issue.kind for issue in issues).items())),
        "faces": sum(len(row.clip.face_found) for row in rows),
        "faces_found": sum(int(row.clip.face_found.sum()) for row in rows),
    }
    files.write_text(folder / "index.json", json.dumps(index))
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
