"""Will this folder build, and what will it cost? What `mesm-data doctor` says before hours of work.

Everything is tried as a build would do it: the corpus's own reader reads the annotations, every media file is opened in
a worker process that may die of it, and a piece of the user's own media goes through `make_clips` against the clock.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from mesm_data import corpora
from mesm_data.build import read_corpus
from mesm_data.clip import Recipe
from mesm_data.decode import END_TOLERANCE, make_clips
from mesm_data.errors import Issue, MediaError
from mesm_data.media.audio import sounds
from mesm_data.media.container import DecodeLog
from mesm_data.media.probe import probe
from mesm_data.media.video import frames
from mesm_data.pool import WorkerFailed, cores, run_jobs
from mesm_data.utterance import Utterance

PIECE = 30.0  # seconds of speech that are built for the estimate
TRIES = 3  # recordings that may fail before the estimate is given up
FILE_TIMEOUT, PIECE_TIMEOUT = 60.0, 600.0  # seconds
NAMED = 20  # files that are named of those with the same fault
ALLOWED = 0.05  # share of utterances that a build lets be left out if not told otherwise
PEAK = 2  # parts and shards lie side by side when a build ends


@dataclass(frozen=True)
class Diagnosis:
    """What was found, a line each, the verdict last; `works` is False where a build would be in vain."""

    lines: tuple[str, ...]
    works: bool


class File(NamedTuple):
    """A media file that utterances name. `name` is relative to the raw root."""

    root: Path
    name: str
    film: bool


class Look(NamedTuple):
    """What opening a file gave."""

    duration: float | None  # seconds, as its header says
    fault: str | None


class Piece(NamedTuple):
    """Some utterances of one recording, to be built for the estimate."""

    root: Path
    utterances: tuple[Utterance, ...]
    recipe: Recipe


class Cost(NamedTuple):
    """What a piece took."""

    seconds: float
    speech: float  # seconds
    size: int  # bytes
    fault: str | None  # why nothing came out


def doctor(
    corpus: str, raw: Path, reader: Mapping[str, str], out: Path | None = None, workers: int | None = None
) -> Diagnosis:
    """Look at a raw tree and try a piece of it. `out` is where the dataset would go; this folder if it is not given.

    Raises CorpusError where the folder is not this corpus or its annotations do not read.
    """
    workers = workers or cores()
    utterances, issues = read_corpus(corpus, raw, reader)
    lines = [*_survey(corpus, raw, reader), *_annotated(utterances, issues)]
    if not utterances:
        return Diagnosis((*lines, "cannot work: there is no utterance to build"), False)
    files = _files(raw, utterances)
    missing = {file.name for file in files if not (raw / file.name).exists()}
    looks = _open_all([file for file in files if file.name not in missing], workers)
    lost = _lost(utterances, missing, looks)
    lines += [*_found(files, missing), *_unreadable(looks), *_short(utterances, looks)]
    usable = [_with_found_sound(u, missing) for u in utterances if u.id not in lost]
    if not usable:
        return Diagnosis((*lines, "cannot work: no utterance has media that can be read"), False)
    cost, tried = _try_pieces(raw, usable, corpora.load(corpus).SAMPLE_RATE)
    lines += tried
    if cost is None:
        return Diagnosis((*lines, f"cannot work: nothing came out of {len(tried)} recordings"), False)
    told, fits = _estimate(usable, cost, workers, out or Path())
    exempt = _paper_drops(corpus, utterances, looks)
    left_out, total = len(lost - exempt) + len(issues), len(utterances) + len(issues) - len(exempt)
    return Diagnosis((*lines, *told, _verdict(left_out, total, fits)), fits)


# ---- annotations


def _survey(corpus: str, raw: Path, reader: Mapping[str, str]) -> list[str]:
    """What the corpus itself says of the folder, if it has something to say."""
    module = corpora.load(corpus)
    if not hasattr(module, "survey"):
        return [f"corpus: {corpus}"]
    lines: list[str] = module.survey(raw, **{name: value for name, value in reader.items() if name == "layout"})
    return lines


def _annotated(utterances: Sequence[Utterance], issues: Sequence[Issue]) -> list[str]:
    recordings = {(u.source.video, u.source.offset) for u in utterances}
    minutes = sum(u.end - u.start for u in utterances) / 60
    lines = [f"utterances: {len(utterances)} in {len(recordings)} recordings, {minutes:.1f} minutes of speech"]
    return lines + [f"left out, {kind}: {n}" for kind, n in sorted(Counter(issue.kind for issue in issues).items())]


# ---- media


def _files(raw: Path, utterances: Iterable[Utterance]) -> list[File]:
    named = {(u.source.video, True) for u in utterances} | {(u.source.audio, False) for u in utterances}
    return [File(raw, name, film) for name, film in sorted((n, f) for n, f in named if n)]


def _open_all(files: Sequence[File], workers: int) -> dict[str, Look]:
    """Name -> what opening it gave, in the order of the files."""
    looks = {}
    with tqdm(total=len(files), unit=" files", disable=None) as bar:
        for file, result in run_jobs(_open, files, workers, FILE_TIMEOUT):
            looks[file.name] = Look(None, result.reason) if isinstance(result, WorkerFailed) else result
            bar.update()
    return {file.name: looks[file.name] for file in files}


def _open(file: File) -> Look:
    """Header and first picture, or first sound, of a file. Runs in a worker."""
    path, log = file.root / file.name, DecodeLog()
    try:
        duration = probe(path).duration
        first: Any = frames(path, [0.0], log) if file.film else sounds(path, [(0.0, 0.1)], None, log)
        fault = None if next(iter(first), None) else "nothing in it can be decoded"
    except MediaError as error:
        return Look(None, str(error).removeprefix(f"{path}: "))
    return Look(duration, fault)


def _lost(utterances: Sequence[Utterance], missing: set[str], looks: Mapping[str, Look]) -> set[str]:
    """Ids of the utterances whose film is missing, whose files do not open, or which end after their files do.

    A missing sound file costs nothing: the film has sound of its own.
    """
    lost = set()
    for u in utterances:
        opened = [looks[name] for name in (u.source.video, u.source.audio) if name and name in looks]
        needed = u.end - u.source.offset - END_TOLERANCE
        short = any(look.duration is not None and look.duration < needed for look in opened)
        if u.source.video in missing or short or any(look.fault for look in opened):
            lost.add(u.id)
    return lost


def _with_found_sound(u: Utterance, missing: set[str]) -> Utterance:
    """The utterance as a build takes it: without its sound file the film's own sound is heard."""
    return replace(u, source=replace(u.source, audio=None)) if u.source.audio in missing else u


def _paper_drops(corpus: str, utterances: Sequence[Utterance], looks: Mapping[str, Look]) -> set[str]:
    """Ids of the utterances that the paper itself leaves out, which no build counts as lost."""
    module = corpora.load(corpus)
    if not hasattr(module, "paper_drops"):
        return set()
    dropped = {issue.utterance for issue in module.paper_drops(utterances)}
    for u in utterances:
        opened = [looks[name] for name in (u.source.video, u.source.audio) if name and name in looks]
        ends = [look.duration for look in opened if look.duration is not None]
        if ends and u.start - u.source.offset >= max(ends):
            dropped.add(u.id)
    return dropped


def _found(files: Sequence[File], missing: set[str]) -> list[str]:
    lines = []
    for title, film in (("films", True), ("sound files", False)):
        named = [file.name for file in files if file.film == film]
        absent = [name for name in named if name in missing]
        if named:
            lines.append(f"{title}: {len(named) - len(absent)} of {len(named)} found")
            lines += _list([f"  missing: {name}" for name in absent])
    return lines


def _unreadable(looks: Mapping[str, Look]) -> list[str]:
    faults = [f"  unreadable: {name}: {look.fault}" for name, look in looks.items() if look.fault]
    return [f"readable: {len(looks) - len(faults)} of {len(looks)} files", *_list(faults)]


def _short(utterances: Sequence[Utterance], looks: Mapping[str, Look]) -> list[str]:
    """Files that end before an utterance does, by their headers; a cut file with a whole header is found by a build."""
    ends: dict[str, list[float]] = {}
    for u in utterances:
        for name in (u.source.video, u.source.audio):
            look = looks.get(name or "")
            if name and look and look.duration is not None and look.duration < u.end - u.source.offset - END_TOLERANCE:
                ends.setdefault(name, []).append(u.end - u.source.offset)
    told = {name: f"utterances that end later: {len(times)}, up to {max(times):.2f} s" for name, times in ends.items()}
    return _list([f"  ends early: {name} at {looks[name].duration:.2f} s; {told[name]}" for name in sorted(told)])


def _list(lines: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]


# ---- the estimate


def _try_pieces(raw: Path, usable: Sequence[Utterance], sample_rate: int) -> tuple[Cost | None, list[str]]:
    """What a piece of a middling recording took, and a line for each that was tried."""
    recordings: dict[tuple[str, float], list[Utterance]] = {}
    for u in usable:
        recordings.setdefault((u.source.video, u.source.offset), []).append(u)
    by_size = sorted(recordings.values(), key=lambda group: sum(u.end - u.start for u in group))
    middle = len(by_size) // 2
    lines: list[str] = []
    for group in [*by_size[middle:], *by_size[:middle]][:TRIES]:
        piece = Piece(raw, _beginning(group), Recipe(sample_rate=sample_rate))
        _, result = next(run_jobs(_build_piece, [piece], 1, PIECE_TIMEOUT))
        cost = Cost(0.0, 0.0, 0, result.reason) if isinstance(result, WorkerFailed) else result
        if cost.fault is None:
            told = f"{cost.speech:.1f} s of speech in {cost.seconds:.1f} s on one core"
            return cost, [*lines, f"tried {group[0].source.video}: {told}"]
        lines.append(f"tried {group[0].source.video}: {cost.fault}")
    return None, lines


def _beginning(group: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """The first utterances of a recording, up to `PIECE` seconds of speech; at least one."""
    chosen: list[Utterance] = []
    for u in sorted(group, key=lambda u: u.start):
        if chosen and sum(x.end - x.start for x in chosen) + u.end - u.start > PIECE:
            break
        chosen.append(u)
    return tuple(chosen)


def _build_piece(piece: Piece) -> Cost:
    """Build a piece and look at the clock. Runs in a worker, as a build's jobs do."""
    from mesm_data.faces.mtcnn import MTCNN

    detector = MTCNN(piece.recipe.min_face, piece.recipe.face_thresholds)
    make_clips(piece.root, piece.utterances[:1], piece.recipe, detector)  # the first call loads what later ones have
    begun = time.perf_counter()
    outcomes = make_clips(piece.root, piece.utterances, piece.recipe, detector).outcomes
    seconds = time.perf_counter() - begun
    clips = [(outcome.utterance, outcome.clip) for outcome in outcomes if outcome.clip]
    if not clips:
        return Cost(seconds, 0.0, 0, outcomes[0].issues[0].detail)
    speech = sum(u.end - u.start for u, _ in clips)
    return Cost(seconds, speech, sum(clip.faces.nbytes + clip.mels.nbytes for _, clip in clips), None)


def _estimate(usable: Sequence[Utterance], cost: Cost, workers: int, out: Path) -> tuple[list[str], bool]:
    """Lines about time and disk, and whether the disk is large enough."""
    speech = sum(u.end - u.start for u in usable)
    seconds = speech / cost.speech * cost.seconds / workers
    size = speech / cost.speech * cost.size
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    return [
        f"time: about {_duration(seconds)} with {workers} workers",
        f"disk: about {_size(size)}, {_size(PEAK * size)} while it is built; {_size(free)} free at {there}",
    ], free > PEAK * size


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
    told = f"{left_out} of {total} utterances would be left out"
    return f"works, but {told}: build with --max-issues {int(100 * left_out / total) + 1}%, or mend the files"
