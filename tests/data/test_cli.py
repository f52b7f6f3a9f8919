"""The command `mesm-data` itself: instant help, arguments that make sense, one clear line for those that do not."""

import errno
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mesm_data.cli import Share, main
from tests.data.synthetic_rows import synthetic_rows, write_synthetic


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys, mesm_data.cli as c; c.main(['--help'], standalone_mode=False); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = {"torch", "librosa", "pyarrow", "pandas", "numpy", "av", "nltk", "moviepy"}
    assert heavy.isdisjoint(run.stdout.split())
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # seconds of a processor


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("12.5%", 0.125), ("0", 0.0), ("1", 1.0), ("250", 250.0)])
def test_issues_are_allowed_as_a_share_or_as_a_number(text: str, value: float) -> None:
    assert Share().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["0.3", "100%", "-1", "many", "5 %", ""])
def test_what_is_neither_a_share_nor_a_number_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"neither a number of utterances nor a share below 100%, such as 5%"):
        Share().convert(text, None, None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    dataset = write_synthetic(tmp_path / "set", synthetic_rows())
    result = CliRunner().invoke(main, ["verify-splits", str(dataset), "--diff", "/dev/full"])
    assert result.exit_code == 1
    assert result.stderr == (
        "mesm-data: a file cannot be written (No space left on device); make room and give the same command again\n"
    )
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "a file cannot be written (Disk quota exceeded); make room"),
        (PermissionError(errno.EACCES, "Permission denied", "out/x"), 1, "mesm-data: out/x: Permission denied"),
        (KeyboardInterrupt(), 130, "mesm-data: interrupted; the same command resumes here"),
    ],
)
def test_what_stops_a_command_is_told_in_one_line(
    raised: BaseException, code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*of: object) -> None:
        raise raised

    monkeypatch.setattr("mesm_data.build.build", stop)
    words = ["build", "iemocap", "--split", "random", "--raw", tmp_path, "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_picture_is_not_written_under_the_name_of_another_kind(tmp_path: Path) -> None:
    dataset = write_synthetic(tmp_path / "set", synthetic_rows(5))
    result = CliRunner().invoke(main, ["show", str(dataset), "u0", "--out", str(tmp_path / "sheet.jpg")])
    assert result.exit_code == 2
    assert "sheet.jpg: expected a name that ends with .png" in result.stderr


def test_a_made_up_mosei_has_as_many_videos_as_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["synth", "mosei", "--videos", "2", "--out", str(tmp_path / "raw")])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "raw").rglob("*.mp4"))) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["build", "iemocap", "--raw", ".", "--out", "FILE"], "'FILE' is a file."),
        (["synth", "mosei", "--out", "FILE"], "'FILE' is a file."),
        (
            ["build", "iemocap", "--raw", ".", "--out", "x", "--label-policy", "any"],
            "goes with mosei, not with iemocap",
        ),
        (["build", "meld", "--raw", ".", "--out", "x"], "'meld' is not one of"),
        (["build", "mosei", "--raw", "nowhere", "--out", "x"], "Directory 'nowhere' does not exist."),
    ],
)
def test_arguments_that_make_no_sense_are_told_with_the_usage(tmp_path: Path, words: list[str], told: str) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"")
    result = CliRunner().invoke(main, [str(file) if word == "FILE" else word for word in words])
    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert told.replace("FILE", str(file)) in " ".join(result.output.split())
    assert file.is_file()
