"""A tree that synth writes is what its expected.json says: words, labels and times, pictures, sound and faults."""

import json
import wave
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from mesm_data import synth
from mesm_data.corpora import iemocap, mosei
from mesm_data.errors import DOUBTFUL, LEFT_OUT, PAPER_DROPS, DataError, Issue
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.splits import stats
from mesm_data.splits.expected import read_expected, read_expected_file
from mesm_data.splits.verify import verify_corpus
from mesm_data.synth import dialogues
from mesm_data.synth import mosei as synth_mosei
from mesm_data.synth.iemocap import plan_dialogue
from mesm_data.synth.people import MOODS, Actor, draw_people, make_person
from mesm_data.synth.script import PHRASES, say_exactly
from mesm_data.synth.stamp import stamp
from mesm_data.synth.video import CLOCK, count_frames, frame_ticks
from mesm_data.synth.voice import speak
from mesm_data.utterance import Utterance


@pytest.fixture(scope="module")
def dialogue_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "iemocap"
    synth.write_iemocap(out, dialogues=4)
    return out


@pytest.fixture(scope="module")
def video_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "mosei"
    synth.write_mosei(out)
    return out


@pytest.fixture(scope="module")
def text_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "full"
    synth.write_iemocap_text(out)
    return out


def expected_in(tree: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tree / "expected.json").read_text(encoding="utf-8"))
    return content


def facts(utterance: Utterance) -> dict[str, Any]:
    return {
        "start": utterance.start,
        "end": utterance.end,
        "text": utterance.text,
        "labels": list(utterance.labels),
    }


def without_part(expected: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: fact[key] for key in fact if key != "part"} for name, fact in expected["utterances"].items()}


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    """Seconds at which each picture of a film is shown, and its pixels."""
    with av.open(str(path)) as container:
        return [(f.time or 0.0, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def sound(path: Path) -> np.ndarray:
    """Samples [N, channels] of a WAV file, 1 is full scale."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (16_000, 2)
        return np.frombuffer(file.readframes(-1), "<i2").reshape(-1, file.getnchannels()) / 32768


def files_of(tree: Path) -> dict[str, bytes]:
    return {p.relative_to(tree).as_posix(): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()}


def only(tree: Path, pattern: str) -> Path:
    """The one file of this name that is not a Mac's own."""
    [path] = [path for path in tree.rglob(pattern) if not path.name.startswith("._")]
    return path


# ---- what readers find


def test_the_iemocap_reader_finds_exactly_what_is_expected(dialogue_tree: Path) -> None:
    found = list(iemocap.read(dialogue_tree))
    assert [item for item in found if isinstance(item, Issue)] == []
    assert {u.id: facts(u) for u in found if isinstance(u, Utterance)} == without_part(expected_in(dialogue_tree))


def test_the_mosei_reader_finds_exactly_what_is_expected_in_the_parts_of_the_paper(video_tree: Path) -> None:
    expected = expected_in(video_tree)
    found = [item for item in mosei.read(video_tree) if isinstance(item, Utterance)]
    assert {u.id: facts(u) for u in found} == without_part(expected)
    folds = {video: part for part, videos in mosei.standard_folds().items() for video in videos}
    drops = {issue.utterance: issue.kind for issue in mosei.paper_drops(found)}
    assert drops.items() <= {name: why["kind"] for name, why in expected["left_out"].items()}.items()
    late = {name for name, why in expected["left_out"].items() if why["kind"] == "after-media-end"}
    parts = {u.id: None if u.id in drops or u.id in late else folds[u.group] for u in found}
    assert parts == {name: fact["part"] for name, fact in expected["utterances"].items()}
    assert set(parts.values()) == {None, "train", "valid", "test"}


@pytest.mark.parametrize("layout", ["clips", "processed"])
def test_the_mosei_reader_finds_what_is_expected_in_the_other_layouts(tmp_path: Path, layout: str) -> None:
    synth.write_mosei(tmp_path, videos=2, layout=layout)
    assert mosei.find_layout(tmp_path) == layout
    found = [item for item in mosei.read(tmp_path) if isinstance(item, Utterance)]
    assert {u.id: facts(u) for u in found} == without_part(expected_in(tmp_path))


def test_every_fault_is_told_by_a_kind_of_issue_and_faults_are_a_minority(
    dialogue_tree: Path, video_tree: Path
) -> None:
    told: set[str] = set()
    for tree in (dialogue_tree, video_tree):
        expected = expected_in(tree)
        kinds = Counter(why["kind"] for why in expected["left_out"].values())
        told |= kinds.keys() | {kind for doubts in expected["doubtful"].values() for kind in doubts}
        lost = sum(count for kind, count in kinds.items() if kind not in PAPER_DROPS)
        assert 0 < lost < 0.25 * len(expected["utterances"])
    assert told < {*PAPER_DROPS, *LEFT_OUT, *DOUBTFUL}
    assert told == {
        *("no-fold", "negative-start", "after-media-end", "no-media", "undecodable", "media-short"),
        *("no-face", "silent", "clipped", "length-differs"),
    }


def test_a_tree_without_faults_leaves_nothing_out(tmp_path: Path) -> None:
    synth.write_iemocap(tmp_path / "iemocap", dialogues=4, seconds=6, awkward=False, size=(256, 32))
    synth.write_mosei(tmp_path / "mosei", videos=13, seconds=3.5, awkward=False, size=(128, 64))
    for corpus in ("iemocap", "mosei"):
        expected = expected_in(tmp_path / corpus)
        assert expected["utterances"]
        assert (expected["left_out"], expected["doubtful"]) == ({}, {})
    assert len(list((tmp_path / "mosei").rglob("*.mp4"))) == len(list((tmp_path / "mosei").rglob("*.wav"))) == 13


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        synth.write_iemocap(tmp_path / name / "i", dialogues=2, seed=seed, seconds=6, size=(256, 64))
        synth.write_mosei(tmp_path / name / "m", videos=2, seed=seed, seconds=4, size=(128, 64))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    films = [name for name in files_of(tmp_path / "one") if name.endswith((".avi", ".mp4")) and "._" not in name]
    assert len(films) == 4
    assert all((tmp_path / "one" / film).read_bytes() != (tmp_path / "other" / film).read_bytes() for film in films)


def test_a_folder_with_files_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for write in (synth.write_iemocap, synth.write_mosei, synth.write_iemocap_text):
        with pytest.raises(DataError, match="not empty, expected a new or empty folder; delete it or give another"):
            write(tmp_path)
        with pytest.raises(DataError, match=r"mine\.txt: not empty"):
            write(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---- the quirks of the annotations


def test_annotations_have_the_quirks_of_the_release(dialogue_tree: Path) -> None:
    transcripts = [only(dialogue_tree / f"Session{n}", "transcriptions/*.txt").read_bytes() for n in range(1, 5)]
    assert {b"\r\n" in text for text in transcripts} == {True, False}
    assert all(b"MXX0 [" in text and b"\nM: [GARBAGE]" in text for text in transcripts)
    ratings = [only(dialogue_tree / f"Session{n}", "EmoEvaluation/Ses*.txt").read_text() for n in range(1, 5)]
    for text in ratings:
        order = [line.split("\t")[1][-4] for line in text.splitlines() if line.startswith("[")]
        assert order == sorted(order)  # all of the woman's turns before all of the man's
    everything = "".join(ratings)
    assert all(mark in everything for mark in ("; dom  ;", "C-F1:", "A-M1:", "\txxx\t"))
    assert any(line.count(";") == 3 and line.startswith("C-") for line in everything.replace("()", ";").splitlines())
    assert len(list(dialogue_tree.rglob("EmoEvaluation/*/Ses*"))) == 8
    assert len(list(dialogue_tree.rglob("._*.avi"))) == 3


def test_turns_overlap_but_never_a_speakers_own() -> None:
    turns = dialogues.play("Ses01F_impro01", 60, seed=0)
    assert any(later.start < earlier.end for earlier, later in pairwise(turns))
    for letter in "FM":
        own = [turn for turn in turns if turn.speaker == letter]
        assert all(earlier.end < later.start for earlier, later in pairwise(own))


def test_one_script_is_the_same_lines_in_every_session() -> None:
    one, two = (dialogues.play(name, 20, seed=0) for name in ("Ses02M_script01_1", "Ses05M_script01_1b"))
    lines = min(len(one), len(two))
    assert lines >= 5
    assert [turn.text for turn in one[:lines]] == [turn.text for turn in two[:lines]]
    assert [turn.start for turn in one[:lines]] != [turn.start for turn in two[:lines]]
    assert dialogues.play("Ses01F_impro01", 20, 0)[0].text != dialogues.play("Ses01F_impro02", 20, 0)[0].text


def test_transcripts_of_mosei_have_awkward_ids_texts_and_files(video_tree: Path) -> None:
    folder = video_tree / "Raw/Transcript/Segmented/Combined"
    lines = [line for path in sorted(folder.glob("*.txt")) for line in path.read_text().splitlines()]
    assert (folder / ".DS_Store").is_file()
    videos = {line.split("___")[0] for line in lines}
    assert {"--qXJuDtHPw", "_iRAn6feOmw", "81406", "zz__notInAnyFold"} <= videos
    assert any(line.endswith("And then: 9 ___ 10, he said.") for line in lines)
    assert any("___-0." in line for line in lines)
    assert len(lines) == len(expected_in(video_tree)["utterances"]) + 1  # one clip that nobody rated


# ---- pictures


def test_every_frame_of_a_dialogue_carries_its_number_on_both_halves(dialogue_tree: Path) -> None:
    path = only(dialogue_tree, "Ses01F_impro01.avi")
    with av.open(str(path)) as container:
        film, track = container.streams.video[0], container.streams.audio[0]
        assert (film.codec_context.name, film.codec_context.codec_tag) == ("mpeg4", "DIVX")
        assert (film.width, film.height, film.average_rate) == (720, 480, Fraction(30_000, 1001))
        assert (track.codec_context.name, track.rate, track.channels) == ("pcm_s16le", 16_000, 2)
    shown = pictures(path)
    assert [synth.read_frame_number(image) for _, image in shown] == list(range(600))
    assert [synth.read_frame_number(image[:, 360:]) for _, image in shown] == list(range(600))


@pytest.mark.parametrize("rhythm", synth_mosei.RHYTHMS)
def test_every_frame_of_a_film_is_shown_when_its_rhythm_says(video_tree: Path, rhythm: tuple[int, ...]) -> None:
    expected = expected_in(video_tree)
    whole = {p.stem: p for p in video_tree.rglob("*.mp4")}
    name = next(name for name, own in expected["rhythms"].items() if tuple(own) == rhythm and name in whole)
    shown = pictures(whole[name])
    assert [synth.read_frame_number(image) for _, image in shown] == list(range(len(shown)))
    ticks = frame_ticks(rhythm, 10.0)
    assert [round(time * CLOCK) for time, _ in shown] == ticks
    assert np.cumsum([0, *rhythm]).tolist() == ticks[: len(rhythm) + 1]


def test_films_have_b_frames_and_sound_of_44100_hz(video_tree: Path) -> None:
    with av.open(str(video_tree / "Raw/Videos/Full/Combined/286943.mp4")) as container:
        assert container.streams.video[0].codec_context.has_b_frames
        assert (container.streams.audio[0].codec_context.name, container.streams.audio[0].rate) == ("aac", 44_100)
        kinds = Counter(PictureType(frame.pict_type).name for frame in container.decode(video=0))
        assert kinds["B"] > kinds["P"] > kinds["I"] > 0
    assert not (video_tree / "Raw/Audio/Full/WAV_16000/286943.wav").exists()


@pytest.mark.parametrize("number", [0, 1, 0x5A5A, 0xFFFF])
def test_a_frame_number_survives_colour_grey_and_cropping_to_it(number: int) -> None:
    luma = np.full((48, 200), 128, np.uint8)
    stamp(luma, number)
    assert synth.read_frame_number(luma) == number
    assert synth.read_frame_number(np.stack([luma] * 3, axis=2)[:16, :128]) == number


def test_a_picture_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame number in the top left corner"):
        synth.read_frame_number(np.full((480, 720, 3), 90, np.uint8))
    with pytest.raises(ValueError, match="the image is 48 x 48"):
        synth.read_frame_number(np.zeros((48, 48, 3), np.uint8))


def test_faces_are_found_where_people_are_and_nowhere_else(dialogue_tree: Path) -> None:
    doubtful = expected_in(dialogue_tree)["doubtful"]
    turns = {u.id: u for u in iemocap.read(dialogue_tree) if isinstance(u, Utterance)}
    [gone] = [turns[name] for name, doubts in doubtful.items() if "no-face" in doubts]
    shown = pictures(dialogue_tree / gone.source.video)
    left = gone.source.crop[0] == 0.0
    there = [time for time, _ in shown[::45] if time < gone.start - 0.5 or time > gone.end + 0.5]
    away = [time for time, _ in shown[::20] if gone.start <= time <= gone.end]
    assert len(there) > 5
    assert len(away) > 2
    by_time = dict(shown)
    detector = MTCNN()
    for side, times, faces in ((left, there, True), (left, away, False), (not left, away, True)):
        halves = np.stack([by_time[time][:, :360] if side else by_time[time][:, 360:] for time in times])
        found = [[face for face in faces_found if face.score > 0.95] for faces_found in detector.detect(halves)]
        assert [len(one) for one in found] == [int(faces)] * len(times)
        assert all(face.box[3] - face.box[1] >= 80 for one in found for face in one)


def test_two_persons_and_two_moods_look_different() -> None:
    def middle(number: int, mood: str) -> np.ndarray:
        actor = Actor(make_person(number, woman=True), feelings=((0.0, 1.0, MOODS[mood]),))
        return next(draw_people((320, 240), [0.5], [actor], seed=0)).astype(int)[60:140, 120:200]

    for number in range(4):
        for other in range(number):
            assert np.abs(middle(number, "neutral") - middle(other, "neutral")).mean() > 8
    assert middle(0, "happiness").mean() - middle(0, "sadness").mean() > 15


# ---- sound


def test_each_turn_is_heard_in_its_speakers_channel(dialogue_tree: Path) -> None:
    expected = expected_in(dialogue_tree)
    heard = 0
    for u in iemocap.read(dialogue_tree):
        if isinstance(u, Utterance) and u.id not in expected["doubtful"]:
            samples = sound(dialogue_tree / str(u.source.audio))
            channel = u.source.channel
            assert channel == (0 if u.speaker[-1] == u.id[5] else 1)
            # The middle second: there the other speaker is silent even where turns overlap.
            middle = int((u.start + u.end) / 2 * 16_000)
            loudness = np.square(samples[middle - 4_000 : middle + 4_000]).mean(axis=0)
            assert loudness[channel] > 20 * loudness[1 - channel]
            heard += 1
    assert heard > 10


def test_silent_and_clipped_turns_are_silent_and_clipped_and_no_others_are(dialogue_tree: Path) -> None:
    doubtful = expected_in(dialogue_tree)["doubtful"]
    for u in iemocap.read(dialogue_tree):
        assert isinstance(u, Utterance)
        samples = sound(dialogue_tree / str(u.source.audio))
        own = np.abs(samples[int(u.start * 16_000) : int(u.end * 16_000), u.source.channel])
        kinds = doubtful.get(u.id, {}).keys()
        assert (own.max() == 0) == ("silent" in kinds)
        assert ((own >= 0.999).mean() > 0.01) == ("clipped" in kinds)


def test_moods_and_persons_sound_different() -> None:
    def pitch(number: int, woman: bool, mood: str) -> float:
        voice = speak(make_person(number, woman), MOODS[mood], 2.0, 16_000, np.random.default_rng(0))
        echo = np.fft.irfft(np.square(np.abs(np.fft.rfft(voice, 1 << 17))))
        return 16_000 / (40 + int(np.argmax(echo[40:200])))

    assert pitch(0, True, "neutral") > 1.4 * pitch(0, False, "neutral")
    assert pitch(0, False, "excited") > 1.15 * pitch(0, False, "sadness")


# ---- broken media


def test_the_cut_video_ends_between_turns_whatever_the_seed() -> None:
    for seed in range(20):
        for seconds in (8.0, 20.0, 60.0):
            plan = plan_dialogue("Ses03F_script01_1", place=2, trouble="cut", seconds=seconds, seed=seed)
            kept = [turn for turn in plan.turns if turn.end < 0.5 * seconds - 0.15]
            lost = [turn for turn in plan.turns if turn.end > 0.5 * seconds + 0.6]
            assert len(kept) + len(lost) == len(plan.turns)


def test_the_cut_video_decodes_to_its_middle(dialogue_tree: Path) -> None:
    expected = expected_in(dialogue_tree)
    short = {name: why["why"] for name, why in expected["left_out"].items() if why["kind"] == "media-short"}
    assert short
    path = only(dialogue_tree, "Ses03F_script01_1.avi")
    frames = count_frames(path)
    assert 280 < frames < 320
    assert set(short.values()) == {f"video cut to half its bytes ends at {frames * 1001 / 30_000:.2f} s"}


def test_missing_and_undecodable_films_are(dialogue_tree: Path, video_tree: Path) -> None:
    for tree in (dialogue_tree, video_tree):
        expected = expected_in(tree)
        reader = iemocap if tree == dialogue_tree else mosei
        for u in reader.read(tree):
            assert isinstance(u, Utterance)
            kind = expected["left_out"].get(u.id, {}).get("kind")
            assert (tree / u.source.video).exists() == (kind != "no-media")
    film = video_tree / "Raw/Videos/Full/Combined/qXisb7w9LjM.mp4"
    assert film.stat().st_size > 10_000
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(film))


# ---- the full-size text


def test_the_full_text_has_the_release_and_its_table(text_tree: Path) -> None:
    sessions = Counter(name[4] for name in dialogues.dialogue_names())
    assert list(sessions.values()) == [28, 30, 32, 30, 31]
    turns = [turn for d in iemocap.find_dialogues(text_tree) for turn in iemocap.read_evaluation(d.evaluation)]
    assert len(turns) == 10_039
    assert 11.5 < sum(turn.end - turn.start for turn in turns) / 3600 < 12.5
    kept = [turn.end - turn.start for turn in turns if turn.label in iemocap.VOTED]
    assert (len(kept), round(min(kept), 4), round(max(kept), 4)) == (7_380, 0.585, 34.14)
    expected = read_expected_file(text_tree / "expected.json")
    assert expected.table == read_expected("iemocap").table
    assert expected.digests != read_expected("iemocap").digests
    utterances = [item for item in iemocap.read(text_tree) if isinstance(item, Utterance)]
    report = verify_corpus("iemocap", utterances=utterances, lists=text_tree / "lists", expected=expected)
    assert [cell for cell in report.cells if cell.ok is not True] == []
    averages = [cell for cell in report.cells if cell.column in ("words", "seconds")]
    assert len(averages) == 12
    assert all(round(float(cell.found), 2) == cell.expected for cell in averages if cell.found is not None)


def test_scripted_lines_come_back_in_the_full_text(text_tree: Path) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for u in iemocap.read(text_tree):
        if isinstance(u, Utterance) and "_script" in u.group:
            said.setdefault((dialogues.part_of(u.group), u.text), set()).add(u.group[:5])
    assert sum(len(sessions) > 1 for sessions in said.values()) > 200


@pytest.mark.parametrize("emotion", PHRASES)
def test_lines_have_as_many_words_as_nltk_counts(emotion: str) -> None:
    rng = np.random.default_rng(0)
    for words in range(2, 80):
        assert stats.word_count(say_exactly(words, emotion, rng)) == words
