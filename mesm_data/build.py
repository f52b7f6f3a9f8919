"""Raw tree to finished dataset: plan the jobs, run them, resume, finish.

out/iemocap/
    build.json          the plan, written first; another plan into the same folder is refused
    parts/00007-train.parquet, 00007.json    what job 7 (one recording) gave; the .json is written last and means done
    shards/, issues.jsonl, utterances.jsonl, index.json    see shards.py; parts/ goes once the index is written
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mesm_data import corpora, files
from mesm_data.clip import Recipe
from mesm_data.dataset import reader as reader_module
from mesm_data.dataset import schema, writer
from mesm_data.errors import PAPER_DROPS, DataError, Issue
from mesm_data.files import exclusive, has_other_files
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_data.splits.split import Split, make_split
from mesm_data.utterance import Utterance, write_utterances

PARTS = "parts"
TOOLS = ("mesm", "av", "facenet-pytorch", "librosa", "numpy", "pyarrow", "torch")


@dataclass(frozen=True)
class Settings:
    """What a user may choose; `recipe`, `split`, `seed`, `lists`, `reader` and `shard_mb` decide bytes."""

    split: str = "paper"
    seed: int = 0
    lists: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)
    reader: Mapping[str, str] = field(default_factory=dict)  # keyword arguments of the corpus's `read`
    shard_mb: float = 256
    workers: int = 1
    timeout: float = 1800.0  # seconds a recording may take
    max_issues: float = 0.05  # share of the utterances below 1, a number of utterances from 1 on


@dataclass(frozen=True)
class Job:
    """One recording: everything a worker needs, and nothing else."""

    name: str
    raw: Path
    out: Path
    corpus: str
    recipe: Recipe
    utterances: tuple[Utterance, ...]
    parts: tuple[str, ...]  # the part of the split of each utterance


@dataclass(frozen=True)
class Plan:
    """What will be built, decided from text files and directory listings alone."""

    corpus: str
    emotions: tuple[str, ...]
    split: Split
    jobs: tuple[Job, ...]
    issues: tuple[Issue, ...]  # what is left out already
    exempt: frozenset[str]  # kinds of Issue that are the paper's own drops
    record: dict[str, Any]  # build.json

    @property
    def utterances(self) -> int:
        return sum(len(job.utterances) for job in self.jobs)


@dataclass
class Summary:
    """What a build did; printed at its end."""

    kept: int
    issues: Counter[str]
    faces: int
    faces_found: int
    speech: float  # seconds of speech kept
    seconds: float  # that the build ran
    resumed: int  # jobs that an earlier run had done
    absent: int  # ids of the split's lists that this copy of the corpus lacks


def build(corpus: str, raw: Path, out: Path, settings: Settings) -> Summary:
    """Build, or go on building, the dataset of `raw` in `out`.

    Raises CorpusError for a tree that does not read, DataError for another plan in `out` or too many Issues; what was
    built stays for the next run.
    """
    begun = time.monotonic()
    plan = make_plan(corpus, raw, out, settings)
    _check_folder(out, plan.record)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, "builds"):
        _start(out, plan.record)
        todo = [] if (out / "index.json").is_file() else [job for job in plan.jobs if not _is_done(job)]
        if not (out / "index.json").is_file():
            _run(plan, todo, settings)
            finish(out, plan, settings)
        if (out / PARTS).exists():  # behind the index, since a build may be killed while they go
            shutil.rmtree(out / PARTS)
    return _summary(out, time.monotonic() - begun, len(plan.jobs) - len(todo), len(plan.split.absent))


def make_plan(corpus: str, raw: Path, out: Path, settings: Settings) -> Plan:
    """Read the annotations, split, look which files there are, and cut the work into one job a recording."""
    module = corpora.load(corpus)
    utterances, issues = read_corpus(corpus, raw, settings.reader)
    split, unsplit = make_split(settings.split, corpus, utterances, seed=settings.seed, lists=settings.lists)
    part_of = {name: part for part, ids in split.parts.items() for name in ids}
    wanted, missing = _find_media(raw, [u for u in utterances if u.id in part_of])
    issues += unsplit + missing
    recordings: dict[tuple[str, float], list[Utterance]] = {}
    for u in wanted:
        recordings.setdefault((u.source.video, u.source.offset), []).append(u)
    jobs = tuple(
        Job(f"{n:05d}", raw, out, corpus, settings.recipe, tuple(group), tuple(part_of[u.id] for u in group))
        for n, (_, group) in enumerate(sorted(recordings.items()))
    )
    record = {
        "schema_version": schema.SCHEMA_VERSION,
        "corpus": corpus,
        "reader": dict(settings.reader),
        "raw": _raw_digest(raw, utterances),
        "recipe": asdict(settings.recipe) | {"face_thresholds": list(settings.recipe.face_thresholds)},
        "split": split.name,
        "split_digest": split.digest,
        "shard_mb": settings.shard_mb,
    }
    exempt = frozenset(PAPER_DROPS) if hasattr(module, "paper_drops") else frozenset({"no-part"})
    return Plan(corpus, module.EMOTIONS, split, jobs, tuple(issues), exempt, record)


def read_corpus(corpus: str, raw: Path, reader: Mapping[str, str]) -> tuple[list[Utterance], list[Issue]]:
    """Everything a corpus's annotations tell: utterances sorted by id, and what cannot be used."""
    found = list(corpora.load(corpus).read(raw, **reader))
    utterances = sorted((x for x in found if isinstance(x, Utterance)), key=lambda u: u.id)
    return utterances, [x for x in found if isinstance(x, Issue)]


def run_job(job: Job) -> dict[str, Any]:
    """Decode one recording and write its parts; returns what the marker says. Runs in a worker."""
    outcomes = _decode(job)
    rows: dict[str, list[schema.Row]] = {}
    for part, outcome in zip(job.parts, outcomes, strict=True):
        if outcome.clip:
            rows.setdefault(part, []).append(schema.Row(job.corpus, part, outcome.utterance, outcome.clip))
    folder = job.out / PARTS
    for part, members in rows.items():
        writer.write_table(folder / f"{job.name}-{part}.parquet", schema.to_table(members), {})
    clips = [row.clip for members in rows.values() for row in members]
    marker = {
        "rows": {
            part: [row.clip.faces.nbytes + row.clip.mels.nbytes for row in members] for part, members in rows.items()
        },
        "issues": [asdict(issue) for outcome in outcomes for issue in outcome.issues],
        "faces": sum(len(clip.face_found) for clip in clips),
        "faces_found": sum(int(clip.face_found.sum()) for clip in clips),
        "failed": any(issue.kind == "job-failed" for outcome in outcomes for issue in outcome.issues),
    }
    files.write_text(_marker(job), json.dumps(marker, sort_keys=True) + "\n")
    return marker


def finish(out: Path, plan: Plan, settings: Settings) -> None:
    """Gather the parts into shards of even size and write the index; the same parts give the same bytes."""
    markers = {job.name: _read_marker(job) for job in plan.jobs}
    for leftover in (out / "shards").glob("*"):
        leftover.unlink()
    (out / "shards").mkdir(exist_ok=True)
    metadata = _metadata(plan)
    listed, hashes, light = [], [], []
    for part in plan.split.parts:
        for name, table in _even_shards(out, plan, markers, part, int(settings.shard_mb * 1_000_000)):
            hashes += schema.content_hashes(table)
            light += table.select(["id", "split", "labels"]).to_pylist()
            writer.write_table(out / name, table, metadata | {"shard": name})
            listed.append({"name": name, "split": part, "rows": table.num_rows})
    issues = _all_issues(plan, markers)
    kept = {row["id"] for row in light}
    _write_notes(out, [u for job in plan.jobs for u in job.utterances if u.id in kept], issues)
    names = [shard["name"] for shard in listed] + ["build.json", "issues.jsonl", "utterances.jsonl"]
    index = metadata | {
        "shards": listed,
        "files": {n: {"bytes": (out / n).stat().st_size, "sha256": files.sha256_of(out / n)} for n in names},
        "content": schema.overall_hash(hashes),
        "counts": schema.count_rows(light, plan.emotions),
        "issues": dict(sorted(Counter(issue.kind for issue in issues).items())),
        "faces": sum(m["faces"] for m in markers.values()),
        "faces_found": sum(m["faces_found"] for m in markers.values()),
    }
    files.write_text(out / "index.json", json.dumps(index, indent=1, ensure_ascii=False) + "\n")


# ---- the plan


def _find_media(raw: Path, utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Issue]]:
    """Utterances whose film exists, and an Issue for each of the others. No wav file: the film's own sound is taken."""
    exists = lru_cache(maxsize=None)(lambda name: (raw / name).exists())
    wanted, issues = [], []
    for u in utterances:
        if not exists(u.source.video):
            issues.append(Issue(u.id, "no-media", f"{u.source.video}: not found below the raw folder"))
        elif u.source.audio and not exists(u.source.audio):
            wanted.append(replace(u, source=replace(u.source, audio=None)))
        else:
            wanted.append(u)
    return wanted, issues


def _raw_digest(raw: Path, utterances: Sequence[Utterance]) -> str:
    """Digest of what the annotations say and of the media files' names and sizes (their bytes would take hours)."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(json.dumps(asdict(u), sort_keys=True).encode())
    for name in sorted({n for u in utterances for n in (u.source.video, u.source.audio) if n}):
        path = raw / name
        digest.update(f"{name} {path.stat().st_size if path.is_file() else '-'}\n".encode())
    return digest.hexdigest()


def _start(out: Path, record: dict[str, Any]) -> None:
    """Write build.json, unless it is there."""
    _check_folder(out, record)  # again, since another build may have begun and ended meanwhile
    if not (out / "build.json").is_file():
        files.write_text(out / "build.json", json.dumps(record, indent=1) + "\n")
    if not (out / "index.json").is_file():
        (out / PARTS).mkdir(exist_ok=True)


def _check_folder(out: Path, record: dict[str, Any]) -> None:
    """Raises DataError where the folder holds something else than this build."""
    path = out / "build.json"
    if path.is_file():
        begun = json.loads(path.read_text(encoding="utf-8"))
        differs = _what_differs(begun, record)
        if differs:
            raise DataError(
                f"{path}: this folder holds a build {differs}; give another --out, or delete {out} to start over"
            )
    elif has_other_files(out, "build.json.tmp"):
        raise DataError(f"{out}: not empty and no build of this program (no build.json); give another --out")


def _what_differs(begun: dict[str, Any], record: dict[str, Any]) -> str | None:
    """The first thing that two plans do not share, in words; None where they are one plan."""
    name = next((name for name in record if begun.get(name) != record[name]), None)
    if name is None:
        return None
    if name == "raw":
        return "of another raw tree: its annotations, or the names or sizes of its media, are not those of this one"
    before, now = begun.get(name), record[name]
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        name, before, now = f"{name} {key}", before.get(key), now.get(key)
    return f"with {name} {json.dumps(before)}, now asked for with {json.dumps(now)}"


# ---- the jobs


def _run(plan: Plan, todo: Sequence[Job], settings: Settings) -> None:
    """Run the jobs that are not done; stop with DataError when too much is left out."""
    lost = [issue for issue in plan.issues if issue.kind not in plan.exempt]
    left = {job.name for job in todo}
    for job in plan.jobs:
        if job.name not in left:
            lost += _lost(_read_marker(job), plan.exempt)
    total = plan.utterances + len([issue for issue in plan.issues if issue.kind not in plan.exempt])
    _check_lost(lost, total, settings.max_issues)
    if not todo:
        return
    done_before = plan.utterances - sum(len(job.utterances) for job in todo)
    with tqdm(total=plan.utterances, initial=done_before, unit=" utterances", disable=None, smoothing=0.1) as bar:
        jobs = run_jobs(run_job, todo, settings.workers, settings.timeout, partial(_warm_up, settings.recipe))
        with closing(jobs) as results:  # too much lost stops the workers, whoever still holds the error
            for n, (job, result) in enumerate(results, 1):
                if isinstance(result, WorkerFailed):
                    result = _give_up(job, result.reason)
                lost += _lost(result, plan.exempt)
                bar.update(len(job.utterances))
                bar.set_postfix_str(f"{60 * n / max(bar.format_dict['elapsed'], 1e-9):.1f} videos/min", refresh=False)
                _check_lost(lost, total, settings.max_issues)


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
        "What was built stays. Mend the files, or run again with a higher --max-issues to leave these out."
    )


def _give_up(job: Job, reason: str) -> dict[str, Any]:
    """The marker of a job whose worker died: its utterances are Issues, the build goes on."""
    issues = [asdict(Issue(u.id, "job-failed", f"{u.source.video}: {reason}")) for u in job.utterances]
    marker = {"rows": {}, "issues": issues, "faces": 0, "faces_found": 0, "failed": True}
    files.write_text(_marker(job), json.dumps(marker, sort_keys=True) + "\n")
    return marker


def _warm_up(recipe: Recipe) -> None:
    """Load networks and libraries and run them once, so that a slow start is not taken for a hanging video."""
    from mesm_data.media.mel import mel_chunks, resample

    _detector(recipe).detect(np.zeros((1, 64, 64, 3), np.uint8))
    mel_chunks(resample(np.zeros(8000, np.float32), 8000, recipe.sample_rate), recipe)


@lru_cache(maxsize=1)
def _detector(recipe: Recipe) -> Any:
    from mesm_data.faces.mtcnn import MTCNN

    return MTCNN(recipe.min_face, recipe.face_thresholds)


def _is_done(job: Job) -> bool:
    """A job that failed or whose worker died is tried again by the next run."""
    return _marker(job).is_file() and not _read_marker(job).get("failed")


def _marker(job: Job) -> Path:
    return job.out / PARTS / f"{job.name}.json"


def _read_marker(job: Job) -> dict[str, Any]:
    return json.loads(_marker(job).read_text(encoding="utf-8"))


def _decode(job: Job) -> list[Any]:
    """An Outcome for each utterance. A file that breaks a library costs its utterances; the build goes on."""
    from mesm_data.decode import Outcome, make_clips

    try:
        return list(make_clips(job.raw, job.utterances, job.recipe, _detector(job.recipe)).outcomes)
    except Exception as error:  # noqa: BLE001  what a broken file may raise has no end
        told = f"{type(error).__name__}: {str(error).replace(f'{job.raw}/', '')}"
        issues = [Issue(u.id, "job-failed", f"{u.source.video}: {told}") for u in job.utterances]
        return [Outcome(u, None, (issue,)) for u, issue in zip(job.utterances, issues, strict=True)]


# ---- finishing


def _even_shards(
    out: Path, plan: Plan, markers: Mapping[str, dict[str, Any]], part: str, size: int
) -> Iterator[tuple[str, Any]]:
    """Name and rows of each shard of one part, in order; memory stays at one shard."""
    sizes = [(name, n, b) for name, marker in markers.items() for n, b in enumerate(marker["rows"].get(part, []))]
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
        slices = [(out / PARTS / f"{name}-{part}.parquet", rows[0], len(rows)) for name, rows in piece.items()]
        yield f"shards/{part}-{k:05d}-of-{len(pieces):05d}.parquet", writer.gather(slices)


def _metadata(plan: Plan) -> dict[str, Any]:
    """What every shard and the index say about themselves."""
    recipe = plan.jobs[0].recipe if plan.jobs else Recipe()
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "corpus": plan.corpus,
        "emotions": list(plan.emotions),
        "recipe": plan.record["recipe"],
        "recipe_digest": recipe.digest,
        "reader": plan.record["reader"],
        "raw": plan.record["raw"],
        "split": plan.split.name,
        "split_digest": plan.split.digest,
        "tools": {name: version(name) for name in TOOLS},
    }


def _all_issues(plan: Plan, markers: Mapping[str, dict[str, Any]]) -> list[Issue]:
    found = [Issue(**fields) for marker in markers.values() for fields in marker["issues"]]
    return sorted([*plan.issues, *found], key=lambda issue: (issue.utterance, issue.kind, issue.detail))


def _write_notes(out: Path, utterances: Sequence[Utterance], issues: Sequence[Issue]) -> None:
    lines = "".join(json.dumps(asdict(issue), ensure_ascii=False) + "\n" for issue in issues)
    files.write_text(out / "issues.jsonl", lines)
    temporary = out / "utterances.jsonl.tmp"
    write_utterances(temporary, sorted(utterances, key=lambda u: u.id))
    files.commit_file(temporary, out / "utterances.jsonl")


def _summary(out: Path, seconds: float, resumed: int, absent: int) -> Summary:
    dataset = reader_module.open_dataset(out)
    speech = sum(row["end"] - row["start"] for row in dataset.rows(["start", "end"]))
    index = dataset.index
    kept = sum(part["utterances"] for part in index["counts"].values())
    return Summary(
        kept, Counter(index["issues"]), index["faces"], index["faces_found"], speech, seconds, resumed, absent
    )
