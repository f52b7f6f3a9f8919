"""The doctor says of a raw tree what a build would find out after hours: what is missing, broken, and what it costs."""

import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesm_data import doctor as doctor_module
from mesm_data import synth
from mesm_data.build import read_corpus
from mesm_data.cli import Share, main
from mesm_data.doctor import Diagnosis, doctor
from mesm_data.errors import CorpusError

FILM = "Session1/dialog/avi/DivX/Ses01F_impro01.avi"
SOUND = "Session1/dialog/wav/Ses01F_impro01.wav"


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four dialogues; the third has its film cut to half its bytes, the fourth has none."""
    raw = tmp_path_factory.mktemp("awkward") / "raw"
    synth.write_iemocap(raw, dialogues=4, seconds=8.0, size=(384, 256))
    return raw


@pytest.fixture(scope="module")
def examined(awkward: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return doctor("iemocap", awkward, {}, tmp_path_factory.mktemp("out") / "not" / "yet" / "there", workers=2)


@pytest.fixture
def healthy(awkward: Path, tmp_path: Path) -> Path:
    """The first of the dialogues alone, to be damaged."""
    shutil.copytree(awkward / "Session1", tmp_path / "raw" / "Session1")
    return tmp_path / "raw"


def lines_with(diagnosis: Diagnosis, start: str) -> list[str]:
    return [line for line in diagnosis.lines if line.strip().startswith(start)]


def test_layout_annotations_and_speech_are_counted(awkward: Path, examined: Diagnosis) -> None:
    assert lines_with(examined, "layout") == ["layout: IEMOCAP release, 4 sessions, 4 dialogues"]
    (told,) = lines_with(examined, "utterances")
    assert re.fullmatch(r"utterances: \d+ in 4 recordings, \d+\.\d minutes of speech", told)


def test_media_are_counted_and_what_is_missing_is_named(examined: Diagnosis) -> None:
    assert lines_with(examined, "videos") == ["videos: 3 of 4 found"]
    assert lines_with(examined, "audio files") == ["audio files: 4 of 4 found"]
    assert lines_with(examined, "missing") == ["  missing: Session4/dialog/avi/DivX/Ses04M_impro03.avi"]


def test_time_and_disk_are_estimated_from_a_piece_of_the_users_own_media(examined: Diagnosis) -> None:
    (tried,) = lines_with(examined, "tried")
    assert re.fullmatch(r"tried Session\d\S+\.avi: \d+\.\d s of speech in \d+\.\d s on one core", tried)
    (time,) = lines_with(examined, "time")
    assert re.fullmatch(r"time: about \d+ seconds with 2 workers", time)
    (disk,) = lines_with(examined, "disk")
    assert re.fullmatch(r"disk: about \S+ MB, \S+ MB during the build; \S+ GB free at .*", disk)


def test_what_would_be_left_out_is_told_with_the_option_that_allows_it(examined: Diagnosis) -> None:
    assert examined.works
    verdict = re.fullmatch(
        r"works, but (\d+) of (\d+) utterances would be left out: build with --max-issues (\d+)%, or fix the files",
        examined.lines[-1],
    )
    assert verdict
    lost, total, share = map(int, verdict.groups())
    assert share - 1 <= 100 * lost / total < share


def test_films_with_sound_of_their_own_work_without_sound_files_and_the_command_says_so(healthy: Path) -> None:
    (healthy / SOUND).unlink()
    done = CliRunner().invoke(main, ["doctor", "iemocap", "--raw", str(healthy), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "works"
    assert f"audio files: 0 of 1 found\n  missing: {SOUND}\nreadable: 1 of 1 files\n" in done.output


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param(FILM, b"", "unreadable", id="empty film"),
        pytest.param(FILM, b"This is no film." * 100, "unreadable", id="text for a film"),
        pytest.param(SOUND, b"RIFF" + bytes(1000), "unreadable", id="zeros for sound"),
    ],
)
def test_a_file_that_is_no_medium_is_named_and_without_any_other_nothing_works(
    healthy: Path, name: str, content: bytes, told: str
) -> None:
    (healthy / name).write_bytes(content)
    diagnosis = doctor("iemocap", healthy, {}, workers=1)
    (line,) = lines_with(diagnosis, told)
    assert line.startswith(f"  unreadable: {name}: ")
    assert not diagnosis.works
    assert diagnosis.lines[-1] == "cannot work: no utterance has media that can be read"


def test_a_sound_that_ends_early_by_its_header_is_told(healthy: Path) -> None:
    import wave

    with wave.open(str(healthy / SOUND), "rb") as sound:
        settings, start = sound.getparams(), sound.readframes(sound.getframerate() * 3)
    with wave.open(str(healthy / SOUND), "wb") as sound:
        sound.setparams(settings)
        sound.writeframes(start)
    diagnosis = doctor("iemocap", healthy, {}, workers=1)
    (line,) = lines_with(diagnosis, "ends early")
    assert re.fullmatch(rf"  ends early: {SOUND} at 3\.00 s; utterances that end later: \d, up to \d\.\d\d s", line)


def test_a_pipe_in_the_place_of_a_video_is_named_and_not_waited_for(healthy: Path) -> None:
    (healthy / FILM).unlink()
    os.mkfifo(healthy / FILM)
    diagnosis = doctor("iemocap", healthy, {}, workers=1)
    (line,) = lines_with(diagnosis, "unreadable")
    assert line.startswith(f"  unreadable: {FILM}: found a pipe, expected a video or audio file")
    assert not diagnosis.works


def test_without_any_film_it_cannot_work(healthy: Path) -> None:
    (healthy / FILM).unlink()
    done = CliRunner().invoke(main, ["doctor", "iemocap", "--raw", str(healthy)])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == "cannot work: no utterance has media that can be read"


def test_a_disk_too_small_is_told_before_the_build(healthy: Path) -> None:
    utterances, _ = read_corpus("iemocap", healthy, {})
    enormous = doctor_module.Cost(seconds=1.0, speech=1.0, size=10**18, fault=None)
    estimate = doctor_module._estimate(utterances, enormous, 1, healthy)
    assert not estimate.fits
    assert " GB during the build; " in estimate.lines[-1]
    verdict = doctor_module._verdict(0, len(utterances), estimate.fits)
    assert verdict == "cannot work: the disk is too small; free some of it, or give another --out"


@pytest.mark.parametrize(
    ("left_out", "total", "advice"),
    [
        (1, 10, "--max-issues 11%"),
        (98, 100, "--max-issues 99%"),
        (199, 200, "--max-issues 199"),
        (8, 8, "--max-issues 8"),
    ],
)
def test_the_advice_is_one_that_a_build_takes(left_out: int, total: int, advice: str) -> None:
    verdict = doctor_module._verdict(left_out, total, fits=True)
    assert f"build with {advice}, or" in verdict
    assert Share().convert(advice.split()[1], None, None)


def test_a_folder_that_is_not_the_corpus_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "holidays.jpg").touch()
    with pytest.raises(CorpusError, match=r"found holidays\.jpg, expected an IEMOCAP release"):
        doctor("iemocap", tmp_path, {})
    done = CliRunner().invoke(main, ["doctor", "iemocap", "--raw", str(tmp_path)])
    assert done.exit_code == 1
    assert "expected an IEMOCAP release" in done.output


def test_many_files_with_the_same_fault_are_not_all_named() -> None:
    assert doctor_module._list([f"missing {n}" for n in range(25)])[-1] == "  ... and 5 more"


def test_real_recordings_are_told_apart_by_what_is_wrong_with_them(shared: Path) -> None:
    diagnosis = doctor("mosei", shared / "raw" / "CMU_MOSEI", {}, workers=2)
    assert lines_with(diagnosis, "layout") == ["layout: release"]
    assert lines_with(diagnosis, "missing") == ["  missing: Raw/Videos/Full/Combined/qyJiDgtj6YE.mp4"]
    assert lines_with(diagnosis, "unreadable")[0].startswith(
        "  unreadable: Raw/Videos/Full/Combined/qXisb7w9LjM.mp4: found"
    )
    # 61 labelled, 9 of them dropped by the paper's own rules; two videos of 4 utterances cannot be used
    verdict = "works, but 8 of 52 utterances would be left out: build with --max-issues 16%, or fix the files"
    assert diagnosis.lines[-1] == verdict
