"""A campaign of faults: damaged media, killed commands, flipped bits. Prints tries and failures.

    python -m benchmarks.faults [--tries 300] [--seed 0] [--only media|kills|flips]

`--tries` is the number per line of the table. None failed of N tries bounds the rate of failures by 3 / N at 95 %
confidence (the rule of three): 300 tries show that less than one in a hundred fails. The default takes hours.

media   Videos of every codec and container that PyAV writes, whole and damaged. Every frame has its number in it. A
        failure is a frame that shows another number than its time says or none, a wanted frame that is neither given
        nor reported, an error that is no MediaError, a crash, a process that takes more than a minute. Where a damaged
        file lacks frames, the nearest one left is right.
kills   A command is killed (SIGKILL, the process and its workers) at a random moment and given again. A failure is a
        second run that does not end well, or whose files differ from those of a run that was left alone.
flips   One random bit of a file is flipped and the file is read again. A failure is a reading that gives no error and
        other values, or an error that is none of the product's own.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mesm_data.dataset.verify import verify
from mesm_data.errors import DataError, MediaError
from mesm_data.media.container import DecodeLog
from mesm_data.media.video import frames
from mesm_data.pool import WorkerFailed, run_jobs
from mesm_data.synth.stamp import read_frame_number
from mesm_model.features import store
from mesm_model.runs import checkpoint
from tests.data.media_files import write_video

DATA, MODEL = [sys.executable, "-m", "mesm_data.cli"], [sys.executable, "-m", "mesm_model.cli"]
RATE, FRAMES = Fraction(25), 90
MEDIA_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Line:
    """One line of the table: what was tried, how often, and what came of it."""

    what: str
    tries: int
    outcomes: Counter[str]  # every outcome but "ok" and "refused" is a failure

    @property
    def failures(self) -> int:
        return self.tries - self.outcomes["ok"] - self.outcomes["refused"]

    def __str__(self) -> str:
        rate = f"< {3 / self.tries:.1%}" if not self.failures else f"{self.failures / self.tries:.1%}"
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        return f"{self.what:40} {self.tries:6} tries {self.failures:5} failures ({rate})  {told}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=300, help="tries per line of the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("media", "kills", "flips"), help="one section")
    parser.add_argument("--match", default="", help="only lines that contain this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, section in {"media": media, "kills": kills, "flips": flips}.items():
            if options.only in (None, name):
                for line in section(Path(folder), options.tries, options.seed, options.match):
                    print(line, flush=True)
                    failures += line.failures
    print(f"{failures} failures")


# ---- media

# name, codec, options, pixel format
VIDEOS = (
    ("h264.mp4", "libx264", {"g": "30", "bf": "3"}, "yuv420p"),
    ("h264.mkv", "libx264", {"g": "30", "bf": "3"}, "yuv420p"),
    ("h264.avi", "libx264", {"g": "30", "bf": "3"}, "yuv420p"),
    ("h264.ts", "libx264", {"g": "30", "bf": "3"}, "yuv420p"),
    ("h264.flv", "libx264", {"g": "30"}, "yuv420p"),
    ("hevc.mp4", "libx265", {"x265-params": "keyint=30:log-level=none"}, "yuv420p"),
    ("vp8.webm", "libvpx", {"g": "30", "deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("vp9.webm", "libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("av1.mp4", "libsvtav1", {"g": "30", "preset": "12"}, "yuv420p"),
    ("divx.avi", "mpeg4", {"g": "15"}, "yuv420p"),
    ("mpeg4.mp4", "mpeg4", {"g": "15", "bf": "2"}, "yuv420p"),
    ("mpeg2.ts", "mpeg2video", {"g": "15", "bf": "2"}, "yuv420p"),
    ("mpeg1.mpg", "mpeg1video", {"g": "15"}, "yuv420p"),
    ("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
    ("wmv2.wmv", "wmv2", {"g": "15"}, "yuv420p"),
    ("ffv1.mkv", "ffv1", {}, "yuv420p"),
)


class Damaged(NamedTuple):
    """A damaged copy of a video, to be decoded in a worker."""

    path: Path
    seed: int


def media(folder: Path, tries: int, seed: int, match: str) -> Iterator[Line]:
    """Each video, whole once and then with each kind of damage."""
    for name, codec, options, form in VIDEOS:
        video = write_video(folder / name, codec, RATE, options, noise=np.random.default_rng(0), pixels=form)
        for kind, damage in DAMAGES.items():
            if match in f"{name}, {kind}":
                yield _decode_damaged(video, kind, damage, tries if kind != "whole" else 1, seed)


def _decode_damaged(video: Path, kind: str, damage: "Damage", tries: int, seed: int) -> Line:
    content = video.read_bytes()
    jobs = []
    for number in range(tries):
        path = video.with_name(f"{number}-{video.name}")
        path.write_bytes(damage(bytearray(content), random.Random(f"{seed} {kind} {number}")))
        jobs.append(Damaged(path, number))
    outcomes = Counter(
        ("hangs" if "within" in result.reason else "crash") if isinstance(result, WorkerFailed) else result
        for _, result in run_jobs(decode, jobs, 1, MEDIA_TIMEOUT)
    )
    for job in jobs:
        job.path.unlink()
    return Line(f"{video.name}, {kind}", tries, outcomes)


def decode(job: Damaged) -> str:
    """What came of decoding every third frame. Runs in a worker."""
    wanted = list(range(job.seed % 3, FRAMES, 3))
    log, found, wrong = DecodeLog(), set[int](), 0
    try:
        for frame in frames(job.path, [number / float(RATE) for number in wanted], log):
            found |= set(frame.indices)
            wrong += _number(frame.image) != round(frame.time * RATE)
    except MediaError:
        return "refused"
    except Exception as error:  # noqa: BLE001  any other error is what is looked for
        return f"{type(error).__name__}"
    if wrong:
        return "wrong frame"
    reached = [index for index, number in enumerate(wanted) if number / float(RATE) < log.end - 1 / float(RATE)]
    return "ok" if set(reached) <= found | set(log.missed) else "lost without a word"


def _number(image: np.ndarray) -> int | None:
    try:
        return read_frame_number(image)
    except ValueError:
        return None


Damage = Callable[[bytearray, random.Random], bytes]


def _cut(content: bytearray, chance: random.Random) -> bytes:
    return bytes(content[: chance.randrange(len(content))])


def _overwrite(content: bytearray, chance: random.Random, size: int, header: bool = False) -> bytes:
    """Noise in place of some bytes, anywhere or within the first 512."""
    start = chance.randrange(512 if header else max(1, len(content) - size))
    content[start : start + size] = chance.randbytes(len(content[start : start + size]))
    return bytes(content)


def _zero(content: bytearray, chance: random.Random) -> bytes:
    """A hole of 4096 bytes, as a download that was resumed wrongly leaves it."""
    start = chance.randrange(len(content))
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    return bytes(content)


def _drop(content: bytearray, chance: random.Random) -> bytes:
    """Some bytes are gone, and what follows moves up."""
    start = chance.randrange(len(content))
    del content[start : start + chance.randrange(1, 3000)]
    return bytes(content)


DAMAGES: dict[str, Damage] = {
    "whole": lambda content, chance: bytes(content),
    "cut short": _cut,
    "header overwritten": partial(_overwrite, size=8, header=True),
    "3000 bytes overwritten": partial(_overwrite, size=3000),
    "hole of zeros": _zero,
    "bytes gone": _drop,
}


# ---- kills


def kills(folder: Path, tries: int, seed: int, match: str) -> Iterator[Line]:
    """Each command killed at a random moment and given again."""
    for name, command in _commands(folder).items():
        if match in name:
            yield _kill(name, folder / "kills", command, tries, random.Random(f"{seed} {name}"))


def _commands(folder: Path) -> dict[str, list[str]]:
    """Command lines that lack only their --out, and what they need."""
    raw, planted, features = folder / "raw", folder / "planted", folder / "features"
    _run([*DATA, "synth", "mosei", "--out", str(raw)])
    _run([*DATA, "synth", "planted", "--train", "24", "--out", str(planted)])
    _run([*MODEL, "features", str(planted), "--out", str(features)])
    train = [*MODEL, "train", str(planted), "--model", "lf-lstm", "--features", str(features), "--epochs", "3"]
    return {
        "build": [*DATA, "build", "mosei", "--raw", str(raw), "--max-issues", "60%"],
        "export --to webdataset": [*DATA, "export", str(planted), "--to", "webdataset", "--i-hold-the-licence"],
        "features": [*MODEL, "features", str(planted)],
        "train": train,
    }


def _kill(what: str, folder: Path, command: Sequence[str], tries: int, chance: random.Random) -> Line:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    begun = time.monotonic()
    _run([*command, "--out", str(folder / "a")])
    seconds = time.monotonic() - begun
    _run([*command, "--out", str(folder / "b")])
    first, second = _digests(folder / "a"), _digests(folder / "b")
    steady = {name for name, digest in first.items() if second.get(name) == digest}  # others hold dates or durations
    outcomes: Counter[str] = Counter()
    for number in range(tries):
        out = folder / f"out{number}"
        _start_and_kill([*command, "--out", str(out)], chance.uniform(0, 1.05 * seconds))
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
        if "Traceback" in done.stderr:
            outcomes["traceback"] += 1
        elif done.returncode:
            outcomes["second run fails"] += 1
        else:
            found = _digests(out)
            outcomes["ok" if all(found.get(name) == first[name] for name in steady) else "other bytes"] += 1
        shutil.rmtree(out, ignore_errors=True)
    return Line(f"{what}, killed", tries, outcomes)


def _start_and_kill(command: Sequence[str], seconds: float) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: itself and its workers
        process.wait()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- flips


def flips(folder: Path, tries: int, seed: int, match: str) -> Iterator[Line]:
    """One bit of each kind of file flipped, and the file read."""
    planted, features, run = folder / "flip", folder / "flip-features", folder / "flip-run"
    _run([*DATA, "synth", "planted", "--train", "24", "--out", str(planted)])
    _run([*MODEL, "features", str(planted), "--out", str(features)])
    train = [*MODEL, "train", str(planted), "--model", "lf-lstm", "--features", str(features), "--epochs", "1"]
    _run([*train, "--out", str(run)])
    dataset = partial(_verify, planted)
    targets: dict[str, tuple[Path, Callable[[], object]]] = {
        "shard, by verify": (next((planted / "shards").glob("train*")), dataset),
        "index.json, by verify": (planted / "index.json", dataset),
        "utterances.jsonl, by verify": (planted / "utterances.jsonl", dataset),
        "best.pt": (run / "best.pt", partial(_checkpoint, run)),
    }
    for path in sorted(path for path in features.rglob("*") if path.is_file()):
        targets[f"features: {path.relative_to(features)}"] = (path, partial(_features, planted, features))
    for name, (path, read) in targets.items():
        if match in name:
            yield _flip(name, path, read, tries, random.Random(f"{seed} {name}"))


def _flip(what: str, path: Path, read: Callable[[], object], tries: int, chance: random.Random) -> Line:
    content, expected = path.read_bytes(), read()
    outcomes: Counter[str] = Counter()
    for _ in range(tries):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            outcomes["ok" if read() == expected else "other values"] += 1
        except DataError:
            outcomes["refused"] += 1
        except Exception as error:  # noqa: BLE001  any other error is what is looked for
            outcomes[type(error).__name__] += 1
    path.write_bytes(content)
    return Line(f"{what}, one bit", tries, outcomes)


def _verify(dataset: Path) -> str:
    """A refusal where verify finds a problem: then nobody reads the changed values for good ones."""
    problems = verify(dataset)
    if problems:
        raise DataError(problems[0])
    return "whole"


def _checkpoint(run: Path) -> str:
    return checkpoint.digest_of(vars(checkpoint.load(run)))


def _features(dataset: Path, features: Path) -> str:
    from mesm_data.dataset.reader import load

    attached = store.attach(load(dataset), features)
    digest = hashlib.sha256()
    for split in ("train", "valid", "test"):
        for name, ragged in sorted(store.open_split(attached, split).items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(ragged.rows).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
