"""Training: `train` runs a model, or resumes the run in a folder.

A step is `grad_accumulation` batches. Which utterances are in which batch follows from (seed, epoch) alone. So a run
that was killed resumes as if nothing had happened, and processes that share the batches of a step give the same run as
a single one.

E emotions.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.batch import Batch
from mesm_model.evaluation import metrics, page
from mesm_model.evaluation.evaluate import make_report
from mesm_model.evaluation.inference import probabilities
from mesm_model.evaluation.metrics import NAMES, Scores, beats_constant
from mesm_model.evaluation.scores import Report, to_json
from mesm_model.features.store import as_model_input, features_info
from mesm_model.loader import Plan, open_split, plan_epoch, read
from mesm_model.models.common import text, two_phase
from mesm_model.models.common.interface import SelectsSites
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import TEXT, Checkpoint
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import RunLog, claim_run, is_finished, read_log, read_run, read_scores, write_scores
from mesm_model.runs.settings import RunConfig, RuntimeOptions
from mesm_model.training.memory import SMALLER, enough_memory
from mesm_model.training.progress import EpochTable, say
from mesm_model.training.schedule import Plateau, annealed_top_p
from mesm_model.training.step import Stepper, set_deterministic

EpochCallback = Callable[[int, float], None]  # epochs done, selection score of the last one
FLUSH_EVERY = 20  # steps: reading a loss makes a GPU wait


@dataclass
class State:
    """The position of a run; saved in last.pt."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done in this one
    updates: int = 0  # steps done in all
    bad: int = 0  # epochs since the best
    best: float | None = None  # mean F1 on valid
    learned: bool = False  # whether that epoch beats a constant decision
    loss: float = 0.0  # summed over the steps of this epoch
    log_length: int = 0  # bytes
    seconds: float = 0.0  # of the epochs done
    plateau: Plateau = field(default_factory=Plateau)


def train(
    dataset: Dataset,
    run: RunConfig,
    out: Path,
    distributed: Distributed,
    runtime: RuntimeOptions | None = None,
    on_epoch: EpochCallback | None = None,
) -> dict[str, Any]:
    """Train `run` in the folder `out`, or resume it there; returns the content of scores.json.

    `on_epoch` is called after each epoch that is trained here; what it raises ends the run, which can be resumed.
    Raises DataError for a different run in `out`, a split that the dataset lacks, a batch that does not fit in memory.
    """
    if run.settings.grad_accumulation % distributed.world:
        raise DataError(
            f"{distributed.world} processes cannot share evenly the batches of a step, "
            f"{run.settings.grad_accumulation}; give --set grad_accumulation={distributed.world} and a --batch that is "
            "as many times smaller"
        )
    data = as_model_input(dataset, run.model, run.config)
    wanted = {
        "model": run.model,
        "config": asdict(run.config),
        "settings": asdict(run.settings),
        "data": checkpoints.about(data),
    }
    with claim_run(out, wanted, distributed):
        if not is_finished(out):
            trainer = Trainer(data, run, out, distributed, runtime or RuntimeOptions())
            trainer.run(on_epoch)
            trainer.finish()
        distributed.wait()
    return read_scores(out)


class Trainer:
    """A run while it is trained, in one of its processes."""

    def __init__(
        self, dataset: Dataset, run: RunConfig, out: Path, distributed: Distributed, runtime: RuntimeOptions
    ) -> None:
        """`dataset` as the model reads it."""
        self.dataset, self.name, self.config, self.settings = dataset, run.model, run.config, run.settings
        self.out, self.distributed, self.runtime = out, distributed, runtime
        set_deterministic(self.settings.deterministic)
        for split in ("train", "valid"):
            dataset.split(split)  # an error now, not after the text encoder is made
        encoder = self._prepare_text() if checkpoints.reads_text(self.config) else None
        self.splits = {
            split: open_split(dataset, split, encoder, runtime.cache)
            for split in ("train", "valid", "test")
            if split != "test" or split in dataset.splits
        }
        torch.manual_seed(self.settings.seed)
        with enough_memory(lambda: f": a {self.name} of these sizes does not fit; {SMALLER}"):
            self.model = checkpoints.make_model(self.name, self.config, out).to(distributed.device)
        two_phase.settle(self.model, features_info(dataset))
        self.stepper = Stepper(self.model, self.settings, self.splits["train"].labels, distributed)
        self.unread: list[tuple[int, Tensor]] = []  # steps whose loss and gradient norm are still on the device
        self.state = self._restore()
        self.log = RunLog(out, self.state.log_length, self.state.updates) if distributed.is_main else None

    def run(self, on_epoch: EpochCallback | None = None) -> None:
        """Train until the last epoch, or until valid has not improved for `patience` epochs."""
        table = self._table()
        while self.state.epoch < self.settings.epochs and self.state.bad < self.settings.patience:
            begun = time.monotonic()
            loss = self._train_epoch()
            trained = time.monotonic()
            scores, thresholds = self._validate()
            best = self._close_epoch(loss, scores, time.monotonic() - begun)
            if best:
                self._save("best.pt", thresholds=thresholds.tolist(), scores=scores.to_json())
            self._save("last.pt", resume=True)
            if table:
                table.add(self.state.epoch, loss, scores, best, len(self.splits["train"]) / (trained - begun))
            if on_epoch:
                on_epoch(self.state.epoch, selection_score(scores.mean("f1"), scores.mean("auc")))

    def finish(self) -> None:
        """Score the best checkpoint on valid and test; write scores.json and page.html."""
        self.distributed.wait()  # the main process may still be writing best.pt
        best = checkpoints.load(self.out)
        self.model.load_state_dict(best.weights)
        reports = {split: self._report(best, split) for split in self.splits if split != "train"}
        if not self.distributed.is_main:
            return
        if not self.state.learned and not self.runtime.quiet:
            say(f"{self.out}: no epoch beat a constant decision on valid (AUC 0.5): this model has learned nothing")
        page.write_run(self.out / "page.html", read_run(self.out), read_log(self.out), reports, best)
        summary = {
            "epochs": self.state.epoch,
            "best_epoch": best.epoch,
            "seconds": round(self.state.seconds, 1),
            "splits": {split: to_json(report) for split, report in reports.items()},
        }
        write_scores(self.out, summary)

    # ---- an epoch

    def _train_epoch(self) -> float:
        """The steps of this epoch that are still to do; returns the mean loss of all its steps."""
        state, split_data = self.state, self.splits["train"]
        plan = self._plan()
        batches = self._batches(plan)
        self.stepper.forward.train()
        self.stepper.lr_scale = state.plateau.factor
        if isinstance(self.model, SelectsSites):
            top_p, anneal = self.config.top_p, self.settings.top_p_anneal
            self.model.top_p = annealed_top_p(top_p, anneal, state.epoch, self.settings.epochs)
        saved = time.monotonic()
        with tqdm(
            total=len(split_data),
            initial=sum(plan.utterances(n) for n in range(state.step)),
            desc=f"epoch {state.epoch + 1}",
            unit=" utterances",
            disable=True if self.runtime.quiet or not self.distributed.is_main else None,  # None: off without terminal
            leave=False,
        ) as bar:
            for number in range(state.step, len(plan.steps)):
                stats = self.stepper.step(plan, number, state.epoch, batches)
                state.step, state.updates = number + 1, state.updates + 1
                self.unread.append((state.updates, stats))
                bar.update(plan.utterances(number))
                if len(self.unread) == FLUSH_EVERY:
                    self._log_steps()
                    bar.set_postfix(loss=f"{state.loss / state.step:.4f}", refresh=False)
                if time.monotonic() - saved > self.runtime.save_every:
                    self._save("last.pt", resume=True)
                    saved = time.monotonic()
        self._log_steps()
        return state.loss / len(plan.steps)

    def _plan(self) -> Plan:
        settings, costs = self.settings, self.splits["train"].megabytes
        return plan_epoch(
            costs, settings.batch, settings.batch_memory_mb, settings.grad_accumulation, settings.seed, self.state.epoch
        )

    def _batches(self, plan: Plan) -> Iterator[Batch]:
        """This process's batches of the steps still to do."""
        rank, world = self.distributed.rank, self.distributed.world
        mine = [batch for step in plan.steps[self.state.step :] for batch in step[rank::world]]
        return iter(read(self.splits["train"], mine, self.runtime.workers, self.distributed.device.type == "cuda"))

    def _validate(self) -> tuple[Scores, np.ndarray]:
        """Scores on valid with the thresholds that are best on valid, and these thresholds [E]."""
        if isinstance(self.model, SelectsSites):
            self.model.top_p = self.config.top_p
        probability, labels = self._probabilities("valid"), self.splits["valid"].labels
        thresholds = metrics.choose_thresholds(probability, labels)
        scores = metrics.score(probability, labels, thresholds)
        if self.settings.lr_schedule == "plateau":
            self.state.plateau.step(self.stepper.loss(probability, labels), self.settings.plateau_patience)
        return scores, thresholds

    def _close_epoch(self, loss: float, scores: Scores, seconds: float) -> bool:
        """Count and log the epoch; true when it is the best so far."""
        state, f1 = self.state, scores.mean("f1")
        learned = beats_constant(scores.mean("auc"))
        best = state.best is None or (learned, f1) > (state.learned, state.best)
        state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
        annealing = (
            isinstance(self.model, SelectsSites) and state.epoch <= self.settings.top_p_anneal * self.settings.epochs
        )
        state.bad = 0 if best or annealing else state.bad + 1
        if best:
            state.best, state.learned = f1, learned
        state.seconds += seconds
        if self.log:
            means = {name: _finite(scores.mean(name)) for name in NAMES}
            self.log.epoch(state.updates, {"epoch": state.epoch, "loss": _finite(loss), "valid": means, "best": best})
        return best

    def _log_steps(self) -> None:
        """Log the steps whose loss is still on the device."""
        if not self.unread:
            return
        numbers = torch.stack([stats for _, stats in self.unread]).tolist()
        for (update, _), (loss, norm) in zip(self.unread, numbers, strict=True):
            self.state.loss += loss
            if self.log:
                self.log.step(update, _finite(loss), _finite(norm))
        self.unread.clear()

    # ---- scores

    def _report(self, best: Checkpoint, split: str) -> Report:
        probability = self._probabilities(split)
        return make_report(
            self.out, self.model, best.thresholds, self.dataset, self.splits[split], probability, self.distributed
        )

    def _probabilities(self, split: str) -> np.ndarray:
        """float32 [n, E]"""
        return probabilities(
            self.model, self.splits[split], self.distributed, self.settings.precision, self.settings.batch_memory_mb,
            self.runtime.workers,
        )  # fmt: skip

    # ---- the folder

    def _table(self) -> EpochTable | None:
        if self.runtime.quiet or not self.distributed.is_main:
            return None
        resuming = self.state.epoch if self.state.updates else None
        return EpochTable(self.out, self.name, self.model, self.dataset.corpus, self.splits, resuming)

    def _prepare_text(self) -> Path:
        """The folder of the text encoder; the main process makes it."""
        folder = self.out / TEXT
        if self.distributed.is_main:
            texts = [row["text"] for row in self.dataset.rows(["text"], "train")]
            text.prepare(self.config.text_encoder, texts, folder, self.settings.max_tokens, self.settings.seed)
        self.distributed.wait()
        return folder

    def _restore(self) -> State:
        """Resume from last.pt, if there is one."""
        if not (self.out / "last.pt").is_file():
            return State()
        stored = checkpoints.load(self.out / "last.pt")
        checkpoints.check_text(stored, self.out)
        assert stored.resume is not None
        self.model.load_state_dict(stored.weights)
        self.stepper.resume(stored.resume)
        state = stored.resume["state"]
        return State(**state | {"plateau": Plateau(**state["plateau"])})

    def _save(
        self,
        name: str,
        resume: bool = False,
        thresholds: list[float] | None = None,
        scores: dict[str, list[float | None]] | None = None,
    ) -> None:
        if not self.log:
            return
        self._log_steps()
        self.log.sync()
        self.state.log_length = self.log.length
        stored = Checkpoint(
            model=self.name,
            config=asdict(self.config),
            settings=asdict(self.settings),
            data=checkpoints.about(self.dataset),
            text=checkpoints.text_digests(self.out),
            thresholds=thresholds or [],
            scores=scores or {},
            epoch=self.state.epoch,
            made_with=checkpoints.made_with(),
            weights=self.model.state_dict(),
            resume=self.stepper.resume_state() | {"state": asdict(self.state)} if resume else None,
        )
        checkpoints.save(self.out / name, stored)


def selection_score(f1: float | None, auc: float | None) -> float:
    """What an epoch is chosen by: its mean F1 on valid, 0 unless it beats a constant decision.

    F1 alone rewards deciding for every emotion of every utterance: 69.9 per cent on the planted dataset.
    """
    return f1 if f1 is not None and not math.isnan(f1) and beats_constant(auc) else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
