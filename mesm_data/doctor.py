"""Will this folder build, and at what cost? `mesm-data doctor` answers before hours of work.

Everything is tried as a build would do it: the corpus's own reader reads the annotations, every media file is opened in
a worker process that may crash, and `make_clips` is timed on a sample of the user's own media.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from mesm_data import corpora
from mesm_data.build import read_corpus
from mesm_data.clip import Recipe
from mesm_data.decode import END_TOLERANCE, make_clips
from mesm_data.errors import Issue, not_a_file
from mesm_data.media.probe import probe, why_unreadable
from mesm_data.pool import WorkerFailed, cores, run_jobs
from mesm_data.utterance import Utterance, by_recording

SAMPLE = 30.0  # seconds of speech that are built for the estimate
TRIES = 3  # recordings that may fail before the estimate is given up
FILE_TIMEOUT, SAMPLE_TIMEOUT = 60.0, 600.0  # seconds
NAMED = 20  # files with the same fault that are named
ALLOWED = 0.05  # default share of utterances that a build may leave out
PEAK = 2  # the rows of all jobs and the shards lie side by side when a build ends


@dataclass(frozen=True)
class Diagnosis:
    """What was found, a line each, the verdict last; `works` is False where a build would be in vain."""

    lines: tuple[str, ...]
    works: bool
    corpus: str = ""
    utterances: int = 0  # in the annotations
    left_out: int = 0  # of them, without those that the paper drops
    seconds: float | None = None  # that a build takes; None where it cannot be estimated
    size: float | None = None  # bytes of the dataset


class File(NamedTuple):
    """A media file that utterances name. `name` is relative to the raw root."""

    root: Path
    name: str
    is_video: bool


class Opened(NamedTuple):
    """The result of opening a file."""

    duration: float | None  # seconds, as its header says
    fault: str | None


class Sample(NamedTuple):
    """Some utterances of one recording, to be built for the estimate."""

    root: Path
    utterances: tuple[Utterance, ...]
    recipe: Recipe


class Cost(NamedTuple):
    """What a sample took."""

    seconds: float
    speech: float  # seconds
    size: int  # bytes
    fault: str | None  # why nothing came out


def doctor(
    corpus: str, raw: Path, reader: Mapping[str, str], out: Path | None = None, workers: int | None = None
) -> Diagnosis:
    """Examine a raw corpus and build a sample of it. `out` is where the dataset would go; default: this folder.

    Raises CorpusError where the folder is not this corpus or its annotations cannot be read.
    """
    workers = workers or cores()
    utterances, found = read_corpus(corpus, raw, reader)
    issues = [issue for issue in found if issue.left_out]
    notes = [f"note: {issue.utterance}: {issue.detail}" for issue in found if not issue.left_out]
    lines = [*corpora.load(corpus).survey(raw, **reader), *_annotated(corpus, utterances, issues), *_list(notes)]
    failed = Diagnosis((), False, corpus, len(utterances), len(utterances) + len(issues))
    if not utterances:
        return replace(failed, lines=(*lines, "cannot work: there is no utterance to build"))
    files = _files(raw, utterances)
    absent = {file.name: why for file in files if (why := _why_absent(file))}
    opened = _open_all([file for file in files if file.name not in absent], workers)
    lost = _lost(utterances, set(absent), opened)
    lines += [*_found(files, absent), *_unreadable(opened), *_short(utterances, opened)]
    usable = [_with_audio_found(u, set(absent)) for u in utterances if u.id not in lost]
    if not usable:
        return replace(failed, lines=(*lines, "cannot work: no utterance has media that can be read"))
    cost, tried = _try_samples(raw, usable, corpora.load(corpus).SAMPLE_RATE)
    lines += tried
    if cost is None:
        return replace(failed, lines=(*lines, f"cannot work: nothing came out of {len(tried)} recordings"))
    estimate = _estimate(usable, cost, workers, out or Path())
    exempt = _paper_drops(corpus, utterances, opened)
    left_out, total = len(lost - exempt) + len(issues), len(utterances) + len(issues) - len(exempt)
    verdict = _verdict(left_out, total, estimate.fits)
    return Diagnosis(
        (*lines, *estimate.lines, verdict),
        estimate.fits,
        corpus,
        len(utterances),
        left_out,
        estimate.seconds,
        estimate.size,
    )


# ---- annotations


def _annotated(corpus: str, utterances: Sequence[Utterance], issues: Sequence[Issue]) -> list[str]:
    minutes, recordings = sum(u.end - u.start for u in utterances) / 60, len(by_recording(utterances))
    lines = [f"utterances: {len(utterances)} in {recordings} recordings, {minutes:.1f} minutes of speech"]
    lines += [f"not in this copy: {gap}" for gap in corpora.load(corpus).gaps(utterances)]
    return lines + [f"left out, {kind}: {n}" for kind, n in sorted(Counter(issue.kind for issue in issues).items())]


# ---- media


def _files(raw: Path, utterances: Iterable[Utterance]) -> list[File]:
    named = {(u.source.video, True) for u in utterances} | {(u.source.audio, False) for u in utterances}
    return [File(raw, name, is_video) for name, is_video in sorted((n, v) for n, v in named if n)]


def _why_absent(file: File) -> str | None:
    found = not_a_file(file.root / file.name)
    return found if found and found.startswith(("no file", "a link")) else None


def _open_all(files: Sequence[File], workers: int) -> dict[str, Opened]:
    """Name -> the result of opening it, in the order of the files."""
    results = {}
    with tqdm(total=len(files), unit=" files", disable=None) as bar:
        for file, result in run_jobs(_open, files, workers, FILE_TIMEOUT):
            results[file.name] = Opened(None, result.reason) if isinstance(result, WorkerFailed) else result
            bar.update()
    return {file.name: results[file.name] for file in files}


def _open(file: File) -> Opened:
    """Length of a file and why nothing in it can be decoded, if nothing can. Runs in a worker."""
    path = file.root / file.name
    fault = why_unreadable(path, video=file.is_video)
    return Opened(None if fault else probe(path).duration, fault)


def _lost(utterances: Sequence[Utterance], missing: set[str], opened: Mapping[str, Opened]) -> set[str]:
    """Ids of the utterances whose video is missing, whose files do not open, or which end after their files do.

    A missing audio file costs nothing: the video has its own audio.
    """
    lost = set()
    for u in utterances:
        files = [opened[name] for name in (u.source.video, u.source.audio) if name and name in opened]
        needed = u.end - u.source.offset - END_TOLERANCE
        short = any(file.duration is not None and file.duration < needed for file in files)
        if u.source.video in missing or short or any(file.fault for file in files):
            lost.add(u.id)
    return lost


def _with_audio_found(u: Utterance, missing: set[str]) -> Utterance:
    """The utterance as a build takes it: without its audio file the video's own audio is used."""
    return replace(u, source=replace(u.source, audio=None)) if u.source.audio in missing else u


def _paper_drops(corpus: str, utterances: Sequence[Utterance], opened: Mapping[str, Opened]) -> set[str]:
    """Ids of the utterances that the paper itself drops, which no build counts as lost."""
    paper_drops = corpora.load(corpus).paper_drops
    if paper_drops is None:
        return set()
    dropped = {issue.utterance for issue in paper_drops(utterances)}
    for u in utterances:
        files = [opened[name] for name in (u.source.video, u.source.audio) if name and name in opened]
        ends = [file.duration for file in files if file.duration is not None]
        if ends and u.start - u.source.offset >= max(ends):
            dropped.add(u.id)
    return dropped


def _found(files: Sequence[File], absent: Mapping[str, str]) -> list[str]:
    lines = []
    for title, is_video in (("videos", True), ("audio files", False)):
        named = [file.name for file in files if file.is_video == is_video]
        missing = [name for name in named if name in absent]
        if named:
            lines.append(f"{title}: {len(named) - len(missing)} of {len(named)} found")
            reasons = {name: "" if absent[name] == "no file" else f": {absent[name]}" for name in missing}
            lines += _list([f"  missing: {name}{reasons[name]}" for name in missing])
    return lines


def _unreadable(opened: Mapping[str, Opened]) -> list[str]:
    faults = [f"  unreadable: {name}: {file.fault}" for name, file in opened.items() if file.fault]
    return [f"readable: {len(opened) - len(faults)} of {len(opened)} files", *_list(faults)]


def _short(utterances: Sequence[Utterance], opened: Mapping[str, Opened]) -> list[str]:
    """Files that end before an utterance does, by their headers; a truncated file with a whole header is not found."""
    ends: dict[str, list[float]] = {}
    for u in utterances:
        for name in (u.source.video, u.source.audio):
            file = opened.get(name or "")
            if name and file and file.duration is not None and file.duration < u.end - u.source.offset - END_TOLERANCE:
                ends.setdefault(name, []).append(u.end - u.source.offset)
    later = {name: f"utterances that end later: {len(times)}, up to {max(times):.2f} s" for name, times in ends.items()}
    return _list([f"  ends early: {name} at {opened[name].duration:.2f} s; {later[name]}" for name in sorted(later)])


def _list(lines: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]


# ---- the estimate


def _try_samples(raw: Path, usable: Sequence[Utterance], sample_rate: int) -> tuple[Cost | None, list[str]]:
    """The cost of a sample of a recording of median length, and a line for each that was tried."""
    by_size = sorted(by_recording(usable), key=lambda group: sum(u.end - u.start for u in group))
    middle = len(by_size) // 2
    lines: list[str] = []
    for group in [*by_size[middle:], *by_size[:middle]][:TRIES]:
        sample = Sample(raw, _beginning(group), Recipe(sample_rate=sample_rate))
        _, result = next(run_jobs(_build_sample, [sample], 1, SAMPLE_TIMEOUT))
        cost = Cost(0.0, 0.0, 0, result.reason) if isinstance(result, WorkerFailed) else result
        if cost.fault is None:
            speed = f"{cost.speech:.1f} s of speech in {cost.seconds:.1f} s on one core"
            return cost, [*lines, f"tried {group[0].source.video}: {speed}"]
        lines.append(f"tried {group[0].source.video}: {cost.fault}")
    return None, lines


def _beginning(group: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """The first utterances of a recording, up to `SAMPLE` seconds of speech; at least one."""
    chosen: list[Utterance] = []
    for u in sorted(group, key=lambda u: u.start):
        if chosen and sum(x.end - x.start for x in chosen) + u.end - u.start > SAMPLE:
            break
        chosen.append(u)
    return tuple(chosen)


def _build_sample(sample: Sample) -> Cost:
    """Build a sample and measure it. Runs in a worker, as a build's jobs do."""
    from mesm_data.faces.mtcnn import MTCNN

    detector = MTCNN(sample.recipe.min_face, sample.recipe.face_thresholds)
    make_clips(sample.root, sample.utterances[:1], sample.recipe, detector)  # the first call loads libraries
    begun = time.perf_counter()
    outcomes = make_clips(sample.root, sample.utterances, sample.recipe, detector).outcomes
    seconds = time.perf_counter() - begun
    clips = [(outcome.utterance, outcome.clip) for outcome in outcomes if outcome.clip]
    if not clips:
        return Cost(seconds, 0.0, 0, outcomes[0].issues[0].detail)
    speech = sum(u.end - u.start for u, _ in clips)
    return Cost(seconds, speech, sum(clip.faces.nbytes + clip.mels.nbytes for _, clip in clips), None)


class Estimate(NamedTuple):
    """The cost of the whole build, and whether the disk is large enough."""

    seconds: float
    size: float  # bytes
    fits: bool
    lines: tuple[str, str]


def _estimate(usable: Sequence[Utterance], cost: Cost, workers: int, out: Path) -> Estimate:
    speech = sum(u.end - u.start for u in usable)
    seconds = speech / cost.speech * cost.seconds / workers
    size = speech / cost.speech * cost.size
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    lines = (
        f"time: about {_duration(seconds)} with {workers} workers",
        f"disk: about {_size(size)}, {_size(PEAK * size)} during the build; {_size(free)} free at {there}",
    )
    return Estimate(seconds, size, free > PEAK * size, lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _verdict(left_out: int, total: int, fits: bool) -> str:
    if not fits:
        return "cannot work: the disk is too small; free some of it, or give another --out"
    if left_out <= ALLOWED * total:
        return "works"
    percent = int(100 * left_out / total) + 1 if total else 100
    allowing = f"{percent}%" if percent < 100 else str(left_out)  # a share must be below 100 %
    return (
        f"works, but {left_out} of {total} utterances would be left out: build with --max-issues {allowing}, "
        "or fix the files"
    )
