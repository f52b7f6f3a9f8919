"""The command `mesm`: parse, call one function, print. Results go to stdout, progress to stderr."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click

from mesm_data.commands import Commands, expect_suffix
from mesm_data.errors import DataError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
RUN = click.Path(exists=True, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)
PAGE = click.Path(dir_okay=False, path_type=Path)


class Names(click.ParamType):
    """`mesm,fe2e` as a list."""

    name = "NAME[,NAME]"

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


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# What decides the result of a run; names are those of the fields.
training = together(
    click.option("--text-encoder", help="albert-base-v2, a folder, or tiny. [default: the paper's albert-base-v2]"),
    click.option("--epochs", type=click.IntRange(min=1), help="At most; training stops when valid gets no better."),
    click.option("--batch", type=click.IntRange(min=1), help="Utterances a batch."),
    click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate."),
    click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Of the computation on a GPU."),
    click.option("--seed", type=int, help="Of weights, order and dropout; the first one with --seeds."),
    click.option("--deterministic", is_flag=True, default=None, help="The same bits on a GPU too, for some speed."),
    click.option("--compile", is_flag=True, default=None, help="torch.compile; gains little on ragged batches."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of model or training."),
)
machine = together(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that read ahead."
    ),
    click.option("--cache", type=OUT, help="Folder of copies for fast reading. [default: .cache in the dataset]"),
)
features_option = click.option("--features", type=FOLDER, help="Two-phase models: a folder of `mesm features`.")


@click.group(
    "mesm",
    cls=Commands,
    resumable={"train", "sweep", "ablate", "features", "tune"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mesm")
def main() -> None:
    """Train, evaluate and explain emotion models on the shards of mesm-data.

    \b
    mesm-data synth planted --out out/planted
    mesm train out/planted --model mesm --text-encoder tiny --top-p 0.5 --epochs 8 --out runs/mesm
    mesm evaluate runs/mesm out/planted --split test
    """


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--model", required=True, help="A name that `mesm models` lists.")
@click.option("--out", type=OUT, required=True, help="Folder of the run; an interrupted run goes on in it.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="MESM: share of the attention that is kept.")
@click.option("--modalities", help="Letters of t (text), a (audio), v (vision). [default: tav]")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, each with the next seed."
)
@training
@features_option
@machine
def train(dataset: Path, model: str, out: Path, seeds: int, assignments: tuple[str, ...], **options: Any) -> None:
    """Train a model; the same command goes on after an interruption, with the same result.

    \b
    mesm train out/planted --model mesm --text-encoder tiny --top-p 0.5 --epochs 8 --out runs/mesm
    torchrun --nproc-per-node 2 -m mesm_model train out/iemocap --model fe2e --set grad_accumulation=2
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.evaluation.scores import from_json
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.folder import is_finished
    from mesm_model.runs.settings import resolve_config, with_values
    from mesm_model.training.train import train as train_model

    opened = _with_features(open_dataset(dataset), options, models=[model])
    on, how = _machine(options)
    config = resolve_config(opened, model, _lower(options), assignments)
    first = config.settings.seed
    folders = [out] if seeds == 1 else [out / f"seed-{seed}" for seed in range(first, first + seeds)]
    with init_distributed(on) as ranks:
        if ranks.is_main:
            _say_suggested(opened, config.suggested)
        reports = {}
        for seed, folder in enumerate(folders, first):
            finished = is_finished(folder)
            scores = train_model(opened, with_values(config, seed=seed), folder, ranks, how)
            if ranks.is_main and finished:
                click.echo(f"{folder}: this run is finished; its scores:", err=True)
            reports[folder.name] = from_json(scores["parts"].get("test") or scores["parts"]["valid"])
        if ranks.is_main:
            _print_scores(reports)
            click.echo("Pages: " + ", ".join(str(folder / "page.html") for folder in folders))


@main.command()
@click.argument("run", type=RUN)
@click.argument("dataset", type=FOLDER)
@click.option("--split", "part", default="test", show_default=True, help="Part of the dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
@click.option("--predictions", type=PAGE, help="Write id, probabilities and decisions to this CSV file.")
@features_option
@machine
def evaluate(run: Path, dataset: Path, part: str, as_json: bool, predictions: Path | None, **options: Any) -> None:
    """Score a run, or all seeds of one, with the thresholds that were frozen on valid.

    mesm evaluate runs/mesm out/planted --split test
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.evaluation import evaluate as scoring
    from mesm_model.evaluation.scores import to_json
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.folder import seeds_of

    on, how = _machine(options)
    opened = _with_features(open_dataset(dataset), options, run)
    runs = seeds_of(run)
    if predictions and len(runs) > 1:
        raise click.UsageError("--predictions goes with one run; give one of " + ", ".join(map(str, runs.values())))
    reports = {}
    with init_distributed(on) as ranks:
        for name, folder in runs.items():
            reports[name], members, probability = scoring.evaluate(folder, opened, part, ranks, how.cache, how.workers)
            if predictions:
                scoring.write_predictions(predictions, reports[name], members, probability)
                click.echo(f"Written to {predictions}", err=True)
    if as_json:
        found = [to_json(report) for report in reports.values()]
        click.echo(json.dumps(found[0] if len(found) == 1 else found, indent=1, ensure_ascii=False))
    else:
        _print_scores(reports)


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--model", default="mesm", show_default=True, help="A model with a nucleus.")
@click.option("--top-p", type=Shares(), default="0.1:1.0:0.1", show_default=True, help="The values of p.")
@click.option("--modalities", help="Letters of t (text), a (audio), v (vision). [default: tav]")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at each p.")
@click.option("--out", type=OUT, required=True, help="Folder; runs that are finished are not trained again.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, each on one core.")
@training
@machine
def sweep(
    dataset: Path, model: str, top_p: list[float], seeds: int, out: Path, at_once: int, assignments: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Accuracy and FLOPs against p, as in the paper's Figure 5: one picture, one CSV file.

    mesm sweep out/planted --model mesm --top-p 0.1:1.0:0.1 --seeds 3 --out runs/sweep
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.experiments import sweep as many
    from mesm_model.runs.settings import resolve_config

    on, how = _machine(options)
    opened = open_dataset(dataset)
    choice = resolve_config(opened, model, _lower(options), assignments)
    _say_suggested(opened, choice.suggested)
    click.echo(many.to_text(many.sweep(opened, choice, top_p, seeds, out, on, how, at_once), opened))
    click.echo(f"Written to {out / 'sweep.csv'} and {out / 'sweep.svg'}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--model", "names", type=Names(), default="mesm,fe2e", show_default=True, help="Models.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="MESM: share of the attention that is kept.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each.")
@click.option("--out", type=OUT, required=True, help="Folder; runs that are finished are not trained again.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, each on one core.")
@training
@features_option
@machine
def ablate(
    dataset: Path, names: list[str], top_p: float | None, seeds: int, out: Path, at_once: int,
    assignments: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Every model on every set of modalities, as in the paper's Table 5.

    mesm ablate out/planted --model mesm,fe2e --seeds 3 --out runs/ablate
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.experiments import sweep as many
    from mesm_model.runs.declared import model_settings
    from mesm_model.runs.settings import resolve_config

    on, how = _machine(options)
    opened = _with_features(open_dataset(dataset), options, models=names)
    choices = []
    for name in names:
        of_some = {"top_p": top_p, "text_encoder": options["text_encoder"]}
        of_this = {field: value for field, value in of_some.items() if field in model_settings(name)}
        choices.append(resolve_config(opened, name, options | {"text_encoder": None} | of_this, assignments))
    _say_suggested(opened, choices[0].suggested)
    rows = many.ablate(opened, choices, seeds, out, on, how, at_once)
    click.echo(many.to_text(rows, opened))
    if printed := many.paper_table(opened, names):
        click.echo(printed)
    click.echo(f"Written to {out / 'ablate.csv'}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--model", "names", type=Names(), default="fe2e,mesm", show_default=True, help="Models.")
@click.option("--top-p", type=Shares(), default="0.5,0.7", show_default=True, help="MESM: the values of p.")
@click.option("--split", "part", default="test", show_default=True, help="Part whose utterances are counted.")
@click.option("--run", "runs", type=RUN, multiple=True, help="A trained run, counted too; may be repeated.")
@click.option("--text-encoder", help="albert-base-v2, a folder, or tiny.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of the models.")
@features_option
@machine
def flops(
    dataset: Path, names: list[str], top_p: list[float], part: str, runs: tuple[Path, ...], text_encoder: str | None,
    assignments: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Multiply-adds by stage, on real batches: what the paper's FLOPs column may count, and the real thing.

    mesm flops --model fe2e,mesm --top-p 0.5,0.7 out/planted
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.evaluation import flops
    from mesm_model.evaluation.flops import count_models, count_run
    from mesm_model.runs.declared import model_settings
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.settings import resolve_config, with_values

    on, how = _machine(options)
    opened = _with_features(open_dataset(dataset), options)
    encoder = text_encoder or opened.index.get("suggested", {}).get("text_encoder")
    choices: dict[str, Any] = {}
    for name in names:
        sparse, reads_text = (field in model_settings(name) for field in ("top_p", "text_encoder"))
        given = {"text_encoder": encoder} if reads_text else {}
        choice = resolve_config(opened, name, given, assignments, suggestions=False)
        choices |= {f"{name} p={p:g}": with_values(choice, top_p=p) for p in top_p} if sparse else {name: choice}
    with init_distributed(on) as ranks:
        counts = count_models(opened, part, choices, ranks, how.cache)
        counts |= {str(run): count_run(run, opened, part, ranks, how.cache) for run in runs}
    click.echo(flops.table(counts))
    learned = ", that of a run as it was learned" if runs else ""
    click.echo(f"On {opened.folder}, part {part}; attention as it is drawn{learned}.")
    for words in dict.fromkeys(counted.encoder for counted in counts.values() if counted.encoder):
        click.echo(f"text encoder: {words}")


@main.command()
def models() -> None:
    """The models, and what can be set about each.

    mesm models
    """
    from dataclasses import fields

    from mesm_model import models as all_models
    from mesm_model.runs.declared import FROM_DATA

    for name in all_models.names():
        module = all_models.load(name)
        click.echo(f"{name:<10}{(module.__doc__ or '').strip().splitlines()[0]}")
        own = [field for field in fields(module.Config) if field.name not in FROM_DATA]
        click.echo(" " * 10 + ", ".join(f"{field.name}={field.default}" for field in own))


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--out", type=OUT, required=True, help="Folder; what was interrupted goes on in it.")
@click.option("--text", help="hash, glove:FILE or pickle:FILE. [default: hash]")
@click.option(
    "--audio", default="bark_mfcc", show_default=True, help="bark_mfcc, disvoice:, opensmile: or pickle:PATH."
)
@click.option(
    "--vision",
    default="face_geometry_pca",
    show_default=True,
    help="face_geometry_pca, openface:FOLDER or pickle:FILE.",
)
@click.option("--glove", type=click.Path(exists=True, dir_okay=False), help="The same as --text glove:FILE.")
def features(dataset: Path, out: Path, text: str | None, audio: str, vision: str, glove: str | None) -> None:
    """Fixed features of every utterance, for the two-phase models.

    \b
    mesm features out/planted --out features
    mesm features out/mosei --out features --glove glove.840B.300d.txt --vision openface:openface/
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.features.extract import make_features, read_feature_spec
    from mesm_model.features.store import to_text

    if glove and text:
        raise click.UsageError("--glove FILE and --text say the same thing; give one of them")
    chosen = {"t": f"glove:{glove}" if glove else text or "hash", "a": audio, "v": vision}
    wanted = {modality: read_feature_spec(modality, name) for modality, name in chosen.items()}
    click.echo(to_text(make_features(open_dataset(dataset), out, wanted)))
    click.echo(f"Next: mesm train {dataset} --model lf-lstm --features {out} --out runs/lf-lstm")


@main.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option("--split", "part", default="test", show_default=True, help="Part of the dataset.")
@click.option("--out", type=PAGE, help="Write one HTML page: table, bars with intervals, pairs.")
@click.option("--csv", "table", type=PAGE, help="Write a line a model to this CSV file.")
@click.option("--latex", type=PAGE, help="Write the table to this LaTeX file (booktabs).")
@click.option("--data", type=FOLDER, help="The dataset, if it is not where the runs were scored.")
@features_option
@machine
def compare(
    runs: tuple[Path, ...], part: str, out: Path | None, table: Path | None, latex: Path | None, data: Path | None,
    features: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Models side by side: scores with intervals, costs, and whether each pair differs more than by chance.

    mesm compare runs/* --split test --out compare.html
    """
    from mesm_data.files import write_text
    from mesm_model.experiments import compare as comparing
    from mesm_model.experiments import compare_tables as tables
    from mesm_model.runs.distributed import init_distributed

    on, how = _machine(options)
    finished, others = comparing.find_runs(runs)
    for folder in others:
        click.echo(f"{folder}: no finished run, left out", err=True)
    if not finished:
        raise DataError(f"{runs[0]}: not the folder of a finished run; expected what `mesm train --out` was given")
    with init_distributed(on) as ranks:
        found = comparing.compare(finished, part, ranks, data, features, how.cache)
    click.echo(tables.to_text(found))
    for path, write in ((out, tables.to_html), (table, tables.to_csv), (latex, tables.to_latex)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, write(found))
            click.echo(f"Written to {path}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--model", required=True, help="A name that `mesm models` lists.")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Settings to try in all.")
@click.option("--out", type=OUT, required=True, help="Folder of the search; an interrupted one goes on in it.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="MESM: share of the attention that is kept.")
@training
@features_option
@machine
def tune(dataset: Path, model: str, trials: int, out: Path, assignments: tuple[str, ...], **options: Any) -> None:
    """Search for settings that are best on valid; what you set yourself is not searched. Test is not read.

    mesm tune out/planted --model mesm --text-encoder tiny --trials 20 --out runs/tune
    """
    from dataclasses import replace

    from mesm_data.dataset.reader import open_dataset
    from mesm_model.experiments import tune as search
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.settings import resolve_config

    on, how = _machine(options)
    features = options["features"]
    opened = _with_features(open_dataset(dataset), options, models=[model])
    choice = resolve_config(opened, model, options, assignments)
    given = {name: value for name, value in options.items() if value is not None}
    fixed = {*given, *(assignment.partition("=")[0] for assignment in assignments)}
    searched = set(search.space_of(model, fixed))
    _say_suggested(opened, {name: value for name, value in choice.suggested.items() if name not in searched})
    with init_distributed(on) as ranks:
        found = search.tune(opened, choice, trials, out, ranks, replace(how, quiet=True), fixed)
    click.echo(search.to_text(found))
    click.echo(f"Written to {out / 'tune.csv'}")
    best = [*(f"{name}={value}" for name, value in {**given, **found[0].values}.items()), *assignments]
    more = [f"--features {features}"] if features else []
    again = " ".join([*more, *(f"--set {setting}" for setting in best)])
    click.echo(f"Next: mesm train {dataset} --model {model} {again} --out {out}-best")


@main.command()
@click.argument("run", type=RUN)
@click.argument("dataset", type=FOLDER)
@click.option("--split", "part", default="test", show_default=True, help="Part of the dataset.")
@click.option("--out", type=PAGE, help="The picture, .svg or .png; a .csv beside it. [default: in the run's folder]")
@features_option
@machine
def robustness(run: Path, dataset: Path, part: str, out: Path | None, **options: Any) -> None:
    """Scores with faces blacked out, noise, words dropped, a modality missing: one picture.

    mesm robustness runs/mesm out/planted
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.experiments import robustness as trying
    from mesm_model.runs.distributed import init_distributed

    on, how = _machine(options)
    opened = _with_features(open_dataset(dataset), options, run)
    picture = out or (run if run.is_dir() else run.parent) / "robustness.svg"
    expect_suffix(picture, "--out", ".svg", ".png")
    with init_distributed(on) as ranks:
        rows, skipped = trying.robustness(run, opened, part, ranks, how.cache)
    for damage in skipped:
        click.echo(f"{damage}: cannot be done to imported features, left out", err=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    trying.write_table(picture.with_suffix(".csv"), rows)
    trying.draw(picture, rows, f"{run} on {dataset}, part {part}")
    click.echo(trying.to_text(rows))
    click.echo(f"Written to {picture} and {picture.with_suffix('.csv')}")


@main.command()
@click.argument("video", type=FILE)
@click.option("--checkpoint", "run", type=RUN, required=True, help="A run of fe2e or mesm, or a file best.pt.")
@click.option("--transcript", type=FILE, help="What is said when: .srt, .vtt, or lines of start, end and text.")
@click.option("--text", help="What is said, for the whole video.")
@click.option("--asr", type=FOLDER, help="A Whisper model on disk that listens (extra asr).")
@click.option("--face", type=click.IntRange(min=1), help="Who of those in view speaks. [default: 1, the largest]")
@click.option("--out", type=PAGE, help="Write a page with the film and a timeline to click on.")
@click.option("--json", "json_file", type=PAGE, help="Write the result as JSON.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def predict(
    video: Path, run: Path, transcript: Path | None, text: str | None, asr: Path | None, face: int | None,
    out: Path | None, json_file: Path | None, device: str,
) -> None:  # fmt: skip
    """Emotions of any video, utterance by utterance, and what moved them.

    \b
    mesm predict film.mp4 --transcript words.srt --checkpoint runs/mesm --out timeline.html --json result.json
    mesm predict film.mp4 --text "Bin blue at F two now." --checkpoint runs/mesm
    """
    from mesm_data.files import write_text
    from mesm_model.prediction import timeline
    from mesm_model.prediction.predict import load_model
    from mesm_model.prediction.predict import predict as ask
    from mesm_model.prediction.transcripts import recognise_speech
    from mesm_model.runs.distributed import init_distributed

    if sum(source is not None for source in (transcript, text, asr)) > 1:
        raise click.UsageError("--transcript, --text and --asr say the same thing; give one of them")
    with init_distributed(device) as ranks:
        said = recognise_speech(video, asr) if asr else transcript
        result = ask(load_model(run, ranks.device), video, said, text=text, face=face)
    click.echo(timeline.to_text(result))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json_file, json.dumps(timeline.to_json(result), indent=1, ensure_ascii=False) + "\n")
    if out:
        timeline.write_page(out, result)
    if out or json_file:
        click.echo(f"Written to {' and '.join(str(path) for path in (out, json_file) if path)}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--checkpoint", "run", type=RUN, required=True, help="A run of mesm, or a file best.pt.")
@click.option("--ids", type=Names(), help="Utterances.")
@click.option("--one-per-emotion", is_flag=True, help="Instead of --ids: the surest one of each emotion.")
@click.option("--split", "part", default="test", show_default=True, help="Where --one-per-emotion chooses.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Share that is kept. [default: as trained]")
@click.option("--out", type=PAGE, help="The picture, a PNG.")
@click.option("--video", type=PAGE, help="A film of one utterance, an mp4.")
@click.option("--raw", type=FOLDER, help="The raw corpus: the speaker and the sound of the film are in it.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def attention(
    dataset: Path, run: Path, ids: list[str] | None, one_per_emotion: bool, part: str, top_p: float | None,
    out: Path | None, video: Path | None, raw: Path | None, device: str,
) -> None:  # fmt: skip
    """Show where the text makes the model look, layer by layer, as in the paper's Figures 3 and 4.

    \b
    mesm attention out/iemocap --checkpoint runs/mesm --ids Ses01F_impro01_F000 --out overlay.png
    mesm attention out/iemocap --checkpoint runs/mesm --one-per-emotion --out emotions.png
    """
    from mesm_data.dataset.reader import open_dataset
    from mesm_model.prediction import attention_maps
    from mesm_model.prediction.predict import load_model
    from mesm_model.runs.distributed import init_distributed

    if bool(ids) == one_per_emotion:
        raise click.UsageError("give either --ids or --one-per-emotion")
    if not out and not video:
        raise click.UsageError("give --out PICTURE, --video FILM or both")
    if video and len(ids or []) != 1:
        raise click.UsageError("--video shows one utterance; give one id with --ids")
    expect_suffix(out, "--out", ".png")
    expect_suffix(video, "--video", ".mp4")
    opened = open_dataset(dataset)
    with init_distributed(device) as ranks:
        model = load_model(run, ranks.device, top_p)
        looked = (
            attention_maps.explain(opened, model, ids)
            if ids
            else attention_maps.explain_each_emotion(opened, model, part)
        )
    if out:
        attention_maps.draw(out, looked, model)
    if video:
        from mesm_model.prediction.attention_video import write_film

        write_film(video, looked[0], model, raw)
    click.echo(f"Written to {' and '.join(str(path) for path in (out, video) if path)}")


def _machine(options: dict[str, Any]) -> tuple[str, Any]:
    """Takes what belongs to the machine out of the options: the device, and how to run."""
    from mesm_model.runs.settings import RuntimeOptions

    return options.pop("device"), RuntimeOptions(workers=options.pop("workers"), cache=options.pop("cache"))


def _with_features(dataset: Any, options: dict[str, Any], run: Path | None = None, models: Collection[str] = ()) -> Any:
    """Takes --features out of the options and attaches them; without it those that `run` was scored with.

    Where it is given, one of `models` must take features.
    """
    from mesm_model.features.store import attach, is_two_phase
    from mesm_model.models import load
    from mesm_model.runs.folder import features_of

    folder = options.pop("features")
    if folder and models and not any(is_two_phase(load(name).Config) for name in models):
        raise DataError(f"{' and '.join(models)}: reads words, sound and faces, not features; leave --features out")
    folder = folder or (features_of(run) if run else None)
    return attach(dataset, folder) if folder else dataset


def _lower(options: dict[str, Any]) -> dict[str, Any]:
    """`TAV` is as good as `tav`."""
    modalities = options["modalities"]
    return options | {"modalities": modalities and modalities.lower()}


def _say_suggested(dataset: Any, suggested: Mapping[str, Any]) -> None:
    if suggested:
        values = " ".join(f"{name}={value}" for name, value in suggested.items())
        click.echo(f"{dataset.folder} suggests, and gets: {values}. The paper's sizes: --set NAME=VALUE", err=True)


def _print_scores(reports: dict[str, Any]) -> None:
    """One report in full, several by their means and their spread."""
    from mesm_model.evaluation import scores as telling

    click.echo(telling.to_text(*reports.values()) if len(reports) == 1 else telling.spread_text(reports))


if __name__ == "__main__":
    main()
