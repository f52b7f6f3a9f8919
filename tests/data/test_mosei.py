"""CMU-MOSEI is read from every copy that people hold, and the paper's cleaning is derived from its labels."""

import csv
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mesm_data.build import find_media, read_corpus
from mesm_data.corpora import by_id, mosei
from mesm_data.errors import CorpusError, Issue
from mesm_data.synth.video import frame_ticks, write_avi, write_mp4
from mesm_data.utterance import Source, Utterance, Vote


class Rated(NamedTuple):
    """A clip, and the emotions that its three raters gave: each a number for every emotion."""

    video: str
    number: int
    start: float
    end: float
    text: str
    raters: tuple[tuple[int, ...], ...]

    @property
    def id(self) -> str:
        return f"{self.video}_{self.number}"

    @property
    def means(self) -> list[float]:
        return [sum(given) / len(given) for given in zip(*self.raters, strict=True)]

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(int(mean > 0) for mean in self.means)


NOTHING, FEAR, JOY = (0, 0, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0), (0, 0, 0, 3, 0, 1)
CLIPS = (
    Rated("-iRBcNs9oI8", 0, 0.0, 3.05, "Bin blue.", (NOTHING, NOTHING, NOTHING)),
    Rated("-iRBcNs9oI8", 2, 5.6, 8.85, "9 ___ 10, he said: so, __init__.", (FEAR, NOTHING, NOTHING)),
    Rated("-iRBcNs9oI8", 10, 2.7, 5.95, "Lay blue.", (JOY, JOY, FEAR)),
    Rated("81406", 7, 12.0, 14.5, 'Say "please".', (JOY, JOY, JOY)),
    Rated("_q__DM8WkzA", 0, 1.25, 2.5, "", (FEAR, FEAR, NOTHING)),
)
UNRATED = Rated("81406", 8, 14.5, 16.0, "Nobody rated this.", ())
NAMES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
TRANSCRIPTS = "Raw/Transcript/Segmented/Combined"


def _transcripts(folder: Path, clips: Iterable[Rated] = (*CLIPS, UNRATED), end: str = "\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for c in sorted(clips, key=lambda c: str(c.number)):  # as strings: not in the order of time
        line = f"{c.video}___{c.number}___{c.start:g}___{c.end:g}___{c.text}{end}"
        with (folder / f"{c.video}.txt").open("a", encoding="utf-8", newline="") as file:
            file.write(line)


def _ratings(path: Path, clips: Iterable[Rated] = CLIPS, workers: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["HITId", *["WorkerId"] * workers, "Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{n}" for n in NAMES)]
            + ["Answer.sentiment"] * workers
        )
        for clip in clips:
            for k, given in enumerate(clip.raters):
                rows.writerow(["H", *[f"W{k}"] * workers, clip.video, clip.number, *given, *[k - 1] * workers])


def _csd(path: Path, clips: Iterable[Rated] = CLIPS) -> None:
    """As the SDK writes it: rows of a video sorted by clip number as a string, emotions in the SDK's own order."""
    import h5py
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    videos: dict[str, list[Rated]] = {}
    for clip in sorted(clips, key=lambda clip: str(clip.number)):
        videos.setdefault(clip.video, []).append(clip)
    with h5py.File(path, "w") as file:
        for video, members in videos.items():
            group = file.create_group(f"All Labels/data/{video}")
            rows = [[0.5, *(clip.means[k] for k in (3, 4, 0, 5, 1, 2))] for clip in members]
            group["features"] = np.array(rows, dtype=np.float32)
            group["intervals"] = np.array([[clip.start, clip.end] for clip in members])
        metadata = file.create_group("All Labels/metadata")
        for key, value in (("root name", "All Labels"), ("dataset name", "CMU-MOSEI"), ("creator", "somebody")):
            metadata.create_dataset(key, (1,), dtype=h5py.special_dtype(vlen=str))[0] = value


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _sheet(path: Path, clips: Iterable[Rated] = CLIPS, digits: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_id", "clip_id", "text", "label", "label_T", "annotation", "mode"])
        for c in clips:
            rows.writerow([c.video, f"{c.number:0{digits}d}", c.text, 0.5, "", "Positive", "train"])


def _release(root: Path) -> None:
    _transcripts(root / TRANSCRIPTS)
    _ratings(root / "Labels" / "5000_batch_raw.csv", CLIPS[:2])
    _ratings(root / "Labels" / "mturk_extra_v2.csv", CLIPS[2:])
    _touch(*(root / "Raw/Videos/Full/Combined" / f"{c.video}.mp4" for c in CLIPS))
    _touch(*(root / "Raw/Videos/Segmented/Combined" / f"{c.id}.mp4" for c in CLIPS))
    _touch(*(root / "Raw/Audio/Full/WAV_16000" / f"{c.video}.wav" for c in CLIPS))


def _csd_copy(root: Path) -> None:
    _transcripts(root / "Transcript" / "Combined", end="\r\n")
    _csd(root / "CMU_MOSEI_Labels.csd")
    _touch(root / "CMU_MOSEI_COVAREP.csd", *(root / "videos" / f"{c.video}.mkv" for c in CLIPS))


def _clips(root: Path) -> None:
    _sheet(root / "label.csv", digits=4)
    _transcripts(root / "Transcript" / "Combined")
    _ratings(root / "Labels" / "5000_batch_raw.csv")
    _touch(*(root / "Raw" / c.video / f"{c.number:04d}.mp4" for c in CLIPS))


def _processed(root: Path) -> None:
    for clip in CLIPS:
        folder = root / "MOSEI_RAW_PROCESSED" / clip.id
        _touch(folder / "image_0.jpg", folder / "image_1.jpg")
        with wave.open(str(folder / "audio.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(16_000)
            sound.writeframes(bytes(2 * round(16_000 * (clip.end - clip.start))))
    meta = {clip.id: {"text": clip.text, "label": list(clip.labels)} for clip in CLIPS}
    (root / "MOSEI_RAW_PROCESSED" / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=4))


COPIES = {"release": _release, "csd": _csd_copy, "clips": _clips, "processed": _processed}


def _read(root: Path, **options: str) -> tuple[dict[str, Utterance], list[Issue]]:
    found = list(mosei.read(root, **options))
    assert found == sorted(found, key=by_id)
    return {u.id: u for u in found if isinstance(u, Utterance)}, [i for i in found if isinstance(i, Issue)]


def _told(root: Path, **options: str) -> str:
    with pytest.raises(CorpusError) as told:
        list(mosei.read(root, **options))
    return str(told.value)


# ---- what is read


@pytest.mark.parametrize("deep", ["", "CMU_MOSEI", "data/CMU_MOSEI"])
@pytest.mark.parametrize("layout", COPIES)
def test_every_copy_is_recognised_however_deep_it_lies_and_gives_the_same_clips(
    tmp_path: Path, layout: str, deep: str
) -> None:
    COPIES[layout](tmp_path / deep)
    assert mosei.find_layout(tmp_path) == layout
    utterances, issues = _read(tmp_path)
    assert issues == []
    assert {name: (u.text, u.labels) for name, u in utterances.items()} == {c.id: (c.text, c.labels) for c in CLIPS}
    assert {u.group for u in utterances.values()} == {c.video for c in CLIPS}
    assert all(u.speaker == u.group for u in utterances.values())
    assert mosei.survey(tmp_path)[0] == f"layout: {layout}"


@pytest.mark.parametrize("layout", ["release", "csd", "clips"])
def test_times_come_from_the_transcript(tmp_path: Path, layout: str) -> None:
    COPIES[layout](tmp_path)
    utterances, _ = _read(tmp_path)
    assert {name: (u.start, u.end) for name, u in utterances.items()} == {c.id: (c.start, c.end) for c in CLIPS}


def test_a_clip_of_the_release_is_known_in_full(tmp_path: Path) -> None:
    _release(tmp_path)
    assert _read(tmp_path)[0]["-iRBcNs9oI8_2"] == Utterance(
        id="-iRBcNs9oI8_2",
        source=Source("Raw/Videos/Full/Combined/-iRBcNs9oI8.mp4", "Raw/Audio/Full/WAV_16000/-iRBcNs9oI8.wav"),
        start=5.6,
        end=8.85,
        text="9 ___ 10, he said: so, __init__.",
        labels=(0, 0, 1, 0, 0, 0),
        votes=tuple(
            Vote(f"W{k}", name, float(value))
            for k, given in enumerate((FEAR, NOTHING, NOTHING))
            for name, value in [*zip(NAMES, given, strict=True), ("sentiment", k - 1)]
        ),
        speaker="-iRBcNs9oI8",
        group="-iRBcNs9oI8",
    )


def test_a_csd_gives_means_and_the_films_sound(tmp_path: Path) -> None:
    _csd_copy(tmp_path)
    clip = _read(tmp_path)[0]["-iRBcNs9oI8_10"]
    assert clip.source == Source("videos/-iRBcNs9oI8.mkv")
    assert [(v.rater, v.name, round(v.value, 6)) for v in clip.votes] == [
        ("mean", "sentiment", 0.5),
        ("mean", "happiness", 2.0),
        ("mean", "sadness", 0.0),
        ("mean", "anger", 0.0),
        ("mean", "surprise", 0.666667),
        ("mean", "disgust", 0.0),
        ("mean", "fear", 0.333333),
    ]


def test_a_clip_that_is_cut_begins_where_it_was_said(tmp_path: Path) -> None:
    _clips(tmp_path)
    assert _read(tmp_path)[0]["81406_7"].source == Source("Raw/81406/0007.mp4", offset=12.0)


def test_without_transcripts_a_cut_clip_lasts_as_long_as_its_file(tmp_path: Path) -> None:
    _processed(tmp_path)
    clip = _read(tmp_path)[0]["81406_7"]
    folder = "MOSEI_RAW_PROCESSED/81406_7"
    assert (clip.source, clip.start, clip.votes) == (Source(folder, f"{folder}/audio.wav"), 0.0, ())
    assert clip.end == pytest.approx(2.5, abs=1e-3)


def test_where_the_raw_folder_lies_does_not_show_in_issues(tmp_path: Path) -> None:
    _processed(tmp_path)
    (tmp_path / "MOSEI_RAW_PROCESSED/81406_7/audio.wav").write_bytes(b"no sound")
    (issue,) = _read(tmp_path)[1]
    assert (issue.utterance, issue.kind) == ("81406_7", "undecodable")
    assert issue.detail.startswith("MOSEI_RAW_PROCESSED/81406_7/audio.wav: found text, expected")


def test_transcripts_beside_the_processed_tree_tell_its_times(tmp_path: Path) -> None:
    _processed(tmp_path)
    _transcripts(tmp_path / "Transcript")
    clip = _read(tmp_path)[0]["81406_7"]
    assert (clip.start, clip.end, clip.source.offset) == (12.0, 14.5, 12.0)


def test_of_the_authors_two_trees_the_one_of_mosei_is_read(tmp_path: Path) -> None:
    _processed(tmp_path)
    (tmp_path / "IEMOCAP_RAW_PROCESSED").mkdir()
    iemocap = {"Ses01F_impro01_F000": {"text": "a", "label": "ang"}}
    (tmp_path / "IEMOCAP_RAW_PROCESSED" / "meta.pkl").write_bytes(pickle.dumps(iemocap))
    assert len(_read(tmp_path)[0]) == len(CLIPS)


@pytest.mark.parametrize("part", ["Raw", "Raw/Transcript"])
def test_any_folder_that_holds_what_is_needed_may_be_the_root(tmp_path: Path, part: str) -> None:
    _release(tmp_path)
    _csd(tmp_path / part / "labels" / "CMU_MOSEI_Labels.csd")
    assert mosei.find_layout(tmp_path / part) == "csd"
    assert len(_read(tmp_path / part)[0]) == len(CLIPS)


def test_where_several_layouts_are_whole_raters_are_taken_and_another_can_be_asked_for(tmp_path: Path) -> None:
    _release(tmp_path)
    _csd_copy(tmp_path)
    _sheet(tmp_path / "label.csv")
    _touch(tmp_path / "Raw" / "81406" / "7.mp4")
    assert mosei.find_layout(tmp_path) == "release"
    assert {v.rater for v in _read(tmp_path, layout="csd")[0]["81406_7"].votes} == {"mean"}
    assert _read(tmp_path, layout="clips")[0]["81406_7"].source.video == "Raw/81406/7.mp4"


def test_a_missing_video_is_named_as_it_should_be(tmp_path: Path) -> None:
    _release(tmp_path)
    (tmp_path / "Raw/Videos/Full/Combined/81406.mp4").unlink()
    shutil.rmtree(tmp_path / "Raw/Videos/Segmented")
    assert _read(tmp_path)[0]["81406_7"].source.video == "Raw/Videos/Full/Combined/81406.mp4"


@pytest.mark.parametrize("gone", ["Raw/Videos/Full", "Raw/Videos/Full/Combined/81406.mp4"])
def test_a_segmented_video_is_used_where_the_full_one_is_not_here(tmp_path: Path, gone: str) -> None:
    _release(tmp_path)
    shutil.rmtree(tmp_path / gone) if (tmp_path / gone).is_dir() else (tmp_path / gone).unlink()
    clip = _read(tmp_path)[0]["81406_7"]
    assert clip.source == Source("Raw/Videos/Segmented/Combined/81406_7.mp4", offset=clip.start)


def _video(path: Path, seconds: float) -> Path:
    write = write_avi if path.suffix == ".avi" else write_mp4
    images = [np.random.default_rng(n).integers(0, 256, (72, 64), np.uint8) for n in range(round(10 * seconds))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, images, frame_ticks((9000,), seconds), np.zeros((round(16_000 * seconds), 1), np.int16), 16_000)
    return path


def test_of_two_files_of_one_name_the_whole_one_is_used_and_a_note_says_so(tmp_path: Path) -> None:
    _release(tmp_path)
    folder = tmp_path / "Raw/Videos/Full/Combined"
    (folder / "81406.mp4").unlink()
    _video(folder / "81406.MP4", 3.0)
    half = _video(folder / "81406.avi", 3.0)  # its header is whole and claims 3 s
    os.truncate(half, half.stat().st_size // 2)
    utterances, issues = _read(tmp_path)
    assert utterances["81406_7"].source.video == "Raw/Videos/Full/Combined/81406.MP4"
    (note,) = [issue for issue in issues if issue.kind == "two-files"]
    assert note.utterance == "81406"
    assert not note.left_out
    assert "81406.MP4 (2.9 s)" in note.detail
    assert "81406.avi (1.4 s)" in note.detail
    assert note.detail.endswith("81406.MP4 is used")


def test_of_two_cut_videos_of_one_number_the_one_that_opens_is_used(tmp_path: Path) -> None:
    _clips(tmp_path)
    _video(tmp_path / "Raw/81406/7.avi", 1.0)
    utterances, issues = _read(tmp_path)
    assert utterances["81406_7"].source.video == "Raw/81406/7.avi"
    assert [issue.utterance for issue in issues if issue.kind == "two-files"] == ["81406_7"]


def test_names_in_capitals_and_folders_that_are_links_are_read(tmp_path: Path) -> None:
    _release(tmp_path / "there")
    for path in sorted((tmp_path / "there").rglob("*.*")):
        path.rename(path.with_suffix(path.suffix.upper()))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/mosei").symlink_to(tmp_path / "there")
    (tmp_path / "copy/mosei/loop").symlink_to(tmp_path / "copy")  # links may lead round in a circle
    clip = _read(tmp_path / "copy")[0]["81406_7"]
    assert clip.source.video == "mosei/Raw/Videos/Full/Combined/81406.MP4"
    assert clip.source.audio == "mosei/Raw/Audio/Full/WAV_16000/81406.WAV"
    assert len(clip.votes) == 21


def test_a_link_that_leads_back_to_itself_is_one_missing_video(tmp_path: Path) -> None:
    _release(tmp_path)
    video = tmp_path / "Raw/Videos/Full/Combined/81406.mp4"
    video.unlink()
    video.symlink_to(video)
    clips, _ = read_corpus("mosei", tmp_path, {})
    _, issues = find_media(tmp_path, clips)
    assert {(issue.utterance, issue.kind) for issue in issues} == {
        (c.id, "no-media") for c in CLIPS if c.video == "81406"
    }
    assert issues[0].detail.endswith("81406.mp4: found a link that leads back to itself, expected a video file")


def test_transcripts_and_ratings_of_another_copy_change_nothing(tmp_path: Path) -> None:
    _release(tmp_path)
    before = _read(tmp_path)
    others = [clip._replace(video=f"other{n}") for n, clip in enumerate(CLIPS * 3)]
    _transcripts(tmp_path / "A copy" / TRANSCRIPTS, clips=others)
    _ratings(tmp_path / "A copy" / "Labels" / "all of it.csv")
    assert _read(tmp_path) == before


@pytest.mark.parametrize("name", ["Labels/5000_batch_raw.csv", f"{TRANSCRIPTS}/81406.txt"])
def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path, name: str) -> None:
    _release(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert _told(tmp_path) == f"{tmp_path / name}: found a pipe, expected a file"


@pytest.mark.parametrize("times", ["1___1e9", "1___inf", "-inf___2", "2___nan", "5___4", f"0___{'9' * 400}", "1___4e8"])
def test_nonsense_times_cost_their_own_clip_only(tmp_path: Path, times: str) -> None:
    _release(tmp_path)
    with (tmp_path / TRANSCRIPTS / "81406.txt").open("a") as file:
        file.write(f"81406___9___{times}___To the end.\n")
    _ratings(tmp_path / "Labels" / "more.csv", [CLIPS[0]._replace(video="81406", number=9)])
    utterances, issues = _read(tmp_path)
    assert [(issue.utterance, issue.kind) for issue in issues] == [("81406_9", "bad-times")]
    assert len(issues[0].detail) < 80
    assert len(utterances) == len(CLIPS)


def test_a_row_of_means_without_finite_times_costs_itself_only(tmp_path: Path) -> None:
    _csd_copy(tmp_path)
    _csd(tmp_path / "CMU_MOSEI_Labels.csd", [*CLIPS, CLIPS[0]._replace(number=99, end=math.inf)])
    utterances, issues = _read(tmp_path)
    assert [issue.kind for issue in issues] == ["bad-times"]
    assert len(utterances) == len(CLIPS)


def test_a_bad_line_of_megabytes_is_shown_by_its_beginning(tmp_path: Path) -> None:
    _release(tmp_path)
    (tmp_path / TRANSCRIPTS / "81406.txt").write_text("_1" * 1_000_000)
    begun = time.perf_counter()
    assert len(_told(tmp_path)) < 500
    assert time.perf_counter() - begun < 2


def test_a_copy_without_media_is_read_all_the_same(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _ratings(tmp_path / "ratings.csv")
    assert _read(tmp_path)[0]["81406_7"].source == Source("Raw/Videos/Full/Combined/81406.mp4")


def test_what_systems_leave_in_folders_is_not_read(tmp_path: Path) -> None:
    _release(tmp_path)
    for folder in (TRANSCRIPTS, "Labels"):
        (tmp_path / folder / ".DS_Store").write_bytes(b"\0\0Bud1")
        (tmp_path / folder / "._81406.txt").write_bytes(b"\0\5\x16\7Mac OS X")
        (tmp_path / folder / "._5000_batch_raw.csv").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "Metadata").mkdir()
    (tmp_path / "Metadata" / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "README.txt").write_text("unrelated\n")
    (tmp_path / TRANSCRIPTS / "empty.txt").touch()
    assert len(_read(tmp_path)[0]) == len(CLIPS)


def test_old_letters_and_marks_are_read(tmp_path: Path) -> None:
    _release(tmp_path)
    path = tmp_path / TRANSCRIPTS / "81406.txt"
    path.write_bytes("81406___7___12.0___14.5___Déjà…\r\n\r\n".encode("cp1252"))
    ratings = tmp_path / "Labels" / "mturk_extra_v2.csv"
    ratings.write_bytes(b"\xef\xbb\xbf" + ratings.read_bytes())
    assert _read(tmp_path)[0]["81406_7"].text == "Déjà…"


def test_a_rater_may_be_nameless_and_a_video_may_carry_its_folder(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _ratings(tmp_path / "ratings.csv", [CLIPS[1]._replace(video="part_2/-iRBcNs9oI8")], workers=False)
    votes = _read(tmp_path)[0]["-iRBcNs9oI8_2"].votes
    assert [v for v in votes if v.name == "fear"] == [
        Vote("rater 1", "fear", 1.0),
        Vote("rater 2", "fear", 0.0),
        Vote("rater 3", "fear", 0.0),
    ]


def test_what_a_rater_left_empty_is_no_vote(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _ratings(tmp_path / "ratings.csv", [CLIPS[0]])
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text().replace("H,W1,-iRBcNs9oI8,0,0,0,0,0,0,0,0", "H,W1,-iRBcNs9oI8,0.0,,nan,,,,,"))
    assert Counter(v.rater for v in _read(tmp_path)[0]["-iRBcNs9oI8_0"].votes) == {"W0": 7, "W2": 7}


def test_a_second_copy_of_a_file_of_ratings_counts_once(tmp_path: Path) -> None:
    _release(tmp_path)
    _ratings(tmp_path / "Raw" / "Labels" / "mturk_extra_v2.csv", CLIPS[2:])
    assert len(_read(tmp_path)[0]["81406_7"].votes) == 21


# ---- labels


@pytest.mark.parametrize(
    ("policy", "labels"),
    [
        ("any", (0, 0, 1, 1, 0, 1)),
        ("majority", (0, 0, 0, 1, 0, 1)),
        ("mean>=1", (0, 0, 0, 1, 0, 0)),
        ("mean>=0.3", (0, 0, 1, 1, 0, 1)),
        ("mean>=2.5", (0, 0, 0, 0, 0, 0)),
    ],
)
def test_the_policy_decides_when_an_emotion_is_one(tmp_path: Path, policy: str, labels: tuple[int, ...]) -> None:
    _release(tmp_path)
    assert _read(tmp_path, label_policy=policy)[0]["-iRBcNs9oI8_10"].labels == labels


def test_half_of_the_raters_are_no_majority(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _ratings(tmp_path / "ratings.csv", [CLIPS[0]._replace(raters=(FEAR, FEAR, NOTHING, NOTHING))])
    assert _read(tmp_path, label_policy="majority")[0]["-iRBcNs9oI8_0"].labels == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("policy", ["all", "mean", "mean>=", "mean>=0", "mean>=-1", "mean>=x", "mean > 1", ""])
def test_an_unknown_policy_is_told(tmp_path: Path, policy: str) -> None:
    _release(tmp_path)
    told = f"found label policy {policy!r}, expected any, majority, or mean>=T with T above 0"
    assert _told(tmp_path, label_policy=policy) == told


def test_a_mean_can_be_asked_of_means_and_a_majority_cannot(tmp_path: Path) -> None:
    _csd_copy(tmp_path)
    assert _read(tmp_path, label_policy="mean>=1")[0]["-iRBcNs9oI8_10"].labels == (0, 0, 0, 1, 0, 0)
    assert (
        "CMU_MOSEI_Labels.csd: holds the mean of the raters, so that a majority cannot be counted; expected"
        in _told(tmp_path, label_policy="majority")
    )


def test_the_processed_tree_knows_one_policy(tmp_path: Path) -> None:
    _processed(tmp_path)
    assert "found --label-policy majority, expected any" in _told(tmp_path, label_policy="majority")


# ---- what does not come together


def test_rated_clips_without_words_are_issues(tmp_path: Path) -> None:
    _release(tmp_path)
    _ratings(tmp_path / "Labels" / "more.csv", [CLIPS[0]._replace(number=77), CLIPS[0]._replace(video="unknown")])
    detail = f"rated, and no line in {TRANSCRIPTS} has its number"
    assert _read(tmp_path)[1] == [Issue("-iRBcNs9oI8_77", "no-text", detail), Issue("unknown_0", "no-text", detail)]


def test_a_rated_clip_without_length_is_an_issue_and_an_unrated_one_is_none(tmp_path: Path) -> None:
    _transcripts(tmp_path, [CLIPS[0]._replace(start=4.0), CLIPS[3], UNRATED._replace(start=99.0)])
    _ratings(tmp_path / "ratings.csv", [CLIPS[0], CLIPS[3]])
    assert _read(tmp_path)[1] == [Issue("-iRBcNs9oI8_0", "bad-times", "starts at 4.0000 s and ends at 3.0500 s")]


def test_rows_of_means_find_their_clips_by_time_alone(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _csd(tmp_path / "CMU_MOSEI_Labels.csd", [c._replace(number=90 - c.number, start=c.start + 0.04) for c in CLIPS])
    utterances, issues = _read(tmp_path)
    assert issues == []
    assert {name: (u.labels, u.start) for name, u in utterances.items()} == {c.id: (c.labels, c.start) for c in CLIPS}


def test_a_row_of_means_where_nothing_is_said_is_an_issue(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    strangers = [CLIPS[0]._replace(start=0.2, number=5), CLIPS[0]._replace(video="unknown")]
    _csd(tmp_path / "CMU_MOSEI_Labels.csd", [*CLIPS, *strangers])
    utterances, issues = _read(tmp_path)
    assert len(utterances) == len(CLIPS)
    detail = "rated from {} to 3.050 s, and no transcript line is there; {}"
    assert issues == [
        Issue("-iRBcNs9oI8_?0.200", "no-text", detail.format("0.200", "the nearest, -iRBcNs9oI8_0, is 0.200 s off")),
        Issue("unknown_?0.000", "no-text", detail.format("0.000", "the video has none")),
    ]


def test_two_rows_for_one_clip_and_two_clips_for_one_row_are_issues(tmp_path: Path) -> None:
    _transcripts(tmp_path, [*CLIPS, CLIPS[3]._replace(number=70)])
    _csd(tmp_path / "CMU_MOSEI_Labels.csd", [*CLIPS, CLIPS[0]._replace(number=1, start=0.05)])
    utterances, issues = _read(tmp_path)
    assert set(utterances) == {"-iRBcNs9oI8_2", "-iRBcNs9oI8_10", "_q__DM8WkzA_0"}
    assert issues == [
        Issue("-iRBcNs9oI8_0", "ambiguous", "rated from 0.000 to 3.050 s, and 2 rows are there"),
        Issue("81406_7", "ambiguous", "rated from 12.000 to 14.500 s, and another transcript line is there too"),
        Issue("81406_70", "ambiguous", "rated from 12.000 to 14.500 s, and another transcript line is there too"),
    ]


def test_cut_clips_and_emotions_that_do_not_meet_are_issues(tmp_path: Path) -> None:
    _clips(tmp_path)
    _sheet(tmp_path / "label.csv", [*CLIPS[1:], UNRATED])
    assert _read(tmp_path)[1] == [
        Issue("-iRBcNs9oI8_0", "no-text", "it has emotions, and label.csv does not list it"),
        Issue("81406_8", "no-labels", "label.csv lists it, and nothing gives its emotions"),
    ]


def test_cut_clips_take_their_emotions_from_means_by_time(tmp_path: Path) -> None:
    _clips(tmp_path)
    (tmp_path / "Labels" / "5000_batch_raw.csv").unlink()
    _csd(tmp_path / "CMU_MOSEI_Labels.csd", [*CLIPS, CLIPS[0]._replace(start=0.05)])
    utterances, issues = _read(tmp_path)
    assert {name: u.labels for name, u in utterances.items()} == {c.id: c.labels for c in CLIPS[1:]}
    assert [(i.utterance, i.kind) for i in issues] == [("-iRBcNs9oI8_0", "ambiguous")]
    assert "so that a majority cannot be counted" in _told(tmp_path, label_policy="majority")


def test_cut_clips_without_emotions_are_refused_with_all_that_is_missing(tmp_path: Path) -> None:
    _sheet(tmp_path / "label.csv")
    _touch(tmp_path / "Raw" / "81406" / "7.mp4")
    told = _told(tmp_path)
    assert told.startswith(f"{tmp_path}/label.csv: holds sentiment and no emotions; found neither; expected below")
    assert "ratings (csv files with columns Input.VIDEO_ID" in told
    assert "CMU_MOSEI_Labels.csd) with transcripts (a folder of <video>.txt" in told
    _csd(tmp_path / "CMU_MOSEI_Labels.csd")
    assert "found CMU_MOSEI_Labels.csd, whose rows can be joined by time alone; expected" in _told(tmp_path)


def test_a_cut_clip_that_is_not_there_has_no_length_without_a_transcript(tmp_path: Path) -> None:
    _sheet(tmp_path / "label.csv")
    _ratings(tmp_path / "ratings.csv")
    _touch(tmp_path / "Raw" / "81406" / "7.mp4")
    _, issues = _read(tmp_path)
    assert (
        Issue("-iRBcNs9oI8_10", "no-media", "Raw/-iRBcNs9oI8/10.mp4: not found, and no transcript gives its length")
        in issues
    )
    assert [i.kind for i in issues if i.utterance == "81406_7"] == ["undecodable"]
    assert len(issues) == len(CLIPS)


# ---- files that do not read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("81406___9___1___2\n", "found '81406___9___1___2', expected video___number___start___end___words"),
        ("81406___x___1___2___words\n", "found '81406___x___1___2___words', expected"),
        ("81406___9___one___2___words\n", "found '81406___9___one___2___words', expected"),
        ("___9___1___2___words\n", "found '___9___1___2___words', expected"),
        ("more words\n", "found 'more words', expected"),
        ("81406___7___12.0___14.5___Else.\n", "found clip 81406_7 again with other times or words, expected it once"),
    ],
)
def test_a_transcript_that_does_not_read_is_told_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    _release(tmp_path)
    with (tmp_path / TRANSCRIPTS / "81406.txt").open("a") as file:
        file.write(line)
    assert _told(tmp_path).startswith(f"{tmp_path}/{TRANSCRIPTS}/81406.txt:3: {message}")


def test_a_transcript_line_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    _release(tmp_path)
    _transcripts(tmp_path / TRANSCRIPTS)
    assert len(_read(tmp_path)[0]) == len(CLIPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("Answer.fear", "Answer.joy"),
            ":1: found columns HITId, WorkerId, Input.VIDEO_ID, Input.CLIP, Answer.anger, Answer.disgust, Answer.joy",
        ),
        (("-iRBcNs9oI8,0", ",0"), ":2: found video '' and clip '0', expected a name and a number"),
        (("-iRBcNs9oI8,0", "-iRBcNs9oI8,first"), ":2: found video '-iRBcNs9oI8' and clip 'first', expected"),
        (("-iRBcNs9oI8,0,0", "-iRBcNs9oI8,0,much"), ":2: found Answer.anger 'much', expected a number"),
        (("-iRBcNs9oI8,0,0", "-iRBcNs9oI8,0,inf"), ":2: found Answer.anger 'inf', expected a number"),
        (("-iRBcNs9oI8,0,0", "-iRBcNs9oI8,0"), ":2: found 10 fields, expected 11"),
    ],
)
def test_ratings_that_do_not_read_are_told_by_their_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    _release(tmp_path)
    path = tmp_path / "Labels" / "5000_batch_raw.csv"
    path.write_text(path.read_text().replace(*change, 1))
    assert _told(tmp_path).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ":1: found columns none, expected also Input.VIDEO_ID"),
        (b"a,b\n1,2\n", ":1: found columns a, b, expected also Input.VIDEO_ID"),
        (b"\r\rnoise\0", ": found zero bytes, expected a text file"),
    ],
)
def test_a_damaged_table_beside_ratings_does_not_take_its_labels_with_it(
    tmp_path: Path, data: bytes, message: str
) -> None:
    _release(tmp_path)
    path = tmp_path / "Labels" / "mturk_extra_v2.csv"
    path.write_bytes(data)
    assert _told(tmp_path).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("81406,7,again,0.5,,Positive,train", "found clip 81406_7 again, expected it once"),
        (",7,words,0.5,,Positive,train", "found video '' and clip '7', expected a name and a number"),
        ("81406,-7,words,0.5,,Positive,train", "found video '81406' and clip '-7', expected a name and a number"),
    ],
)
def test_a_sheet_that_does_not_read_is_told_by_its_line(tmp_path: Path, row: str, message: str) -> None:
    _clips(tmp_path)
    with (tmp_path / "label.csv").open("a", newline="") as file:
        file.write(row + "\r\n")
    assert _told(tmp_path) == f"{tmp_path}/label.csv:7: {message}"


@pytest.mark.parametrize("data", [b"", b"<html>404 not found</html>"])
def test_a_csd_that_is_none_is_told(tmp_path: Path, data: bytes) -> None:
    _transcripts(tmp_path)
    path = tmp_path / "CMU_MOSEI_Labels.csd"
    path.write_bytes(data)
    told = _told(tmp_path)
    assert told.startswith(f"{path}: mmsdk cannot read it (")
    assert told.endswith("expected the file CMU_MOSEI_Labels.csd")


@pytest.mark.parametrize(
    "cut", ["All Labels/metadata", "All Labels/data", "All Labels", "All Labels/data/81406/intervals"]
)
def test_a_csd_that_lacks_a_part_is_told(tmp_path: Path, cut: str) -> None:
    import h5py

    _csd_copy(tmp_path)
    with h5py.File(tmp_path / "CMU_MOSEI_Labels.csd", "a") as file:
        del file[cut]
    assert "CMU_MOSEI_Labels.csd: mmsdk cannot read it" in _told(tmp_path)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[0.0] * 6] * 2, "found rows of (6,) values and (2,) times, expected (7,) values (sentiment, happiness,"),
        ([[float("nan")] * 7] * 2, "expected finite numbers"),
    ],
)
def test_a_csd_of_something_else_is_told(tmp_path: Path, features: list[list[float]], message: str) -> None:
    import h5py

    _csd_copy(tmp_path)
    with h5py.File(tmp_path / "CMU_MOSEI_Labels.csd", "a") as file:
        group = file["All Labels/data/81406"]
        del group["features"], group["intervals"]
        group["features"], group["intervals"] = features, [[1.0, 2.0], [2.0, 3.0]]
    assert "CMU_MOSEI_Labels.csd: video 81406: " in _told(tmp_path)
    assert message in _told(tmp_path)


def test_mmsdk_prints_nothing_and_lets_its_file_go(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import h5py

    _csd_copy(tmp_path)
    _read(tmp_path)
    assert capfd.readouterr() == ("", "")
    h5py.File(tmp_path / "CMU_MOSEI_Labels.csd", "r+").close()


class _Command:
    """A pickle of this runs a command as soon as it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", "harm"],)


def _meta(root: Path, content: Any) -> Path:
    path = root / "MOSEI_RAW_PROCESSED" / "meta.pkl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"81406_7": _Command()},
            "it asks for subprocess.check_call; expected a pickle of plain dicts, lists, strings",
        ),
        (Path("x"), "it asks for pathlib."),
        (pickle.dumps({"81406_7": 1})[:-4], "expected a pickle of plain dicts"),
        (b"", "Ran out of input; expected a pickle of plain dicts"),
        (b"nonsense", "expected a pickle of plain dicts"),
        ([1], "found a list, expected a dict of clips"),
    ],
)
def test_a_pickle_that_is_not_plain_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _meta(tmp_path, content)
    told = _told(tmp_path)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"81406": {"text": "a", "label": [0] * 6}},
        {"../81406_7": {"text": "a", "label": [0] * 6}},
        {7: {"text": "a", "label": [0] * 6}},
        {"81406_7": {"text": "a", "label": [0] * 5}},
        {"81406_7": {"text": "a", "label": [0, 0, 0, 0, 0, 2]}},
        {"81406_7": {"text": 1, "label": [0] * 6}},
        {"81406_7": {"label": [0] * 6}},
        {"81406_7": ["a", [0] * 6]},
        {"Ses01F_impro01_F000": {"text": "a", "label": "ang"}},
    ],
)
def test_a_meta_of_something_else_is_told_by_its_entry(tmp_path: Path, entry: dict[Any, Any]) -> None:
    path = _meta(tmp_path, entry)
    told = _told(tmp_path)
    assert told.startswith(f"{path}: entry {next(iter(entry))!r}: found ")
    assert told.endswith("expected <video>_<number> with a text and six labels, each 0 or 1")


# ---- folders that are not CMU-MOSEI


def test_a_folder_of_something_else_is_told_what_each_layout_needs(tmp_path: Path) -> None:
    (tmp_path / "Session1").mkdir()
    (tmp_path / "notes.txt").write_text("nothing\n")
    assert _told(tmp_path).splitlines() == [
        f"{tmp_path}: no CMU-MOSEI in a known layout (6 folders deep)",
        "  found no part of CMU-MOSEI, but Session1, notes.txt",
        "  expected for layout release also transcripts (a folder of <video>.txt with lines "
        "video___number___start___end___words) and ratings (csv files with columns Input.VIDEO_ID, Input.CLIP, "
        "Answer.anger ... Answer.surprise)",
        "  expected for layout csd also transcripts (a folder of <video>.txt with lines "
        "video___number___start___end___words) and label means (CMU_MOSEI_Labels.csd)",
        "  expected for layout clips also words and sentiment (a csv file with columns video_id, clip_id, text, label) "
        "and cut videos (<video>/<number>.mp4, for the videos of that csv file)",
        "  expected for layout processed also the authors' tree (meta.pkl beside folders <video>_<number>)",
    ]


def test_a_copy_that_lacks_its_labels_is_told_what_it_has(tmp_path: Path) -> None:
    _transcripts(tmp_path / TRANSCRIPTS)
    _touch(tmp_path / "Raw/Videos/Full/Combined/81406.mp4")
    told = _told(tmp_path)
    assert f"\n  found transcripts: {TRANSCRIPTS}\n  found videos: Raw/Videos/Full/Combined\n" in told
    assert "\n  expected for layout csd also label means (CMU_MOSEI_Labels.csd)\n" in told


def test_an_empty_or_missing_folder_is_told(tmp_path: Path) -> None:
    assert "found no part of CMU-MOSEI, but nothing" in _told(tmp_path)
    assert _told(tmp_path / "nowhere") == f"{tmp_path}/nowhere: cannot be listed: No such file or directory"


def test_a_layout_can_be_asked_for_only_where_it_is_whole(tmp_path: Path) -> None:
    _release(tmp_path)
    assert "expected for layout processed also the authors' tree" in _told(tmp_path, layout="processed")
    assert _told(tmp_path, layout="raw") == ("found layout 'raw', expected auto, release, csd, clips, processed")


def test_ratings_without_a_row_are_no_corpus(tmp_path: Path) -> None:
    _transcripts(tmp_path)
    _ratings(tmp_path / "ratings.csv", [])
    assert f"{tmp_path}: found no labelled clip in transcripts: .; ratings: ratings.csv; expected some" == _told(
        tmp_path
    )


# ---- the paper's rules


@pytest.fixture(scope="module")
def public(shared: Path) -> list[Utterance]:
    return mosei.read_labels_csv(shared / "mosei" / "utterances.csv")


def _clip(video: str, number: int, start: float) -> Utterance:
    return Utterance(f"{video}_{number}", Source(video), start, start + 1, "", (0,) * 6, (), video, video)


def test_the_folds_are_those_of_the_sdk() -> None:
    folds = mosei.standard_folds()
    assert {part: len(videos) for part, videos in folds.items()} == {"train": 2249, "valid": 300, "test": 678}
    assert len(frozenset().union(*folds.values())) == 2249 + 300 + 678
    assert "-iRBcNs9oI8" in folds["train"]
    assert "--qXJuDtHPw" in folds["valid"]
    assert "-6rXp3zJ3kc" in folds["test"]


def test_the_folds_do_not_import_torch() -> None:
    code = "import sys; from mesm_data.corpora import mosei; mosei.standard_folds(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_every_dropped_clip_is_told_with_the_rule_that_drops_it() -> None:
    shifted = [_clip("4iG0ffmnCOw", 1, 5.0), _clip("4iG0ffmnCOw", 0, -0.3), _clip("4iG0ffmnCOw", 2, 9.0)]
    late = [_clip("JGEEA_JVriE", 0, 0.0), _clip("JGEEA_JVriE", 9, 58.568)]
    assert mosei.paper_drops([_clip("zz__notInAnyFold", 0, -1.0), *shifted, *late, _clip("81406", 7, 0.0)]) == [
        *(
            Issue(
                f"4iG0ffmnCOw_{n}",
                "negative-start",
                "video has a labelled clip that starts before 0: 4iG0ffmnCOw_0 at -0.300 s",
            )
            for n in range(3)
        ),
        Issue("JGEEA_JVriE_9", "after-media-end", "starts after the end of the media: at 58.568 s"),
        Issue("zz__notInAnyFold_0", "no-fold", "video is in no standard fold: zz__notInAnyFold"),
    ]


def test_the_rules_drop_399_2378_and_5_of_all_labelled_clips_and_leave_the_published_lists(
    public: list[Utterance], shared: Path
) -> None:
    issues = mosei.paper_drops(public)
    assert len(public) == 23_259
    assert Counter(issue.kind for issue in issues) == {"no-fold": 399, "negative-start": 2378, "after-media-end": 5}
    dropped = {issue.utterance for issue in issues}
    for part, size in (("train", 14_524), ("valid", 1765), ("test", 4188)):
        kept = {u.id for u in public if u.group in mosei.standard_folds()[part]} - dropped
        published = (shared / "published" / "mosei" / f"{part}.txt").read_text().split()
        assert (len(kept), kept) == (size, set(published))


def test_the_public_table_has_an_id_for_segments_without_a_number(public: list[Utterance]) -> None:
    unnumbered = [u for u in public if "_?" in u.id]
    assert len(unnumbered) == 403
    assert unnumbered[0].id == "-9YyBTjo1zo_?-0.457596371882"
    assert [u.id for u in public] == sorted({u.id for u in public})


def test_a_segment_of_the_public_table_is_known_by_its_means(tmp_path: Path) -> None:
    path = tmp_path / "utterances.csv"
    path.write_text(",".join(mosei.PUBLIC_COLUMNS) + "\n81406,7,12.0,14.5,-1,0,0,0.33333334,0,0,0\n")
    means = dict.fromkeys(NAMES, 0.0) | {"fear": 0.33333334, "sentiment": -1.0}
    votes = tuple(Vote("mean", name, value) for name, value in means.items())
    assert mosei.read_labels_csv(path) == [
        Utterance("81406_7", Source("81406"), 12.0, 14.5, "", (0, 0, 1, 0, 0, 0), votes, "81406", "81406")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start\n", ":1: found columns video, start, expected also video_id, clip, end, sentiment, anger"),
        (
            ",".join(mosei.PUBLIC_COLUMNS) + "\n81406,7,x,14.5,-1,0,0,0,0,0,0\n",
            ":2: found start 'x', expected a number",
        ),
        (",".join(mosei.PUBLIC_COLUMNS) + "\n81406,7,1,2,0,0,0,0,0,0,0" * 2, ":3: found segment 81406_7 again"),
    ],
)
def test_a_public_table_that_does_not_read_is_told_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "utterances.csv"
    path.write_text(text)
    with pytest.raises(CorpusError) as told:
        mosei.read_labels_csv(path)
    assert str(told.value).startswith(f"{path}{message}")


# ---- surveys and real recordings


def test_the_survey_says_where_things_lie_and_counts_what_is_no_issue(tmp_path: Path) -> None:
    _release(tmp_path)
    _ratings(tmp_path / "Labels" / "more.csv", [CLIPS[0]._replace(number=77)])
    assert mosei.survey(tmp_path) == [
        "layout: release",
        f"transcripts: {TRANSCRIPTS}",
        "ratings: Labels/5000_batch_raw.csv, Labels/more.csv, Labels/mturk_extra_v2.csv",
        "videos: Raw/Videos/Full/Combined",
        "cut videos: Raw/Videos/Segmented/Combined",
        "audio: Raw/Audio/Full/WAV_16000",
        "labelled clips: 5",
        "transcript lines without labels, or left out: 1",
        "videos in standard folds: none 1, train 2",
        "labels: anger 0, disgust 0, fear 3, happiness 2, sadness 0, surprise 2",
        "left out, no-text: 1",
    ]


def test_the_survey_says_when_times_are_unknown(tmp_path: Path) -> None:
    _processed(tmp_path)
    assert (
        "times: unknown without transcripts, so misaligned videos (a start before 0) cannot be recognised"
        in mosei.survey(tmp_path)
    )


def test_real_recordings_are_read_as_expected(shared: Path) -> None:
    expected = json.loads((shared / "raw" / "expected_mosei.json").read_text())
    utterances, issues = _read(shared / "raw" / "CMU_MOSEI")
    assert issues == []
    assert set(utterances) == {*expected["kept"], *expected["dropped"]}
    fold_of = {video: part for part, videos in mosei.standard_folds().items() for video in videos}
    assert {
        u.id: [fold_of[u.group], list(u.labels), u.start, u.end, u.text]
        for u in utterances.values()
        if u.id in expected["kept"]
    } == expected["kept"]
    drops = {i.utterance: i.detail.partition(":")[0] for i in mosei.paper_drops(utterances.values())}
    by_text = {"video is in no standard fold", "video has a labelled clip that starts before 0"}
    assert drops == {name: reason for name, reason in expected["dropped"].items() if reason in by_text}
