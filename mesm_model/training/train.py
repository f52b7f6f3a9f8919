"""Training: `train` runs a model, or goes on where the run in a folder stopped.

A step is `grad_accumulation` batches; their gradients are added up, then the weights change once. The batches, and the random
numbers of each, follow from (seed, epoch, number) alone, never from what was drawn before. So a run that was killed
goes on as if nothing had happened, and processes that share the batches of a step give the same run as one alone.

E emotions.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.batch import Batch
from mesm_model.evaluation import metrics, page
from mesm_model.evaluation.evaluate import make_report
from mesm_model.evaluation.inference import forward, probabilities
from mesm_model.evaluation.metrics import NAMES, Scores
from mesm_model.evaluation.scores import Report, to_json
from mesm_model.features.store import as_model_input, features_info
from mesm_model.loader import Plan, open_part, plan_epoch, read
from mesm_model.models.common import text, two_phase
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs import folder as folder_module
from mesm_model.runs.checkpoint import TEXT, Checkpoint
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.settings import RuntimeOptions, Settings
from mesm_model.training.running_statistics import RunningStatistics

EpochCallback = Callable[[int, float], None]  # epochs done, mean F1 on valid
FLUSH_EVERY = 20  # steps: reading a loss makes a GPU wait
_SMALLER = "lower --set width=... or hidden"


@dataclass
class State:
    """Where a run is; part of last.pt."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done in this one
    updates: int = 0  # steps done in all
    bad: int = 0  # epochs since the best
    best: float | None = None  # mean F1 on valid
    loss: float = 0.0  # summed over the steps of this epoch
    log_length: int = 0  # bytes
    seconds: float = 0.0  # of the epochs done


def train(
    dataset: Dataset,
    name: str,
    config: Any,
    settings: Settings,
    out: Path,
    ranks: Distributed,
    machine: RuntimeOptions | None = None,
    watch: EpochCallback | None = None,
) -> dict[str, Any]:
    """Train the model `name`, or go on where the run in `out` stopped; returns what scores.json says.

    `watch` is told of each epoch that is trained here; what it raises ends the run, which can be gone on with. Raises
    DataError for another run in `out`, a part that the dataset lacks, a batch that does not fit into memory.
    """
    machine = machine or RuntimeOptions()
    if settings.grad_accumulation % ranks.world:
        raise DataError(
            f"{ranks.world} processes cannot share evenly the batches of a step, {settings.grad_accumulation}; give "
            f"--set grad_accumulation={ranks.world} and a --batch that is as many times smaller"
        )
    about = {
        "model": name,
        "config": asdict(config),
        "settings": asdict(settings),
        "data": checkpoints.about(as_model_input(dataset, name, config)),
    }
    with folder_module.begin(out, about, ranks):
        if not folder_module.is_finished(out):
            trainer = Trainer(dataset, name, config, settings, out, ranks, machine)
            trainer.run(watch)
            trainer.finish()
        ranks.wait()
    return folder_module.read(out, "scores.json")


class Trainer:
    """One run while it is trained, in one of its processes."""

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        config: Any,
        settings: Settings,
        out: Path,
        ranks: Distributed,
        machine: RuntimeOptions,
    ) -> None:
        self.dataset, self.name, self.config, self.settings = (
            as_model_input(dataset, name, config),
            name,
            config,
            settings,
        )
        self.out, self.ranks, self.machine = out, ranks, machine
        _be_deterministic(settings.deterministic)
        self.encoder = self._prepare_text() if checkpoints.reads_text(config) else None
        self.parts = {
            part: open_part(self.dataset, part, self.encoder, machine.cache)
            for part in ("train", "valid", "test")
            if part != "test" or part in dataset.splits
        }
        torch.manual_seed(settings.seed)
        with _in_memory(lambda: f"out of memory: a {name} of these sizes does not fit; {_SMALLER}"):
            self.model: Any = checkpoints.make_model(name, config, out).to(ranks.device)
        two_phase.settle(self.model, features_info(self.dataset))
        self.forward: Any = torch.compile(self.model, dynamic=True) if settings.compile else self.model
        self.optimiser = _optimiser(self.model, settings)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "fp16")
        self.positive_weight = _positive_weight(self.parts["train"].labels).to(ranks.device)
        self.unread: list[tuple[int, Tensor]] = []  # steps whose loss and gradient are still on the device
        self.state = self._restore()
        self.log = folder_module.Log(out, self.state.log_length, self.state.updates) if ranks.is_main else None

    def run(self, watch: EpochCallback | None = None) -> None:
        """Epoch after epoch until the last, or until valid has not got better for long."""
        table = None if self.machine.quiet or not self.ranks.is_main else _EpochTable(self)
        while self.state.epoch < self.settings.epochs and self.state.bad < self.settings.patience:
            begun = time.monotonic()
            loss = self._train_epoch()
            trained = time.monotonic()
            scores, thresholds = self._validate()
            better = self._close_epoch(loss, scores, time.monotonic() - begun)
            if better:
                self._save("best.pt", thresholds=thresholds.tolist(), scores=scores.to_json())
            self._save("last.pt", resume=True)
            if table:
                table.add(self.state.epoch, loss, scores, better, len(self.parts["train"]) / (trained - begun))
            if watch:
                watch(self.state.epoch, scores.mean("f1"))

    def finish(self) -> None:
        """Score the best checkpoint on valid and test, and write what people look at."""
        self.ranks.wait()  # the first process may still be writing it
        best = checkpoints.load(self.out)
        self.model.load_state_dict(best.weights)
        reports = {part: self._report(best, part) for part in self.parts if part != "train"}
        if not self.ranks.is_main:
            return
        about = folder_module.read(self.out, "run.json")
        page.write_run(self.out / "page.html", about, folder_module.read_log(self.out), reports, best)
        summary = {
            "epochs": self.state.epoch,
            "best_epoch": best.epoch,
            "seconds": round(self.state.seconds, 1),
            "parts": {part: to_json(report) for part, report in reports.items()},
        }
        folder_module.write(self.out, "scores.json", summary)

    def _train_epoch(self) -> float:
        """The steps of this epoch that are still to do; returns the mean loss of all its steps."""
        state, settings, ranks, part = self.state, self.settings, self.ranks, self.parts["train"]
        plan = plan_epoch(
            part.megabytes,
            settings.batch,
            settings.batch_memory_mb,
            settings.grad_accumulation,
            settings.seed,
            state.epoch,
        )
        mine = [batch for step in plan.steps[state.step :] for batch in step[ranks.rank :: ranks.world]]
        batches = iter(read(part, mine, self.machine.workers, ranks.device.type == "cuda"))
        self.forward.train()
        if hasattr(self.model, "top_p"):
            self.model.top_p = self._top_p()
        saved = time.monotonic()
        with tqdm(
            total=len(part),
            initial=sum(plan.utterances(n) for n in range(state.step)),
            desc=f"epoch {state.epoch + 1}",
            unit=" utterances",
            disable=True if self.machine.quiet or not ranks.is_main else None,  # None: quiet where nobody looks
            leave=False,
        ) as bar:
            for number in range(state.step, len(plan.steps)):
                figures = self._step(plan, number, batches)
                state.step, state.updates = number + 1, state.updates + 1
                self.unread.append((state.updates, figures))
                bar.update(plan.utterances(number))
                if len(self.unread) == FLUSH_EVERY:
                    self._read_figures()
                    bar.set_postfix(loss=f"{state.loss / state.step:.4f}", refresh=False)
                if time.monotonic() - saved > self.machine.save_every:
                    self._save("last.pt", resume=True)
                    saved = time.monotonic()
        self._read_figures()
        return state.loss / len(plan.steps)

    def _step(self, plan: Plan, number: int, batches: Iterator[Batch]) -> Tensor:
        """Change the weights once; returns loss, a mean over utterances and emotions, and the gradient norm: [2]."""
        settings, ranks, batch_count = self.settings, self.ranks, len(plan.steps[number])
        self._set_rates(number / len(plan.steps))
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=ranks.device)
        figures = RunningStatistics(self.model, batch_count, ranks.world)
        for position in range(ranks.rank, batch_count, ranks.world):
            torch.manual_seed(_seed(settings.seed, self.state.epoch, number * settings.grad_accumulation + position))
            with figures.of_one_batch():
                total += self._backward(next(batches), plan.utterances(number))
        for parameter in self.parameters:
            if parameter.grad is None:  # no utterance of these batches has that modality
                parameter.grad = torch.zeros_like(parameter)
        ranks.all_reduce_sum([total, *(p.grad for p in self.parameters if p.grad is not None)])
        figures.settle(ranks)
        with _in_memory(lambda: f"out of memory: Adam keeps twice the weights of this {self.name}; {_SMALLER}"):
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip_norm or math.inf)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        return torch.stack([total, norm])

    def _set_rates(self, share: float) -> None:
        """The learning rates at this share of the epoch: a function of the position alone."""
        done = (self.state.epoch + share) / self.settings.epochs
        factor = 0.5 + 0.5 * math.cos(math.pi * done) if self.settings.cosine else 1.0
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _top_p(self) -> float:
        """The p to train this epoch with; valid and test are always scored with the model's own."""
        epochs = self.settings.top_p_anneal * self.settings.epochs
        left = max(0.0, 1 - self.state.epoch / epochs) if epochs else 0.0
        return self.config.top_p + (1 - self.config.top_p) * left

    def _backward(self, batch: Batch, utterances: int) -> Tensor:
        """The share that this batch has in the loss of a step of so many utterances, sent backward."""
        with _in_memory(lambda: _too_large(batch, self.settings)):
            logits = forward(self.forward, batch.to(self.ranks.device), self.settings.precision)
            labels = batch.labels.to(logits.device)
            each = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.positive_weight, reduction="sum")
            loss = each / (utterances * labels.shape[1])
            self.scaler.scale(loss).backward()
        return loss.detach()

    def _validate(self) -> tuple[Scores, np.ndarray]:
        """Scores on valid with the thresholds that are best on valid."""
        if hasattr(self.model, "top_p"):
            self.model.top_p = self.config.top_p
        probability, labels = self._probabilities("valid"), self.parts["valid"].labels
        thresholds = metrics.choose_thresholds(probability, labels)
        return metrics.score(probability, labels, thresholds), thresholds

    def _close_epoch(self, loss: float, scores: Scores, seconds: float) -> bool:
        """Count and log the epoch; true when it is the best so far."""
        state, f1 = self.state, scores.mean("f1")
        better = state.best is None or f1 > state.best
        state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
        annealing = hasattr(self.model, "top_p") and state.epoch <= self.settings.top_p_anneal * self.settings.epochs
        state.bad = 0 if better or annealing else state.bad + 1
        state.best = f1 if better else state.best
        state.seconds += seconds
        if self.log:
            means = {name: _finite(scores.mean(name)) for name in NAMES}
            self.log.epoch(state.updates, {"epoch": state.epoch, "loss": _finite(loss), "valid": means, "best": better})
        return better

    def _report(self, best: Checkpoint, name: str) -> Report:
        part, training = self.parts[name], self.parts["train"].labels
        probability = self._probabilities(name)
        return make_report(self.out, self.model, best.thresholds, self.dataset, part, probability, training, self.ranks)

    def _probabilities(self, name: str) -> np.ndarray:
        settings = self.settings
        return probabilities(
            self.model, self.parts[name], self.ranks, settings.precision, settings.batch_memory_mb, self.machine.workers
        )

    def _read_figures(self) -> None:
        """Log the steps whose loss is still on the device."""
        if not self.unread:
            return
        numbers = torch.stack([figures for _, figures in self.unread]).tolist()
        for (update, _), (loss, norm) in zip(self.unread, numbers, strict=True):
            self.state.loss += loss
            if self.log:
                self.log.step(update, _finite(loss), _finite(norm))
        self.unread.clear()

    def _prepare_text(self) -> Path:
        """The folder of the text encoder; the first process makes it."""
        folder = self.out / TEXT
        # every process opens the part: behind the first one's copying they wait without end, at a barrier for minutes
        texts = open_part(self.dataset, "train", None, self.machine.cache).texts
        if self.ranks.is_main:
            text.prepare(self.config.text_encoder, texts, folder, self.settings.max_tokens, self.settings.seed)
        self.ranks.wait()
        return folder

    def _restore(self) -> State:
        """Go back to last.pt, if there is one."""
        if not (self.out / "last.pt").is_file():
            return State()
        stored = checkpoints.load(self.out / "last.pt")
        assert stored.resume is not None
        self.model.load_state_dict(stored.weights)
        self.optimiser.load_state_dict(stored.resume["optimiser"])
        self.scaler.load_state_dict(stored.resume["scaler"])
        return State(**stored.resume["state"])

    def _save(
        self,
        name: str,
        resume: bool = False,
        thresholds: list[float] | None = None,
        scores: dict[str, list[float | None]] | None = None,
    ) -> None:
        if not self.log:
            return
        self._read_figures()
        self.log.sync()
        self.state.log_length = self.log.length
        position = {
            "state": asdict(self.state),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        stored = Checkpoint(
            model=self.name,
            config=asdict(self.config),
            settings=asdict(self.settings),
            data=checkpoints.about(self.dataset),
            thresholds=thresholds or [],
            scores=scores or {},
            epoch=self.state.epoch,
            made_with=checkpoints.made_with(),
            weights=self.model.state_dict(),
            resume=position if resume else None,
        )
        checkpoints.save(self.out / name, stored)


class _EpochTable:
    """A line an epoch, below what can be had without a model; to stderr, above the progress bar."""

    def __init__(self, trainer: Trainer) -> None:
        train, valid = trainer.parts["train"], trainer.parts["valid"]
        size = sum(p.numel() for p in trainer.model.parameters())
        going_on = f", going on in epoch {trainer.state.epoch + 1}" if trainer.state.updates else ""
        self._say(
            f"{trainer.out}: {trainer.name} with {size:,} parameters on {trainer.ranks.device}, {len(train)} "
            f"utterances of {trainer.dataset.corpus} to train on, {len(valid)} to validate{going_on}"
        )
        if trainer.encoder:
            self._say(f"text encoder: {trainer.model.text.description}")
        self._line("epoch", "loss", [*NAMES.values()], "utt/s")
        for name, scores in metrics.trivial(valid.labels, train.labels).items():
            self._line(name, "", [_cell(scores.mean(kind)) for kind in NAMES], "")

    def add(self, epoch: int, loss: float, scores: Scores, better: bool, speed: float) -> None:
        means = [_cell(scores.mean(kind)) for kind in NAMES]
        self._line(str(epoch), f"{loss:.4f}", means, f"{speed:.1f}", "  best" if better else "")

    def _line(self, name: str, loss: str, means: list[str], speed: str, remark: str = "") -> None:
        self._say(f"{name:<16}{loss:>8}" + "".join(f"{mean:>8}" for mean in means) + f"{speed:>9}{remark}")

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)


def _optimiser(model: Any, settings: Settings) -> torch.optim.Optimizer:
    """Adam; the text branch learns at a rate of its own."""
    of_text = set(model.text.parameters()) if checkpoints.reads_text(model.config) else set()
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p not in of_text], "lr": settings.lr},
        {"params": [p for p in learning if p in of_text], "lr": settings.lr * settings.text_lr_scale},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def _positive_weight(labels: np.ndarray) -> Tensor:
    """Negatives per positive of each emotion, float32 [E]; 1 where there is no positive."""
    positives = labels.sum(0)
    weight = np.where(positives > 0, (len(labels) - positives) / np.maximum(positives, 1), 1)
    return torch.tensor(weight, dtype=torch.float32)


def _be_deterministic(wanted: bool) -> None:
    torch.use_deterministic_algorithms(wanted)
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False


@contextmanager
def _in_memory(told: Callable[[], str]) -> Iterator[None]:
    """Raises DataError with these words where memory, of a GPU or the machine, does not suffice."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise DataError(told()) from None
        raise


def _too_large(batch: Batch, settings: Settings) -> str:
    return (
        f"out of memory in a batch of {len(batch)} utterances with {len(batch.faces)} faces, {len(batch.mels)} mel "
        f"chunks and {len(batch.tokens)} tokens; lower --batch (now {settings.batch}) or --set batch_memory_mb=... (now "
        f"{settings.batch_memory_mb:g} megabytes), or give --precision bf16 or --set recompute_front=true"
    )


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
