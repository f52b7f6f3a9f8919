"""`load`: a finished dataset as an indexable `Dataset`.

out/iemocap/
    index.json                          written last: what the dataset is, and the sha256 of every other file
    issues.jsonl                        every utterance that was dropped or is doubtful, and why
    utterances.jsonl                    provenance of every utterance: files, times, votes
    shards/train-00000-of-00003.parquet, valid-..., test-...
"""

import bisect
import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.clip import Clip, Recipe
from mesm_data.dataset.arrow_files import open_to_read
from mesm_data.dataset.item import Item
from mesm_data.dataset.schema import ARRAYS, INDEX, ROW_GROUP, SCHEMA_VERSION, faces_of, mels_of
from mesm_data.errors import DataError, Issue, ShardError
from mesm_data.state import read_state, read_state_lines
from mesm_data.utterance import Source, Utterance, Vote

if TYPE_CHECKING:
    import pandas as pd

ISSUE = {"utterance": str, "kind": str, "detail": str}  # shape of a line of issues.jsonl


def load(folder: str | Path) -> "Dataset":
    """Open the dataset in `folder`, which `mesm-data build` or `mesm-data synth` has finished.

    Only index.json is read; shards are read when items are. Raises ShardError (a DataError) where there is no dataset,
    where index.json is damaged, and for a dataset that another version of mesm wrote.
    """
    folder = Path(folder)
    path = folder / "index.json"
    if not path.is_file():
        begun = (folder / "build.json").is_file()
        way_out = (
            "a build was begun here: run it again to finish it"
            if begun
            else "expected a folder made by `mesm-data build`"
        )
        raise ShardError(f"{path}: not found; {way_out}")
    again = "not an index of a dataset; delete it and build the dataset again"
    index = read_state(path, {"schema_version": int}, again, ShardError)
    if index["schema_version"] != SCHEMA_VERSION:
        raise ShardError(_of_another_version(folder, index))
    index = read_state(path, INDEX, again, ShardError)
    for split in dict.fromkeys(shard["split"] for shard in index["shards"]):
        if lacking := {"utterances", *index["emotions"]} - set(index["counts"].get(split, ())):
            raise ShardError(f"{path}: counts.{split} lacks {', '.join(sorted(lacking))}; {again}")
    return Dataset(folder, index)


@dataclass(frozen=True, repr=False)
class Dataset:
    """A finished dataset: a sequence of `Item`, one per utterance, in the order of its shards.

    `len(ds)`, `ds[0]`, `ds["Ses01F_impro01_F000"]`, `ds[:10]` and iteration read from the shards as they go; memory
    stays at one row group. `ds.split("train")` is the dataset of one split.
    """

    folder: Path
    index: dict[str, Any]  # what index.json says

    # ---- what it is

    @property
    def corpus(self) -> str:
        """Name of the corpus that it was built from, such as "iemocap"."""
        return self.index["corpus"]

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names of the labels, in their order."""
        return tuple(self.index["emotions"])

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have utterances: usually train, valid, test."""
        return tuple(dict.fromkeys(shard["split"] for shard in self.index["shards"]))

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Everybody who speaks, sorted."""
        return tuple(sorted({row["speaker"] for row in self.rows(["speaker"])}))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Id of every utterance, in order."""
        return tuple(row["id"] for row in self.rows(["id"]))

    @cached_property
    def issues(self) -> tuple[Issue, ...]:
        """Every utterance that was dropped or is doubtful, and why. Raises ShardError for a damaged issues.jsonl."""
        lines = read_state_lines(self.folder / "issues.jsonl", ISSUE, "build the dataset again", ShardError)
        return tuple(Issue(line["utterance"], line["kind"], line["detail"]) for line in lines)

    @property
    def recipe(self) -> Recipe:
        """Every number that shaped the faces and mels."""
        stored = self.index["recipe"]
        return Recipe(**stored | {"face_thresholds": tuple(stored["face_thresholds"])})

    def __repr__(self) -> str:
        return f"Dataset({str(self.folder)!r}): {self.corpus}, {len(self):,} utterances\n{self._counts()}"

    # ---- its utterances

    def split(self, name: str) -> "Dataset":
        """The dataset of one split only. Raises DataError for a split that it lacks."""
        if name not in self.splits:
            raise DataError(f"{self.folder}: no split {name!r}, expected one of {', '.join(self.splits)}")
        shards = [shard for shard in self.index["shards"] if shard["split"] == name]
        return replace(self, index=self.index | {"shards": shards, "counts": {name: self.index["counts"][name]}})

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, which: int | str) -> Item: ...
    @overload
    def __getitem__(self, which: slice) -> list[Item]: ...
    def __getitem__(self, which: int | str | slice) -> Item | list[Item]:
        """The utterance with this number or id. Raises IndexError for a number, DataError for an id that it lacks."""
        if isinstance(which, slice):
            return [self[n] for n in range(*which.indices(len(self)))]
        n = self._number_of(which) if isinstance(which, str) else range(len(self))[which]
        shard = bisect.bisect_right(self._starts, n) - 1
        row = n - self._starts[shard]
        with open_parquet(self.shard_paths()[shard]) as file:
            return next(self._items(file.read_row_group(row // ROW_GROUP).slice(row % ROW_GROUP, 1)))

    def __iter__(self) -> Iterator[Item]:
        for table in self.tables():
            yield from self._items(table)

    def __contains__(self, name: object) -> bool:
        """Whether an utterance has this id."""
        return name in self._numbers

    def to_pandas(self) -> "pd.DataFrame":
        """One line per utterance, without arrays.

        Columns: id, split, speaker, group, start and end (seconds of the recording), text, one of 0 or 1 per emotion,
        faces and faces_found (how many), sample_rate (Hz), quality (kinds of doubtful Issues, separated by commas).
        """
        import pandas as pd

        plain = ["id", "split", "speaker", "group", "start", "end", "text"]
        rows = list(self.rows([*plain, "labels", "face_found", "sample_rate", "quality"]))
        labels = np.array([row["labels"] for row in rows], np.int8).reshape(len(rows), len(self.emotions))
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in plain}
        columns |= dict(zip(self.emotions, labels.T, strict=True))
        columns["faces"] = [len(row["face_found"]) for row in rows]
        columns["faces_found"] = [sum(row["face_found"]) for row in rows]
        columns["sample_rate"] = [row["sample_rate"] for row in rows]
        columns["quality"] = [", ".join(row["quality"]) for row in rows]
        return pd.DataFrame(columns)

    def to_torch(self, text_encoder: str | Path | None = None, cache: str | Path | None = None) -> Any:
        """This split as a map-style `torch.utils.data.Dataset` of `mesm_model.batch.Example`.

        Its `collate` makes the `Batch` that the models take:

            train = ds.split("train").to_torch("runs/mesm/text")
            loader = torch.utils.data.DataLoader(train, batch_size=8, collate_fn=train.collate)

        `text_encoder` is a folder or name that Hugging Face's AutoTokenizer reads, to make the tokens; without it there
        are none. `cache` is the folder of a memory-mapped copy, `.cache` in the dataset's folder by default. Raises
        DataError for a dataset of several splits: choose one with `split`.
        """
        from mesm_model.loader import to_torch  # the one arrow upwards: torch belongs to mesm_model

        return to_torch(self, text_encoder, cache)

    # ---- for programs that read shards

    def shard_paths(self, split: str | None = None) -> list[Path]:
        """The shard files of one split, or of all, in order."""
        return [self.folder / s["name"] for s in self.index["shards"] if split is None or s["split"] == split]

    def tables(self, split: str | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Tables of up to `ROW_GROUP` rows, in order; memory stays at one of them."""
        for path in self.shard_paths(split):
            with open_parquet(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=columns)

    def find(self, ids: Iterable[str]) -> Iterator[pa.Table]:
        """Tables of one row each, in the dataset's order; only the row groups that hold them are read.

        Ids that the dataset does not have are skipped.
        """
        wanted = set(ids)
        for path in self.shard_paths():
            with open_parquet(path) as file:
                for row, name in enumerate(file.read(columns=["id"]).column("id").to_pylist()):
                    if name in wanted:
                        yield file.read_row_group(row // ROW_GROUP).slice(row % ROW_GROUP, 1)

    def rows(self, columns: Sequence[str], split: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as plain dicts; meant for the light columns (everything but faces and mels)."""
        for path in self.shard_paths(split):
            with open_parquet(path) as file:
                yield from file.read(columns=list(columns)).to_pylist()

    def clips(self, split: str | None = None, columns: Sequence[str] | None = None) -> Iterator[tuple[Utterance, Clip]]:
        """Every utterance with its clip, in order. Only `columns` are read where given; the rest is left empty.

        Where the raw files are (`Utterance.source`) is not in the shards: see `read_utterances` of utterances.jsonl.
        """
        for table in self.tables(split, None if columns is None else list(dict.fromkeys(["id", *columns]))):
            yield from clips_of(table)

    # ---- helpers

    @cached_property
    def _starts(self) -> list[int]:
        """Number of the first row of each shard, and of all rows."""
        return list(itertools.accumulate((shard["rows"] for shard in self.index["shards"]), initial=0))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: n for n, name in enumerate(self.ids)}

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            near = difflib.get_close_matches(name, self.ids, n=3)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise DataError(f"{self.folder}: no utterance {name!r} among {len(self):,}{hint}")
        return self._numbers[name]

    def _items(self, table: pa.Table) -> Iterator[Item]:
        for split, (utterance, clip) in zip(table.column("split").to_pylist(), clips_of(table), strict=True):
            yield Item(split, self.emotions, utterance, clip)

    def _counts(self) -> str:
        """Utterances and positives of each emotion by split, at most eight emotions wide."""
        names = ["utterances", *self.emotions[:8]]
        lines = ["         " + "".join(f"{name:>{max(8, len(name)) + 2}}" for name in names)]
        for split, counts in self.index["counts"].items():
            lines.append(f"{split:<9}" + "".join(f"{counts[name]:>{max(8, len(name)) + 2}}" for name in names))
        return "\n".join(lines)


def clips_of(table: pa.Table) -> Iterator[tuple[Utterance, Clip]]:
    """Utterance and Clip of each row of a table; columns that it lacks are left empty."""
    light = [name for name in table.column_names if name not in ARRAYS]
    for n, row in enumerate(table.select(light).to_pylist()):
        yield _utterance(row), _clip(table, n, row)


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open shard. Raises ShardError where it is missing, or turns out to be broken while it is open."""
    try:
        with open_to_read(path) as opened, pq.ParquetFile(opened) as file:
            yield file
    except FileNotFoundError:
        raise ShardError(f"{path}: not found, though index.json names it; build the dataset again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a whole Parquet file ({error}); build the dataset again") from None


def _of_another_version(folder: Path, index: Mapping[str, Any]) -> str:
    """Which version wrote a dataset, and how it is made again."""
    tools, corpus, found = index.get("tools"), index.get("corpus"), index["schema_version"]
    writer = tools.get("mesm", "?") if isinstance(tools, dict) else "?"
    make = f"synth {corpus}" if index.get("raw", "") is None else f"build {corpus} --raw RAW"
    mend = f"delete {folder} and run `mesm-data {make} --out {folder}`" if found < SCHEMA_VERSION else "update mesm"
    return (
        f"{folder / 'index.json'}: written by mesm {writer} with schema version {found}, mesm {version('mesm')} reads "
        f"{SCHEMA_VERSION}; {mend}"
    )


def _utterance(row: Mapping[str, Any]) -> Utterance:
    return Utterance(
        id=row["id"],
        source=Source(""),
        start=row.get("start", 0.0),
        end=row.get("end", 0.0),
        text=row.get("text", ""),
        labels=tuple(row.get("labels", ())),
        votes=tuple(Vote(**vote) for vote in row.get("votes", ())),
        speaker=row.get("speaker", ""),
        group=row.get("group", ""),
    )


def _clip(table: pa.Table, n: int, row: Mapping[str, Any]) -> Clip:
    """Row number n of a table; `row` holds its light columns."""

    def numbers(name: str, *shape: int, kind: type = np.float32) -> np.ndarray:
        return np.array(row.get(name, []), kind).reshape(-1, *shape)

    return Clip(
        utterance=row["id"],
        faces=faces_of(table, n) if "faces" in table.column_names else np.zeros((0, 48, 48, 3), np.uint8),
        face_times=numbers("face_times"),
        face_boxes=numbers("face_boxes", 4),
        face_scores=numbers("face_scores"),
        face_landmarks=numbers("face_landmarks", 5, 2),
        face_found=numbers("face_found", kind=bool),
        mels=mels_of(table, n) if "mels" in table.column_names else np.zeros((0, 128, 32), np.float16),
        sample_rate=row.get("sample_rate", 0),
        quality=tuple(row.get("quality", ())),
    )
