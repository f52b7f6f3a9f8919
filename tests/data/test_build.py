"""A raw tree becomes exactly the dataset it should, however often the build is killed, refused or fed with poison."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mesm_data import build as build_module
from mesm_data import files, synth
from mesm_data.build import Settings, _is_done, build, make_plan, run_job
from mesm_data.clip import Recipe
from mesm_data.dataset import reader, schema, verify
from mesm_data.errors import DOUBTFUL, DataError
from mesm_data.files import exclusive

IEMOCAP = Settings(scheme="random", max_issues=0.5, workers=2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small IEMOCAP with awkward media; synth/expected.json beside it says what is in it."""
    folder = tmp_path_factory.mktemp("raw") / "iemocap"
    synth.write_iemocap(folder, dialogues=4, seed=0)
    return folder


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "iemocap"
    build("iemocap", raw, out, IEMOCAP)
    return out


def fingerprint(out: Path) -> dict[str, str]:
    """sha256 of every file of a dataset."""
    return {
        path.relative_to(out).as_posix(): files.sha256_of(path) for path in sorted(out.rglob("*")) if path.is_file()
    }


def issues_of(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "issues.jsonl").read_text().splitlines()]


def test_a_build_leaves_a_dataset_that_verifies_and_nothing_else(built: Path) -> None:
    assert verify.verify(built) == []
    names = {path.name for path in built.iterdir()}
    assert names == {"build.json", "index.json", "issues.jsonl", "shards", "utterances.jsonl"}


def test_the_same_input_gives_the_same_bytes_whatever_the_number_of_workers(
    raw: Path, built: Path, tmp_path: Path
) -> None:
    build("iemocap", raw, tmp_path / "again", replace(IEMOCAP, workers=1))
    assert fingerprint(tmp_path / "again") == fingerprint(built)


def test_a_build_killed_at_random_moments_ends_as_an_undisturbed_one(raw: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "mesm_data.cli", "build", "iemocap", "--raw", str(raw), "--out", str(out)]
    command += ["--split", "random", "--max-issues", "50%", "--workers", "2"]
    draw = random.Random(0)
    kills = 0
    while kills < 4:
        run = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while kills == 0 and not (out / "build.json").is_file():  # the first blow hits, however fast the machine
            assert run.poll() is None
            time.sleep(0.01)
        try:
            run.wait(timeout=draw.uniform(0.0, 0.5) if kills == 0 else draw.uniform(2.0, 12.0))
            break  # it was faster than the blow: the dataset is whole
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
    assert kills > 0
    subprocess.run(command, check=True, capture_output=True)
    assert fingerprint(out) == fingerprint(built)


def test_a_second_run_redoes_nothing(raw: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    monkeypatch.setattr("mesm_data.build.run_jobs", None)  # no worker is started
    summary = build("iemocap", raw, built, IEMOCAP)
    assert summary.resumed > 0
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


@pytest.mark.parametrize(
    ("differs", "settings"),
    [
        ("recipe step 0.5, now requested with 1.0", replace(IEMOCAP, recipe=Recipe(step=1.0))),
        ('split "random:0", now requested with "random:1"', replace(IEMOCAP, seed=1)),
        ("shard_mb 256, now requested with 7", replace(IEMOCAP, shard_mb=7)),
    ],
)
def test_another_plan_in_the_same_folder_is_refused(raw: Path, built: Path, differs: str, settings: Settings) -> None:
    with pytest.raises(DataError, match=f"this folder holds a build with {differs}; give another --out, or delete"):
        build("iemocap", raw, built, settings)


def test_another_raw_tree_is_refused(raw: Path, built: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    wav = next(path for path in sorted((tmp_path / "raw").rglob("*.wav")) if not path.name.startswith("._"))
    wav.write_bytes(wav.read_bytes()[:-100])
    with pytest.raises(
        DataError, match="holds a build of another raw folder: its annotations, or the names or sizes of its media"
    ):
        build("iemocap", tmp_path / "raw", built, IEMOCAP)


def test_a_folder_with_other_things_in_it_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not empty and no build of this program"):
        build("iemocap", raw, tmp_path, IEMOCAP)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_blow_between_two_files_leaves_is_cleared_away(raw: Path, built: Path, tmp_path: Path) -> None:
    before = fingerprint(built)
    (built / "parts").mkdir()
    (built / "parts" / "00000.json").write_text("{}")  # killed behind the index, while the parts went
    build("iemocap", raw, built, IEMOCAP)
    assert fingerprint(built) == before
    out = tmp_path / "out"
    out.mkdir()
    (out / "build.json.tmp").write_text("{")  # killed before build.json had its name
    with pytest.raises(DataError, match="--max-issues allows 0"):
        build("iemocap", raw, out, replace(IEMOCAP, max_issues=0))
    assert json.loads((out / "build.json").read_text())["corpus"] == "iemocap"


def test_a_file_that_breaks_a_library_costs_its_video_only(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(root: Path, *_: object) -> None:
        raise ValueError(f"{root}/film.avi has a picture of -1 x 7 pixels")

    monkeypatch.setattr("mesm_data.decode.make_clips", breaks)
    monkeypatch.setattr("mesm_data.build._detector", lambda recipe: None)
    (tmp_path / "parts").mkdir()
    job = make_plan("iemocap", raw, tmp_path, IEMOCAP).jobs[0]
    marker = run_job(job)
    assert marker["rows"] == {}
    assert {issue["utterance"] for issue in marker["issues"]} == {u.id for u in job.utterances}
    detail = f"{job.utterances[0].source.video}: ValueError: film.avi has a picture of -1 x 7 pixels"
    assert {(issue["kind"], issue["detail"]) for issue in marker["issues"]} == {("job-failed", detail)}
    assert not _is_done(job)  # the next run tries it again


def test_two_builds_do_not_work_in_one_folder(raw: Path, built: Path) -> None:
    with exclusive(built, "builds"), pytest.raises(DataError, match="another process builds in this folder"):
        build("iemocap", raw, built, IEMOCAP)


def test_a_build_that_began_while_another_looked_is_not_overwritten(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    @contextmanager
    def late(folder: Path, does: str) -> Iterator[None]:
        files.write_text(out / "build.json", json.dumps({"corpus": "meld"}))
        with exclusive(folder, does):
            yield

    monkeypatch.setattr("mesm_data.files.exclusive", late)
    with pytest.raises(DataError, match="this folder holds a build with schema_version null, now requested with 2"):
        build("iemocap", raw, out, IEMOCAP)
    assert json.loads((out / "build.json").read_text()) == {"corpus": "meld"}


def test_too_many_issues_stop_the_build_before_hours_are_spent(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)--max-issues allows 0:\n.*no-media, as Ses.*What was built is kept"):
        build("iemocap", raw, tmp_path / "out", replace(IEMOCAP, max_issues=0))
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_stopped_build_goes_on_once_more_issues_are_allowed(raw: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    missing = sum(issue["kind"] == "no-media" for issue in issues_of(built))
    with pytest.raises(DataError, match="cannot be used"):
        build("iemocap", raw, out, replace(IEMOCAP, max_issues=float(missing)))  # the cut film is one too many
    build("iemocap", raw, out, IEMOCAP)
    assert fingerprint(out) == fingerprint(built)


def test_a_pipe_in_the_place_of_a_video_costs_its_video_only(raw: Path, built: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    dataset = reader.load(built)
    group = next(dataset.rows(["group"]))["group"]
    film = next((tmp_path / "raw").rglob(f"{group}.avi"))
    film.unlink()
    os.mkfifo(film)  # opening it would take forever
    summary = build("iemocap", tmp_path / "raw", tmp_path / "out", replace(IEMOCAP, max_issues=0.9))
    lost = [issue for issue in issues_of(tmp_path / "out") if issue["detail"].endswith("a pipe, expected a video file")]
    assert {issue["utterance"].rpartition("_")[0] for issue in lost} == {group}
    assert {issue["kind"] for issue in lost} == {"no-media"}
    assert summary.utterances == sum(1 for row in dataset.rows(["group"]) if row["group"] != group)


def test_a_recording_that_takes_too_long_costs_itself_and_the_option_that_allows_more_is_named(
    raw: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no result within 0\.1 s, 2 times; --timeout allows more"):
        build("iemocap", raw, tmp_path / "out", replace(IEMOCAP, timeout=0.1, max_issues=0.5))


def test_shards_are_of_even_size(raw: Path, built: Path, tmp_path: Path) -> None:
    build("iemocap", raw, tmp_path / "out", replace(IEMOCAP, shard_mb=0.2))
    dataset = reader.load(tmp_path / "out")
    sizes = [path.stat().st_size for path in dataset.shard_paths("train")]
    assert len(sizes) == 4
    assert max(sizes) < 1.6 * min(sizes)
    assert dataset.index["content"] == reader.load(built).index["content"]


def test_a_random_split_is_told_in_every_row_and_shard(built: Path) -> None:
    dataset = reader.load(built)
    for split in dataset.splits:
        rows = list(dataset.rows(["id", "split"], split))
        assert rows
        assert {row["split"] for row in rows} == {split}
    assert dataset.index["split"] == "random:0"


def test_faces_are_taken_every_half_second_and_chunks_every_400_ms(built: Path) -> None:
    for table in reader.load(built).tables():
        for row, fields in enumerate(table.drop_columns(["faces", "mels"]).to_pylist()):
            seconds = fields["end"] - fields["start"]
            assert len(schema.faces_of(table, row)) == len(fields["face_times"]) == np.ceil(seconds / 0.5 - 1e-9)
            assert len(schema.mels_of(table, row)) == np.ceil((1 + np.floor(seconds / 0.0125)) / 32)
            wanted = fields["start"] + 0.5 * np.arange(len(fields["face_times"]))
            assert np.abs(np.array(fields["face_times"]) - wanted).max() <= 0.5 / 29.97 + 1e-3


@pytest.mark.parametrize("corpus", ["iemocap", "mosei"])
def test_a_made_up_tree_gives_what_it_says_and_loses_what_it_says(
    corpus: str, raw: Path, built: Path, tmp_path: Path
) -> None:
    if corpus == "iemocap":
        root, out = raw, built
    else:
        root, out = tmp_path / "mosei", tmp_path / "out"
        synth.write_mosei(root, seed=0)
        build("mosei", root, out, Settings(recipe=Recipe(sample_rate=44_100), max_issues=0.5, workers=2))
    expected = json.loads((root / "expected.json").read_text())
    dataset = reader.load(out)
    rows = {row.pop("id"): row for row in dataset.rows(["id", "labels", "start", "end", "text", "split"])}
    kept = {name: facts for name, facts in expected["utterances"].items() if name not in expected["left_out"]}
    assert rows.keys() == kept.keys()
    for name, facts in kept.items():
        part = facts.pop("part") or rows[name]["split"]
        assert rows[name] == facts | {"split": part}
    kinds: dict[str, set[str]] = {}
    for issue in issues_of(out):
        kinds.setdefault(issue["utterance"], set()).add(issue["kind"])
    left_out = {name: {facts["kind"]} for name, facts in expected["left_out"].items()}
    assert kinds == left_out | {name: set(facts) for name, facts in expected["doubtful"].items()}


def test_the_shared_iemocap_tree_is_found_as_it_is(shared: Path, tmp_path: Path) -> None:
    expected = json.loads((shared / "raw/expected_iemocap.json").read_text())
    root = shared / "raw/IEMOCAP_full_release"
    with pytest.raises(DataError, match=r"Ses05M_impro08b\.avi: not found"):
        build("iemocap", root, tmp_path / "refused", replace(IEMOCAP, max_issues=0.05))
    build("iemocap", root, tmp_path / "out", replace(IEMOCAP, max_issues=0.3))
    dataset = reader.load(tmp_path / "out")
    rows = {row["id"]: row for row in dataset.rows(["id", "labels", "start", "end", "text"])}
    gone = {issue["utterance"]: issue for issue in issues_of(tmp_path / "out") if issue["kind"] not in DOUBTFUL}
    codes = dict(zip(("ang", "exc", "fru", "hap", "neu", "sad"), dataset.emotions, strict=True))
    assert {name for name, *_ in expected["utterances"]} == rows.keys() | gone.keys()
    for name, label, start, end in expected["utterances"]:
        if name in rows:
            row = rows[name]
            assert (row["start"], row["end"]) == (start, end)
            assert [e for e, one in zip(dataset.emotions, row["labels"], strict=True) if one] == [codes[label]]
    assert Counter(issue["kind"] for name, issue in gone.items() if name.startswith("Ses05M_impro08b")) == {
        "no-media": 7
    }
    cut = {name: issue for name, issue in gone.items() if not name.startswith("Ses05M_impro08b")}
    assert {name.rpartition("_")[0] for name in cut} == {"Ses04M_impro03"}
    assert {issue["kind"] for issue in cut.values()} == {"media-short"}


def test_the_shared_mosei_tree_is_found_as_it_is(shared: Path, tmp_path: Path) -> None:
    expected = json.loads((shared / "raw/expected_mosei.json").read_text())
    settings = Settings(recipe=Recipe(sample_rate=44_100), workers=2)
    with pytest.raises(DataError, match="no-media"):
        build("mosei", shared / "raw/CMU_MOSEI", tmp_path / "refused", settings)
    build("mosei", shared / "raw/CMU_MOSEI", tmp_path / "out", replace(settings, max_issues=0.3))
    rows = reader.load(tmp_path / "out").rows(["id", "split", "labels", "start", "end", "text"])
    found = {row["id"]: [row["split"], row["labels"], row["start"], row["end"], row["text"]] for row in rows}
    assert found == expected["kept"]
    reasons = {
        "starts after the media end": "after-media-end",
        "video has a labelled clip that starts before 0": "negative-start",
        "video is in no standard fold": "no-fold",
        "no video file": "no-media",
        "video cannot be decoded": "undecodable",
    }
    gone = {issue["utterance"]: issue["kind"] for issue in issues_of(tmp_path / "out") if issue["kind"] not in DOUBTFUL}
    assert gone == {name: reasons[why] for name, why in expected["dropped"].items()}


def test_the_bar_moves_within_a_recording_and_a_second_attempt_is_not_counted_twice(raw: Path, tmp_path: Path) -> None:
    jobs = make_plan("iemocap", raw, tmp_path / "out", IEMOCAP).jobs
    length = sum(u.end - u.start for u in jobs[1].utterances)
    before = sum(u.end - u.start for u in jobs[0].utterances)
    with build_module._Progress(jobs, jobs[1:]) as progress:  # the first was done by an earlier run
        assert sum(progress.done.values()) == pytest.approx(before, abs=0.1)
        progress.advance(0, 1.0)
        assert sum(progress.done.values()) == pytest.approx(before + 1.0, abs=0.1)
        progress.advance(0, 10 * length)
        assert before < sum(progress.done.values()) < before + length
        progress.finish(jobs[1])
        assert sum(progress.done.values()) == pytest.approx(before + length, abs=0.1)


def test_a_job_reports_the_seconds_of_speech_whose_frames_were_searched_for_faces(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[float] = []
    monkeypatch.setattr(build_module, "advance", seconds.append)
    (tmp_path / "out" / "parts").mkdir(parents=True)
    job = make_plan("iemocap", raw, tmp_path / "out", IEMOCAP).jobs[0]
    build_module.run_job(job)
    assert sum(seconds) == pytest.approx(sum(u.end - u.start for u in job.utterances), abs=0.5 * len(job.utterances))
