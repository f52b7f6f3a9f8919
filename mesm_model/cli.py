"""The command `mesm`: parse, call one function, print. Results go to stdout, progress to stderr."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesm_data.commands import expect_suffix
from mesm_data.errors import DataError
from mesm_data.files import datasets_below
from mesm_model import models as known_models
from mesm_model.options import (
    DATASET,
    DATASETS,
    FILE,
    FOLDER,
    MODEL,
    OUT,
    PAGE,
    RUN,
    RUNS,
    TOP_P,
    ModelCommands,
    ModelNames,
    Names,
    Shares,
    device_option,
    features_option,
    json_option,
    modalities_option,
    reading_options,
    runtime_options,
    split_option,
    top_p_option,
    training_options,
)
from mesm_model.runs import declared

if TYPE_CHECKING:
    from mesm_data.dataset.reader import Dataset
    from mesm_model.evaluation.scores import Report
    from mesm_model.runs.settings import RunConfig, RuntimeOptions


@click.group(
    "mesm",
    cls=ModelCommands,
    resumable={"train", "sweep", "ablate", "features", "tune"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mesm")
def main() -> None:
    """Train, evaluate and explain emotion models on the shards of mesm-data.

    \b
    mesm-data synth planted --out out/planted
    mesm train out/planted --model mesm --top-p 0.5 --epochs 8 --out runs/mesm
    mesm evaluate runs/mesm out/planted --split test
    """


@main.command()
@click.argument("dataset", type=DATASET, required=False)
@click.option("--model", type=MODEL, default="mesm", show_default=True, help="What to train.")
@click.option("--out", type=OUT, help="Folder of the run; an interrupted one resumes. [default: runs/MODEL]")
@top_p_option
@modalities_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs, with consecutive seeds.")
@training_options
@features_option
@runtime_options
def train(
    dataset: Path | None, model: str, out: Path | None, seeds: int, assignments: tuple[str, ...], **options: Any
) -> None:
    """Train a model, or resume an interrupted run.

    Without DATASET it is the one below ./out. A resumed run ends with the same result as an undisturbed one.

    \b
    mesm train out/planted --model mesm --top-p 0.5 --epochs 8 --out runs/mesm
    torchrun --nproc-per-node 2 -m mesm_model train out/iemocap --model fe2e --set grad_accumulation=2
    """
    device, features, workers, cache = (options.pop(name) for name in ("device", "features", "workers", "cache"))
    _check_settings([model], options, assignments)
    folder = _dataset_or_what_is_missing(dataset, model, features)
    out = out or RUNS / model

    from mesm_model.evaluation.scores import from_json
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.folder import is_finished
    from mesm_model.runs.settings import RuntimeOptions, with_values
    from mesm_model.training.train import train as train_run

    opened = _open(folder, features, [model])
    run = _resolve(opened, model, options, assignments)
    first = run.settings.seed
    folders = [out] if seeds == 1 else [out / f"seed-{seed}" for seed in range(first, first + seeds)]
    with init_distributed(device) as distributed:
        if distributed.is_main:
            _print_suggested(opened, run.suggested)
        reports = {}
        for seed, one in enumerate(folders, first):
            finished = is_finished(one)
            runtime = RuntimeOptions(workers=workers, cache=cache)
            scores = train_run(opened, with_values(run, seed=seed), one, distributed, runtime)
            if distributed.is_main and finished:
                click.echo(f"{one}: this run is finished; its scores:", err=True)
            reports[one.name] = from_json(scores["splits"].get("test") or scores["splits"]["valid"])
        if distributed.is_main:
            _print_scores(reports)
            click.echo("Pages: " + ", ".join(str(one / "page.html") for one in folders))


@main.command()
@click.argument("run", type=RUN)
@click.argument("dataset", type=DATASET)
@split_option
@json_option
@click.option("--predictions", type=PAGE, help="Write id, probabilities and decisions to this CSV file.")
@features_option
@runtime_options
def evaluate(
    run: Path, dataset: Path, split: str, as_json: bool, predictions: Path | None, features: Path | None, device: str,
    workers: int, cache: Path | None,
) -> None:  # fmt: skip
    """Score a run on a split, with the thresholds chosen on valid.

    A folder of several seeds is scored seed by seed.

    mesm evaluate runs/mesm out/planted --split test
    """
    from mesm_model.evaluation.evaluate import evaluate as evaluate_run
    from mesm_model.evaluation.evaluate import write_predictions
    from mesm_model.evaluation.scores import to_json
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.folder import seeds_of

    opened = _open(dataset, features, run=run)
    runs = seeds_of(run)
    if predictions and len(runs) > 1:
        raise click.UsageError("--predictions goes with one run; give one of " + ", ".join(map(str, runs.values())))
    reports = {}
    with init_distributed(device) as distributed:
        for name, folder in runs.items():
            reports[name], split_data, probability = evaluate_run(folder, opened, split, distributed, cache, workers)
            if predictions:
                write_predictions(predictions, reports[name], split_data, probability)
                click.echo(f"Written to {predictions}", err=True)
    if as_json:
        found = [to_json(report) for report in reports.values()]
        _print_json(found[0] if len(found) == 1 else found)
    else:
        _print_scores(reports)


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--model", type=MODEL, default="mesm", show_default=True, help="A model with nucleus selection.")
@click.option("--top-p", type=Shares(), default="0.1:1.0:0.1", show_default=True, help="Values of p.")
@modalities_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs for each p.")
@click.option("--out", type=OUT, required=True, help="Folder; finished runs in it are not trained again.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Parallel runs, a core each.")
@training_options
@runtime_options
def sweep(
    dataset: Path, model: str, top_p: list[float], seeds: int, out: Path, at_once: int, assignments: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Scores and FLOPs against p, as in the paper's Figure 5.

    Writes one picture and one CSV file.

    mesm sweep out/planted --model mesm --top-p 0.1:1.0:0.1 --seeds 3 --out runs/sweep
    """
    device, runtime = _runtime(options)
    _check_settings([model], options, assignments)

    from mesm_model.experiments.sweep import sweep as sweep_runs
    from mesm_model.experiments.sweep import to_text

    opened = _open(dataset)
    run = _resolve(opened, model, options, assignments)
    _print_suggested(opened, run.suggested)
    rows = sweep_runs(opened, run, top_p, seeds, out, device, runtime(), at_once)
    click.echo(to_text(rows, opened))
    click.echo(f"Written to {out / 'sweep.csv'} and {out / 'sweep.svg'}")


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--model", "names", type=ModelNames(), default="mesm,fe2e", show_default=True, help="Models.")
@top_p_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each.")
@click.option("--out", type=OUT, required=True, help="Folder; finished runs in it are not trained again.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Parallel runs, a core each.")
@training_options
@features_option
@runtime_options
def ablate(
    dataset: Path, names: list[str], top_p: float | None, seeds: int, out: Path, at_once: int,
    assignments: tuple[str, ...], features: Path | None, text_encoder: str | None, **options: Any,
) -> None:  # fmt: skip
    """Models on every set of modalities, as in the paper's Table 5.

    mesm ablate out/planted --model mesm,fe2e --seeds 3 --out runs/ablate
    """
    device, runtime = _runtime(options)
    _check_settings(names, options, assignments)

    from mesm_model.experiments.sweep import ablate as ablate_runs
    from mesm_model.experiments.sweep import paper_table, to_text

    opened = _open(dataset, features, names)
    of_some = {"top_p": top_p, "text_encoder": text_encoder}  # settings that not every model has
    runs = [_resolve(opened, name, options | _having(name, of_some), assignments) for name in names]
    _print_suggested(opened, runs[0].suggested)
    click.echo(to_text(ablate_runs(opened, runs, seeds, out, device, runtime(), at_once), opened))
    if printed := paper_table(opened, names):
        click.echo(printed)
    click.echo(f"Written to {out / 'ablate.csv'}")


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--model", "names", type=ModelNames(), default="fe2e,mesm", show_default=True, help="Models.")
@click.option("--top-p", type=Shares(), default="0.5,0.7", show_default=True, help="MESM: values of p.")
@split_option
@click.option("--run", "runs", type=RUN, multiple=True, help="A trained run, counted too; may be repeated.")
@click.option("--text-encoder", metavar="NAME|FOLDER", help="albert-base-v2 (the paper's), a folder, or tiny.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting of the models.")
@json_option
@features_option
@reading_options
def flops(
    dataset: Path, names: list[str], top_p: list[float], split: str, runs: tuple[Path, ...], text_encoder: str | None,
    assignments: tuple[str, ...], as_json: bool, features: Path | None, device: str, cache: Path | None,
) -> None:  # fmt: skip
    """Count multiply-adds by stage, on real batches.

    Beside them is what the paper's FLOPs column may count. Untrained models attend with their initial weights, runs as
    they were trained.

    mesm flops --model fe2e,mesm --top-p 0.5,0.7 out/planted
    """
    _check_settings(names, {}, assignments)

    from mesm_model.evaluation.flops import count_models, count_run, table, to_json
    from mesm_model.runs.distributed import init_distributed
    from mesm_model.runs.settings import resolve_config, with_values

    opened = _open(dataset, features)
    encoder = text_encoder or opened.index.get("suggested", {}).get("text_encoder")
    wanted: dict[str, RunConfig] = {}
    for name in names:
        run = resolve_config(opened, name, _having(name, {"text_encoder": encoder}), assignments, suggestions=False)
        sparse = "top_p" in declared.model_settings(name)
        wanted |= {f"{name} p={p:g}": with_values(run, top_p=p) for p in top_p} if sparse else {name: run}
    with init_distributed(device) as distributed:
        counts = count_models(opened, split, wanted, distributed, cache)
        counts |= {str(run): count_run(run, opened, split, distributed, cache) for run in runs}
    if as_json:
        _print_json(to_json(counts))
        return
    click.echo(table(counts))
    trained = "; runs as trained" if runs else ""
    click.echo(f"On {opened.folder}, {split}; untrained models with their initial attention{trained}.")
    for encoder in dict.fromkeys(counted.encoder for counted in counts.values() if counted.encoder):
        click.echo(f"text encoder: {encoder}")


@main.command()
def models() -> None:
    """List the models and their settings.

    mesm models
    """
    for name in known_models.names():
        click.echo(f"{name:<10}{declared.summary(name)}")
        click.echo(" " * 10 + _listed(declared.model_settings(name)))
    click.echo(f"{'training':<10}Settings of every model.")
    click.echo(" " * 10 + _listed(declared.train_settings()))


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--out", type=OUT, required=True, help="Folder of the features; interrupted work resumes.")
@click.option("--text", default="hash", show_default=True, help="hash, glove:FILE or pickle:FILE.")
@click.option("--audio", default="bark_mfcc", show_default=True, help="bark_mfcc; disvoice:, opensmile:, pickle:PATH.")
@click.option(
    "--vision", default="face_geometry_pca", show_default=True, help="face_geometry_pca; openface:FOLDER, pickle:FILE."
)
def features(dataset: Path, out: Path, text: str, audio: str, vision: str) -> None:
    """Make fixed features of every utterance, for two-phase models.

    \b
    mesm features out/planted --out features
    mesm features out/mosei --out features --text glove:glove.840B.300d.txt --vision openface:openface/
    """
    from mesm_model.features.extract import make_features, read_feature_spec
    from mesm_model.features.store import to_text

    chosen = {"t": text, "a": audio, "v": vision}
    wanted = {modality: read_feature_spec(modality, name) for modality, name in chosen.items()}
    click.echo(to_text(make_features(_open(dataset), out, wanted)))
    click.echo(f"Next: mesm train {dataset} --model lf-lstm --features {out} --out runs/lf-lstm")


@main.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@split_option
@json_option
@click.option("--out", type=PAGE, help="Write one HTML page: table, bars with intervals, pairs.")
@click.option("--csv", "table", type=PAGE, help="Write one line per model to this CSV file.")
@click.option("--latex", type=PAGE, help="Write the table to this LaTeX file (booktabs).")
@click.option("--data", type=FOLDER, help="The dataset, if it is no longer where the runs were scored.")
@features_option
@reading_options
def compare(
    runs: tuple[Path, ...], split: str, as_json: bool, out: Path | None, table: Path | None, latex: Path | None,
    data: Path | None, features: Path | None, device: str, cache: Path | None,
) -> None:  # fmt: skip
    """Compare runs: scores, intervals, costs, paired tests.

    mesm compare runs/* --split test --out compare.html
    """
    from mesm_data.files import write_text
    from mesm_model.experiments import compare_tables
    from mesm_model.experiments.compare import compare as compare_runs
    from mesm_model.experiments.compare import find_runs
    from mesm_model.runs.distributed import init_distributed

    finished, others = find_runs(runs)
    for folder in others:
        click.echo(f"{folder}: no finished run, skipped", err=True)
    if not finished:
        raise DataError(f"{runs[0]}: not the folder of a finished run; expected what `mesm train --out` was given")
    with init_distributed(device) as distributed:
        found = compare_runs(finished, split, distributed, data, features, cache)
    if as_json:
        _print_json(compare_tables.to_json(found))
    else:
        click.echo(compare_tables.to_text(found))
    writers = (out, compare_tables.to_html), (table, compare_tables.to_csv), (latex, compare_tables.to_latex)
    for path, write in writers:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, write(found))
            click.echo(f"Written to {path}", err=as_json)


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--model", type=MODEL, default="mesm", show_default=True, help="What to train.")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Trials in all.")
@click.option("--out", type=OUT, required=True, help="Folder of the search; an interrupted one resumes.")
@top_p_option
@training_options
@features_option
@runtime_options
def tune(
    dataset: Path, model: str, trials: int, out: Path, assignments: tuple[str, ...], features: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Search for the settings that score best on valid.

    What you set yourself is not searched. The test split is not read.

    mesm tune out/planted --model mesm --trials 20 --out runs/tune
    """
    device, runtime = _runtime(options)
    _check_settings([model], options, assignments)

    from mesm_model.experiments.tune import space_of, to_text
    from mesm_model.experiments.tune import tune as search
    from mesm_model.runs.distributed import init_distributed

    opened = _open(dataset, features, [model])
    run = _resolve(opened, model, options, assignments)
    preset = options.pop("preset")
    given = {name: value for name, value in options.items() if value is not None}
    fixed = {*given, *(assignment.partition("=")[0] for assignment in assignments)}
    searched = set(space_of(model, fixed))
    _print_suggested(opened, {name: value for name, value in run.suggested.items() if name not in searched})
    with init_distributed(device) as distributed:
        found = search(opened, run, trials, out, distributed, runtime(quiet=True), fixed)
    click.echo(to_text(found))
    click.echo(f"Written to {out / 'tune.csv'}")
    best = [*(f"{name}={value}" for name, value in {**given, **found[0].values}.items()), *assignments]
    more = [f"--features {features}"] * bool(features) + [f"--preset {preset}"] * (preset != "default")
    again = " ".join([*more, *(f"--set {setting}" for setting in best)])
    click.echo(f"Next: mesm train {dataset} --model {model} {again} --out {out}-best")


@main.command()
@click.argument("run", type=RUN)
@click.argument("dataset", type=DATASET)
@split_option
@click.option("--out", type=PAGE, help="The picture, .svg or .png; a .csv beside it. [default: in the run's folder]")
@features_option
@reading_options
def robustness(
    run: Path, dataset: Path, split: str, out: Path | None, features: Path | None, device: str, cache: Path | None
) -> None:
    """Scores with faces hidden, noise, or a modality missing.

    mesm robustness runs/mesm out/planted
    """
    from mesm_model.experiments.robustness import draw, to_text, write_table
    from mesm_model.experiments.robustness import robustness as damage_and_score
    from mesm_model.runs.distributed import init_distributed

    picture = out or (run if run.is_dir() else run.parent) / "robustness.svg"
    expect_suffix(picture, "--out", ".svg", ".png")
    opened = _open(dataset, features, run=run)
    with init_distributed(device) as distributed:
        rows, skipped = damage_and_score(run, opened, split, distributed, cache)
    for damage in skipped:
        click.echo(f"{damage}: impossible for imported features, skipped", err=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_table(picture.with_suffix(".csv"), rows)
    draw(picture, rows, f"{run} on {dataset}, {split}")
    click.echo(to_text(rows))
    click.echo(f"Written to {picture} and {picture.with_suffix('.csv')}")


@main.command()
@click.argument("video", type=FILE)
@click.option("--checkpoint", "run", type=RUN, required=True, help="A run of fe2e or mesm, or its best.pt.")
@click.option("--transcript", type=FILE, help="Text with times: .srt, .vtt, or lines of start, end and text.")
@click.option("--text", help="The text of the whole video.")
@click.option("--asr", type=FOLDER, help="A Whisper model on disk that transcribes the video (extra asr).")
@click.option("--face", type=click.IntRange(min=1), help="Which person in view speaks. [default: 1, the largest]")
@click.option("--out", type=PAGE, help="Write a page with the video and a timeline to click on.")
@click.option("--json", "json_file", type=PAGE, help="Write the result to this JSON file.")
@device_option
def predict(
    video: Path, run: Path, transcript: Path | None, text: str | None, asr: Path | None, face: int | None,
    out: Path | None, json_file: Path | None, device: str,
) -> None:  # fmt: skip
    """Predict emotions per utterance of a video.

    Beside each is how much every modality contributes.

    \b
    mesm predict clip.mp4 --transcript words.srt --checkpoint runs/mesm --out timeline.html --json result.json
    mesm predict clip.mp4 --text "Bin blue at F two now." --checkpoint runs/mesm
    """
    if sum(source is not None for source in (transcript, text, asr)) > 1:
        raise click.UsageError("--transcript, --text and --asr exclude each other; give one of them")

    from mesm_data.files import write_json
    from mesm_model.prediction import timeline
    from mesm_model.prediction.predict import load_model
    from mesm_model.prediction.predict import predict as predict_video
    from mesm_model.prediction.transcripts import recognise_speech
    from mesm_model.runs.distributed import init_distributed

    with init_distributed(device) as distributed:
        words = recognise_speech(video, asr) if asr else transcript
        result = predict_video(load_model(run, distributed.device), video, words, text=text, face=face)
    click.echo(timeline.to_text(result))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, timeline.to_json(result))
    if out:
        timeline.write_page(out, result)
    if out or json_file:
        click.echo(f"Written to {' and '.join(str(path) for path in (out, json_file) if path)}")


@main.command()
@click.argument("dataset", type=DATASET)
@click.option("--checkpoint", "run", type=RUN, required=True, help="A run of mesm, or its best.pt.")
@click.option("--ids", type=Names(), help="Utterances.")
@click.option("--one-per-emotion", is_flag=True, help="Instead of --ids: the most probable one of each emotion.")
@click.option("--split", default="test", show_default=True, help="Split that --one-per-emotion chooses from.")
@click.option("--top-p", type=TOP_P, help="Share of the attention to keep. [default: as trained]")
@click.option("--out", type=PAGE, help="The picture, a PNG.")
@click.option("--video", type=PAGE, help="A video of one utterance, an mp4.")
@click.option("--raw", type=FOLDER, help="The raw corpus, so that the video shows the speaker and has audio.")
@device_option
def attention(
    dataset: Path, run: Path, ids: list[str] | None, one_per_emotion: bool, split: str, top_p: float | None,
    out: Path | None, video: Path | None, raw: Path | None, device: str,
) -> None:  # fmt: skip
    """Show where the text makes the model look (Figures 3 and 4).

    \b
    mesm attention out/iemocap --checkpoint runs/mesm --ids Ses01F_impro01_F000 --out overlay.png
    mesm attention out/iemocap --checkpoint runs/mesm --one-per-emotion --out emotions.png
    """
    if bool(ids) == one_per_emotion:
        raise click.UsageError("give either --ids or --one-per-emotion")
    if not out and not video:
        raise click.UsageError("give --out PICTURE, --video VIDEO or both")
    if video and len(ids or []) != 1:
        raise click.UsageError("--video shows one utterance; give one id with --ids")
    expect_suffix(out, "--out", ".png")
    expect_suffix(video, "--video", ".mp4")

    from mesm_model.prediction import attention_maps
    from mesm_model.prediction.predict import load_model
    from mesm_model.runs.distributed import init_distributed

    opened = _open(dataset)
    with init_distributed(device) as distributed:
        model = load_model(run, distributed.device, top_p)
        explained = (
            attention_maps.explain(opened, model, ids)
            if ids
            else attention_maps.explain_each_emotion(opened, model, split)
        )
    if out:
        attention_maps.draw(out, explained, model)
    if video:
        from mesm_model.prediction.attention_video import write_video

        write_video(video, explained[0], model, raw)
    click.echo(f"Written to {' and '.join(str(path) for path in (out, video) if path)}")


# ---- datasets and settings


def _dataset_or_what_is_missing(dataset: Path | None, model: str, features: Path | None) -> Path:
    """The dataset given, or the only one below ./out. Raises DataError with everything that is missing, in one line."""
    found = [dataset] if dataset else datasets_below(DATASETS)
    missing = []
    if not found:
        missing.append(
            "no dataset below ./out: `mesm-data build CORPUS --raw FOLDER` makes one, "
            "`mesm-data synth planted --out out/planted` a small synthetic one"
        )
    if len(found) > 1:
        missing.append(f"{len(found)} datasets below ./out ({', '.join(map(str, found))}): give one of them")
    if declared.takes_features(model) and not features:
        name = found[0] if len(found) == 1 else "DATASET"
        missing.append(f"no features, which {model} takes: `mesm features {name} --out features`, then --features")
    if missing:
        raise DataError("; ".join(missing))
    if not dataset:
        click.echo(f"dataset: {found[0]}", err=True)
    return found[0]


def _open(folder: Path, features: Path | None = None, names: Sequence[str] = (), run: Path | None = None) -> "Dataset":
    """The dataset with these features; without them those that `run` was scored with. One of `names` must take them."""
    from mesm_data.dataset.reader import load
    from mesm_model.features.store import attach
    from mesm_model.runs.folder import features_of

    if features and names and not any(declared.takes_features(name) for name in names):
        raise DataError(f"{' and '.join(names)}: reads text, audio and faces, not features; leave --features out")
    features = features or (features_of(run) if run else None)
    return attach(load(folder), features) if features else load(folder)


def _check_settings(names: Sequence[str], options: Mapping[str, Any], assignments: Sequence[str]) -> None:
    """Raises SettingError for a setting that one of these models lacks, before anything heavy is imported."""
    given = [option for option, value in options.items() if option != "preset" and value is not None]
    for name in names:
        declared.check_names(name, given)
        declared.check_assignments(name, assignments)


def _resolve(dataset: "Dataset", model: str, options: Mapping[str, Any], assignments: Sequence[str]) -> "RunConfig":
    from mesm_model.runs.settings import resolve_config

    given = {name: value for name, value in options.items() if name != "preset"}
    preset = None if options["preset"] == "default" else options["preset"]
    return resolve_config(dataset, model, given, assignments, preset=preset)


def _having(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the model has a setting for."""
    return {name: value for name, value in values.items() if name in declared.model_settings(model)}


def _runtime(options: dict[str, Any]) -> tuple[str, Any]:
    """Takes device, workers and cache out of the options: the device, and a function that makes RuntimeOptions."""
    device, workers, cache = (options.pop(name) for name in ("device", "workers", "cache"))

    def make(quiet: bool = False) -> "RuntimeOptions":
        from mesm_model.runs.settings import RuntimeOptions

        return RuntimeOptions(workers=workers, cache=cache, quiet=quiet)

    return device, make


# ---- printing


def _print_suggested(dataset: "Dataset", suggested: Mapping[str, Any]) -> None:
    if suggested:
        values = " ".join(f"{name}={value}" for name, value in suggested.items())
        click.echo(
            f"{dataset.folder} suggests {values}; the paper's: --preset published, or --set NAME=VALUE", err=True
        )


def _print_scores(reports: Mapping[str, "Report"]) -> None:
    """One report in full, several by their means and spread."""
    from mesm_model.evaluation import scores

    click.echo(scores.to_text(*reports.values()) if len(reports) == 1 else scores.spread_text(reports))


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _listed(settings: Mapping[str, declared.Setting]) -> str:
    return ", ".join(f"{name}={one.default}" for name, one in settings.items())


if __name__ == "__main__":
    main()
