"""CMU-MOSEI: videos of people talking to a camera, cut into clips; six emotions, several at once.

The raw download is gone, so people hold different copies. Four layouts are known; `find_layout` says which one a folder
has, wherever in it the parts lie. A clip's id is `<video>_<number>`, and its line in a transcript is
`video___number___start___end___words`.

    release     Raw/Videos/Full/Combined/<video>.mp4           full videos; or only
                Raw/Videos/Segmented/Combined/<video>_<number>.mp4     the cut ones
                Raw/Audio/Full/WAV_16000/<video>.wav           not required
                Raw/Transcript/Segmented/Combined/<video>.txt  the transcript lines
                Labels/*.csv                                   each rater's votes, some clips per file
    csd         videos and transcripts as above
                CMU_MOSEI_Labels.csd                           means over the raters, by time
    clips       Raw/<video>/<number>.mp4                       videos that are already cut
                label.csv                                      words, sentiment; emotions from Labels/*.csv or the .csd
    processed   <video>_<number>/image_0.jpg, audio.wav        the paper's authors' tree, an image every half second
                meta.pkl                                       words and emotions
"""

import importlib.util
import io
import math
import re
import runpy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.corpora import by_id, read_lines, read_table, to_number, with_plausible_times
from mesm_data.corpora._listing import list_folder, one_of_each, with_suffix
from mesm_data.corpora._mosei_tree import LAYOUTS, PARTS, RATED, SHEET, VIDEOS, Tree, choose_layout, look, parts_found
from mesm_data.errors import PAPER_DROPS, CorpusError, DataError, Issue, MediaError, not_a_file, quoted
from mesm_data.utterance import Source, Utterance, Vote

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
SAMPLE_RATE = 44_100
ABOUT = {
    "title": "CMU-MOSEI",
    "page": "http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
    "licence": "CMU-MOSEI, for research; the videos belong to those who made them",
    "cite": "AmirAli Bagher Zadeh et al.: Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and "
    "Interpretable Dynamic Fusion Graph. ACL 2018.",
    "language": "en",
}
SPEAKERS_KNOWN = False  # about 1000 people speak in the videos, and nothing names them
OPTIONS = {"layout": ("auto", *LAYOUTS), "label_policy": ("any", "majority", "mean>=1")}

RATING_COLUMNS = (*RATED, *(f"Answer.{emotion}" for emotion in EMOTIONS))
CSD_COLUMNS = ("sentiment", "happiness", "sadness", "anger", "surprise", "disgust", "fear")
PUBLIC_COLUMNS = ("video_id", "clip", "start", "end", "sentiment", *EMOTIONS)

# Seconds by which a .csd row and its transcript line may differ: no two labelled clips of a video are nearer than 0.22.
SAME_TIME = 0.1

# Clips that start at or after the end of their media, found by opening all of it: rule (3) for checks without media.
AFTER_MEDIA_END = {
    "HuIKyKkEL0Q": (40.261,),
    "JGEEA_JVriE": (38.264, 58.568, 73.534),
    "zsRTbbKlsEg": (57.232,),
}

# In the training fold of the packaged SDK (0.0.6), no longer in that of its repository. Its transcript is misaligned:
# the paper drops its four clips either way, by rule (1) or by rule (2).
TAKEN_FROM_FOLDS = frozenset({"-NFrJFQijFE"})

_TIME = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-?inf|nan)"
_LINE = re.compile(rf"(.+?)___(\d{{1,9}})___{_TIME}___{_TIME}___(.*)")
_CLIP_ID = re.compile(r"[^/\\]+_\d+")

Votes = dict[str, list[Vote]]  # clip -> its raters' votes
Decide = Callable[[list[float]], bool]  # the votes on one emotion -> whether its label is 1


class Line(NamedTuple):
    """One line of a transcript."""

    video: str
    start: float  # seconds
    end: float
    text: str


class Row(NamedTuple):
    """One row of the .csd: means over the raters of a stretch of a video."""

    video: str
    start: float  # seconds
    end: float
    votes: list[Vote]


def read(root: Path, layout: str = "auto", label_policy: str = "any") -> Iterator[Utterance | Issue]:
    """The labelled clips, sorted by id, and an Issue for each whose labels and words do not match.

    An emotion is 1 when `any` rater gave it more than 0 (the paper's rule), when the `majority` did, or when their
    `mean>=T`. Raises CorpusError for a folder without a known layout and for a file that does not follow its format.
    """
    tree = look(root)
    readers = {"release": _read_release, "csd": _read_csd, "clips": _read_clips, "processed": _read_processed}
    found = list(readers[choose_layout(tree, layout)](tree, label_policy))
    if not found:
        raise CorpusError(f"{root}: found no labelled clip in {'; '.join(parts_found(tree))}; expected some")
    yield from sorted(found, key=by_id)


def find_layout(root: Path) -> str:
    """`release`, `csd`, `clips` or `processed`. Raises CorpusError that lists what is there and what each lacks."""
    return choose_layout(look(root), "auto")


def recognises(root: Path) -> bool:
    """True where the parts of one of the layouts are there."""
    try:
        return bool(find_layout(root))
    except CorpusError:
        return False


def survey(root: Path, layout: str = "auto", label_policy: str = "any") -> list[str]:
    """What there is to read, in lines: layout, where its parts lie, clips with and without labels, folds, emotions."""
    tree = look(root)
    found = list(read(root, layout, label_policy))
    utterances = [item for item in found if isinstance(item, Utterance)]
    issues = Counter(item.kind for item in found if isinstance(item, Issue))
    lines = [f"layout: {choose_layout(tree, layout)}", *parts_found(tree), f"labelled clips: {len(utterances)}"]
    if tree.transcripts:
        unlabelled = _read_transcripts(tree.transcripts).keys() - {item.id for item in utterances}
        lines.append(f"transcript lines without labels, or left out: {len(unlabelled)}")
    else:
        lines.append("times: unknown without transcripts, so misaligned videos (a start before 0) cannot be recognised")
    fold_of = {video: split for split, videos in standard_folds().items() for video in videos}
    videos = Counter(fold_of.get(video, "none") for video in {u.group for u in utterances})
    lines.append("videos in standard folds: " + ", ".join(f"{split} {n}" for split, n in sorted(videos.items())))
    counts = zip(EMOTIONS, map(sum, zip(*(u.labels for u in utterances), strict=True)), strict=False)
    lines.append("labels: " + ", ".join(f"{emotion} {n}" for emotion, n in counts))
    return lines + [f"left out, {kind}: {n}" for kind, n in sorted(issues.items())]


def read_labels_csv(path: Path) -> list[Utterance]:
    """The segments of a public table of label means, sorted by id, to check splits with: no words, no media.

    A segment whose clip number is empty gets the id `<video>_?<start>`, which no clip has.
    """
    utterances: dict[str, Utterance] = {}
    for number, row in read_table(path, PUBLIC_COLUMNS):
        where = f"{path}:{number}"
        name = f"{row['video_id']}_{row['clip'] or '?' + row['start']}"
        if name in utterances:
            raise CorpusError(f"{where}: found segment {name} again, expected it once")
        votes = [Vote("mean", column, _number(where, column, row[column])) for column in (*EMOTIONS, "sentiment")]
        start, end = (_number(where, column, row[column]) for column in ("start", "end"))
        line = Line(row["video_id"], start, end, "")
        made = _utterance(name, Source(line.video), line, _labels(votes, _decide("any")), votes)
        if isinstance(made, Issue):
            raise CorpusError(f"{where}: found a segment that {made.detail}, expected it to end after its start")
        utterances[name] = made
    return [utterances[name] for name in sorted(utterances)]


def paper_drops(utterances: Iterable[Utterance]) -> list[Issue]:
    """The Issues of labelled clips that the paper drops, as far as annotations show, sorted by id.

    (1) The video is in no standard fold. (2) A labelled clip of the video starts before 0: the whole transcript is
    shifted. (3) The clip starts after the end of its media: five are known. Of 23,259 clips these rules drop
    399 + 2378 + 5, which leaves the paper's 14524 / 1765 / 4188.
    """
    in_folds = frozenset().union(*standard_folds().values())
    earliest: dict[str, Utterance] = {}
    issues = []
    for u in (ordered := sorted(utterances, key=lambda u: u.id)):
        if u.start < earliest.setdefault(u.group, u).start:
            earliest[u.group] = u
    for u in ordered:
        first = earliest[u.group]
        if u.group not in in_folds:
            issues.append(_drop(u, "no-fold", u.group))
        elif first.start < 0:
            issues.append(_drop(u, "negative-start", f"{first.id} at {first.start:.3f} s"))
        elif any(abs(u.start - start) < SAME_TIME for start in AFTER_MEDIA_END.get(u.group, ())):
            issues.append(_drop(u, "after-media-end", f"at {u.start:.3f} s"))
    return issues


@cache
def standard_folds() -> dict[str, frozenset[str]]:
    """Split -> the videos that the corpus's extractors put there: 2249 train, 300 valid, 678 test."""
    package = importlib.util.find_spec("mmsdk")
    if package is None or not package.submodule_search_locations:
        raise DataError("mmsdk, which holds CMU-MOSEI's standard folds, is missing: pip install cmu-multimodal-sdk")
    # The file of lists is run by itself: importing mmsdk imports torch, which takes a second and 600 MB.
    folder = Path(package.submodule_search_locations[0], "mmdatasdk", "dataset", "standard_datasets", "CMU_MOSEI")
    lists = runpy.run_path(str(folder / "cmu_mosei_std_folds.py"))
    return {
        split: frozenset(lists[f"standard_{split}_fold"]) - TAKEN_FROM_FOLDS for split in ("train", "valid", "test")
    }


# ---- the four layouts


def _read_release(tree: Tree, label_policy: str) -> Iterator[Utterance | Issue]:
    assert tree.transcripts
    decide = _decide(label_policy)
    lines, votes = _read_transcripts(tree.transcripts), _read_ratings(tree.ratings)
    yield from _full_videos(tree, lines, votes, decide)


def _read_csd(tree: Tree, label_policy: str) -> Iterator[Utterance | Issue]:
    assert tree.transcripts
    assert tree.csd
    decide = _decide(label_policy, means=tree.csd)
    lines = _read_transcripts(tree.transcripts)
    votes, issues = _join_by_time(_read_means(tree.csd), lines)
    yield from issues
    yield from _full_videos(tree, lines, votes, decide)


def _full_videos(tree: Tree, lines: dict[str, Line], votes: Votes, decide: Decide) -> Iterator[Utterance | Issue]:
    """Every clip with votes, in its video or, where that is not here, in its own cut one.

    A video that is not there is named as it should be.
    """
    assert tree.transcripts
    folder = tree.videos or tree.root / "Raw" / "Videos" / "Full" / "Combined"
    videos, several = one_of_each(tree.root, with_suffix(folder, *VIDEOS), lambda path: path.stem, _preferred)
    cut = with_suffix(tree.segments, *VIDEOS) if tree.segments else []
    segments, more = one_of_each(tree.root, cut, lambda path: path.stem, _preferred)
    audios = {path.stem: path for path in (with_suffix(tree.audios, ".wav") if tree.audios else [])}
    yield from several + more
    for name, given in votes.items():
        if name not in lines:
            yield Issue(name, "no-text", f"rated, and no line in {tree.relative(tree.transcripts)} has its number")
            continue
        line = lines[name]
        if line.video not in videos and name in segments:
            yield _cut(name, Source(tree.relative(segments[name])), line, line.text, _labels(given, decide), given)
            continue
        path = videos.get(line.video, folder / f"{line.video}.mp4")
        audio = tree.relative(audios.get(line.video, tree.audios / f"{line.video}.wav")) if tree.audios else None
        yield _utterance(name, Source(tree.relative(path), audio), line, _labels(given, decide), given)


def _preferred(path: Path) -> tuple[int, Path]:
    return VIDEOS.index(path.suffix.lower()), path


def _read_clips(tree: Tree, label_policy: str) -> Iterator[Utterance | Issue]:
    assert tree.sheet
    assert tree.clips
    lines = _read_transcripts(tree.transcripts) if tree.transcripts else {}
    issues: list[Issue] = []
    if tree.ratings:
        decide, votes = _decide(label_policy), _read_ratings(tree.ratings)
    elif tree.csd and tree.transcripts:
        decide = _decide(label_policy, means=tree.csd)
        votes, issues = _join_by_time(_read_means(tree.csd), lines)
    else:
        raise CorpusError(_no_emotions(tree))
    yield from issues
    unpaired = {issue.utterance for issue in issues}
    words = _read_sheet(tree.sheet)
    videos, several = _cut_videos(tree.root, tree.clips, {video for video, _ in words.values()})
    yield from several
    for name, (video, text) in words.items():
        if name in votes:
            path = videos.get(name, tree.clips / video / f"{name.rpartition('_')[2]}.mp4")
            line = lines.get(name) or _own_time(tree, name, video, path)
            source = Source(tree.relative(path))
            yield _cut(name, source, line, text, _labels(votes[name], decide), votes[name])
        elif name not in unpaired:
            yield Issue(name, "no-labels", f"{tree.sheet.name} lists it, and nothing gives its emotions")
    for name in votes.keys() - words.keys():
        yield Issue(name, "no-text", f"it has emotions, and {tree.sheet.name} does not list it")


def _read_processed(tree: Tree, label_policy: str) -> Iterator[Utterance | Issue]:
    assert tree.meta
    if label_policy != "any":
        raise CorpusError(
            f"{tree.meta}: holds labels that were made with the policy 'any', not votes; "
            f"found --label-policy {label_policy}, expected any"
        )
    lines = _read_transcripts(tree.transcripts) if tree.transcripts else {}
    for name, (text, labels) in _read_meta(tree.meta).items():
        picture, sound = tree.meta.parent / name, tree.meta.parent / name / "audio.wav"
        line = lines.get(name) or _own_time(tree, name, name.rpartition("_")[0], sound)
        yield _cut(name, Source(tree.relative(picture), tree.relative(sound)), line, text, labels, [])


def _cut(
    name: str, source: Source, line: Line | Issue, text: str, labels: tuple[int, ...], votes: Sequence[Vote]
) -> Utterance | Issue:
    """A clip with files of its own, which begin where it begins; nothing is cut from before 0."""
    if isinstance(line, Issue):
        return line
    offset = max(0.0, line.start) if math.isfinite(line.start) else 0.0
    return _utterance(name, replace(source, offset=offset), line._replace(text=text), labels, votes)


def _own_time(tree: Tree, name: str, video: str, path: Path) -> Line | Issue:
    """From 0 to the length of the clip's own file, where no transcript gives its place in the video."""
    from mesm_data.media.probe import probe

    if found := not_a_file(path):
        kind = "no-media" if path.suffix.lower() in VIDEOS else "no-sound"
        where = "not found" if found == "no file" else f"found {found}"
        return Issue(name, kind, f"{tree.relative(path)}: {where}, and no transcript gives its length")
    try:
        length = probe(path).duration
    except MediaError as error:
        detail = str(error).replace(str(path), tree.relative(path))  # not where the raw folder lies
        return Issue(name, "undecodable", detail)
    if length is None:
        return Issue(name, "undecodable", f"{tree.relative(path)}: does not give its length, nor does a transcript")
    return Line(video, 0.0, length, "")


def _utterance(
    name: str, source: Source, line: Line, labels: tuple[int, ...], votes: Sequence[Vote]
) -> Utterance | Issue:
    made = Utterance(name, source, line.start, line.end, line.text, labels, tuple(votes), line.video, line.video)
    return with_plausible_times(made)


def _drop(utterance: Utterance, kind: str, figures: str) -> Issue:
    return Issue(utterance.id, kind, f"{PAPER_DROPS[kind]}: {figures}")


# ---- labels


def _decide(label_policy: str, means: Path | None = None) -> Decide:
    """The rule that turns votes into labels; `means` is the file that holds only the raters' means, if one does."""
    if label_policy == "any":
        return lambda given: sum(given) > 0
    if label_policy == "majority":
        if means:
            raise CorpusError(
                f"{means}: holds the mean of the raters, so that a majority cannot be counted; "
                "expected --label-policy any or mean>=T, or csv files of ratings"
            )
        return lambda given: 2 * sum(value > 0 for value in given) > len(given)
    mean = re.fullmatch(r"mean>=(\d+(?:\.\d+)?)", label_policy)
    if not mean or float(mean[1]) == 0:
        raise CorpusError(
            f"found label policy {quoted(label_policy)}, expected any, majority, or mean>=T with T above 0"
        )
    least = float(mean[1])
    return lambda given: bool(given) and sum(given) / len(given) >= least


def _labels(votes: Sequence[Vote], decide: Decide) -> tuple[int, ...]:
    return tuple(int(decide([vote.value for vote in votes if vote.name == emotion])) for emotion in EMOTIONS)


def _join_by_time(rows: Iterable[Row], lines: dict[str, Line]) -> tuple[Votes, list[Issue]]:
    """Clip -> the means of the row at its time. What does not pair one to one is an Issue, named by video and start."""
    clips_of: dict[str, list[str]] = {}
    for name, line in lines.items():
        clips_of.setdefault(line.video, []).append(name)
    rows_of: dict[str, list[Row]] = {}
    twins: set[str] = set()
    issues = []
    for row in rows:
        if not all(map(math.isfinite, (row.start, row.end))):
            detail = f"rated from {row.start} to {row.end} s"
            issues.append(Issue(f"{row.video}_?{row.start}", "bad-times", detail))
            continue
        apart = {name: _apart(row, lines[name]) for name in clips_of.get(row.video, [])}
        least = min(apart.values(), default=math.inf)
        nearest = sorted(name for name in apart if apart[name] == least)
        if least > SAME_TIME:
            beside = f"the nearest, {nearest[0]}, is {least:.3f} s off" if nearest else "the video has none"
            detail = f"rated from {row.start:.3f} to {row.end:.3f} s, and no transcript line is there; {beside}"
            issues.append(Issue(f"{row.video}_?{row.start:.3f}", "no-text", detail))
            continue
        twins.update(nearest[1:] and nearest)
        for name in nearest:
            rows_of.setdefault(name, []).append(row)
    for name, fitting in rows_of.items():
        if name in twins or len(fitting) > 1:
            others = "another transcript line is there too" if name in twins else f"{len(fitting)} rows are there"
            detail = f"rated from {fitting[0].start:.3f} to {fitting[0].end:.3f} s, and {others}"
            issues.append(Issue(name, "ambiguous", detail))
    unpaired = {issue.utterance for issue in issues}
    return {name: fitting[0].votes for name, fitting in rows_of.items() if name not in unpaired}, issues


def _apart(row: Row, line: Line) -> float:
    return max(abs(row.start - line.start), abs(row.end - line.end))


# ---- the files


def _read_transcripts(folder: Path) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for path in with_suffix(folder, ".txt"):
        for number, text in read_lines(path):
            where = f"{path}:{number}"
            match = _LINE.fullmatch(text)
            if not match:
                raise CorpusError(f"{where}: found {quoted(text)}, expected video___number___start___end___words")
            video = match[1].rpartition("/")[2]  # some copies name a folder before the video
            line = Line(video, to_number(where, match[3]), to_number(where, match[4]), match[5].strip())
            name = f"{video}_{int(match[2])}"
            if str(lines.setdefault(name, line)) != str(line):  # as text, since nan differs from itself
                raise CorpusError(f"{where}: found clip {name} again with other times or words, expected it once")
    return lines


def _read_ratings(paths: Iterable[Path]) -> Votes:
    """Clip -> the votes of all its raters, in the order of the files. What a rater left empty is no vote.

    A row that was read from a file in another folder already is of another copy, and counts once.
    """
    votes: Votes = {}
    raters: Counter[str] = Counter()
    home: dict[tuple[str, ...], Path] = {}
    for path in paths:
        for number, row in read_table(path, RATING_COLUMNS):
            if home.setdefault(tuple(row.values()), path.parent) != path.parent:
                continue
            where = f"{path}:{number}"
            video, clip = row["Input.VIDEO_ID"].rpartition("/")[2], row["Input.CLIP"]
            if not video or not re.fullmatch(r"\d{1,9}(\.0)?", clip):
                found = f"video {quoted(video)} and clip {quoted(clip)}"
                raise CorpusError(f"{where}: found {found}, expected a name and a number")
            name = f"{video}_{int(float(clip))}"
            raters[name] += 1
            rater = row.get("WorkerId") or f"rater {raters[name]}"
            answers = {about: row.get(f"Answer.{about}", "") for about in (*EMOTIONS, "sentiment")}
            votes.setdefault(name, []).extend(
                Vote(rater, about, _number(where, f"Answer.{about}", answer))
                for about, answer in answers.items()
                if answer not in ("", "nan", "NaN")
            )
    return votes


def _read_means(path: Path) -> list[Row]:
    """The rows of CMU_MOSEI_Labels.csd, through mmsdk."""
    from mmsdk.mmdatasdk import computational_sequence

    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it prints its progress, in colours
            sequence = computational_sequence(str(path))
    except (RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError, OSError) as error:
        raise CorpusError(f"{path}: mmsdk cannot read it ({error}), expected the file CMU_MOSEI_Labels.csd") from error
    try:
        videos = sorted(sequence.keys())
        return [row for video in videos for row in _rows_of(path, video, sequence[video])]
    finally:
        sequence.h5handle.close()


def _rows_of(path: Path, video: str, data: Any) -> Iterator[Row]:
    features, intervals = data["features"][:], data["intervals"][:]
    if features.shape[1:] != (len(CSD_COLUMNS),) or intervals.shape[1:] != (2,):
        raise CorpusError(
            f"{path}: video {video}: found rows of {features.shape[1:]} values and {intervals.shape[1:]} times, "
            f"expected (7,) values ({', '.join(CSD_COLUMNS)}) and (2,) times"
        )
    for (start, end), values in zip(intervals.tolist(), features.tolist(), strict=True):
        if not all(map(math.isfinite, values)):
            raise CorpusError(f"{path}: video {video}: found {start} - {end}: {values}, expected finite numbers")
        yield Row(video, start, end, [Vote("mean", *named) for named in zip(CSD_COLUMNS, values, strict=True)])


def _read_sheet(path: Path) -> dict[str, tuple[str, str]]:
    """Clip -> its video and its words, from label.csv."""
    words: dict[str, tuple[str, str]] = {}
    for number, row in read_table(path, SHEET):
        if not row["video_id"] or not re.fullmatch(r"\d{1,9}", row["clip_id"]):
            found = f"video {quoted(row['video_id'])} and clip {quoted(row['clip_id'])}"
            raise CorpusError(f"{path}:{number}: found {found}, expected a name and a number")
        name = f"{row['video_id']}_{int(row['clip_id'])}"
        if name in words:
            raise CorpusError(f"{path}:{number}: found clip {name} again, expected it once")
        words[name] = row["video_id"], row["text"]
    return words


def _read_meta(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Clip -> its words and its labels, from the authors' meta.pkl."""
    from mesm_data.pickles import read_pickle  # here, since it loads numpy, which no other layout needs

    meta = read_pickle(path)
    if not isinstance(meta, dict):
        raise CorpusError(f"{path}: found a {type(meta).__name__}, expected a dict of clips")
    return {name: _meta_entry(path, name, entry) for name, entry in meta.items()}


def _meta_entry(path: Path, name: Any, entry: Any) -> tuple[str, tuple[int, ...]]:
    match entry:
        case {"text": str(text), "label": [*labels]} if (
            isinstance(name, str)
            and _CLIP_ID.fullmatch(name)
            and len(labels) == len(EMOTIONS)
            and all(isinstance(label, int | float) and label in (0, 1) for label in labels)
            and _is_utf8(name + text)
        ):
            return text.strip(), tuple(map(int, labels))
    raise CorpusError(
        f"{path}: entry {quoted(name)}: found {quoted(entry)}, "
        "expected <video>_<number> with a text and six labels, each 0 or 1"
    )


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CorpusError(f"{where}: found {column} {quoted(text)}, expected a number")
    return number


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _cut_videos(root: Path, folder: Path, videos: Iterable[str]) -> tuple[dict[str, Path], list[Issue]]:
    """Clip -> its video, and notes about clips with several."""
    here = set(list_folder(folder).folders)
    paths = [path for video in sorted(here.intersection(videos)) for path in with_suffix(folder / video, *VIDEOS)]
    numbered = [path for path in paths if re.fullmatch(r"\d{1,9}", path.stem)]
    return one_of_each(root, numbered, lambda path: f"{path.parent.name}_{int(path.stem)}", _preferred)


def _no_emotions(tree: Tree) -> str:
    found = f"{tree.relative(tree.csd)}, whose rows can be joined by time alone" if tree.csd else "neither"
    return (
        f"{tree.sheet}: holds sentiment and no emotions; found {found}; expected below {tree.root} also "
        f"{PARTS['ratings']}, or {PARTS['csd']} with {PARTS['transcripts']}"
    )
