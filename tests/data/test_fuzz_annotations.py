"""Whatever a file of annotations, a table or an id list holds, only the product's own errors are raised, soon."""

import pickle
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from mesm_data.build import read_corpus
from mesm_data.corpora import iemocap, mosei, read_lines, read_table
from mesm_data.errors import CorpusError, DataError, Issue
from mesm_data.splits.expected import read_expected_file
from mesm_data.splits.id_lists import read_lists
from mesm_data.utterance import Utterance

FEW = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Pieces of which the formats are made, and what breaks them: nonsense numbers, marks, brackets, zero bytes.
PIECES = st.sampled_from(
    (
        *(
            "[",
            "]",
            "___",
            " - ",
            "\t",
            ";",
            ":",
            ",",
            '"',
            "\n",
            "\r",
            "%",
            "\0",
            "\ufeff",
            "é",
            "\udcff",
            "inf",
            "nan",
        ),
        *("1", "-0", "1e9", "1e999", "9" * 400, "9" * 5000, "0.5", "ang", "xxx", "C-E2:", "A-E3:", "val 2", "val 9e9"),
        *("Ses01F_impro01_F000", "Ses01F_impro01_MXX0", "Ses01F_impro01", "81406", "81406_7", "video_id", "Input.CLIP"),
        *("Input.VIDEO_ID", "Answer.anger", "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"),
        *("Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n", "81406___7___1.5___4___Please.\n"),
    )
)
TEXTS = st.lists(st.one_of(PIECES, st.text(string.printable, max_size=8)), max_size=30).map("".join)
FILES = st.one_of(st.binary(max_size=300), TEXTS.map(lambda text: text.encode("utf-8", "surrogateescape")))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def check(read: Callable[[], Any]) -> Any:
    """What the reader gives; a DataError is as good."""
    told = ""
    try:
        return read()
    except DataError as error:
        told = str(error)
    assert len(told) < 3000
    return None


@seed(0)
@FEW
@given(evaluation=FILES, transcript=FILES)
def test_iemocap(tmp_path: Path, evaluation: bytes, transcript: bytes) -> None:
    written(tmp_path / "EmoEvaluation" / "Ses01F_impro01.txt", evaluation)
    written(tmp_path / "transcriptions" / "Ses01F_impro01.txt", transcript)
    check(lambda: read_corpus("iemocap", tmp_path, {}))
    check(lambda: iemocap.survey(tmp_path))


HEADER = ",".join(mosei.RATING_COLUMNS).encode() + b"\n"


@seed(0)
@FEW
@given(transcript=FILES, ratings=FILES, header=st.booleans())
def test_mosei_release(tmp_path: Path, transcript: bytes, ratings: bytes, header: bool) -> None:
    written(tmp_path / "text" / "81406.txt", b"81406___8___1___2___x\n" + transcript)
    written(tmp_path / "Labels" / "a.csv", HEADER + b"81406,8,1,0,0,0,0,0\n")
    written(tmp_path / "Labels" / "b.csv", header * HEADER + ratings)
    check(lambda: read_corpus("mosei", tmp_path, {}))


@seed(0)
@FEW
@given(sheet=FILES)
def test_mosei_sheet_and_public_table(tmp_path: Path, sheet: bytes) -> None:
    (tmp_path / "Raw" / "81406").mkdir(parents=True, exist_ok=True)
    written(tmp_path / "Labels" / "a.csv", HEADER + b"81406,8,1,0,0,0,0,0\n")
    written(tmp_path / "label.csv", b"video_id,clip_id,text,label\n81406,8,words,0\n" + sheet)
    check(lambda: read_corpus("mosei", tmp_path, {"layout": "clips"}))
    table = written(tmp_path / "public.csv", ",".join(mosei.PUBLIC_COLUMNS).encode() + b"\n" + sheet)
    check(lambda: mosei.read_labels_csv(table))


@seed(0)
@FEW
@given(meta=VALUES, name=TEXTS)
def test_mosei_meta(tmp_path: Path, meta: Any, name: str) -> None:
    content = {"81406_7": {"text": "words", "label": [0, 1, 0, 0, 0, 0]}, name: meta}
    written(tmp_path / "meta.pkl", pickle.dumps(content, protocol=4))
    check(lambda: read_corpus("mosei", tmp_path, {}))


@seed(0)
@FEW
@given(content=FILES)
def test_lines_and_tables(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "file", content)
    check(lambda: list(read_lines(path)))
    check(lambda: list(read_table(path, ("a",))))
    written(path, b"a,b\n" + content)
    check(lambda: list(read_table(path, ("a",))))


@seed(0)
@FEW
@given(content=FILES, manifest=st.one_of(FILES, VALUES))
def test_id_lists_and_manifests(tmp_path: Path, content: bytes, manifest: Any) -> None:
    import json

    for split in ("train", "valid", "test"):
        written(tmp_path / f"{split}.txt", f"{split}\n".encode() + content * (split == "valid"))
    check(lambda: read_lists(tmp_path))
    encoded = manifest if isinstance(manifest, bytes) else json.dumps(manifest, default=str).encode()
    check(lambda: read_expected_file(written(tmp_path / "expected.json", encoded)))


@seed(0)
@FEW
@given(field=st.sampled_from(sorted({"table", "utterances", "digests", "id_form", "lists_files"})), value=VALUES)
def test_a_manifest_with_one_wrong_field(tmp_path: Path, field: str, value: Any) -> None:
    import json

    from mesm_data.splits.expected import MANIFESTS

    content = json.loads((MANIFESTS / "iemocap" / "expected.json").read_text()) | {field: value}
    path = written(tmp_path / "expected.json", json.dumps(content, default=str).encode())
    expected = check(lambda: read_expected_file(path))
    if expected:
        expected.speaker_of("Ses01F_impro01_F000")


@pytest.mark.parametrize("start", ["7", "0" * 400 + "7", "1e999", "inf", "nan", "400000000.0", "9" * 400])
@pytest.mark.parametrize("end", ["9.9", "6", "1e999", "nan"])
def test_nonsense_times_cost_their_own_turn_only(tmp_path: Path, start: str, end: str) -> None:
    turns = [("F000", "0.5", "2.5"), ("F001", start, end)]
    lines = [f"[{a} - {b}]\tSes01F_impro01_{turn}\tneu\t[2.5, 2.5, 2.5]\n" for turn, a, b in turns]
    written(tmp_path / "EmoEvaluation" / "Ses01F_impro01.txt", "".join(lines).encode())
    said = [f"Ses01F_impro01_{turn} [0-1]: Words.\n" for turn, _, _ in turns]
    written(tmp_path / "transcriptions" / "Ses01F_impro01.txt", "".join(said).encode())
    found = list(iemocap.read(tmp_path))
    assert isinstance(found[0], Utterance)
    if end == "9.9" and start.endswith("7"):
        assert isinstance(found[1], Utterance)
    else:
        assert isinstance(found[1], Issue)
        assert found[1].kind == "bad-times"
        assert len(found[1].detail) < 80


@pytest.mark.parametrize(
    "line", ["Ses" + "[" * 100_000, "[" * 100_000 + "Ses01F_impro01_F000", "C-E2:" + "[" * 100_000]
)
def test_a_line_of_a_hundred_thousand_brackets_is_refused_at_once(tmp_path: Path, line: str) -> None:
    first = "[0.5 - 2]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"
    text = first + line + "\n" if line[0] != "S" else first
    written(tmp_path / "EmoEvaluation" / "Ses01F_impro01.txt", text.encode())
    written(tmp_path / "transcriptions" / "Ses01F_impro01.txt", (line if line[0] == "S" else "").encode())
    begun = time.perf_counter()
    check(lambda: list(iemocap.read(tmp_path)))
    assert time.perf_counter() - begun < 1


def test_an_infinite_vote_is_told_by_its_line(tmp_path: Path) -> None:
    text = f"[0.5 - 2]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\nA-E3:\tval {'9' * 400};\t()\n"
    path = written(tmp_path / "EmoEvaluation" / "Ses01F_impro01.txt", text.encode())
    with pytest.raises(CorpusError, match=f"{path}:2: found level 'val 9+'\\.\\.\\., expected a number of 1 to 5"):
        list(iemocap.read(tmp_path))
