"""Raw corpus to finished dataset: plan the jobs, run them, resume, finish.

out/iemocap/
    build.json          the plan, written first; another plan into the same folder is refused
    parts/00007-train.parquet, 00007.json    the results of job 7 (one recording); the .json is written last: done
    shards/, issues.jsonl, utterances.jsonl, index.json    see dataset/; parts/ is removed once the index is written
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mesm_data import corpora, files
from mesm_data.clip import Recipe
from mesm_data.dataset import schema, writer
from mesm_data.dataset.reader import load
from mesm_data.errors import NOTED, PAPER_DROPS, CorpusError, DataError, Issue, not_a_file
from mesm_data.faces.detector import Detection, FaceDetector
from mesm_data.pool import WorkerFailed, advance, run_jobs
from mesm_data.splits.split import Splits, make_splits
from mesm_data.state import read_state
from mesm_data.synth.synthetic_dataset import SUGGESTED
from mesm_data.synth.tree import is_synthetic
from mesm_data.utterance import Utterance, by_recording

PARTS = "parts"
MARKER = {"rows": {str: [int]}, "issues": [{"utterance": str, "kind": str, "detail": str}], "failed": bool}
TOOLS = ("mesm", "av", "facenet-pytorch", "librosa", "numpy", "pyarrow", "torch")


@dataclass(frozen=True)
class Settings:
    """What a user may choose; `scheme`, `seed`, `lists`, `recipe`, `reader` and `shard_mb` decide the bytes."""

    scheme: str = "paper"  # how to split
    seed: int = 0
    lists: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)
    reader: Mapping[str, str] = field(default_factory=dict)  # keyword arguments of the corpus's `read`
    shard_mb: float = 256
    workers: int = 1
    timeout: float = 1800.0  # seconds per recording
    max_issues: float = 0.05  # share of the utterances below 1, a number of utterances from 1 on


@dataclass(frozen=True)
class Job:
    """One recording: everything that a worker needs, and nothing else."""

    name: str
    raw: Path
    out: Path
    corpus: str
    recipe: Recipe
    utterances: tuple[Utterance, ...]
    splits: tuple[str, ...]  # of each utterance


@dataclass(frozen=True)
class Plan:
    """What will be built, decided from text files and folder listings alone."""

    corpus: str
    emotions: tuple[str, ...]
    splits: Splits
    jobs: tuple[Job, ...]
    issues: tuple[Issue, ...]  # those that are known already
    exempt: frozenset[str]  # kinds of Issue that are the paper's own drops, or cost nothing
    gaps: tuple[str, ...]  # large pieces of the corpus that are not in this copy, in words
    record: dict[str, Any]  # build.json

    @property
    def utterances(self) -> int:
        return sum(len(job.utterances) for job in self.jobs)


@dataclass
class Summary:
    """The result of a build; printed at its end."""

    scheme: str
    utterances: int
    issues: Counter[str]
    gaps: tuple[str, ...]  # large pieces of the corpus that are not in this copy, in words
    faces: int
    faces_found: int
    speech: float  # seconds of speech in the dataset
    seconds: float  # that the build ran
    resumed: int  # jobs that an earlier run had done
    absent: int  # ids of the split's lists that this copy of the corpus lacks


def build(corpus: str, raw: Path, out: Path, settings: Settings) -> Summary:
    """Build the dataset of `raw` in `out`, or resume an interrupted build.

    Raises CorpusError for a corpus that cannot be read, DataError for another plan in `out` or too many Issues; what
    was built is there for the next run.
    """
    begun = time.monotonic()
    plan = make_plan(corpus, raw, out, settings)
    claim = files.Plan("build.json", plan.record, "build", "builds", {str: object}, _what_differs)
    with files.claim_folder(out, claim):
        todo = [] if (out / "index.json").is_file() else [job for job in plan.jobs if not _is_done(job)]
        if not (out / "index.json").is_file():
            (out / PARTS).mkdir(exist_ok=True)
            _run(plan, todo, settings)
            finish(out, plan, settings)
        if (out / PARTS).exists():  # after the index, since a build may be killed while they are removed
            shutil.rmtree(out / PARTS)
    return _summary(out, plan, time.monotonic() - begun, len(plan.jobs) - len(todo))


def make_plan(corpus: str, raw: Path, out: Path, settings: Settings) -> Plan:
    """Read the annotations, split, look for the media files, and cut the work into one job per recording."""
    module = corpora.load(corpus)
    utterances, issues = read_corpus(corpus, raw, settings.reader)
    splits, unsplit = make_splits(settings.scheme, corpus, utterances, seed=settings.seed, lists=settings.lists)
    split_of = {name: split for split, ids in splits.ids.items() for name in ids}
    wanted, missing = find_media(raw, [u for u in utterances if u.id in split_of])
    jobs = tuple(
        Job(f"{n:05d}", raw, out, corpus, settings.recipe, group, tuple(split_of[u.id] for u in group))
        for n, group in enumerate(by_recording(wanted))
    )
    record = {
        "schema_version": schema.SCHEMA_VERSION,
        "corpus": corpus,
        "reader": dict(settings.reader),
        "raw": _raw_digest(raw, utterances),
        "recipe": asdict(settings.recipe) | {"face_thresholds": list(settings.recipe.face_thresholds)},
        "split": splits.scheme,
        "split_digest": splits.digest,
        "shard_mb": settings.shard_mb,
    }
    exempt = frozenset(NOTED) | (frozenset(PAPER_DROPS) if module.paper_drops else frozenset({"no-split"}))
    gaps = tuple(module.gaps(utterances))
    return Plan(corpus, module.EMOTIONS, splits, jobs, (*issues, *unsplit, *missing), exempt, gaps, record)


def read_corpus(corpus: str, raw: Path, reader: Mapping[str, str]) -> tuple[list[Utterance], list[Issue]]:
    """All annotations of a corpus: utterances sorted by id, and the Issues of those that cannot be used.

    An utterance whose times are not plausible becomes an Issue, whatever the corpus. Raises CorpusError for a corpus
    that cannot be read, and for a vote or a label that is no number.
    """
    module = corpora.load(corpus)
    found = [_checked(item, module.EMOTIONS) for item in module.read(raw, **reader)]
    utterances = sorted((x for x in found if isinstance(x, Utterance)), key=lambda u: u.id)
    return utterances, [x for x in found if isinstance(x, Issue)]


def _checked(item: Utterance | Issue, emotions: Sequence[str]) -> Utterance | Issue:
    if isinstance(item, Issue):
        return item
    if len(item.labels) != len(emotions) or not all(label in (0, 1) for label in item.labels):
        raise CorpusError(f"{item.id}: found labels {item.labels}, expected 0 or 1 for each of {', '.join(emotions)}")
    if wrong := next((vote for vote in item.votes if not math.isfinite(vote.value)), None):
        raise CorpusError(f"{item.id}: found {wrong.value} as {wrong.name} by {wrong.rater}, expected a finite number")
    return corpora.with_plausible_times(item)


def run_job(job: Job) -> dict[str, Any]:
    """Decode one recording and write its rows; returns the content of its marker. Runs in a worker."""
    outcomes = _decode(job)
    rows: dict[str, list[schema.Row]] = {}
    for split, outcome in zip(job.splits, outcomes, strict=True):
        if outcome.clip:
            rows.setdefault(split, []).append(schema.Row(job.corpus, split, outcome.utterance, outcome.clip))
    folder = job.out / PARTS
    for split, members in rows.items():
        writer.write_table(folder / f"{job.name}-{split}.parquet", schema.to_table(members), {})
    marker = {
        "rows": {
            split: [row.clip.faces.nbytes + row.clip.mels.nbytes for row in members] for split, members in rows.items()
        },
        "issues": [asdict(issue) for outcome in outcomes for issue in outcome.issues],
        "failed": any(issue.kind == "job-failed" for outcome in outcomes for issue in outcome.issues),
    }
    files.write_text(_marker(job), json.dumps(marker, sort_keys=True) + "\n")
    return marker


def finish(out: Path, plan: Plan, settings: Settings) -> None:
    """Gather the rows of all jobs into shards of even size and write the index; the same rows give the same bytes."""
    markers = {job.name: _read_marker(job) for job in plan.jobs}
    size = int(settings.shard_mb * 1_000_000)
    shards = (shard for split in plan.splits.ids for shard in _even_shards(out, plan, markers, split, size))
    utterances = (u for job in plan.jobs for u in job.utterances)
    writer.write_dataset(out, _metadata(plan), shards, utterances, _all_issues(plan, markers), more=["build.json"])


# ---- the plan


def find_media(raw: Path, utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Issue]]:
    """Utterances whose video exists, and an Issue for each of the others. No wav file: the video's own audio is used.

    The video may be a folder of images. Whatever else is no file would make the decoder wait forever.
    """
    instead = lru_cache(maxsize=None)(lambda name: not_a_file(raw / name))
    wanted, issues = [], []
    for u in utterances:
        found = instead(u.source.video)
        if found not in (None, "a folder"):
            where = "not found below the raw folder" if found == "no file" else f"found {found}, expected a video file"
            issues.append(Issue(u.id, "no-media", f"{u.source.video}: {where}"))
        elif u.source.audio and instead(u.source.audio):
            wanted.append(replace(u, source=replace(u.source, audio=None)))
        else:
            wanted.append(u)
    return wanted, issues


def _raw_digest(raw: Path, utterances: Sequence[Utterance]) -> str:
    """Digest of the annotations and of the media files' names and sizes (hashing their bytes would take hours)."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(json.dumps(asdict(u), sort_keys=True).encode())
    for name in sorted({n for u in utterances for n in (u.source.video, u.source.audio) if n}):
        path = raw / name
        size = path.stat().st_size if not_a_file(path) is None else "-"
        digest.update(os.fsencode(name) + f" {size}\n".encode())
    return digest.hexdigest()


def _what_differs(begun: dict[str, Any], record: dict[str, Any]) -> str | None:
    """The first difference of two plans, in words; None where they are equal."""
    name = next((name for name in record if begun.get(name) != record[name]), None)
    if name is None:
        return None
    if name == "raw":
        return "of another raw folder: its annotations, or the names or sizes of its media, differ from this one's"
    before, now = begun.get(name), record[name]
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        name, before, now = f"{name} {key}", before.get(key), now.get(key)
    return f"with {name} {json.dumps(before)}, now requested with {json.dumps(now)}"


# ---- the jobs


def _run(plan: Plan, todo: Sequence[Job], settings: Settings) -> None:
    """Run the jobs that are not done; stop with DataError when too many utterances are lost."""
    lost = [issue for issue in plan.issues if issue.kind not in plan.exempt]
    total = plan.utterances + len(lost)
    names = {job.name for job in todo}
    for job in plan.jobs:
        if job.name not in names:
            lost += _lost(_read_marker(job), plan.exempt)
    _check_lost(lost, total, settings.max_issues)
    if not todo:
        return
    with _Progress(plan.jobs, todo) as progress:
        jobs = run_jobs(
            run_job, todo, settings.workers, settings.timeout, partial(_warm_up, settings.recipe), progress.advance
        )
        with closing(jobs) as results:  # too many lost utterances stop the workers, whoever still holds the error
            for job, result in results:
                if isinstance(result, WorkerFailed):
                    hint = "; --timeout allows more" if result.late else ""
                    result = _give_up(job, result.reason + hint)
                lost += _lost(result, plan.exempt)
                progress.finish(job)
                _check_lost(lost, total, settings.max_issues)


class _Progress:
    """A bar in seconds of speech: it moves with every batch of frames, within a recording too."""

    def __init__(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        self.todo = todo
        self.total = {job.name: sum(u.end - u.start for u in job.utterances) for job in jobs}
        self.done = self.total | {job.name: 0.0 for job in todo}
        self.recordings = len(jobs)
        self.bar = tqdm(
            total=sum(self.total.values()),
            initial=sum(self.done.values()),
            disable=None,
            smoothing=0.1,
            bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s of speech{postfix} [{elapsed}<{remaining}]",
        )
        self._show()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def advance(self, number: int, seconds: float) -> None:
        """So many seconds more of job `number`; what a second attempt repeats is not counted twice."""
        name = self.todo[number].name
        self.done[name] = min(self.done[name] + seconds, 0.99 * self.total[name])
        self._show()

    def finish(self, job: Job) -> None:
        self.done[job.name] = self.total[job.name]
        self._show()

    def _show(self) -> None:
        finished = sum(self.done[name] == self.total[name] for name in self.total)
        self.bar.set_postfix_str(f"{finished}/{self.recordings} recordings", refresh=False)
        self.bar.update(min(sum(self.done.values()), self.bar.total) - self.bar.n)


class _Reporting:
    """A face detector that reports `step` seconds of progress for every frame."""

    def __init__(self, detector: FaceDetector, step: float) -> None:
        self.detector, self.step = detector, step

    def detect(self, images: np.ndarray) -> list[list[Detection]]:
        found = self.detector.detect(images)
        advance(len(images) * self.step)
        return found


def _lost(marker: dict[str, Any], exempt: frozenset[str]) -> list[Issue]:
    issues = [Issue(**fields) for fields in marker["issues"]]
    return [issue for issue in issues if issue.left_out and issue.kind not in exempt]


def _check_lost(lost: Sequence[Issue], total: int, limit: float) -> None:
    allowed = int(limit) if limit >= 1 else int(limit * total)
    if len(lost) <= allowed:
        return
    kinds = Counter(issue.kind for issue in lost)
    first = {kind: next(issue for issue in lost if issue.kind == kind) for kind in kinds}
    lines = [f"  {kinds[kind]:6d} {kind}, as {first[kind].utterance}: {first[kind].detail}" for kind in sorted(kinds)]
    raise DataError(
        f"{len(lost)} of {total} utterances cannot be used, --max-issues allows {allowed}:\n" + "\n".join(lines) + "\n"
        "What was built is kept. Fix the files, or run again with a higher --max-issues to leave these out."
    )


def _give_up(job: Job, reason: str) -> dict[str, Any]:
    """The marker of a job whose worker died: its utterances become Issues, the build continues."""
    issues = [asdict(Issue(u.id, "job-failed", f"{u.source.video}: {reason}")) for u in job.utterances]
    marker = {"rows": {}, "issues": issues, "failed": True}
    files.write_text(_marker(job), json.dumps(marker, sort_keys=True) + "\n")
    return marker


def _warm_up(recipe: Recipe) -> None:
    """Load networks and libraries and run them once, so that a slow start is not mistaken for a hanging video."""
    from mesm_data.media.mel import mel_chunks, resample

    _detector(recipe).detect(np.zeros((1, 64, 64, 3), np.uint8))
    mel_chunks(resample(np.zeros(8000, np.float32), 8000, recipe.sample_rate), recipe)


@lru_cache(maxsize=1)
def _detector(recipe: Recipe) -> Any:
    from mesm_data.faces.mtcnn import MTCNN

    return MTCNN(recipe.min_face, recipe.face_thresholds)


def _is_done(job: Job) -> bool:
    """A job that failed or whose worker died is repeated by the next run."""
    return _marker(job).is_file() and not _read_marker(job).get("failed")


def _marker(job: Job) -> Path:
    return job.out / PARTS / f"{job.name}.json"


def _read_marker(job: Job) -> dict[str, Any]:
    return read_state(_marker(job), MARKER, "delete it, and the same command decodes its recording again")


def _decode(job: Job) -> list[Any]:
    """An Outcome for each utterance. A file that breaks a library costs its utterances; the build continues."""
    from mesm_data.decode import Outcome, make_clips

    try:
        detector = _Reporting(_detector(job.recipe), job.recipe.step)
        return list(make_clips(job.raw, job.utterances, job.recipe, detector).outcomes)
    except Exception as error:  # noqa: BLE001  a broken file may raise anything
        told = f"{type(error).__name__}: {str(error).replace(f'{job.raw}/', '')}"
        issues = [Issue(u.id, "job-failed", f"{u.source.video}: {told}") for u in job.utterances]
        return [Outcome(u, None, (issue,)) for u, issue in zip(job.utterances, issues, strict=True)]


# ---- finishing


def _even_shards(
    out: Path, plan: Plan, markers: Mapping[str, dict[str, Any]], split: str, size: int
) -> Iterator[tuple[str, Any]]:
    """Name and rows of each shard of one split, in order; memory stays at one shard."""
    sizes = [(name, n, b) for name, marker in markers.items() for n, b in enumerate(marker["rows"].get(split, []))]
    total = sum(b for _, _, b in sizes)
    count = max(1, -(-total // size))
    pieces: list[dict[str, list[int]]] = [{} for _ in range(count)]
    before = 0
    for name, n, nbytes in sizes:
        shard = min(count - 1, (2 * before + nbytes) * count // (2 * total))  # where the row's middle falls
        pieces[shard].setdefault(name, []).append(n)
        before += nbytes
    pieces = [piece for piece in pieces if piece]
    for k, piece in enumerate(pieces):
        slices = [(out / PARTS / f"{name}-{split}.parquet", rows[0], len(rows)) for name, rows in piece.items()]
        yield writer.shard_name(split, k, len(pieces)), writer.gather(slices)


def _metadata(plan: Plan) -> dict[str, Any]:
    """The metadata of the index and of every shard."""
    return writer.describe(
        plan.corpus,
        plan.emotions,
        plan.jobs[0].recipe if plan.jobs else Recipe(),
        scheme=plan.splits.scheme,
        split_digest=plan.splits.digest,
        reader=plan.record["reader"],
        raw=plan.record["raw"],
        tools=TOOLS,
        about=corpora.about({"corpus": plan.corpus}),  # so that cards and reports need no corpus module
        **({"suggested": SUGGESTED} if plan.jobs and is_synthetic(plan.jobs[0].raw) else {}),
    )


def _all_issues(plan: Plan, markers: Mapping[str, dict[str, Any]]) -> list[Issue]:
    found = [Issue(**fields) for marker in markers.values() for fields in marker["issues"]]
    return sorted([*plan.issues, *found], key=lambda issue: (issue.utterance, issue.kind, issue.detail))


def _summary(out: Path, plan: Plan, seconds: float, resumed: int) -> Summary:
    dataset = load(out)
    index = dataset.index
    return Summary(
        scheme=index["split"],
        utterances=sum(split["utterances"] for split in index["counts"].values()),
        issues=Counter(index["issues"]),
        gaps=plan.gaps,
        faces=index["faces"],
        faces_found=index["faces_found"],
        speech=sum(row["end"] - row["start"] for row in dataset.rows(["start", "end"])),
        seconds=seconds,
        resumed=resumed,
        absent=len(plan.splits.absent),
    )
