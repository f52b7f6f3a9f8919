"""Training, evaluating and predicting from Python: what `import mesm_model` offers.

Each function does what the command of its name does. Paths are `str` or `Path`; errors that a user can cause are
`mesm_data.errors.DataError`, with one line that names the file and the way out.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.reader import load as load_dataset
from mesm_data.errors import DataError
from mesm_model.evaluation.evaluate import evaluate as evaluate_run
from mesm_model.features.store import attach
from mesm_model.models import MODALITIES
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.folder import features_of
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train as train_run

if TYPE_CHECKING:
    from mesm_model.evaluation.scores import Report
    from mesm_model.prediction.predict import Model, Result
    from mesm_model.prediction.transcripts import Segment


@dataclass(frozen=True, repr=False, eq=False)
class LoadedRun:
    """A trained run: its best checkpoint, to evaluate on datasets and to predict videos with.

    Made by `train` and `load`. `checkpoint` holds plain values and the weights on the CPU; `device` is where `evaluate`
    and `predict` compute: auto, cpu, cuda or cuda:N.
    """

    folder: Path
    checkpoint: Checkpoint
    device: str = "auto"

    @property
    def model(self) -> str:
        """Name of the model, such as "mesm"."""
        return self.checkpoint.model

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the model's outputs."""
        return tuple(self.checkpoint.data["emotions"])

    @property
    def modalities(self) -> str:
        """Letters of t (text), a (audio), v (vision)."""
        return self.checkpoint.config["modalities"]

    @property
    def thresholds(self) -> dict[str, float]:
        """Emotion -> the probability above which it is decided present; chosen on valid in training."""
        return dict(zip(self.emotions, self.checkpoint.thresholds, strict=True))

    def evaluate(
        self, dataset: Dataset | str | Path, split: str | None = None, *, features: str | Path | None = None
    ) -> "Report":
        """Scores on one split of a dataset, with the thresholds chosen on valid. `report.to_pandas()` has them all.

        `split` is that of `ds.split("test")`, else test where the dataset has one. `features` is the folder of the
        features of a two-phase model, by default the one it was trained with. Raises CheckpointError for a dataset with
        other emotions, another recipe or other features, DataError for a split that it lacks.
        """
        opened = _whole(dataset)
        split = split or _default_split(load_dataset(dataset) if isinstance(dataset, str | Path) else dataset)
        folder = Path(features) if features else features_of(self.folder)
        with init_distributed(self.device) as distributed:
            return evaluate_run(self.folder, attach(opened, folder) if folder else opened, split, distributed)[0]

    def predict(
        self,
        video: str | Path,
        transcript: "str | Path | list[Segment] | None" = None,
        *,
        text: str | None = None,
        face: int | None = None,
    ) -> "Result":
        """Predict the emotions of each utterance of a video; `result.to_pandas()` has one row per utterance.

        `transcript` is a file (.srt, .vtt, lines of start, end and text, in seconds) or its `Segment`s; `text` is
        one text for the whole video instead. A model without text needs neither. `face` chooses among the people in
        view: 1, the default, is the largest.

        Raises DataError for a two-phase model, for a model that reads text and gets none and for a face that is not
        there, MediaError for a file of which nothing can be used.
        """
        from mesm_model.prediction.predict import predict as predict_video

        return predict_video(self._video_model, video, transcript, text=text, face=face)

    @cached_property
    def _video_model(self) -> "Model":
        from mesm_model.prediction.predict import load_model

        with init_distributed(self.device) as distributed:
            return load_model(self.folder, distributed.device)

    def __repr__(self) -> str:
        named = ", ".join(MODALITIES[letter] for letter in self.modalities)
        valid = self.checkpoint.scores
        known = {kind: [v for v in valid.get(kind, []) if v is not None] for kind in ("acc", "f1", "auc")}
        means = ", ".join(f"{kind} {100 * sum(v) / len(v):.1f}" for kind, v in known.items() if v)
        return (
            f"LoadedRun({str(self.folder)!r}): {self.model} on {named}, trained on {self.checkpoint.data['corpus']} "
            f"({', '.join(self.emotions)}); best epoch {self.checkpoint.epoch}, on valid: {means or 'not scored'}"
        )


def train(
    dataset: Dataset | str | Path,
    model: str = "mesm",
    *,
    out: str | Path | None = None,
    features: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
    cache: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> LoadedRun:
    """Train a model on a dataset, or resume the run in `out`; returns the finished run.

        run = mesm_model.train("out/iemocap", model="mesm", top_p=0.5, epochs=8, out="runs/mesm")

    `settings` are fields of the model's `Config` and of `TrainSettings`, as in `--set NAME=VALUE`; all others are what
    the dataset or the model suggests, else the paper's. `out` is runs/MODEL by default; a finished run there is loaded,
    an interrupted one resumed with the same result. `features` is a folder of `mesm features`, for two-phase models.
    `workers` processes load data; `cache` is the folder of a memory-mapped copy, `.cache` in the dataset by default.
    `quiet` prints no table of epochs to stderr.

    Raises SettingError for an unknown model or setting and for a value that cannot be, DataError for another run in
    `out`, a dataset without the splits train and valid, and where memory does not suffice.
    """
    opened = _whole(dataset)
    opened = attach(opened, Path(features)) if features else opened
    run = resolve_config(opened, model, settings)
    folder = Path(out or Path("runs", model))
    runtime = RuntimeOptions(workers=workers, cache=Path(cache) if cache else None, quiet=quiet)
    with init_distributed(device) as distributed:
        train_run(opened, run, folder, distributed, runtime)
    return load(folder, device)


def load(run: str | Path, device: str = "auto") -> LoadedRun:
    """A trained run: the folder of `mesm train`, or its best.pt.

    Raises CheckpointError where there is none, where it is damaged, and for a folder that holds several seeds.
    """
    checkpoint = checkpoints.load(Path(run))
    if not checkpoint.thresholds:
        raise checkpoints.CheckpointError(f"{run}: last.pt is for resuming and has no thresholds; give best.pt")
    return LoadedRun(Path(run), checkpoint, device)


def evaluate(
    run: LoadedRun | str | Path,
    dataset: Dataset | str | Path,
    split: str | None = None,
    *,
    features: str | Path | None = None,
) -> "Report":
    """Scores of a run on one split of a dataset; see `LoadedRun.evaluate`."""
    loaded = run if isinstance(run, LoadedRun) else load(run)
    return loaded.evaluate(dataset, split, features=features)


def predict(
    run: LoadedRun | str | Path,
    video: str | Path,
    transcript: "str | Path | list[Segment] | None" = None,
    *,
    text: str | None = None,
    face: int | None = None,
) -> "Result":
    """Predict the emotions of each utterance of a video with a run of fe2e or mesm; see `LoadedRun.predict`."""
    loaded = run if isinstance(run, LoadedRun) else load(run)
    return loaded.predict(video, transcript, text=text, face=face)


def _whole(dataset: Dataset | str | Path) -> Dataset:
    """The dataset with all its splits, and its features where it has some: scoring one split reads others too."""
    if isinstance(dataset, str | Path):
        return load_dataset(dataset)
    whole = load_dataset(dataset.folder)
    features = dataset.index.get("features")
    return attach(whole, Path(features["folder"])) if features else whole


def _default_split(dataset: Dataset) -> str:
    """The only split of `ds.split(...)`; else test, or valid where there is no test."""
    if len(dataset.splits) == 1:
        return dataset.splits[0]
    found = next((split for split in ("test", "valid") if split in dataset.splits), None)
    if found is None:
        raise DataError(f"{dataset.folder}: no split test or valid to evaluate on, found {', '.join(dataset.splits)}")
    return found
