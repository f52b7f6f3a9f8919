"""Search for settings: `tune` trains with one set after the other and ranks them by their scores on valid.

runs/tune/
    plan.json       what is searched, on what data: written first; another search in the same folder is refused
    study.log       Optuna's study: every trial, its settings and its result
    trial-000/      one run each, as in runs/folder.py; an interrupted one is resumed
    tune.csv        one line per trial, the best first

The test split cannot influence a choice: the trials are given a dataset without one. Home of optuna.
"""

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_data.files import Plan, claim_folder, csv_text, write_text
from mesm_data.state import parse_state
from mesm_model import models
from mesm_model.evaluation.metrics import Diverged
from mesm_model.evaluation.tables import aligned, percent
from mesm_model.features.store import as_model_input
from mesm_model.models.common.search_space import Between, OneOf
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.distributed import Distributed
from mesm_model.runs.folder import read_log
from mesm_model.runs.settings import RunConfig, RuntimeOptions, with_values
from mesm_model.training.train import selection_score, train

FIRST = 4  # trials that are never stopped early, so that there is something to compare with
WARM = 2  # epochs before a trial can be stopped
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trial:
    """One set of settings, and the best mean F1 on valid among its epochs."""

    folder: str
    f1: float  # 0 where no epoch beats a constant decision
    pruned: bool  # stopped early: worse than the median, or diverged
    values: dict[str, Any]  # by name of the setting


def tune(
    dataset: Dataset,
    run: RunConfig,
    trials: int,
    out: Path,
    distributed: Distributed,
    runtime: RuntimeOptions,
    fixed: Collection[str] = (),
) -> list[Trial]:
    """Train until `trials` sets of settings are tried, including those of earlier calls; the best first.

    The search space is the SPACE beside the model's Config, without the settings named in `fixed`; all others are those
    of `run`. Raises DataError where `out` holds another search, and where nothing is left to search.
    """
    space = space_of(run.model, fixed)
    if not space:
        raise DataError(f"model {run.model}: every setting that could be searched for is given; leave one out")
    if distributed.world > 1:
        raise DataError("a search runs in one process; start it without torchrun")
    data = without_test(as_model_input(dataset, run.model, run.config))
    with claim_folder(out, _plan(run, space, data)):
        study = _open_study(out)
        _queue_interrupted(study)
        while len(study.get_trials(deepcopy=False, states=ENDED)) < trials:
            _try_one(study, run, space, data, out, distributed, runtime)
        found = _trials(study)
        write_text(out / "tune.csv", _to_csv(found, space))
    return found


def space_of(model: str, fixed: Collection[str] = ()) -> dict[str, Between | OneOf]:
    """The search space of a model without the settings named in `fixed`."""
    return {name: values for name, values in getattr(models.load(model), "SPACE", {}).items() if name not in fixed}


def without_test(dataset: Dataset) -> Dataset:
    """The dataset as if it had only train and valid: its index names no shard of another split."""
    shards = [shard for shard in dataset.index["shards"] if shard["split"] in ("train", "valid")]
    counts = {split: counts for split, counts in dataset.index["counts"].items() if split in ("train", "valid")}
    return replace(dataset, index=dataset.index | {"shards": shards, "counts": counts})


def to_text(trials: list[Trial]) -> str:
    """The trials, the best first."""
    table = aligned([["", "F1 on valid"], *([trial.folder, percent(trial.f1)] for trial in trials)]).splitlines()
    remarks = ["", *(f"  {_listed(trial.values)}{'  stopped early' if trial.pruned else ''}" for trial in trials)]
    pruned = sum(trial.pruned for trial in trials)
    last = f"{len(trials)} trials, {pruned} of them stopped early; chosen on valid alone, test was not read"
    return "\n".join([*(line + remark for line, remark in zip(table, remarks, strict=True)), last])


# ---- one trial


def _try_one(
    study: optuna.Study,
    run: RunConfig,
    space: Mapping[str, Between | OneOf],
    data: Dataset,
    out: Path,
    distributed: Distributed,
    runtime: RuntimeOptions,
) -> None:
    number = len(study.get_trials(deepcopy=False, states=ENDED))
    # a new sampler for every trial: the search takes the same course however often it is interrupted
    study.sampler = optuna.samplers.TPESampler(seed=run.settings.seed + number)
    trial = study.ask()
    folder = f"trial-{number:03d}"
    trial.set_user_attr("folder", folder)
    values = {name: _suggest(trial, name, one) for name, one in space.items()}
    print(f"{folder}: {_listed(values)}", end="", file=sys.stderr, flush=True)
    epochs = _Epochs(trial)
    try:
        epochs.catch_up(out / folder)
        train(data, with_values(run, **values), out / folder, distributed, runtime, epochs)
    except (optuna.TrialPruned, Diverged):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, epochs.best)
    print(f": F1 {100 * epochs.best:.1f}, epochs {len(epochs.reported)}", file=sys.stderr, flush=True)


class _Epochs:
    """Reports each epoch to the study, those before an interruption too, and stops a trial below the median."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.best = trial, 0.0
        self.reported: set[int] = set()

    def __call__(self, epoch: int, f1: float) -> None:
        self._report(epoch, f1)
        self._stop_if_worse()

    def catch_up(self, folder: Path) -> None:
        """Report what an interrupted process trained, and stop where it would have been stopped."""
        if not (folder / "last.pt").is_file():
            return
        for line in read_log(folder):
            if "epoch" in line:
                self._report(line["epoch"], selection_score(line["valid"]["f1"], line["valid"]["auc"]))
        if self.reported:
            self._stop_if_worse()

    def _stop_if_worse(self) -> None:
        if self.trial.should_prune():
            raise optuna.TrialPruned

    def _report(self, epoch: int, f1: float) -> None:
        self.best = max(self.best, f1)
        if epoch not in self.reported:
            self.reported.add(epoch)
            self.trial.report(self.best, epoch)


def _suggest(trial: optuna.Trial, name: str, one: Between | OneOf) -> Any:
    if isinstance(one, OneOf):
        return trial.suggest_categorical(name, one.values)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


# ---- the study


def _open_study(out: Path) -> optuna.Study:
    """Create or load the study. The folder must be locked: a killed process's lock on the log is removed."""
    path = out / "study.log"
    _check_log(path)
    (out / "study.log.lock").unlink(missing_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            study_name="mesm",
            storage=JournalStorage(JournalFileBackend(str(path))),
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=WARM),
            load_if_exists=True,
        )
        _trials(study)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  (Optuna trusts its log: of a changed one it raises nearly every kind)
        raise DataError(f"{path}: not a study that Optuna wrote ({error!r}); {_start_over(out)}") from None
    return study


def _check_log(path: Path) -> None:
    """Cut off a last line that a killed process did not finish. Raises DataError for other lines that are no JSON."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith(b"\n"):
        os.truncate(path, sum(map(len, lines[:-1])))
        lines.pop()
    for number, line in enumerate(lines, start=1):
        parse_state(f"{path}:{number}", line, object, f"expected the lines of Optuna; {_start_over(path.parent)}")


def _start_over(out: Path) -> str:
    return f"give another --out, or delete {out} to start over"


def _queue_interrupted(study: optuna.Study) -> None:
    """Trials that a killed process left unfinished run first, with the same settings, in the same folders."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        # one that was killed before all its settings were suggested still has those it was queued with
        study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params)


def _trials(study: optuna.Study) -> list[Trial]:
    found = [
        Trial(
            folder=trial.user_attrs["folder"],
            f1=max(trial.intermediate_values.values(), default=0.0),
            pruned=trial.state == TrialState.PRUNED,
            values=trial.params,
        )
        for trial in study.get_trials(states=ENDED)
    ]
    return sorted(found, key=lambda trial: (-trial.f1, trial.folder))


def _plan(run: RunConfig, space: Mapping[str, Between | OneOf], data: Dataset) -> Plan:
    """plan.json: what is searched, for which model, on what data."""
    content = {
        "model": run.model,
        "config": asdict(run.config),
        "settings": asdict(run.settings),
        "space": {name: asdict(one) for name, one in space.items()},
        "data": checkpoints.about(data),
    }
    return Plan("plan.json", content, "search", "searches", dict.fromkeys(content, object))


# ---- cells


def _listed(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_digits(value)}" for name, value in values.items())


def _digits(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _to_csv(trials: list[Trial], space: Mapping[str, Between | OneOf]) -> str:
    lines = ([t.folder, f"{t.f1:.6f}", int(t.pruned), *(t.values[name] for name in space)] for t in trials)
    return csv_text([["trial", "f1", "stopped_early", *space], *lines])
