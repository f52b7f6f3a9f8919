"""`verify`: every byte, row and statement of a dataset checked against its index.

Nothing in index.json is taken on trust: files are hashed, rows are counted, and what the index says of itself is held
against what every shard, build.json, issues.jsonl and utterances.jsonl say.
"""

import json
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import Dataset, load, open_parquet
from mesm_data.dataset.schema import COUNTED, INDEX, SCHEMA, SCHEMA_VERSION, Tally
from mesm_data.dataset.writer import ISSUES, UTTERANCES, count_issues, shard_name
from mesm_data.errors import ShardError
from mesm_data.files import sha256_of
from mesm_data.state import excerpt, read_state
from mesm_data.utterance import Utterance, read_utterances

MEND = "build the dataset again"
MOST_NAMED = 10  # ids in one problem


def verify(folder: Path) -> list[str]:
    """What is wrong with a dataset, one line each; empty when every byte of it is accounted for.

    Checks size and sha256 of each file; that no shard is there that the index does not name; that each shard holds the
    schema, the metadata, the split and the rows that the index states; that all values hash as recorded; that ids are
    unique; counts by split and emotion, of issues and of faces; utterances.jsonl against the rows, build.json against
    the index. Rows are read only where the files are whole, notes where the rows are. Raises ShardError where there is
    no dataset.
    """
    dataset = load(folder)
    problems = [line for name, expected in dataset.index["files"].items() for line in _file(folder, name, expected)]
    known = {folder / name for name in dataset.index["files"]}
    strays = sorted(path for path in (folder / "shards").glob("*") if path not in known)
    problems += [f"{path}: not in index.json; a file of another build?" for path in strays]
    problems += _index(dataset)
    return problems or _shards(dataset) or _notes(dataset)


def _file(folder: Path, name: str, expected: Mapping[str, Any]) -> list[str]:
    path = folder / name
    if not path.is_file():
        return [f"{path}: missing"]
    size = path.stat().st_size
    if size != expected["bytes"]:
        return [f"{path}: {size} bytes, expected {expected['bytes']}"]
    found = sha256_of(path)
    return [] if found == expected["sha256"] else [f"{path}: sha256 {found}, expected {expected['sha256']}"]


# ---- what the index says of itself


def _index(dataset: Dataset) -> list[str]:
    index, problems = dataset.index, []
    if unknown := sorted(set(index) - {name.removesuffix("?") for name in INDEX}):
        problems.append(f"index.json: states {', '.join(unknown)}, which nothing can be held against")
    if (digest := dataset.recipe.digest) != index["recipe_digest"]:
        problems.append(f"index.json: its recipe has the digest {digest}, it states {index['recipe_digest']}")
    names, files = [shard["name"] for shard in index["shards"]], set(index["files"])
    counts = Counter(shard["split"] for shard in index["shards"])
    expected = [shard_name(split, n, count) for split, count in counts.items() for n in range(count)]
    if names != expected:
        wrong = next(found for found, wanted in zip_longest(names, expected) if found != wanted)
        problems.append(f"index.json: shards are not those of {', '.join(counts)} in order, see {wrong}")
    unlisted = sorted({name for name in files if name.startswith("shards/")} ^ set(names))
    problems += [f"index.json: {name} is in only one of its shards and files" for name in unlisted]
    own = {ISSUES, UTTERANCES, *(() if index["raw"] is None else ("build.json",))}
    problems += [f"index.json: does not account for {name}" for name in sorted(own - files)]
    return [*problems, *_build(dataset)]


def _build(dataset: Dataset) -> list[str]:
    """build.json, the plan, against the index."""
    if "build.json" not in dataset.index["files"]:
        return []
    plan = read_state(dataset.folder / "build.json", {str: object}, MEND, ShardError)
    differing = [name for name in plan if name in dataset.index and plan[name] != dataset.index[name]]
    return [f"{name}: build.json and index.json differ" for name in differing]


# ---- the rows


def _shards(dataset: Dataset) -> list[str]:
    tally, problems = Tally(dataset.emotions), []
    for shard in dataset.index["shards"]:
        problems += _shard(dataset, shard, tally)
    if twice := [name for name, times in Counter(tally.ids).items() if times > 1]:
        problems.append(f"{len(twice)} ids stand twice: {_some(twice)}")
    for name, found in tally.facts().items():
        problems += _differences(name, found, dataset.index[name])
    return problems


def _shard(dataset: Dataset, shard: Mapping[str, Any], tally: Tally) -> list[str]:
    """Adds the rows of one shard to `tally`; what does not go together with the index."""
    name, rows, elsewhere = shard["name"], 0, Counter[tuple[str, str]]()
    with open_parquet(dataset.folder / name) as file:
        if file.schema_arrow.remove_metadata() != SCHEMA:
            return [f"{name}: columns differ from schema version {SCHEMA_VERSION}"]
        problems = _metadata(name, file.schema_arrow.metadata or {}, dataset.index)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            try:
                tally.add(table)
            except (ShardError, ValueError) as error:  # cells of another size; more labels than emotions
                return [*problems, f"{name}: {error}"]
            rows += table.num_rows
            elsewhere.update(zip(table.column("corpus").to_pylist(), table.column("split").to_pylist(), strict=True))
    for corpus, split in sorted(elsewhere, key=str):
        if (corpus, split) != (dataset.corpus, shard["split"]):
            number = elsewhere[corpus, split]
            problems.append(f"{name}: {number} rows of {corpus} {split}, expected {dataset.corpus} {shard['split']}")
    return problems if rows == shard["rows"] else [*problems, f"{name}: {rows} rows, expected {shard['rows']}"]


def _metadata(name: str, stored: Mapping[bytes, bytes], index: Mapping[str, Any]) -> list[str]:
    """A shard says of itself what the index says: recipe, emotions, scheme, versions."""
    try:
        found = json.loads(stored[b"mesm"])
    except (KeyError, ValueError):
        return [f"{name}: has no metadata of mesm"]
    expected = {key: value for key, value in index.items() if key not in COUNTED} | {"shard": name}
    return [
        f"{name}: {key} in it and in index.json are not the same"
        for key in dict.fromkeys([*expected, *found])
        if key not in found or key not in expected or found[key] != expected[key]
    ]


def _differences(name: str, found: Any, stated: Any) -> list[str]:
    """The first difference of what was counted and what the index states."""
    if isinstance(found, dict) and isinstance(stated, dict):
        keys = dict.fromkeys([*found, *stated])
        return [line for key in keys for line in _differences(f"{name} {key}", found.get(key), stated.get(key))]
    return [] if found == stated else [f"{name}: found {excerpt(found)}, index.json states {excerpt(stated)}"]


# ---- the notes beside them


def _notes(dataset: Dataset) -> list[str]:
    problems = _differences("issues", count_issues(issue.kind for issue in dataset.issues), dataset.index["issues"])
    noted = {u.id: u for u in read_utterances(dataset.folder / UTTERANCES)}
    light = [name for name in SCHEMA.names if name not in ("faces", "mels")]
    other, missing = [], []
    for utterance, _ in dataset.clips(columns=light):
        note = noted.pop(utterance.id, None)
        if note is None:
            missing.append(utterance.id)
        elif _comparable(note) != _comparable(utterance):
            other.append(utterance.id)
    problems += [f"{UTTERANCES}: lacks {_some(missing)}"] if missing else []
    problems += [f"{UTTERANCES}: has {_some(list(noted))}, which no shard has"] if noted else []
    return problems + ([f"{UTTERANCES}: says other things than the shards of {_some(other)}"] if other else [])


def _comparable(u: Utterance) -> tuple[Any, ...]:
    """What shards and utterances.jsonl both hold; shards have votes in float32."""
    votes = [(vote.rater, vote.name, np.float32(vote.value)) for vote in u.votes]
    return u.text, u.start, u.end, u.labels, u.speaker, u.group, votes


def _some(ids: list[str]) -> str:
    return ", ".join(sorted(ids)[:MOST_NAMED]) + (" ..." if len(ids) > MOST_NAMED else "")
