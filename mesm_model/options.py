"""Types of arguments, and groups of options, that several commands of `mesm` share. Loads nothing heavy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from mesm_data.commands import Commands, OutFolder
from mesm_data.files import datasets_below
from mesm_model import models
from mesm_model.models import SettingError

DATASETS = Path("out")  # where `mesm-data build` puts datasets
RUNS = Path("runs")  # where runs go unless --out is given

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
RUN = click.Path(exists=True, path_type=Path)
OUT = OutFolder(file_okay=False, path_type=Path)
PAGE = click.Path(dir_okay=False, path_type=Path)
MODEL = click.Choice(models.names(), case_sensitive=False)
TOP_P = click.FloatRange(0, 1, min_open=True)


class DatasetFolder(click.Path):
    """A folder; the shell completes the datasets below ./out."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [str(path) for path in datasets_below(DATASETS) if str(path).startswith(incomplete)]
        return [CompletionItem(path) for path in found] or super().shell_complete(ctx, param, incomplete)


DATASET = DatasetFolder(exists=True, file_okay=False, path_type=Path)


class ModelNames(click.ParamType):
    """`mesm,fe2e` as a list of models."""

    name = "MODEL[,MODEL]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        names = value if isinstance(value, list) else [name.strip().lower() for name in value.split(",")]
        for name in names:
            if name not in models.names():
                self.fail(f"{name!r} is not one of {', '.join(models.names())}", param, ctx)
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in models.names() if name.startswith(last)]


class Names(click.ParamType):
    """`u1,u2` as a list."""

    name = "ID[,ID]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else [name.strip() for name in value.split(",")]


class Shares(click.ParamType):
    """`0.5,0.7`, or `0.1:1.0:0.1` with both ends, as a list of numbers above 0 and at most 1."""

    name = "P[,P]|FROM:TO:STEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            numbers = [float(number) for number in value.replace(":", ",").split(",")]
        except ValueError:
            self.fail(f"{value!r} is neither numbers such as 0.5,0.7 nor a range such as 0.1:1.0:0.1", param, ctx)
        if ":" in value:
            if len(numbers) != 3 or numbers[2] <= 0:
                self.fail(f"{value!r}: a range is FROM:TO:STEP", param, ctx)
            first, last, step = numbers
            numbers = [round(first + n * step, 6) for n in range(int((last - first) / step + 1e-6) + 1)]
        if not numbers or not all(0 < number <= 1 for number in numbers):
            self.fail(f"{value!r}: p lies above 0 and is at most 1", param, ctx)
        return numbers


class Modalities(click.ParamType):
    """`TAV` or `tav`: different letters of t, a and v."""

    name = "LETTERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            models.check_modalities(value.lower())
        except SettingError as error:
            self.fail(str(error), param, ctx)
        return value.lower()


class SettingsCommand(click.Command):
    """A command that ends as wrong usage, with exit code 2, on a setting that does not exist or cannot be."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingError as error:
            raise click.UsageError(str(error), ctx) from None


class ModelCommands(Commands):
    """The commands of `mesm`."""

    command_class = SettingsCommand


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# What decides the result of a run; names are those of the fields.
training_options = together(
    click.option("--text-encoder", metavar="NAME|FOLDER", help="albert-base-v2 (the paper's), a folder, or tiny."),
    click.option("--epochs", type=click.IntRange(min=1), help="Maximum epochs; early stopping on validation F1."),
    click.option("--batch", type=click.IntRange(min=1), help="Utterances per batch."),
    click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate."),
    click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Autocast precision on a GPU."),
    click.option("--seed", type=int, help="Random seed for initialisation, shuffling and dropout."),
    click.option("--deterministic", is_flag=True, default=None, help="Bit-identical results on a GPU, slower."),
    click.option("--compile", is_flag=True, default=None, help="torch.compile; gains little on ragged batches."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of model or training."),
    click.option(
        "--preset",
        type=click.Choice(["default", *models.PRESETS]),
        default="default",
        show_default=True,
        help="default: what was measured best; published: the published command of each model.",
    ),
)
modalities_option = click.option(
    "--modalities", type=Modalities(), help="Letters of t (text), a (audio), v (vision). [default: tav]"
)
top_p_option = click.option("--top-p", type=TOP_P, help="MESM: share of the attention that nucleus selection keeps.")
features_option = click.option("--features", type=FOLDER, help="Two-phase models: a folder made by `mesm features`.")
split_option = click.option("--split", default="test", show_default=True, help="Split of the dataset.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
cache_option = click.option("--cache", type=OUT, help="Folder of memory-mapped copies. [default: DATASET/.cache]")
workers_option = click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="DataLoader worker processes."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reading_options = together(device_option, cache_option)
runtime_options = together(device_option, workers_option, cache_option)
