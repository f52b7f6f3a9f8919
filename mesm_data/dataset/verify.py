"""`verify`: every byte, row and count of a dataset checked against its index."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mesm_data.dataset.reader import Dataset, open_dataset, open_parquet
from mesm_data.dataset.schema import SCHEMA, SCHEMA_VERSION, content_hashes, count_rows, overall_hash
from mesm_data.files import sha256_of


def verify(folder: Path) -> list[str]:
    """What is wrong with a dataset, one line each; empty when every byte of it is accounted for.

    Checks each file's size and sha256 against the index, that every shard reads and says of itself what the index says,
    that its values hash as recorded, that ids are unique and the counts by part and emotion are those of the index.
    """
    dataset = open_dataset(folder)
    problems: list[str] = []
    for name, expected in dataset.index["files"].items():
        problems += _check_file(folder / name, expected)
    known = {folder / name for name in dataset.index["files"]}
    strays = sorted(path for path in (folder / "shards").glob("*") if path not in known)
    problems += [f"{path}: not in index.json; a file of another build?" for path in strays]
    if not problems:
        problems += _check_values(dataset)
    return problems


def _check_file(path: Path, expected: dict[str, Any]) -> list[str]:
    if not path.is_file():
        return [f"{path}: missing"]
    size = path.stat().st_size
    if size != expected["bytes"]:
        return [f"{path}: {size} bytes, expected {expected['bytes']}"]
    found = sha256_of(path)
    return [] if found == expected["sha256"] else [f"{path}: sha256 {found}, expected {expected['sha256']}"]


def _check_values(dataset: Dataset) -> list[str]:
    problems, hashes, light = [], [], []
    for shard in dataset.index["shards"]:
        with open_parquet(dataset.folder / shard["name"]) as file:
            if file.schema_arrow.remove_metadata() != SCHEMA:
                problems.append(f"{shard['name']}: columns differ from schema version {SCHEMA_VERSION}")
                continue
            problems += _check_metadata(shard["name"], file.schema_arrow.metadata, dataset.index)
            rows = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                hashes += content_hashes(table)
                light += table.select(["id", "split", "labels"]).to_pylist()
                rows += table.num_rows
            if rows != shard["rows"]:
                problems.append(f"{shard['name']}: {rows} rows, expected {shard['rows']}")
    twice = [name for name, times in Counter(row["id"] for row in light).items() if times > 1]
    if twice:
        problems.append(f"{len(twice)} ids stand twice: {', '.join(sorted(twice)[:10])}")
    if overall_hash(hashes) != dataset.index["content"]:
        problems.append(f"values hash to {overall_hash(hashes)}, expected {dataset.index['content']}")
    if count_rows(light, dataset.emotions) != dataset.index["counts"]:
        problems.append("counts by part and emotion differ from index.json")
    return problems


def _check_metadata(shard: str, stored: dict[bytes, bytes] | None, index: dict[str, Any]) -> list[str]:
    """A shard says what it is as the index does: recipe, emotions, split, versions."""
    told, expected = json.loads((stored or {}).get(b"mesm", b"{}")), index | {"shard": shard}
    return [
        f"{shard}: {name} in it and in index.json are not the same" for name in told if told[name] != expected.get(name)
    ]
