"""One step: the gradients of its batches are added up, then the weights change once.

The random numbers of each batch follow from (seed, epoch, number of the batch) alone, never from what was drawn before,
so a resumed run draws the same ones, and so do processes that share the batches of a step.

E emotions.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_model.batch import Batch
from mesm_model.evaluation.inference import forward
from mesm_model.loader import Plan
from mesm_model.models.common.interface import Model, ReadsText
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.settings import TrainSettings
from mesm_model.training.memory import SMALLER, enough_memory, too_large
from mesm_model.training.running_statistics import RunningStatistics
from mesm_model.training.schedule import lr_factor


class Stepper:
    """A model with its optimiser: `step` changes the weights once."""

    def __init__(self, model: Model, settings: TrainSettings, labels: np.ndarray, distributed: Distributed) -> None:
        """`labels` [n, E] are those of the training split; they weigh rare emotions."""
        self.model, self.settings, self.distributed = model, settings, distributed
        self.forward: Any = torch.compile(model, dynamic=True) if settings.compile else model
        self.optimiser = _adam(model, settings)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(distributed.device.type, enabled=settings.precision == "fp16")
        self.positive_weight = positive_weight(labels).to(distributed.device)
        self.lr_scale = 1.0  # of the schedule "plateau"

    def step(self, plan: Plan, number: int, epoch: int, batches: Iterator[Batch]) -> Tensor:
        """Step `number` of `plan`, in epoch `epoch`, both from 0; `batches` are this process's share, in order.

        Returns [2], on the device: the loss, a mean over utterances and emotions, and the norm of the gradient.
        """
        settings, distributed, batch_count = self.settings, self.distributed, len(plan.steps[number])
        self._set_rates((epoch + number / len(plan.steps)) / settings.epochs)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=distributed.device)
        stats = RunningStatistics(self.model, batch_count, distributed.world)
        for position in range(distributed.rank, batch_count, distributed.world):
            torch.manual_seed(_seed(settings.seed, epoch, number * settings.grad_accumulation + position))
            with stats.of_one_batch():
                total += self._backward(next(batches), plan.utterances(number))
        for parameter in self.parameters:
            if parameter.grad is None:  # no utterance of these batches has that modality
                parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce_sum([total, *(p.grad for p in self.parameters if p.grad is not None)])
        stats.settle(distributed)
        return torch.stack([total, self._change_weights()])

    def loss(self, probability: np.ndarray, labels: np.ndarray) -> float:
        """The training loss of `probability` [n, E] against `labels` [n, E], without changing anything."""
        given = torch.from_numpy(probability).double().clamp(1e-7, 1 - 1e-7)
        wanted, weight = torch.from_numpy(labels).double(), self.positive_weight.double().cpu()
        return float(-(weight * wanted * given.log() + (1 - wanted) * (1 - given).log()).mean())

    def resume_state(self) -> dict[str, Any]:
        """What `resume` needs, besides the model's weights."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])

    def _set_rates(self, done: float) -> None:
        factor = self.lr_scale * lr_factor(self.settings.lr_schedule, done)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _backward(self, batch: Batch, utterances: int) -> Tensor:
        """Backpropagate this batch's share of the loss of a step of `utterances`; returns the share."""
        with enough_memory(lambda: too_large(batch, self.settings)):
            logits = forward(self.forward, batch.to(self.distributed.device), self.settings.precision)
            labels = batch.labels.to(logits.device)
            each = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.positive_weight, reduction="sum")
            loss = each / (utterances * labels.shape[1])
            self.scaler.scale(loss).backward()
        return loss.detach()

    def _change_weights(self) -> Tensor:
        """Clip the gradient and let Adam change the weights; returns the norm before clipping."""
        with enough_memory(lambda: f": Adam keeps twice the weights of this model; {SMALLER}"):
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.grad_clip_norm or math.inf)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        return norm


def positive_weight(labels: np.ndarray) -> Tensor:
    """Negatives per positive of each emotion, float32 [E]; 1 where there is no positive."""
    positives = labels.sum(0)
    weight = np.where(positives > 0, (len(labels) - positives) / np.maximum(positives, 1), 1)
    return torch.tensor(weight, dtype=torch.float32)


def set_deterministic(wanted: bool) -> None:
    """Whether torch may only use algorithms that give the same bits each time."""
    torch.use_deterministic_algorithms(wanted)
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False


def _adam(model: Model, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), with a learning rate of its own for the text branch."""
    of_text = set(model.text.parameters()) if isinstance(model, ReadsText) and model.text is not None else set()
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p not in of_text], "lr": settings.lr},
        {"params": [p for p in learning if p in of_text], "lr": settings.lr * settings.text_lr_scale},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
