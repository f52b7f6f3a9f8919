"""Random and damaged input for the readers of feature tables and state files: they read it or raise a DataError.

The examples are the same in every run.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.utterance import Source, Utterance
from mesm_model.evaluation import metrics
from mesm_model.evaluation.scores import Report, from_json, to_json, to_text
from mesm_model.features import external, store, word_vectors
from tests.model.test_external import OPENFACE

SEEDED = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
UTTERANCE = Utterance("video_3", Source(""), 1.0, 2.0, "", (), (), "", "video")

CELL = st.one_of(
    st.sampled_from(
        [
            "video_3",
            "C:\\a\\video_3.wav",
            "0 days",
            "0 days 00:00:01.5",
            "1.5",
            "-nan(ind)",
            "",
            "NaT",
            "inf",
            "-1",
            "9" * 400,
        ]
    ),
    st.floats().map(str),
    st.text(max_size=8),
)
HEADING = st.lists(
    st.sampled_from(["name", "file", "start", "end", "timestamp", "confidence", "success", "x", "y", ""]), max_size=6
)
LINES = st.lists(st.lists(CELL, max_size=6), max_size=5)
MARKS = st.sampled_from([",", ";", "\t"])


def reads_or_refuses(call: Callable[[], Any]) -> None:
    """Whatever else is raised fails the test; a message is one line of bounded length."""
    message = ""
    try:
        call()
    except DataError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000


def find(reader: Callable[[Path], external.Table], path: Path) -> None:
    external._read_sheet.cache_clear()
    table = reader(path)
    rows = table.find(UTTERANCE)
    assert rows is None or (rows.dtype == np.float32 and rows.shape[1:] == (table.size,))


@SEEDED
@given(heading=HEADING, lines=LINES, mark=MARKS, as_folder=st.booleans())
def test_csv_tables(heading: list[str], lines: list[list[str]], mark: str, as_folder: bool, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
    (tmp_path / "t").mkdir()
    path = tmp_path / "t" / ("video.csv" if as_folder else "all.csv")
    rows = [mark.join(cells) for cells in [heading, *(cells[: len(heading)] for cells in lines)]]
    path.write_bytes("\n".join(rows).encode("utf-8", "surrogatepass"))
    for reader in (external.read_opensmile, external.read_disvoice):
        reads_or_refuses(lambda reader=reader: find(reader, path.parent if as_folder else path))  # type: ignore[misc]


@SEEDED
@given(lines=st.lists(st.lists(CELL, min_size=len(OPENFACE), max_size=len(OPENFACE)), max_size=3))
def test_openface_tables(lines: list[list[str]], tmp_path: Path) -> None:
    text = "\n".join(",".join(row) for row in [OPENFACE, *lines])
    (tmp_path / "video_3.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    reads_or_refuses(lambda: find(external.read_openface, tmp_path))


@SEEDED
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_bytes_of_any_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "video_3.csv"
    path.write_bytes(content)
    for reader in (external.read_opensmile, external.read_openface, external.read_disvoice):
        reads_or_refuses(lambda reader=reader: find(reader, path))  # type: ignore[misc]
    reads_or_refuses(lambda: find(lambda path: external.read_pickled(path, "v"), path))
    for wanted in (None, {"the", "happy"}):
        reads_or_refuses(lambda wanted=wanted: word_vectors.read_table(path, wanted))  # type: ignore[misc]


JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    )


PLAIN = nested(st.one_of(JSON, st.binary(max_size=5)))
ARRAYS = st.tuples(
    st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.sampled_from(["f4", "f8", "O", "S3"])
).map(lambda drawn: np.ones(drawn[:3]).astype(drawn[3]))
IDS = st.lists(
    st.one_of(PLAIN, st.sampled_from(["video$_$3", "video_3"]), st.lists(PLAIN, min_size=3, max_size=3)), max_size=2
)


@SEEDED
@given(part=st.one_of(PLAIN, st.fixed_dictionaries({"id": st.one_of(PLAIN, IDS), "vision": st.one_of(PLAIN, ARRAYS)})))
def test_pickles(part: Any, tmp_path: Path) -> None:
    (tmp_path / "some.pkl").write_bytes(pickle.dumps({"train": part}))
    reads_or_refuses(lambda: find(lambda path: external.read_pickled(path, "v"), tmp_path / "some.pkl"))


@SEEDED
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_descriptions_of_features(at: float, byte: int, cut: bool, featured: Dataset, tmp_path: Path) -> None:
    folder = Path(featured.index["features"]["folder"])
    content = bytearray((folder / "features.json").read_bytes())
    place = int(at * (len(content) - 1))
    changed = content[:place] if cut else content[:place] + bytes([byte]) + content[place + 1 :]
    (tmp_path / "features.json").write_bytes(changed)
    found: list[Any] = []
    reads_or_refuses(lambda: found.append(store.read_index(tmp_path)))
    assert found in ([], [store.read_index(folder)])  # the same where a blank has changed


@SEEDED
@given(data=st.data())
def test_damaged_scores(data: st.DataObject, report: Report) -> None:
    stored = json.loads(json.dumps(to_json(report)))
    spot, name = stored, data.draw(st.sampled_from(sorted(stored)))
    while isinstance(spot[name], dict) and spot[name] and data.draw(st.booleans()):
        spot = spot[name]
        name = data.draw(st.sampled_from(sorted(spot)))
    spot[name] = data.draw(nested(JSON))
    reads_or_refuses(lambda: to_text(from_json(stored)))


@pytest.fixture(scope="module")
def report() -> Report:
    random = np.random.default_rng(0)
    labels, probability = random.integers(0, 2, (30, 2)), random.random((30, 2))
    half = np.full(2, 0.5)
    return Report(
        run="run", data="data", split="test", emotions=("anger", "joy"), thresholds=(0.5, 0.5), utterances=30,
        scores=metrics.score(probability, labels, half), trivial=metrics.trivial(labels),
        intervals=metrics.intervals(probability, labels, half, draws=20), encoder="tiny",
    )  # fmt: skip
