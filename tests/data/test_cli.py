"""The command `mesm-data` itself: instant help, arguments that make sense, one clear line for those that do not."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from mesm_data import synth
from mesm_data.cli import Share, main
from mesm_data.utterance import read_utterances
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
        (["build", "iemocap", "--raw", ".", "--split", "session5"], "'session5' is no split; did you mean session:5?"),
        (
            ["build", "iemocap", "--raw", ".", "--split", "80/10/10"],
            "'80/10/10' is no split; expected paper, official,",
        ),
        (["build", "iemocap", "--raw", ".", "--split", "random", "--lists", "."], "--lists goes with --split paper"),
        (["doctor", "iemocap"], "--raw is missing: mesm-data doctor iemocap --raw FOLDER"),
        (["doctor", "nowhere"], "'nowhere' is neither a corpus (iemocap, mosei) nor a folder"),
        (["doctor", ".", "--raw", "."], "give the folder once"),
        (["verify-splits", "--diff", "x"], "--diff goes with one corpus or dataset; name it"),
        (["verify-splits", "iemocap", "--labels", "FILE"], "--labels does not go with iemocap"),
        (["synth", "mosei", "--out", "y", "--dialogues", "2"], "No such option"),
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


@pytest.mark.parametrize("group", [[], ["synth"], ["splits"]])
def test_the_command_list_fits_its_lines(group: list[str]) -> None:
    shown = CliRunner().invoke(main, [*group, "--help"], terminal_width=80).output
    commands = shown.partition("Commands:\n")[2].splitlines()
    assert commands
    assert not [line for line in commands if line.endswith("...")]
    assert all(line.startswith("  ") and line[2] != " " for line in commands), "a command takes two lines"


@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        (["build"], "m", "mosei"),
        (["doctor"], "i", "iemocap"),
        (["build", "mosei", "--layout"], "r", "release"),
        (["build", "mosei", "--label-policy"], "", "majority"),
        (["build", "iemocap", "--split"], "session:", "session:3"),
        (["export", "x", "--to"], "w", "webdataset"),
        ([], "verify-", "verify-splits"),
        (["build"], "--max", "--max-issues"),
    ],
)
def test_the_shell_completes_corpora_options_and_their_values(words: list[str], last: str, expected: str) -> None:
    complete = ShellComplete(main, {}, "mesm-data", "_MESM_DATA_COMPLETE")
    assert expected in [item.value for item in complete.get_completions(words, last)]


@pytest.fixture(scope="module")
def session1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dialogue of one session, without anything wrong."""
    raw = tmp_path_factory.mktemp("typed") / "raw"
    synth.write_iemocap(raw / "iemocap", dialogues=1, seconds=14.0, size=(384, 256))
    return raw


@pytest.fixture
def typed(session1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line in an empty folder that holds raw/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").symlink_to(session1)
    return lambda line: CliRunner().invoke(main, line.split())


def test_a_build_as_typed_without_a_network_is_one_line_with_every_way_out(typed: Callable[..., Result]) -> None:
    done = typed("build iemocap --raw raw/iemocap")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    for way in ("--lists DIR", "`mesm-data splits fetch iemocap`", "--split random", "could not be fetched now"):
        assert way in line
    assert not Path("out").exists()


def test_a_build_goes_to_a_folder_named_after_its_corpus_says_what_is_missing_and_advises_what_can_pass(
    typed: Callable[..., Result],
) -> None:
    done = typed("build IEMOCAP --raw raw/iemocap --split 70/10/20 --workers 1")
    assert done.exit_code == 0, done.output
    assert "4 of 5 sessions: Session2, Session3, Session4, Session5" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "Written to out/iemocap. Next: mesm-data verify out/iemocap; mesm-data report out/iemocap"
    again = typed("build iemocap --raw raw/iemocap --split random --workers 1 --json")
    assert json.loads(again.stdout)["scheme"] == "random:0"
    assert json.loads(typed("verify out/iemocap --json").stdout)["ok"]
    checked = typed("verify-splits")
    assert checked.exit_code == 0, checked.output
    lines = checked.stdout.splitlines()
    assert lines[0].startswith("manifest iemocap: ok, Dai et al., NAACL 2021, Table 1 adds up to 5162 + 737 + 1481")
    assert lines[1].startswith("manifest mosei: ok, Dai et al., NAACL 2021, Table 2 ")
    assert lines[2] == "out/iemocap: not comparable, its split is random:0, not the paper's"
    index = Path("out/iemocap/index.json")
    index.write_text(index.read_text().replace('"split": "random:0"', '"split": "paper"'))
    assert "out/iemocap: wrong, not the paper's dataset: " in typed("verify-splits").stdout
    assert typed("verify-splits").exit_code == 1


def test_the_doctor_guesses_the_corpus_of_a_folder(typed: Callable[..., Result]) -> None:
    done = typed("doctor raw --workers 1 --json")
    assert done.exit_code == 0, done.output
    diagnosis = json.loads(done.stdout)
    assert (diagnosis["corpus"], diagnosis["works"], diagnosis["lines"][-1]) == ("iemocap", True, "works")
    Path("empty").mkdir()
    done = typed("doctor empty")
    assert done.exit_code == 1
    assert done.stderr == (
        "mesm-data: empty: looks like none of iemocap, mosei; name the corpus: mesm-data doctor iemocap --raw empty\n"
    )


def test_names_that_are_not_utf8_are_built_and_shown_with_question_marks(session1: Path, tmp_path: Path) -> None:
    raw = tmp_path / os.fsdecode(b"donn\xe9es") / os.fsdecode(b"\xff")
    shutil.copytree(session1 / "iemocap", raw)
    (raw / "Session1/dialog/avi/DivX/Ses01F_impro01.avi").rename(raw / "Session1/dialog/avi/DivX/x.avi")
    command = [sys.executable, "-m", "mesm_data.cli", "doctor", "iemocap", "--raw", os.fspath(raw.parent)]
    run = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii:strict"})
    assert b"missing: ?/Session1/dialog/avi/DivX/Ses01F_impro01.avi" in run.stdout
    (raw / "Session1/dialog/avi/DivX/x.avi").rename(raw / "Session1/dialog/avi/DivX/Ses01F_impro01.avi")
    words = ["build", "iemocap", "--raw", os.fspath(raw.parent), "--split", "random", "--workers", "1"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    sources = {u.source.video for u in read_utterances(tmp_path / "out" / "utterances.jsonl")}
    assert sources == {os.fsdecode(b"\xff/Session1/dialog/avi/DivX/Ses01F_impro01.avi")}


def test_an_out_that_is_a_link_to_nothing_is_told(typed: Callable[..., Result]) -> None:
    Path("gone").symlink_to("nowhere")
    for line in ("build iemocap --raw raw/iemocap --split random --out gone", "synth mosei --out gone"):
        done = typed(line)
        assert done.exit_code == 2
        assert "gone is a link to nowhere, which is not there" in " ".join(done.stderr.split())


def test_a_library_of_one_command_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    for name in [name for name in sys.modules if name.startswith(("skimage.", "mesm_data.synth"))]:
        monkeypatch.delitem(sys.modules, name)
    result = CliRunner().invoke(main, ["synth", "iemocap", "--out", "nowhere"])
    assert result.exit_code == 1
    assert "needs skimage: run `pip install 'mesm[synth]'`" in result.output
