"""One mp4 clip per utterance, cut from the raw recordings, and metadata.csv."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.export.samples import Options, file_names
from mesm_data.files import csv_text, write_text
from mesm_data.media.encode import write_videos
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_data.utterance import Utterance, by_recording, read_utterances

TIMEOUT = 6 * 3600.0  # seconds that the clips of one recording may take


@dataclass(frozen=True)
class Job:
    """The clips of one recording that are still to be cut."""

    raw: Path
    utterances: tuple[Utterance, ...]
    outs: tuple[Path, ...]


def write_job(job: Job) -> None:
    """Cut the clips of one recording. Runs in a worker."""
    write_videos(job.raw, job.utterances, job.outs)


def write_clips(dataset: Dataset, out: Path, options: Options) -> dict[str, Any]:
    """Cut the clips that are not in `out` yet, then write metadata.csv.

    Raises DataError where files of the raw corpus are missing, and for a recording that cannot be cut.
    """
    raw = options.raw
    assert raw is not None
    utterances = list(read_utterances(dataset.folder / "utterances.jsonl"))
    names = file_names([u.id for u in utterances])
    paths = {u.id: out / f"{names[u.id]}.mp4" for u in utterances}
    todo = [u for u in utterances if not paths[u.id].is_file()]
    jobs = [Job(raw, group, tuple(paths[u.id] for u in group)) for group in by_recording(todo)]
    with (
        tqdm(total=len(utterances), initial=len(utterances) - len(todo), unit=" clips", disable=None) as bar,
        closing(run_jobs(write_job, jobs, options.workers, TIMEOUT)) as results,
    ):
        for job, result in results:
            if isinstance(result, WorkerFailed):
                raise DataError(f"{job.utterances[0].source.video}: {result.reason}")
            bar.update(len(job.utterances))
    write_text(out / "metadata.csv", metadata_csv(dataset, names))
    return {}


def metadata_csv(dataset: Dataset, names: dict[str, str]) -> str:
    """A line per clip: file_name, id, split, times, speaker, group, text, 0 or 1 for each emotion."""
    light = ("id", "split", "start", "end", "speaker", "group", "text")
    lines = [["file_name", *light, *dataset.emotions]]
    for row in dataset.rows([*light, "labels"]):
        lines.append([f"{names[row['id']]}.mp4", *(row[name] for name in light), *row["labels"]])
    return csv_text(lines)


def check_raw(dataset: Dataset, raw: Path | None) -> None:
    """Raises DataError unless the folder holds every file that the dataset was built from."""
    if raw is None:
        raise DataError("clips are cut from the raw recordings; give --raw FOLDER, the corpus that was built")
    utterances = read_utterances(dataset.folder / "utterances.jsonl")
    sources = {name for u in utterances for name in (u.source.video, u.source.audio) if name}
    missing = sorted(name for name in sources if not (raw / name).exists())
    if missing:
        raise DataError(
            f"{raw}: {len(missing)} of {len(sources)} files are missing, such as {missing[0]}; expected the folder "
            f"that {dataset.folder} was built from"
        )
