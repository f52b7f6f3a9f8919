"""A small CMU-MOSEI: people who talk to a camera, in one of the copies that people hold, with real ids and real faults.

    release     <out>/Raw/Videos/Full/Combined/-iRBcNs9oI8.mp4              videos of 15 to 30 fps, one of variable rate
                <out>/Raw/Audio/Full/WAV_16000/-iRBcNs9oI8.wav              one is missing: its audio is in the video
                <out>/Raw/Transcript/Segmented/Combined/-iRBcNs9oI8.txt     id___clip___start___end___words
                <out>/Labels/*.csv                                          three raters a clip, in two batches
    clips       <out>/Raw/-iRBcNs9oI8/0.mp4, <out>/label.csv                videos already cut; the rest as above
    processed   <out>/-iRBcNs9oI8_0/{image_0.jpg,audio.wav}, <out>/meta.pkl the tree of the paper's authors

Every layout has <out>/expected.json (tree.py). Ids are of the standard folds, so that the paper's split derives.
"""

import csv
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mesm_data.corpora.mosei import EMOTIONS, standard_folds
from mesm_data.synth.chance import chance
from mesm_data.synth.people import MOODS, Actor, Mood, draw_people, make_person
from mesm_data.synth.script import say
from mesm_data.synth.tree import Expectation, new_tree, write_expected
from mesm_data.synth.video import CLOCK, cut, frame_ticks, write_image, write_mp4, write_wav
from mesm_data.synth.voice import room_noise, speak, to_pcm

LAYOUTS = ("release", "clips", "processed")
SIZE = (320, 240)
WAV_RATE = 16_000  # Hz; the audio of the videos has 44.1 kHz
IMAGE_STEP = 0.5  # seconds between two images of the processed layout

# How long frames are shown, in ticks of CLOCK, over and over: 30, 29.97, 25, 24 and 15 fps, and no fixed rate.
RHYTHMS = ((3000,), (3003,), (3000, 3000, 6000, 4500, 3600), (6000,), (3600,), (3750,))

# Video and what is wrong with it. Ids are awkward by themselves: they start with - or _, hold __, or are all digits.
_VIDEOS = (
    ("-iRBcNs9oI8", "unlabelled"),
    ("--qXJuDtHPw", ""),
    ("-rxZxtG0xmY", ""),
    ("81406", ""),
    ("286943", "no-wav"),
    ("_iRAn6feOmw", "after-media-end"),
    ("4iG0ffmnCOw", "negative-start"),
    ("qyJiDgtj6YE", "no-media"),
    ("zz__notInAnyFold", "no-fold"),
    ("qXisb7w9LjM", "undecodable"),
    ("-uywlfIYOS8", ""),
    ("PtH_8O__EAY", ""),
)
_PAPER_DROPS = ("after-media-end", "negative-start", "no-fold")
_WHY = {
    "after-media-end": "the clip starts 30 s after the end of the video",
    "negative-start": "the first clip of the video starts before 0",
    "no-fold": "the video is in no standard fold",
    "no-media": "there is no video",
    "undecodable": "the video is cut to half its bytes, its index is lost",
}


@dataclass(frozen=True)
class _Clip:
    number: int
    start: float
    end: float
    text: str
    felt: tuple[str, ...]  # emotions; none is common
    rated: bool = True

    @property
    def mood(self) -> Mood:
        return MOODS[self.felt[0] if self.felt else "neutral"]


@dataclass(frozen=True)
class _Video:
    name: str
    place: int  # in the tree; decides person and frame rate
    trouble: str
    seconds: float
    clips: tuple[_Clip, ...]

    @property
    def rhythm(self) -> tuple[int, ...]:
        return RHYTHMS[self.place % len(RHYTHMS)]


def write_mosei(
    out: Path,
    videos: int = 12,
    seed: int = 0,
    seconds: float = 10.0,
    size: tuple[int, int] = SIZE,
    awkward: bool = True,
    layout: str = "release",
) -> None:
    """Write a raw tree of so many videos of this length. The same arguments give the same bytes.

    Where `awkward` and the layout is "release", the 1st has a clip that nobody rated, the 5th no wav, the 6th a clip
    after its end, the 7th one before 0, the 8th no video; the 9th is in no fold, the 10th cut off before its index.
    """
    assert layout in LAYOUTS, f"layout {layout!r}, expected one of {', '.join(LAYOUTS)}"
    new_tree(out)
    planned = [
        _plan(name, place, trouble, seconds, seed)
        for place, (name, trouble) in enumerate(_choose(videos, awkward and layout == "release"))
    ]
    writers = {"release": _write_release, "clips": _write_cut, "processed": _write_processed}
    for video in planned:
        writers[layout](out, video, size, seed)
    if layout == "processed":
        _write_meta(out, planned)
    else:
        _write_ratings(out, planned, seed)
    if layout == "clips":
        _write_sheet(out, planned)
    folds = {name: split for split, names in standard_folds().items() for name in names}
    found = [_expect(video, clip, folds, layout) for video in planned for clip in video.clips if clip.rated]
    rhythms = {video.name: video.rhythm for video in planned}
    write_expected(out, "mosei", found, rhythms)


def _choose(count: int, awkward: bool) -> list[tuple[str, str]]:
    """Names and troubles: the known ones, then others of the folds, seven train, one valid and two test in ten."""
    known = [(name, trouble if awkward else "") for name, trouble in _VIDEOS if awkward or trouble != "no-fold"]
    taken = {name for name, _ in _VIDEOS}
    rest = {split: iter(sorted(names - taken)) for split, names in standard_folds().items()}
    order = ("train", "valid", "test", "train", "train", "train", "test", "train", "train", "train")
    more = [(next(rest[order[k % len(order)]]), "") for k in range(count - len(known))]
    return [*known[:count], *more]


def _plan(name: str, place: int, trouble: str, seconds: float, seed: int) -> _Video:
    """The video and its clips, which overlap a little as the corpus's own do.

    Clips last 2.4 s on average; in long videos 7.4 s, with pauses that leave four fifths of the video spoken: as in the
    corpus.
    """
    length = min(max(seconds / 10, 1.0), 3.0)
    if trouble in ("no-media", "undecodable"):
        seconds = min(seconds, 5.0)  # lost videos cost few clips
    rng = chance(seed, "clips", name)
    clips: list[_Clip] = []
    start = 0.0
    while (end := round(start + length * rng.uniform(1.9, 3.0), 3)) < seconds - 0.1:
        felt = tuple(rng.choice(EMOTIONS, rng.choice([0, 1, 2], p=[0.2, 0.5, 0.3]), replace=False).tolist())
        text = say(felt[0] if felt else "neutral", rng)
        begins = round(rng.uniform(-0.6, -0.1), 3) if trouble == "negative-start" and not clips else start
        rated = not (trouble == "unlabelled" and len(clips) == 2)
        clips.append(_Clip(len(clips), begins, end, text, felt, rated))
        start = round(end + rng.uniform(-0.35, 2 * length - 1.9), 3)
    if place == 0 and len(clips) > 1:
        clips[1] = replace(clips[1], text=f"{clips[1].text} And then: 9 ___ 10, he said.")
    if trouble == "after-media-end":
        clips.append(_Clip(len(clips), seconds + 30.5, seconds + 34.0, "Words after the end of the film.", ("fear",)))
    return _Video(name, place, trouble, seconds, tuple(clips))


# ---- the layouts


def _write_release(out: Path, video: _Video, size: tuple[int, int], seed: int) -> None:
    pcm = _record(video, seed)
    if video.trouble != "no-media":
        path = out / "Raw/Videos/Full/Combined" / f"{video.name}.mp4"
        _write_video(path, video, (0.0, video.seconds), pcm, size, seed)
        if video.trouble == "undecodable":
            cut(path, 0.5)
    if video.trouble != "no-wav":
        write_wav(out / "Raw/Audio/Full/WAV_16000" / f"{video.name}.wav", pcm, WAV_RATE)
    _write_transcript(out, video)


def _write_cut(out: Path, video: _Video, size: tuple[int, int], seed: int) -> None:
    pcm = _record(video, seed)
    for clip in video.clips:
        _write_video(out / "Raw" / video.name / f"{clip.number}.mp4", video, (clip.start, clip.end), pcm, size, seed)
    _write_transcript(out, video)


def _write_processed(out: Path, video: _Video, size: tuple[int, int], seed: int) -> None:
    pcm = _record(video, seed)
    for clip in video.clips:
        if clip.rated:
            folder = out / f"{video.name}_{clip.number}"
            write_wav(folder / "audio.wav", _between(pcm, clip.start, clip.end), WAV_RATE)
            times = list(np.arange(clip.start, clip.end, IMAGE_STEP))
            for number, image in enumerate(draw_people(size, times, [_actor(video)], seed)):
                write_image(folder / f"image_{number}.jpg", image)


def _write_video(
    path: Path, video: _Video, span: tuple[float, float], pcm: np.ndarray, size: tuple[int, int], seed: int
) -> None:
    start, end = span
    ticks = frame_ticks(video.rhythm, end - start)
    images = draw_people(size, [start + tick / CLOCK for tick in ticks], [_actor(video)], seed)
    write_mp4(path, images, ticks, _between(pcm, start, end), WAV_RATE)


def _between(pcm: np.ndarray, start: float, end: float) -> np.ndarray:
    return pcm[round(start * WAV_RATE) : round(end * WAV_RATE)]


def _actor(video: _Video) -> Actor:
    person = make_person(video.place, woman=video.place % 2 == 0)
    return Actor(person, feelings=tuple((clip.start, clip.end, clip.mood) for clip in video.clips))


def _record(video: _Video, seed: int) -> np.ndarray:
    """int16 [N, 1]. Where clips overlap, the earlier one is spoken to its end."""
    samples = room_noise(round(video.seconds * WAV_RATE), chance(seed, "room", video.name))
    person, spoken = _actor(video).person, 0.0
    for clip in video.clips:
        begin, end = max(clip.start, spoken), min(clip.end, video.seconds)
        if end > begin:
            voice = speak(person, clip.mood, end - begin, WAV_RATE, chance(seed, "voice", video.name, clip.number))
            first = round(begin * WAV_RATE)
            samples[first : first + len(voice)] += voice[: len(samples) - first]
            spoken = end
    return to_pcm(samples[:, None])


# ---- the text files


def _write_transcript(out: Path, video: _Video) -> None:
    """Lines in the order of time in one video of two, and backwards in the other: no reader may rely on order."""
    folder = out / "Raw/Transcript/Segmented/Combined"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".DS_Store").write_bytes(b"\0\0")
    clips = video.clips if video.place % 2 == 0 else video.clips[::-1]
    lines = [f"{video.name}___{c.number}___{c.start:g}___{c.end:g}___{c.text}\n" for c in clips]
    (folder / f"{video.name}.txt").write_text("".join(lines), encoding="utf-8")


def _write_ratings(out: Path, videos: Sequence[_Video], seed: int) -> None:
    half = (len(videos) + 1) // 2
    for name, batch in (("5000_batch_raw", videos[:half]), ("pom_extra_sqa_mono_results", videos[half:])):
        rows = [row for video in batch for clip in video.clips if clip.rated for row in _rate(video, clip, seed)]
        header = ["WorkerId", "Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{e}" for e in EMOTIONS), "Answer.sentiment"]
        _write_table(out / "Labels" / f"{name}.csv", [header, *rows])


def _rate(video: _Video, clip: _Clip, seed: int) -> list[list[str | int]]:
    """The votes of three raters: each emotion that is felt gets a strength of 1 to 3 from at least one of them."""
    rng = chance(seed, "raters", video.name, clip.number)
    strengths = np.zeros((3, len(EMOTIONS)), int)
    for emotion in clip.felt:
        noticed = rng.permutation(3) < rng.integers(1, 4)
        strengths[:, EMOTIONS.index(emotion)] = noticed * rng.integers(1, 4, 3)
    return [
        [f"W{rater}", video.name, clip.number, *strengths[rater].tolist(), int(rng.integers(-3, 4))]
        for rater in range(3)
    ]


def _write_sheet(out: Path, videos: Sequence[_Video]) -> None:
    """label.csv: words and sentiment. Emotions are not in it."""
    rows = [[v.name, c.number, c.text, 0.0, "Neutral", "train"] for v in videos for c in v.clips if c.rated]
    _write_table(out / "label.csv", [["video_id", "clip_id", "text", "label", "annotation", "mode"], *rows])


def _write_table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as table:
        csv.writer(table, lineterminator="\n").writerows(rows)


def _write_meta(out: Path, videos: Sequence[_Video]) -> None:
    meta = {f"{v.name}_{c.number}": {"text": c.text, "label": _labels(c)} for v in videos for c in v.clips if c.rated}
    (out / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=4))


def _labels(clip: _Clip) -> list[int]:
    return [int(emotion in clip.felt) for emotion in EMOTIONS]


def _expect(video: _Video, clip: _Clip, folds: dict[str, str], layout: str) -> Expectation:
    trouble = video.trouble if video.trouble in _WHY else ""
    if trouble == "after-media-end" and clip.start < video.seconds:
        trouble = ""
    start, end = clip.start, clip.end
    if layout == "processed":  # nothing in it tells where in its video a clip was
        start, end = 0.0, (round(end * WAV_RATE) - round(start * WAV_RATE)) / WAV_RATE
    part = None if trouble in _PAPER_DROPS else folds[video.name]
    left_out = (trouble, _WHY[trouble]) if trouble else None
    labels = tuple(_labels(clip))
    return Expectation(f"{video.name}_{clip.number}", start, end, clip.text, labels, part, left_out)
