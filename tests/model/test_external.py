"""Imported features: each format as its program writes it, joined by id or time; errors for what does not fit."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_data.errors import CorpusError, DataError
from mesm_data.utterance import Source, Utterance
from mesm_model.features import external
from mesm_model.features.external import FACET_EMOTIONS, read_disvoice, read_openface, read_opensmile, read_pickled

AUS = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
OPENFACE = ["frame", "face_id", "timestamp", "confidence", "success", "pose_Rx", *(f"AU{n:02d}_r" for n in AUS)]
OPENFACE += [f"AU{n:02d}_c" for n in sorted([*AUS, 28])]


@pytest.fixture(autouse=True)
def fresh() -> None:
    external._read_sheet.cache_clear()


def utterance(name: str = "video_3", start: float = 0.0, end: float = 1.0) -> Utterance:
    return Utterance(name, Source(""), start, end, "", (), (), "", name.rpartition("_")[0])


def write(path: Path, heading: Sequence[str], rows: Sequence[Sequence[Any]], mark: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(mark.join(map(str, row)) for row in [heading, *rows]) + "\n", encoding="utf-8")
    return path


def openface_row(time: float, sure: float = 0.9, success: int = 1, value: float = 1.0) -> list[float]:
    return [1, 0, time, sure, success, 0.1, *([value] * 35)]


# ---- OpenFace


def test_openface_gives_its_35_action_units_of_an_utterances_own_file(tmp_path: Path) -> None:
    heading = [OPENFACE[0], *(f" {name}" for name in OPENFACE[1:])]  # OpenFace writes a space after each comma
    write(tmp_path / "csv" / "video_3.csv", heading, [openface_row(0.0, value=0.5), openface_row(0.03, value=2.5)])
    table = read_openface(tmp_path)
    assert table.size == 35
    assert table.find(utterance()).tolist() == [[0.5] * 35, [2.5] * 35]  # type: ignore[union-attr]
    assert table.find(utterance("other_1")) is None


def test_a_file_of_the_whole_video_is_cut_by_time(tmp_path: Path) -> None:
    write(tmp_path / "video.csv", OPENFACE, [openface_row(t / 10, value=t) for t in range(30)])
    found = read_openface(tmp_path).find(utterance(start=1.0, end=1.5))
    assert found is not None
    assert found[:, 0].tolist() == [10, 11, 12, 13, 14]


def test_of_several_faces_the_surest_counts_and_none_where_openface_failed(tmp_path: Path) -> None:
    rows = [
        *(openface_row(0.0, sure=sure, value=value) for sure, value in ((0.5, 1), (0.8, 2), (0.7, 3))),
        openface_row(0.1, success=0, value=4),
    ]
    write(tmp_path / "video_3.csv", OPENFACE, rows)
    found = read_openface(tmp_path).find(utterance())
    assert found is not None
    assert found[:, 0].tolist() == [2]


def test_a_file_without_the_35_units_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "video_3.csv", OPENFACE[:-1], [])
    with pytest.raises(DataError, match=r"video_3.csv:1: found 34 columns of action units, expected 35, AU01_r"):
        _ = read_openface(tmp_path).size


@pytest.mark.parametrize("text", ["-nan(ind)", "nan(ind)", "-nan", "NaN", "1.#IND", "-1.#QNAN", "inf", "1e999", ""])
def test_numbers_that_are_none_are_read_as_such_however_the_library_of_the_system_writes_them(
    text: str, tmp_path: Path
) -> None:
    row: list[Any] = openface_row(0.0, value=0.5)
    row[5:7] = [0.1, text]
    write(tmp_path / "video_3.csv", OPENFACE, [row])
    found = read_openface(tmp_path).find(utterance())
    assert found is not None
    assert not np.isfinite(found[0, 0])
    assert found[0, 1:].tolist() == [0.5] * 34


def test_openfaces_file_with_nan_ind_has_a_row_per_frame_and_17_numbers_to_replace(shared: Path) -> None:
    table = read_openface(shared / "cases" / "openface_nan")
    found = table.find(utterance("Ses01F_impro01_F000", 0.0, 1.0))
    assert found is not None
    assert int((~np.isfinite(found)).sum()) == 17
    assert np.isfinite(found).all(1).sum() == len(found) - 1


# ---- openSMILE and DisVoice


def test_opensmiles_program_writes_semicolons_and_names_the_columns(tmp_path: Path) -> None:
    heading = ["name", "frameTime", "Loudness_sma3", "F0_sma3"]
    write(tmp_path / "video_3.csv", heading, [["'unknown'", 0.0, 0.5, 120], ["'unknown'", 0.01, 0.6, 121]], ";")
    table = read_opensmile(tmp_path)
    assert (table.size, table.what) == (2, "openSMILE, 2 columns")
    assert table.find(utterance()).tolist() == [[0.5, 120], [pytest.approx(0.6), 121]]  # type: ignore[union-attr]


def test_one_file_of_opensmiles_package_holds_all_utterances(tmp_path: Path) -> None:
    heading = ["file", "start", "end", "Loudness_sma3", "F0_sma3"]
    rows = [["wav/video_3.wav", "0 days 00:00:00", "0 days", 1, 2], ["wav/video_4.wav", "0 days", "0 days", 3, 4]]
    path = write(
        tmp_path / "all.csv", heading, [[x if x != "0 days" else "0 days 00:00:00.01" for x in r] for r in rows]
    )
    table = read_opensmile(path)
    assert table.find(utterance("video_4")).tolist() == [[3, 4]]  # type: ignore[union-attr]
    assert table.find(utterance("video_5")) is None


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("wav/video_3.wav", "video_3"),
        ("C:\\Users\\me\\wav\\video_3.WAV", "video_3"),
        ("\\\\server\\share\\video_3.flac", "video_3"),
        ("'video_3'", "video_3"),
        ("video_3", "video_3"),
        ("take.2_3", "take.2_3"),
        ("audio/take.2_3.wav", "take.2_3"),
    ],
)
def test_a_row_names_its_utterance_by_id_or_by_a_file_of_any_system(cell: str, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", ["file", "x"], [[cell, 7]])
    assert read_opensmile(path).find(utterance(name)).tolist() == [[7]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0 days", 0), ("0 days 00:00:02.978000", 2.978), ("1 days 00:00:01", 86_401), ("00:01:02", 62), ("2.5", 2.5)],
)
def test_times_are_read_as_pandas_writes_them(text: str, seconds: float, tmp_path: Path) -> None:
    write(tmp_path / "video.csv", ["start", "end", "x"], [[text, "NaT", 7]])
    at = utterance(start=seconds - 0.001, end=seconds + 0.001)
    assert read_opensmile(tmp_path).find(at).tolist() == [[7]]  # type: ignore[union-attr]


def test_functionals_of_opensmiles_package_are_88_columns_of_four_utterances(shared: Path) -> None:
    table = read_opensmile(shared / "cases" / "opensmile" / "functionals.csv")
    assert table.size == 88
    for name in ("Ses01F_impro01_M003", "Ses02M_script01_1_F000", "Ses02M_script01_1_M001", "Ses03F_script01_1_F000"):
        assert table.find(utterance(name)).shape == (1, 88)  # type: ignore[union-attr]


def test_files_that_macos_puts_beside_others_and_suffixes_in_capitals(tmp_path: Path) -> None:
    write(tmp_path / "video_3.CSV", ["x"], [[7]])
    for name in ("._video_3.CSV", "._video_4.csv"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07\x00\x02Mac OS X")
    table = read_opensmile(tmp_path)
    assert table.find(utterance()).tolist() == [[7]]  # type: ignore[union-attr]
    assert table.find(utterance("video_4")) is None


@pytest.mark.parametrize("reader", [read_opensmile, read_openface, read_disvoice, lambda path: read_pickled(path, "v")])
def test_a_pipe_is_refused_before_it_is_opened(reader: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video_3.csv")
    with pytest.raises(DataError, match=r"video_3.csv: found a pipe, expected a"):
        _ = reader(tmp_path / "video_3.csv").size


def test_a_pipe_among_the_files_of_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video_3.csv")
    with pytest.raises(DataError, match=r"video_3.csv: found a pipe, expected a file"):
        read_opensmile(tmp_path)


def test_of_all_that_disvoice_has_the_papers_142_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "video_3.csv", ["", *(f"c{n}" for n in range(763))], [[0, *range(763)]])
    table = read_disvoice(tmp_path)
    assert table.size == 142
    found = table.find(utterance())
    assert found is not None
    assert found[0, [0, 33, 34, 141]].tolist() == [0, 33, 655, 762]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name;x\na;1\nb;two\n", 'video_3.csv:3: found "two", expected a number in each column'),
        ("name;x\na;1\nb\n", "video_3.csv:3: found 1 columns, expected 2 as in the heading"),
        ("", "video_3.csv:1: found columns .*expected a heading with names of features"),
        ("name;frameTime\n", "video_3.csv:1: found columns .name, frameTime.; expected a heading"),
        ("frameTime;x\nnoon;1\n", 'video_3.csv:2: found time "noon", expected seconds'),
        ("frameTime;x\ninf;1\n", 'video_3.csv:2: found time "inf", expected seconds'),
        ("frameTime;x\n" + "9" * 400 + ";1\n", r'video_3.csv:2: found time "9{79}\.\.\., expected seconds'),
        ("start;end;x\n2;1;7\n", 'video_3.csv:2: ends at "1", before it starts at 2 s'),
        ("name;x\na;" + "y" * 10_000_000 + "\n", "video_3.csv: field larger than field limit"),
        ("name;x\na;" + "y" * 100_000 + "\n", r'video_3.csv:2: found "y{79}\.\.\., expected a number'),
        ("name;x\na;\x00\n", "video_3.csv:2: found .*, expected a number"),
        (b"name;caf\xe9\na;1\n", "video_3.csv: .*can't decode byte 0xe9.*; expected a csv file in UTF-8"),
        (b"\xff\xfe\x00\x01", "video_3.csv: .*expected a csv file"),
    ],
)
def test_a_table_that_does_not_read_is_refused_with_file_and_line(
    content: str | bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "video_3.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_opensmile(tmp_path).find(utterance())


def test_a_folder_or_a_file_that_does_not_say_whose_its_rows_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no csv file, expected one per utterance"):
        read_opensmile(tmp_path)
    path = write(tmp_path / "all.csv", ["x", "y"], [[1, 2]])
    with pytest.raises(DataError, match="found no column name or file or id or filename that says whose a row is"):
        read_opensmile(path).find(utterance())
    write(tmp_path / "video.csv", ["x", "y"], [[1, 2]])
    with pytest.raises(DataError, match=r"video.csv: named by a dialogue or video, but without a column timestamp"):
        read_opensmile(tmp_path).find(utterance())


def test_files_of_different_columns_or_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "video_1.csv", ["x", "y"], [[1, 2]])
    write(tmp_path / "a" / "video_3.csv", ["x"], [[1]])
    with pytest.raises(DataError, match=r"video_3.csv: found 1 columns of features, expected 2 as in the others"):
        read_opensmile(tmp_path).find(utterance())
    (tmp_path / "video_4.csv").mkdir()  # is no file
    write(tmp_path / "b" / "video_3.csv", ["x"], [[1]])
    with pytest.raises(DataError, match=r"b/video_3.csv: named as .*a/video_3.csv; expected one file of each name"):
        read_opensmile(tmp_path)


# ---- pickles


def mmsa(folder: Path, ids: Any, vision: np.ndarray, **more: Any) -> Path:
    path = folder / "unaligned_50.pkl"
    part = {"id": ids, "text": np.ones((len(vision), 4, 3)), "vision": vision, **more}
    path.write_bytes(pickle.dumps({"train": part, "test": {name: rows[:0] for name, rows in part.items()}}))
    return path


def test_mmsas_rows_are_found_by_video_and_clip_without_their_padding(tmp_path: Path) -> None:
    vision = np.zeros((2, 5, 3), np.float32)
    vision[0, :3] = [[1, 1, 1], [0, 0, 0], [2, 2, 2]]
    table = read_pickled(mmsa(tmp_path, ["video$_$3", "video$_$4"], vision), "v")
    assert (table.size, table.what, table.warnings) == (3, "vision of unaligned_50.pkl", ())
    assert table.find(utterance()).tolist() == [[1, 1, 1], [0, 0, 0], [2, 2, 2]]  # type: ignore[union-attr]
    assert table.find(utterance("video_4")).shape == (0, 3)  # type: ignore[union-attr]
    assert table.find(utterance("video_5")) is None


def test_mults_rows_are_found_by_video_and_time(tmp_path: Path) -> None:
    vision = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3) + 1
    ids = np.array([[b"video", b"0.0", b"1.2"], [b"video", b"7.52", b"9.0"]])
    table = read_pickled(mmsa(tmp_path, ids, vision), "v")
    assert np.array_equal(table.find(utterance("video_9", start=7.5, end=9.0)), vision[1])  # type: ignore[arg-type]
    assert table.find(utterance("video_9", start=3.0, end=4.0)) is None


def test_facets_predicted_emotions_are_named_in_a_warning(tmp_path: Path) -> None:
    (warning,) = read_pickled(mmsa(tmp_path, ["video$_$3"], np.ones((1, 2, 35))), "v").warnings
    assert "another model's answer" in warning
    assert all(name in warning for name in FACET_EMOTIONS)
    assert read_pickled(mmsa(tmp_path, ["video$_$3"], np.ones((1, 2, 35))), "t").warnings == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": {"id": ["a"], "text": np.ones((1, 2, 3))}}, "found no vision in its parts, expected train, valid"),
        ([1, 2], "found no vision in its parts"),
        ({"train": {"vision": np.ones((1, 2, 3))}}, "its rows have no id.*MulT's IEMOCAP is such"),
        (
            {"train": {"id": ["a"], "vision": np.ones((1, 3))}},
            r"found vision of shape \[1, 3\], expected utterances, steps",
        ),
        ({"train": {"id": [7], "vision": np.ones((1, 2, 3))}}, r"found id '7', expected video\$_\$clip"),
        ({"train": {"id": [["v", "noon", "1"]], "vision": np.ones((1, 2, 3))}}, r"found id .*noon.*, or video, start"),
        ({"train": {"id": [["v", "2", "1"]], "vision": np.ones((1, 2, 3))}}, "found id .*, start and end in order"),
        ({"train": {"id": [["v", "0", "inf"]], "vision": np.ones((1, 2, 3))}}, "found id .*, start and end in order"),
        ({"train": {"id": 7, "vision": np.ones((1, 2, 3))}}, "vision: .*expected numbers, and an id of each utterance"),
        ({"train": {"id": ["a"], "vision": [["x"]]}}, "vision: .*'x'; expected numbers, and an id of each utterance"),
        ({"train": {"id": ["a", "b"], "vision": np.ones((1, 2, 3))}}, "found 2 ids and vision of 1, expected an id of"),
        ({"train": {"id": ["a", "a"], "vision": np.ones((2, 2, 3))}}, "names a twice; expected each utterance once"),
        ({"train": {"id": ["a"], "vision": np.ones((1, 2, 0))}}, r"found vision of shape \[1, 2, 0\], expected utter"),
        (
            {n: {"id": [n], "vision": np.ones((1, 2, size))} for n, size in (("train", 3), ("test", 4))},
            "found vision of 3 and 4 columns, expected as many in each part",
        ),
    ],
)
def test_a_pickle_of_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        read_pickled(tmp_path / "some.pkl", "v")


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.pkl").write_bytes(pickle.dumps({"train": Path.touch}))
    with pytest.raises(CorpusError, match="it asks for"):
        read_pickled(tmp_path / "some.pkl", "v")
