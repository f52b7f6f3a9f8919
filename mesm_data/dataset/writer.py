"""`write_dataset`: shards, notes and, last, index.json. The same rows give the same bytes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.clip import Recipe
from mesm_data.dataset.arrow_files import open_to_map, open_to_write
from mesm_data.dataset.schema import ARRAYS, ROW_GROUP, SCHEMA_VERSION, Tally
from mesm_data.errors import Issue, ShardError
from mesm_data.files import commit_file, sha256_of, write_json, write_text
from mesm_data.state import to_json
from mesm_data.utterance import Utterance, write_utterances

ISSUES, UTTERANCES = "issues.jsonl", "utterances.jsonl"
MOST_BYTES = 2**31 - 1  # of a column in one row group: Arrow counts them in 31 bits


def write_dataset(
    folder: Path,
    metadata: Mapping[str, Any],
    shards: Iterable[tuple[str, pa.Table]],
    utterances: Iterable[Utterance],
    issues: Sequence[Issue],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a dataset into `folder` and return the content of its index.json, which is written last.

    `shards` are names from `shard_name` and rows of one split each, in order; one is in memory at a time. Of the
    `utterances` those in the shards go to utterances.jsonl, sorted by id. `metadata` comes from `describe`; every shard
    and the index hold it. `more` names other files in the folder that the index shall account for. Shards that an
    interrupted call left are deleted.
    """
    (folder / "shards").mkdir(exist_ok=True)
    for leftover in (folder / "shards").iterdir():
        leftover.unlink()
    tally, listed = Tally(metadata["emotions"]), []
    for name, table in shards:
        tally.add(table)
        write_table(folder / name, table, {**metadata, "shard": name})
        listed.append({"name": name, "split": table.column("split")[0].as_py(), "rows": table.num_rows})
    ids = set(tally.ids)
    _write_notes(folder, [u for u in utterances if u.id in ids], issues)
    names = [*(shard["name"] for shard in listed), *more, ISSUES, UTTERANCES]
    index = {
        **metadata,
        "shards": listed,
        "files": {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256_of(folder / n)} for n in names},
        **tally.facts(),
        "issues": count_issues(issue.kind for issue in issues),
    }
    write_json(folder / "index.json", index)
    return index


def describe(
    corpus: str,
    emotions: Sequence[str],
    recipe: Recipe,
    *,
    scheme: str,
    split_digest: str,
    reader: Mapping[str, Any],
    raw: str | None,
    tools: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """What every shard and the index say of a dataset: where it comes from, and how it was made.

    `scheme` is the way of splitting ("paper", "random:0"), `raw` the digest of the raw corpus, None for synthetic data;
    `tools` are the packages whose versions are recorded.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "corpus": corpus,
        "emotions": list(emotions),
        "arrays": ARRAYS,
        "recipe": asdict(recipe) | {"face_thresholds": list(recipe.face_thresholds)},
        "recipe_digest": recipe.digest,
        "reader": dict(reader),
        "raw": raw,
        "split": scheme,
        "split_digest": split_digest,
        "tools": {name: version(name) for name in tools},
        **more,
    }


def shard_name(split: str, number: int, count: int) -> str:
    """Path of a shard in its dataset: shards/train-00000-of-00003.parquet."""
    return f"shards/{split}-{number:05d}-of-{count:05d}.parquet"


def count_issues(kinds: Iterable[str]) -> dict[str, int]:
    """How many Issues of each kind there are, sorted by kind."""
    return dict(sorted(Counter(kinds).items()))


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, Any]) -> None:
    """Write a Parquet file under a temporary name, sync it, rename it. `metadata` is stored as JSON under "mesm".

    Raises ShardError where one row group has 2 GB in a column, five hours of faces per row: Arrow cannot read it back.
    """
    for first in range(0, table.num_rows, ROW_GROUP):
        group = table.slice(first, ROW_GROUP)
        if large := [name for name in group.column_names if group.column(name).nbytes > MOST_BYTES]:
            ids = group.column("id")
            raise ShardError(
                f"{path}: more than {MOST_BYTES / 1e9:.1f} GB of {large[0]} in the rows from {ids[0]} to {ids[-1]}; "
                "cut these utterances into shorter ones"
            )
    temporary = path.with_name(path.name + ".tmp")
    stored = {"mesm": json.dumps(metadata, sort_keys=True, ensure_ascii=False)}
    with open_to_write(temporary) as file:
        pq.write_table(
            table.replace_schema_metadata(stored),
            file,
            row_group_size=ROW_GROUP,
            compression="none",  # faces and log-mels do not shrink: zstd saves 8 % and reads three times slower
            use_dictionary=False,
            write_statistics=["id", "split", "start", "end"],
            store_schema=True,
        )
    commit_file(temporary, path)


def gather(slices: Sequence[tuple[Path, int, int]]) -> pa.Table:
    """One table from (file, first row, rows) pieces of Parquet files that `write_table` wrote, in the order given."""
    return pa.concat_tables(piece for path, first, rows in slices for piece in _row_groups(path, first, rows))


def _row_groups(path: Path, first: int, rows: int) -> Iterator[pa.Table]:
    """Rows of a file, in tables of one row group at most: 2 GB of faces cannot be in one piece."""
    with open_to_map(path) as mapped, pq.ParquetFile(mapped) as file:
        for group in range(first // ROW_GROUP, -(-(first + rows) // ROW_GROUP)):
            begin = max(first - group * ROW_GROUP, 0)
            end = min(first + rows - group * ROW_GROUP, ROW_GROUP)
            yield file.read_row_group(group).slice(begin, end - begin)


def _write_notes(folder: Path, utterances: Sequence[Utterance], issues: Sequence[Issue]) -> None:
    write_text(folder / ISSUES, "".join(to_json(asdict(issue)) + "\n" for issue in issues))
    temporary = folder / f"{UTTERANCES}.tmp"
    write_utterances(temporary, sorted(utterances, key=lambda u: u.id))
    commit_file(temporary, folder / UTTERANCES)
