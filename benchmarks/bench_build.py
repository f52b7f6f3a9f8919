"""What a build costs, as ratios in one run: to bare decoding, to the published notebooks' way, one worker to two.

    python -m benchmarks.bench_build [--seconds 300] [--rounds 3]

Inputs are made by `mesm_data.synth`: a 720x480 DivX dialogue and a 720p h264 film. Each side runs on one core; figures
are medians of interleaved rounds. The published way is written anew from its description: the whole video into memory,
every frame of every utterance as a JPEG file, mel and face detection again for each item that the loader gives.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import av
import imageio_ffmpeg
import numpy as np
import torch
from facenet_pytorch import MTCNN as PublishedMTCNN
from PIL import Image
from scipy.io import wavfile

from mesm_data import corpora, synth
from mesm_data.build import PARTS, Job, Settings, build, make_plan, run_job
from mesm_data.clip import Recipe
from mesm_data.dataset import reader, schema
from mesm_data.pool import run_jobs
from mesm_data.utterance import Utterance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the dialogue; the film has 0.6 of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("decode", "notebooks", "workers", "reading"), help="one section")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sections = {
            "decode": against_decoding,
            "notebooks": against_notebooks,
            "workers": two_workers,
            "reading": reading,
        }
        for name, section in sections.items():
            if options.only in (None, name):
                section(Path(folder), options.seconds, options.rounds)


def against_decoding(folder: Path, seconds: float, rounds: int) -> None:
    """The whole build of one recording, against `ffmpeg -f null`, which only decodes it."""
    for name, goal, job in (("dialogue", 4.5, dialogue(folder, seconds)), ("film", 1.8, film(folder, 0.6 * seconds))):
        video = job.raw / job.utterances[0].source.video
        ours, bare = interleaved(rounds, lambda j=job: run_job(j), lambda v=video: decode_only(v))
        print(f"build / decoding alone, {name}: {ours / bare:.2f} (goal <= {goal})  [{ours:.1f} s, {bare:.1f} s]")


def against_notebooks(folder: Path, seconds: float, rounds: int) -> None:
    """Time and memory against the way of the published notebooks, on a fifth of the length: they hold it in memory."""
    for name, goal, job, cut, faces in (
        ("dialogue", 3.5, dialogue(folder, 0.2 * seconds), cut_dialogue, {"pattern": "image_L_*.jpg", "step": 15}),
        ("film", 2.0, film(folder, 0.6 * seconds), cut_film, {"pattern": "image_*.jpg", "step": 1}),
    ):
        ours, cutting, detecting = interleaved(
            rounds, lambda j=job: run_job(j), lambda j=job, c=cut: c(j), lambda j=job, f=faces: detect_faces(j, **f)
        )
        print(
            f"notebooks' way with one pass of face detection / build, {name}: {(cutting + detecting) / ours:.2f} "
            f"(goal >= {goal}), without that pass {cutting / ours:.2f}"
            f"  [{cutting:.1f} s + {detecting:.1f} s, {ours:.1f} s]"
        )
        length = max(u.end for u in job.utterances)
        print(f"  memory for {length:.0f} s: theirs {peak_mb(cut, job):.0f} MB, ours {peak_mb(run_job, job):.0f} MB")


def two_workers(folder: Path, seconds: float, rounds: int) -> None:
    """Four recordings in one process and in two, without the time that processes take to start."""
    jobs = plan(
        folder / "four", "iemocap", lambda out: synth.write_iemocap(out, 4, seconds=0.3 * seconds, awkward=False)
    )
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers in times:
            start = clock(lambda w=workers: list(run_jobs(run_job, brief(jobs[:w]), w, 600)))
            times[workers].append(clock(lambda w=workers: list(run_jobs(run_job, jobs, w, 3600))) - start)
    one, two = (statistics.median(values) for values in times.values())
    print(f"one worker / two workers: {one / two:.2f} (goal >= 1.9)  [{one:.1f} s, {two:.1f} s]")


def reading(folder: Path, seconds: float, rounds: int) -> None:
    """Utterances a second for training: shards, against JPEG folders with mel and face detection for each item."""
    job = dialogue(folder, 0.2 * seconds)
    out = folder / "read"
    build("iemocap", job.raw, out, Settings(scheme="random", workers=1))
    cut_dialogue(job)
    items = [job.out / "jpeg" / u.id for u in job.utterances]
    detector = PublishedMTCNN(image_size=48, margin=2, post_process=False)

    def ours() -> None:
        for table in reader.load(out).tables():
            for row in range(table.num_rows):
                schema.faces_of(table, row).sum()
                schema.mels_of(table, row).sum()

    fast, slow = interleaved(rounds, ours, lambda: [load_item(item, detector) for item in items])
    print(f"shards / published loader, utterances a second: {slow / fast:.0f} (goal >= 200)")


# ---- inputs


def dialogue(folder: Path, seconds: float) -> Job:
    raw = folder / f"dialogue-{seconds:g}"
    return plan(raw, "iemocap", lambda out: synth.write_iemocap(out, 1, seconds=seconds, awkward=False))[0]


def film(folder: Path, seconds: float) -> Job:
    raw = folder / f"film-{seconds:g}"
    return plan(raw, "mosei", lambda out: synth.write_mosei(out, 1, seconds=seconds, awkward=False, size=(1280, 720)))[
        0
    ]


def plan(raw: Path, corpus: str, write: Callable[[Path], None]) -> list[Job]:
    if not raw.exists():
        write(raw)
    out = raw.with_name(raw.name + "-out")
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    recipe = Recipe(sample_rate=corpora.load(corpus).SAMPLE_RATE)
    split = "random"
    return list(make_plan(corpus, raw, out, Settings(scheme=split, recipe=recipe)).jobs)


def brief(jobs: list[Job]) -> list[Job]:
    """The same recordings, one utterance each: what it takes to start a process and its libraries."""
    return [
        replace(job, utterances=job.utterances[:1], splits=job.splits[:1], name=f"brief{n}")
        for n, job in enumerate(jobs)
    ]


# ---- the other side


def decode_only(video: Path) -> None:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "quiet",
        "-threads",
        "1",
        "-i",
        str(video),
        "-an",
        "-f",
        "null",
        "-",
    ]
    subprocess.run(command, check=True)


def cut_dialogue(job: Job) -> None:
    """All frames in memory twice (list and stack), both halves of each frame of each utterance as JPEG, three wavs."""
    images, rate = read_all(job.raw / job.utterances[0].source.video, 1)
    sampling, signal = wavfile.read(job.raw / str(job.utterances[0].source.audio))
    for u in job.utterances:
        folder = job.out / "jpeg" / u.id
        folder.mkdir(parents=True, exist_ok=True)
        for channel in (slice(None), 0, 1):
            wavfile.write(folder / f"audio_{channel}.wav", sampling, piece(signal, u, sampling)[:, channel])
        for n, image in enumerate(piece(images, u, rate)):
            for side, left in (("L", 68), ("R", 428)):
                save_jpeg(folder / f"image_{side}_{n}.jpg", image[128:352, left : left + 224])


def cut_film(job: Job) -> None:
    """A frame each half second in memory, those of each utterance as JPEG, its wav."""
    u = job.utterances[0]
    images, _ = read_all(job.raw / u.source.video, 15)
    sampling, signal = wavfile.read(job.raw / str(u.source.audio))
    for u in job.utterances:
        folder = job.out / "jpeg" / u.id
        folder.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / "audio.wav", sampling, piece(signal, u, sampling))
        for n, image in enumerate(piece(images, u, 2)):
            save_jpeg(folder / f"image_{n}.jpg", image)


def read_all(video: Path, every: int) -> tuple[np.ndarray, float]:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        images = [f.to_ndarray(format="rgb24") for n, f in enumerate(container.decode(stream)) if n % every == 0]
        return np.stack(images), float(stream.average_rate or 0)


def piece(values: np.ndarray, u: Utterance, rate: float) -> np.ndarray:
    return values[int(rate * u.start) : int(rate * u.end)]


def save_jpeg(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path, quality=95)


def detect_faces(job: Job, pattern: str, step: int) -> None:
    """One pass over what was cut: every image that the published loader would take."""
    detector = PublishedMTCNN(image_size=48, margin=2, post_process=False)
    for u in job.utterances:
        paths = sorted((job.out / "jpeg" / u.id).glob(pattern), key=lambda p: int(p.stem.rpartition("_")[2]))
        for path in paths[::step]:
            detector.detect(Image.open(path))


def load_item(folder: Path, detector: PublishedMTCNN) -> None:
    """What the published dataset and model do for one utterance at each step."""
    for path in sorted(folder.glob("image_L_*.jpg"))[::15]:
        detector.detect(Image.open(path))
    _, signal = wavfile.read(folder / "audio_0.wav")
    window = torch.hann_window(400)
    samples = torch.from_numpy(signal.astype(np.float32) / 32768)
    torch.stft(samples, 400, 200, window=window, return_complex=True).abs().square()


# ---- timing


def clock(work: Callable[[], object]) -> float:
    """Seconds by the wall."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def busy(work: Callable[[], object]) -> float:
    """Processor seconds of this process and its children: with one thread as good as the wall's, and steadier."""
    begun = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - begun


def interleaved(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """Median processor seconds of each, run in turn, after one round that does not count."""
    times = [[busy(side) for side in sides] for _ in range(rounds + 1)][1:]
    return [statistics.median(taken) for taken in zip(*times, strict=True)]


def peak_mb(work: Callable[[Job], object], job: Job) -> float:
    """Peak memory of a fresh process that does this once."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, work, job).result()


def _peak(work: Callable[[Job], object], job: Job) -> float:
    work(job)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss begins at what the parent held
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
