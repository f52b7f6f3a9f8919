"""A small IEMOCAP: dialogues of two people on video, with the release's quirks and some broken media.

<out>/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      and ._ files and folders that nobody should read
<out>/Session1/dialog/transcriptions/Ses01F_impro01.txt     LF in one, CRLF in the next
<out>/Session1/dialog/avi/DivX/Ses01F_impro01.avi           720 x 480, 29.97 fps, the left one is whom SesNN names
<out>/Session1/dialog/wav/Ses01F_impro01.wav                16 kHz, two channels
<out>/expected.json                                         what a right reader and a right build find (tree.py)
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mesm_data.corpora.iemocap import SAMPLE_RATE, VOTED
from mesm_data.synth import dialogues as plans
from mesm_data.synth.chance import chance
from mesm_data.synth.dialogues import Turn
from mesm_data.synth.people import MOODS, Actor, Person, draw_people, make_person
from mesm_data.synth.tree import Expectation, new_tree, write_expected
from mesm_data.synth.video import CLOCK, count_frames, cut, frame_ticks, write_avi, write_wav
from mesm_data.synth.voice import room_noise, speak, to_pcm

SIZE = (720, 480)  # as in the release
RHYTHM = (3003,)  # 29.97 fps, in ticks of CLOCK
_FIRST = (
    "Ses01F_impro01",
    "Ses02M_script01_1",
    "Ses03F_script01_1",
    "Ses04M_impro03",
    "Ses05F_impro05",
    "Ses01M_script02_2",
)
_TROUBLES = ("", "doubtful", "cut", "missing")  # of the first dialogues; the others are healthy
_CROSSTALK = 0.06  # how loud one speaker is in the other's microphone


@dataclass(frozen=True)
class Plan:
    """One dialogue to be written, and what is wrong with its media."""

    name: str
    seconds: float
    turns: list[Turn]
    line_end: str = "\n"
    leaves: Turn | None = None  # the speaker is out of sight
    silent: Turn | None = None  # the speaker's microphone is off
    clipped: Turn | None = None  # the speaker's microphone is far too loud
    cut: bool = False  # the video ends after half of its bytes
    missing: bool = False  # there is no video


def write_iemocap(
    out: Path,
    dialogues: int = 6,
    seed: int = 0,
    seconds: float = 20.0,
    awkward: bool = True,
    size: tuple[int, int] = SIZE,
) -> None:
    """Write a raw tree of so many dialogues (1 to 151) of this length. The same arguments give the same bytes.

    The first dialogue is healthy. Where `awkward`, in the second a speaker leaves the frame for one turn, one turn is
    silent and one clipped; the third has its video cut to half its bytes; the fourth has no video. More are healthy.
    """
    assert 1 <= dialogues <= 151, "there are 151 names"
    assert seconds >= 6, "in less there may be no turn"
    new_tree(out)
    found: list[Expectation] = []
    rhythms = {}
    troubles = itertools.chain(_TROUBLES if awkward else (), itertools.repeat(""))
    for place, (name, trouble) in enumerate(zip(_choose(dialogues), troubles, strict=False)):
        plan = plan_dialogue(name, place, trouble, seconds, seed)
        _write_dialogue(out, plan, size, seed)
        found += _expect(out, plan)
        rhythms[name] = RHYTHM
    write_expected(out, "iemocap", found, rhythms)


def _choose(count: int) -> list[str]:
    """Dialogues of all sessions in turn; the second and the third play the same script."""
    names = plans.dialogue_names()
    sessions = [[name for name in names if name[4] == str(session)] for session in range(1, 6)]
    rest = [session[place] for place in range(32) for session in sessions if place < len(session)]
    return [*_FIRST, *(name for name in rest if name not in _FIRST)][:count]


def plan_dialogue(name: str, place: int, trouble: str, seconds: float, seed: int) -> Plan:
    """The plan of a dialogue with one of `_TROUBLES`; every second one has lines that end in CRLF."""
    length = seconds if trouble != "missing" else min(seconds, 8.0)  # what has no video loses few turns
    # Half of the bytes are half of the time; no turn ends near it, so that a frame more or less decides nothing.
    pause = (length / 2 - 1.1 * plans.longest_turn(length), 0.6 * length) if trouble == "cut" else None
    plan = Plan(name, length, plans.play(name, length, seed, pause), line_end="\r\n" if place % 2 else "\n")
    if trouble == "doubtful":
        _, leaves, silent, clipped, *_ = [*(turn for turn in plan.turns if turn.kept), None, None, None, None]
        return replace(plan, leaves=leaves, silent=silent, clipped=clipped)
    return replace(plan, cut=trouble == "cut", missing=trouble == "missing")


def _write_dialogue(out: Path, plan: Plan, size: tuple[int, int], seed: int) -> None:
    folder = out / f"Session{plan.name[4]}" / "dialog"
    evaluation = folder / "EmoEvaluation" / f"{plan.name}.txt"
    transcript = folder / "transcriptions" / f"{plan.name}.txt"
    plans.write_evaluation(evaluation, plan.turns, chance(seed, "raters", plan.name))
    plans.write_transcript(transcript, plan.turns, plan.line_end)
    plans.write_mac_file(evaluation)
    plans.write_mac_file(transcript)
    pcm = to_pcm(_record(plan, seed))
    write_wav(folder / "wav" / f"{plan.name}.wav", pcm, SAMPLE_RATE)
    if not plan.missing:
        video = _video(out, plan)
        ticks = frame_ticks(RHYTHM, plan.seconds)
        actors = [_actor(plan, left=True), _actor(plan, left=False)]
        images = draw_people(size, [tick / CLOCK for tick in ticks], actors, seed)
        write_avi(video, images, ticks, pcm, SAMPLE_RATE)
        plans.write_mac_file(video)
        if plan.cut:
            cut(video, 0.5)


def _video(out: Path, plan: Plan) -> Path:
    return out / f"Session{plan.name[4]}" / "dialog" / "avi" / "DivX" / f"{plan.name}.avi"


def _letters(plan: Plan) -> str:
    """Who sits left, then who sits right."""
    return "FM" if plan.name[5] == "F" else "MF"


def _person(plan: Plan, letter: str) -> Person:
    session = int(plan.name[4])
    return make_person(2 * session + (letter == "M"), woman=letter == "F")


def _actor(plan: Plan, left: bool) -> Actor:
    letter = _letters(plan)[0 if left else 1]
    turns = [turn for turn in plan.turns if turn.speaker == letter]
    absences = [(turn.start - 0.3, turn.end + 0.3) for turn in turns if turn == plan.leaves]
    return Actor(
        _person(plan, letter),
        *((0.0, 0.5) if left else (0.5, 1.0)),
        feelings=tuple((turn.start, turn.end, MOODS[turn.emotion]) for turn in turns),
        absences=tuple(absences),
    )


def _record(plan: Plan, seed: int) -> np.ndarray:
    """Both microphones, float32 [N, 2]: left and right as in the frame."""
    count = round(plan.seconds * SAMPLE_RATE)
    samples = np.stack([room_noise(count, chance(seed, "room", plan.name, side)) for side in range(2)], axis=1)
    for turn in plan.turns:
        side = _letters(plan).index(turn.speaker)
        begin = round(turn.start * SAMPLE_RATE)
        person, rng = _person(plan, turn.speaker), chance(seed, "voice", turn.id)
        voice = speak(person, MOODS[turn.emotion], turn.end - turn.start, SAMPLE_RATE, rng)
        place = slice(begin, begin + len(voice))
        samples[place, side] += voice * (50.0 if turn == plan.clipped else 1.0)
        samples[place, 1 - side] += voice * _CROSSTALK
    if plan.silent:
        around = slice(int((plan.silent.start - 0.1) * SAMPLE_RATE), int((plan.silent.end + 0.1) * SAMPLE_RATE))
        samples[around, _letters(plan).index(plan.silent.speaker)] = 0.0
    return samples


def _expect(out: Path, plan: Plan) -> list[Expectation]:
    """The expectation for each turn with one of the six emotions."""
    ends = count_frames(_video(out, plan)) * RHYTHM[0] / CLOCK if plan.cut else plan.seconds
    doubts = {
        "no-face": (plan.leaves, "the speaker is out of sight"),
        "silent": (plan.silent, "the speaker's channel is all zeros"),
        "clipped": (plan.clipped, "the speaker's voice is 50 times too loud"),
    }
    expectations = []
    for turn in plan.turns:
        left_out = None
        if plan.missing:
            left_out = ("no-media", "there is no video")
        elif turn.end > ends + 0.25:
            left_out = ("media-short", f"video cut to half its bytes ends at {ends:.2f} s")
        doubtful = {kind: why for kind, (doubted, why) in doubts.items() if doubted == turn}
        if plan.cut:
            doubtful["length-differs"] = f"video ends at {ends:.2f} s, audio at {plan.seconds:.2f} s"
        labels = tuple(int(code == turn.code) for code in VOTED)
        fact = Expectation(turn.id, turn.start, turn.end, turn.text, labels, left_out=left_out, doubtful=doubtful)
        expectations += [fact] if turn.kept else []
    return expectations
