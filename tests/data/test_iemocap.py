"""IEMOCAP is read as it is handed out: what is kept, who speaks where, and what is said of files that are not right."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mesm_data.corpora import by_id, iemocap
from mesm_data.errors import CorpusError, Issue
from mesm_data.synth.video import frame_ticks, write_avi, write_mp4
from mesm_data.utterance import Source, Utterance, Vote

DIALOGUE = "Ses01F_impro01"

EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[7.0000 - 9.9000]\tSes01F_impro01_F001\tfru\t[2.5000, 4.0000, 3.5000]
C-E2:\tFrustration;\t()
C-E3:\tAnger; Frustration;\t(half: half)
C-F1:\tOther;\t(Contempt)
A-E3:\tval 2; act 4; dom  4;\t()
A-E4:\tval 3; act 4; dom  ;\t()

[1.2500 - 4.1500]\tSes01F_impro01_M000\tneu\t[3.0000, 3.0000, 3.0000]
C-E2:\tNeutral;\t()
C-M1:\tHappiness;\t()
A-M1:\tval 3; act ; dom 5;\t()

[10.2500 - 13.1500]\tSes01F_impro01_M001\txxx\t[4.0000, 3.0000, 3.0000]
C-E2:\tHappiness;\t()
C-E3:\tSadness;\t()

[3.0000 - 3.2000]\tSes01F_impro01_MXX0\tneu\t[3.0000, 3.0000, 3.0000]
"""

TRANSCRIPT = """\
Ses01F_impro01_M000 [001.2500-004.1500]: One thing: listen.
Ses01F_impro01_MXX0 [003.0000-003.2000]: [BREATHING]
Ses01F_impro01_F001 [007.0000-009.9000]: No.
M: (no id on this line)
Ses01F_impro01_M001 [010.2500-013.1500]: Well.
"""


def _write(
    dialog: Path,
    evaluation: str | None = EVALUATION,
    transcript: str | None = TRANSCRIPT,
    name: str = DIALOGUE,
) -> Path:
    """The annotations of one dialogue; returns the dialog folder."""
    for part, text in (("EmoEvaluation", evaluation), ("transcriptions", transcript)):
        (dialog / part).mkdir(parents=True, exist_ok=True)
        if text is not None:
            (dialog / part / f"{name}.txt").write_text(text.replace(DIALOGUE, name), encoding="utf-8", newline="")
    return dialog


def _read(root: Path) -> tuple[dict[str, Utterance], list[Issue]]:
    found = list(iemocap.read(root))
    assert found == sorted(found, key=by_id)
    return {u.id: u for u in found if isinstance(u, Utterance)}, [i for i in found if isinstance(i, Issue)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    _write(tmp_path / "Session1" / "dialog")
    return tmp_path


def test_the_utterances_of_six_emotions_are_kept_with_all_that_is_known_of_them(release: Path) -> None:
    utterances, issues = _read(release)
    assert issues == []
    assert list(utterances) == ["Ses01F_impro01_F001", "Ses01F_impro01_M000"]
    assert utterances["Ses01F_impro01_F001"] == Utterance(
        id="Ses01F_impro01_F001",
        source=Source(
            video="Session1/dialog/avi/DivX/Ses01F_impro01.avi",
            audio="Session1/dialog/wav/Ses01F_impro01.wav",
            crop=(0.0, 0.0, 0.5, 1.0),
            channel=0,
        ),
        start=7.0,
        end=9.9,
        text="No.",
        labels=(0, 0, 1, 0, 0, 0),
        votes=(
            Vote("C-E2", "Frustration", 1.0),
            Vote("C-E3", "Anger", 1.0),
            Vote("C-E3", "Frustration", 1.0),
            Vote("C-F1", "Other", 1.0),
            Vote("A-E3", "valence", 2.0),
            Vote("A-E3", "activation", 4.0),
            Vote("A-E3", "dominance", 4.0),
            Vote("A-E4", "valence", 3.0),
            Vote("A-E4", "activation", 4.0),
        ),
        speaker="Ses01F",
        group="Ses01F_impro01",
    )


def test_words_after_a_colon_and_levels_after_a_gap_are_not_lost(release: Path) -> None:
    turn = _read(release)[0]["Ses01F_impro01_M000"]
    assert turn.text == "One thing: listen."
    assert turn.votes[2:] == (Vote("A-M1", "valence", 3.0), Vote("A-M1", "dominance", 5.0))


@pytest.mark.parametrize(
    ("dialogue", "speaker", "side"),
    [
        ("Ses01F_impro01", "F", "left"),
        ("Ses01F_impro01", "M", "right"),
        ("Ses03M_impro05a", "M", "left"),
        ("Ses05M_script01_1b", "F", "right"),
    ],
)
def test_who_the_dialogue_is_named_after_sits_and_is_heard_on_the_left(
    tmp_path: Path, dialogue: str, speaker: str, side: str
) -> None:
    turn = f"{dialogue}_{speaker}007"
    _write(tmp_path, f"[1.0000 - 2.0000]\t{turn}\tsad\t[1, 1, 1]\n", f"{turn} [1-2]: Ah.\n", dialogue)
    source = _read(tmp_path)[0][turn].source
    left = ((0.0, 0.0, 0.5, 1.0), 0)
    assert (source.crop, source.channel) == (left if side == "left" else ((0.5, 0.0, 1.0, 1.0), 1))
    assert _read(tmp_path)[0][turn].speaker == dialogue[:5] + speaker


@pytest.mark.parametrize("deep", ["", "IEMOCAP_full_release", "copies/IEMOCAP_full_release"])
@pytest.mark.parametrize("part", ["Session1/dialog", "dialog", ""])
def test_the_release_may_lie_deeper_or_be_a_session_of_it(tmp_path: Path, deep: str, part: str) -> None:
    _write(tmp_path / deep / part)
    utterances, _ = _read(tmp_path)
    wav = Path(deep, part, "wav", "Ses01F_impro01.wav").as_posix()
    assert {u.source.audio for u in utterances.values()} == {wav}


@pytest.mark.parametrize(
    "film", ["avi/DivX/Ses01F_impro01.avi", "avi/Ses01F_impro01.AVI", "avi/converted/h264/Ses01F_impro01.mp4"]
)
def test_the_film_is_found_wherever_it_lies_below_avi(release: Path, film: str) -> None:
    path = release / "Session1/dialog" / film
    path.parent.mkdir(parents=True)
    path.touch()
    (path.parent / "._Ses01F_impro01.avi").touch()
    utterances, _ = _read(release)
    assert {u.source.video for u in utterances.values()} == {f"Session1/dialog/{film}"}


def test_of_two_films_the_one_in_divx_is_taken(release: Path) -> None:
    for folder in ("avi", "avi/DivX", "avi/small"):
        (release / "Session1/dialog" / folder).mkdir(parents=True, exist_ok=True)
        (release / "Session1/dialog" / folder / "Ses01F_impro01.avi").touch()
    utterances, _ = _read(release)
    assert {u.source.video for u in utterances.values()} == {"Session1/dialog/avi/DivX/Ses01F_impro01.avi"}


def test_what_is_no_dialogue_is_not_read(release: Path) -> None:
    folder = release / "Session1/dialog/EmoEvaluation"
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (folder / "._Ses01F_impro02.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (folder / "notes.txt").write_text("[nonsense")
    (folder / "Categorical").mkdir()
    (folder / "Categorical" / "Ses01F_impro01_e2_cat.txt").write_text("[nonsense")
    (release / "__MACOSX/Session1/dialog/EmoEvaluation").mkdir(parents=True)
    assert len(_read(release)[0]) == 2
    assert "not read, no dialogue's name: Session1/dialog/EmoEvaluation/notes.txt" in iemocap.survey(release)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks_change_nothing(release: Path, tmp_path: Path, end: str, mark: str) -> None:
    other = tmp_path / "other"
    _write(other / "Session1/dialog", mark + EVALUATION.replace("\n", end), mark + TRANSCRIPT.replace("\n", end))
    assert _read(other) == _read(_write(tmp_path / "again" / "Session1/dialog").parents[1])


def test_old_letters_are_read(tmp_path: Path) -> None:
    dialog = _write(tmp_path)
    (dialog / "transcriptions" / f"{DIALOGUE}.txt").write_bytes(TRANSCRIPT.replace("No.", "Déjà…").encode("cp1252"))
    assert _read(tmp_path)[0]["Ses01F_impro01_F001"].text == "Déjà…"


@pytest.mark.parametrize(
    ("evaluation", "transcript", "issues"),
    [
        (
            EVALUATION,
            TRANSCRIPT.replace("Ses01F_impro01_F001", "M"),
            [Issue("Ses01F_impro01_F001", "no-text", f"transcriptions/{DIALOGUE}.txt has no line for it")],
        ),
        (
            EVALUATION,
            TRANSCRIPT + "Ses01F_impro01_F002 [20-21]: Unheard.\n",
            [Issue("Ses01F_impro01_F002", "no-labels", f"EmoEvaluation/{DIALOGUE}.txt has no line for it")],
        ),
        (
            EVALUATION.replace("7.0000", "9.9000"),
            TRANSCRIPT,
            [Issue("Ses01F_impro01_F001", "bad-times", "starts at 9.9000 s and ends at 9.9000 s")],
        ),
        (
            EVALUATION,
            None,
            [
                Issue("Ses01F_impro01_F001", "no-text", f"no file transcriptions/{DIALOGUE}.txt"),
                Issue("Ses01F_impro01_M000", "no-text", f"no file transcriptions/{DIALOGUE}.txt"),
            ],
        ),
        (
            None,
            TRANSCRIPT,
            [
                Issue(f"Ses01F_impro01_{turn}", "no-labels", f"no file EmoEvaluation/{DIALOGUE}.txt")
                for turn in ("F001", "M000", "M001")
            ],
        ),
        (
            EVALUATION,
            "",
            [
                Issue(f"Ses01F_impro01_{turn}", "no-text", f"transcriptions/{DIALOGUE}.txt has no line for it")
                for turn in ("F001", "M000")
            ],
        ),
    ],
    ids=["no words", "no votes", "no length", "no transcript", "no evaluation", "empty transcript"],
)
def test_an_utterance_that_lacks_something_is_an_issue(
    tmp_path: Path, evaluation: str | None, transcript: str | None, issues: list[Issue]
) -> None:
    _write(tmp_path, evaluation, transcript)
    assert _read(tmp_path)[1] == issues


def test_an_utterance_without_a_sound_in_its_line_keeps_empty_words(tmp_path: Path) -> None:
    _write(tmp_path, transcript=TRANSCRIPT.replace(" No.", ""))
    assert _read(tmp_path)[0]["Ses01F_impro01_F001"].text == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("\tfru\t", "\tfur\t"),
            ":3: found label 'fur', expected one of ang, exc, fru, hap, neu, sad, dis, fea, oth, sur, xxx",
        ),
        (
            ("3.5000]", "3.5"),
            ":3: found '[7.0000 - 9.9000]\\tSes01F_impro01_F001\\tfru\\t[2.5000, 4.0000, 3.5', expected '[start",
        ),
        (("[7.0000 - 9.9000]", "7.0000 - 9.9000]"), ":3: found '7.0000"),
        (("[7.0000 - 9.9000]", "[7.0000 9.9000]"), ":3: found '[7.0000 9.9"),
        (("[7.0000 - 9.9000]", "[-7.0000 - 9.9000]"), ":3: found '[-7.0000"),
        (("[7.0000 - 9.9000]", "[none - 9.9000]"), ":3: found '[none"),
        (
            ("impro01_F001", "impro02_F001"),
            ":3: found turn 'Ses01F_impro02_F001', expected one like Ses01F_impro01_F000",
        ),
        (("impro01_F001", "impro01_F01"), ":3: found turn 'Ses01F_impro01_F01', expected one like"),
        (("impro01_M000", "impro01_F001"), ":10: found turn Ses01F_impro01_F001 again, expected it once"),
        (("C-E2:\tFru", "C-E2\tFru"), ":4: found rater's line 'C-E2\\tFrustration;\\t()', expected one like"),
        (("val 2", "vel 2"), ":7: found level 'vel 2', expected one like 'val 2', 'act 4' or 'dom 3'"),
        (("act 4", "act many"), ":7: found level 'act many'"),
        (
            ("% [START", "C-E2:\tAnger;\t()\n% [START"),
            ":1: found a rater's line 'C-E2:\\tAnger;\\t()', expected a turn's line above",
        ),
    ],
)
def test_an_evaluation_that_does_not_read_is_told_by_its_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = _write(tmp_path, EVALUATION.replace(*change, 1)) / "EmoEvaluation" / f"{DIALOGUE}.txt"
    with pytest.raises(CorpusError) as told:
        list(iemocap.read(tmp_path))
    assert str(told.value).startswith(f"{path}{message}")


@pytest.mark.parametrize("text", ["", "\n\n", "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n", "nonsense\n"])
def test_an_evaluation_without_turns_was_cut_off(tmp_path: Path, text: str) -> None:
    _write(tmp_path, text)
    with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt: found no turn, expected lines '\[start - end\]"):
        list(iemocap.read(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ses01F_impro01_F009 No times\n", "found 'Ses01F_impro01_F009 No times', expected 'turn [start-end]: words'"),
        ("Ses01F_impro01_F001 [007.0000-009.9000]: Yes.\n", "found turn Ses01F_impro01_F001 again with other words"),
    ],
)
def test_a_transcript_that_does_not_read_is_told_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = _write(tmp_path, transcript=TRANSCRIPT + line) / "transcriptions" / f"{DIALOGUE}.txt"
    with pytest.raises(CorpusError) as told:
        list(iemocap.read(tmp_path))
    assert str(told.value).startswith(f"{path}:6: {message}")


def test_a_transcript_line_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    _write(tmp_path, transcript=TRANSCRIPT + TRANSCRIPT)
    assert _read(tmp_path)[0]["Ses01F_impro01_F001"].text == "No."


def test_turns_that_nobody_rated_may_stand_twice(tmp_path: Path) -> None:
    again = EVALUATION + "\n[5.0000 - 5.2000]\tSes01F_impro01_MXX0\txxx\t[3.0000, 3.0000, 3.0000]\n"
    _write(tmp_path, again, TRANSCRIPT + "Ses01F_impro01_MXX0 [005.0000-005.2000]: [LAUGHTER]\n")
    utterances, issues = _read(tmp_path)
    assert list(utterances) == ["Ses01F_impro01_F001", "Ses01F_impro01_M000"]
    assert issues == []


def test_two_copies_in_one_folder_are_refused(release: Path) -> None:
    _write(release / "backup" / "Session1" / "dialog")
    with pytest.raises(
        CorpusError, match=r"found Ses01F_impro01 in Session1/dialog/EmoEvaluation/Ses01F_impro01.txt and in backup/"
    ):
        list(iemocap.read(release))


def test_a_folder_that_is_no_iemocap_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "Raw").mkdir()
    (tmp_path / "label.csv").touch()
    with pytest.raises(CorpusError) as told:
        list(iemocap.read(tmp_path))
    assert str(told.value) == (
        f"{tmp_path}: found Raw, label.csv, expected an IEMOCAP release: folders Session1 ... Session5, "
        "each with dialog/EmoEvaluation and dialog/transcriptions"
    )


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_a_folder_without_anything_says_so(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"{missing}: found nothing, expected an IEMOCAP release"):
        list(iemocap.read(tmp_path / missing))


def test_annotation_folders_without_dialogues_are_told(tmp_path: Path) -> None:
    (tmp_path / "EmoEvaluation").mkdir()
    with pytest.raises(CorpusError, match=r"found no file named like EmoEvaluation/Ses01F_impro01\.txt"):
        list(iemocap.read(tmp_path))


def test_the_survey_counts_every_voted_label_and_what_lies_in_one_folder_only(release: Path) -> None:
    _write(release / "Session1/dialog", EVALUATION, None, "Ses01F_impro02")
    _write(release / "Session2/dialog", None, TRANSCRIPT, "Ses02F_impro01")
    assert iemocap.survey(release) == [
        "layout: IEMOCAP release, 2 sessions, 3 dialogues",
        "annotations: 2 files in EmoEvaluation, 2 in transcriptions",
        "voted labels: fru 2, neu 2, xxx 2",
        "kept: 4 of 6 voted turns are one of the six emotions",
        "only in transcriptions: Ses02F_impro01",
        "only in EmoEvaluation: Ses01F_impro02",
    ]


def test_real_recordings_are_read_as_expected(shared: Path) -> None:
    expected = json.loads((shared / "raw" / "expected_iemocap.json").read_text())
    utterances, issues = _read(shared / "raw" / "IEMOCAP_full_release")
    labels = {u.id: iemocap.VOTED[u.labels.index(1)] for u in utterances.values()}
    assert sorted([u.id, labels[u.id], u.start, u.end] for u in utterances.values()) == sorted(expected["utterances"])
    assert Counter(labels.values()) == expected["by_label"]
    assert len({u.group for u in utterances.values()}) == expected["dialogues"]
    assert len({u.speaker for u in utterances.values()}) == 10
    assert issues == []
    assert expected["issues"] == {}


def test_every_published_id_has_a_turns_name_and_one_of_151_dialogues(shared: Path) -> None:
    ids = [name for path in (shared / "published" / "iemocap").glob("*.txt") for name in path.read_text().split()]
    turns = [iemocap._TURN.fullmatch(name) for name in ids]
    dialogues = {turn[1] for turn in turns if turn}
    assert (sum(map(bool, turns)), len(dialogues)) == (7380, 151)


def _half_and_whole(folder: Path) -> None:
    """A whole dialogue as mp4, and half of one, whose header claims all of it, as avi in DivX."""
    images = [np.random.default_rng(n).integers(0, 256, (72, 64), np.uint8) for n in range(30)]
    silence = np.zeros((48_000, 2), np.int16)
    (folder / "DivX").mkdir(parents=True)
    write_mp4(folder / f"{DIALOGUE}.mp4", images, frame_ticks((9000,), 3.0), silence, 16_000)
    write_avi(folder / "DivX" / f"{DIALOGUE}.avi", images, frame_ticks((9000,), 3.0), silence, 16_000)
    os.truncate(folder / "DivX" / f"{DIALOGUE}.avi", (folder / "DivX" / f"{DIALOGUE}.avi").stat().st_size // 2)


def test_of_two_videos_of_one_dialogue_the_whole_one_is_used_and_a_note_says_so(tmp_path: Path) -> None:
    _half_and_whole(_write(tmp_path) / "avi")
    utterances, issues = _read(tmp_path)
    assert {u.source.video for u in utterances.values()} == {f"avi/{DIALOGUE}.mp4"}
    assert [(issue.utterance, issue.kind, issue.left_out) for issue in issues] == [(DIALOGUE, "two-files", False)]


def test_names_in_capitals_folders_that_are_links_and_media_in_another_folder_are_found(tmp_path: Path) -> None:
    dialog = _write(tmp_path / "notes" / "Session1" / "dialog")
    transcript = dialog / "transcriptions" / f"{DIALOGUE}.txt"
    moved = tmp_path / "words" / "transcriptions" / f"{DIALOGUE}.TXT"
    moved.parent.mkdir(parents=True)
    transcript.rename(moved)
    transcript.parent.rmdir()
    elsewhere = tmp_path / "disk" / "DivX"
    elsewhere.mkdir(parents=True)
    (elsewhere / f"{DIALOGUE}.AVI").touch()
    (dialog / "avi").mkdir()
    (dialog / "avi" / "DivX").symlink_to(elsewhere)
    (dialog / "wav").mkdir()
    (dialog / "wav" / f"{DIALOGUE}.WAV").touch()
    source = _read(tmp_path)[0][f"{DIALOGUE}_F001"].source
    assert source.video == f"notes/Session1/dialog/avi/DivX/{DIALOGUE}.AVI"
    assert source.audio == f"notes/Session1/dialog/wav/{DIALOGUE}.WAV"


@pytest.mark.parametrize("folder", ["EmoEvaluation", "transcriptions"])
def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path, folder: str) -> None:
    path = _write(tmp_path) / folder / f"{DIALOGUE}.txt"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorpusError, match=re.escape(f"{path}: found a pipe, expected a file")):
        list(iemocap.read(tmp_path))
