"""One mp4 clip per utterance, cut from the raw recordings, and metadata.csv."""

import csv
import io
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.export.samples import file_names
from mesm_data.files import write_text
from mesm_data.media.encode import write_videos
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_data.utterance import Utterance, read_utterances

PATIENCE = 6 * 3600.0  # seconds that the films of one recording may take


@dataclass(frozen=True)
class _Job:
    """The films of one recording that are still to be cut."""

    raw: Path
    utterances: tuple[Utterance, ...]
    outs: tuple[Path, ...]


def write_job(job: _Job) -> None:
    """Runs in a worker."""
    write_videos(job.raw, job.utterances, job.outs)


def write_clips(dataset: Dataset, out: Path, raw: Path | None, workers: int) -> dict[str, Any]:
    assert raw is not None
    utterances = list(read_utterances(dataset.folder / "utterances.jsonl"))
    names = file_names([u.id for u in utterances])
    recordings: dict[tuple[str, float], list[Utterance]] = {}
    for u in utterances:
        if not (out / f"{names[u.id]}.mp4").is_file():
            recordings.setdefault((u.source.video, u.source.offset), []).append(u)
    jobs = [_Job(raw, tuple(group), tuple(out / f"{names[u.id]}.mp4" for u in group)) for group in recordings.values()]
    left = sum(len(job.utterances) for job in jobs)
    with (
        tqdm(total=len(utterances), initial=len(utterances) - left, unit=" films", disable=None) as bar,
        closing(run_jobs(write_job, jobs, workers, PATIENCE)) as results,
    ):
        for job, result in results:
            if isinstance(result, WorkerFailed):
                raise DataError(f"{job.utterances[0].source.video}: {result.reason}")
            bar.update(len(job.utterances))
    write_text(out / "metadata.csv", _metadata(dataset, names))
    return {}


def _metadata(dataset: Dataset, names: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    light = ("id", "split", "start", "end", "speaker", "group", "text")
    writer.writerow(["file_name", *light, *dataset.emotions])
    for row in dataset.rows([*light, "labels"]):
        writer.writerow([f"{names[row['id']]}.mp4", *(row[name] for name in light), *row["labels"]])
    return text.getvalue()


def check_raw(dataset: Dataset, raw: Path | None) -> None:
    if raw is None:
        raise DataError("clips are cut from the raw recordings; give --raw FOLDER, the corpus that was built")
    sources = {
        n for u in read_utterances(dataset.folder / "utterances.jsonl") for n in (u.source.video, u.source.audio)
    }
    missing = sorted(name for name in sources if name and not (raw / name).exists())
    if missing:
        raise DataError(
            f"{raw}: {len(missing)} of {len(sources - {None})} files are not there, as {missing[0]}; expected the "
            f"folder that {dataset.folder} was built from"
        )
