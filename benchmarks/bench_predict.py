"""What predicting a video costs, as ratios in one run: to building the same video plus asking the model once.

    python -m benchmarks.bench_predict [--seconds 120] [--rounds 3]

Inputs are made by `mesm_data.synth`: a 720x480 DivX dialogue and a 720p h264 film. The model is a narrow MESM that was
never trained. Everything runs on one core; figures are medians of interleaved rounds.
"""

import argparse
import statistics
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.bench_build import busy, dialogue, film  # first: it sets the number of threads
from mesm_data.build import Job, run_job
from mesm_data.clip import Clip
from mesm_data.dataset.reader import Dataset
from mesm_data.decode import make_clips
from mesm_data.faces.mtcnn import MTCNN
from mesm_data.utterance import Source
from mesm_model.prediction.predict import Model, load_model, predict, run_model
from mesm_model.prediction.timeline import write_page
from mesm_model.prediction.transcripts import Segment
from tests.model.untrained import write_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the dialogue; the film has half of it")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, job in (("dialogue", dialogue(folder, options.seconds)), ("film", film(folder, options.seconds / 2))):
            compare(what, job, folder, options.rounds)


def compare(what: str, job: Job, folder: Path, rounds: int) -> None:
    """One recording both ways; the build has the same utterances, of the whole picture and the film's own sound."""
    job = whole_picture(job)
    model = untrained(job, folder / f"run-{what}")
    lines = [Segment(u.start, u.end, u.text) for u in job.utterances]
    video = job.raw / job.utterances[0].source.video
    decoded = make_clips(job.raw, job.utterances, job.recipe, MTCNN())
    clips = [outcome.clip for outcome in decoded.outcomes if outcome.clip is not None]
    times: dict[str, list[float]] = {"build": [], "forward": [], "predict": [], "with page": []}
    for _ in range(rounds + 1):
        times["build"].append(busy(lambda: run_job(job)))
        times["forward"].append(busy(lambda: ask(model, clips)))
        times["predict"].append(busy(lambda: predict(model, video, lines)))
        times["with page"].append(busy(lambda: write_page(folder / "page.html", predict(model, video, lines))))
    seconds = {name: statistics.median(values[1:]) for name, values in times.items()}
    base = seconds["build"] + seconds["forward"]
    for name in ("predict", "with page"):
        told = f"[{seconds[name]:.1f} s; {seconds['build']:.1f} s, {seconds['forward']:.1f} s]"
        print(f"{name} / (build + forward), {what}: {seconds[name] / base:.2f} (goal <= 2)  {told}")


def whole_picture(job: Job) -> Job:
    utterances = tuple(replace(u, source=Source(u.source.video)) for u in job.utterances)
    return replace(job, utterances=utterances)


def untrained(job: Job, folder: Path) -> Model:
    """A narrow MESM for the recipe of the job."""
    emotions = [f"emotion {n}" for n in range(len(job.utterances[0].labels))]
    index = {"corpus": job.corpus, "emotions": emotions, "content": "", "split": "", "split_digest": ""}
    recipe = {"recipe": asdict(job.recipe), "recipe_digest": job.recipe.digest}
    return load_model(write_run(folder, Dataset(folder, index | recipe)))


def ask(model: Model, clips: list[Clip]) -> None:
    for clip in clips:
        run_model(model, clip, "So happy that you are here.")


if __name__ == "__main__":
    main()
