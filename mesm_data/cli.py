"""The command `mesm-data`: parse, call one function, print. Results go to stdout, progress to stderr."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from mesm_data import corpora
from mesm_data.commands import Commands, OutFolder, expect_suffix
from mesm_data.errors import DOUBTFUL, LEFT_OUT, NOTED, PAPER_DROPS, DataError

CORPUS = click.Choice(corpora.names(), case_sensitive=False)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PAGE = click.Path(dir_okay=False, path_type=Path)
OUTPUTS = Path("out")  # where `build` puts datasets and `verify-splits` looks for them
SCHEMES = ("paper", "official", "random", "grouped", *(f"session:{n}" for n in range(1, 6)))
OUT = OutFolder(file_okay=False, path_type=Path)


class Share(click.ParamType):
    """`30%` as 0.3, `25` as 25.0."""

    name = "N|N%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", value)
        if not match or (match[2] and float(match[2]) >= 100):
            self.fail(f"{value!r} is neither a number of utterances nor a share below 100%, such as 5%", param, ctx)
        return float(match[2]) / 100 if match[2] else float(match[1])


class Scheme(click.ParamType):
    """The name of a way to split; `70/10/20` is random, since those are its shares."""

    name = "scheme"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).strip().lower()
        if re.fullmatch(r"70\W10\W20", name):
            return "random"
        if re.fullmatch(r"paper|official|random|grouped|session:\d{1,9}", name):
            return name
        number = re.fullmatch(r"(?:session|ses)[ _:=-]*0*(\d+)", name)
        hint = f"did you mean session:{number[1]}?" if number else f"expected {', '.join(SCHEMES[:4])} or session:N"
        self.fail(f"{value!r} is no split; {hint}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in SCHEMES if name.startswith(incomplete)]


class CorpusOr(click.ParamType):
    """The name of a corpus in any case as a string, anything else as the Path of a folder that must be there."""

    name = "corpus|folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        if isinstance(value, Path) or value.lower() in corpora.names():
            return value if isinstance(value, Path) else value.lower()
        if not Path(value).is_dir():
            self.fail(f"{value!r} is neither a corpus ({', '.join(corpora.names())}) nor a folder", param, ctx)
        return Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in corpora.names() if name.startswith(incomplete.lower())]
        return [*names, CompletionItem(incomplete, type="dir")]


def _suggested(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For shell completion: the values that the corpora name for one of their options."""
    options = [corpora.load(name).OPTIONS for name in corpora.names()]
    return [value for of in options for value in of.get(param.name or "", ()) if value.startswith(incomplete)]


def _reader_options(corpus: str, given: dict[str, str | None]) -> dict[str, str]:
    """The options that go to the corpus's reader. A usage error for one that the corpus does not have."""
    own = corpora.load(corpus).OPTIONS
    for name in (name for name, value in given.items() if value and name not in own):
        having = [other for other in corpora.names() if name in corpora.load(other).OPTIONS]
        raise click.UsageError(f"--{name.replace('_', '-')} goes with {' and '.join(having)}, not with {corpus}")
    return {name: value for name, value in given.items() if value}


@click.group(
    "mesm-data",
    cls=Commands,
    resumable={"build", "export"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mesm")
def main() -> None:
    """Turn raw recordings of emotional speech into verified Parquet shards.

    \b
    mesm-data doctor IEMOCAP_full_release
    mesm-data build iemocap --raw IEMOCAP_full_release
    mesm-data verify-splits

    Completion for bash: eval "$(_MESM_DATA_COMPLETE=bash_source mesm-data)"; zsh_source and fish_source for others.
    """


@main.command()
@click.argument("target", type=CorpusOr(), metavar="CORPUS|FOLDER")
@click.option("--raw", type=FOLDER, help="Folder of the raw corpus, as you hold it; goes with a corpus's name.")
@click.option("--out", type=OUT, default=OUTPUTS, show_default=True, help="Where the dataset would go.")
@click.option("--layout", shell_complete=_suggested, help="MOSEI: the layout of the folder. [default: detected]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes of the build. [default: one per core]")
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON.")
def doctor(
    target: str | Path, raw: Path | None, out: Path, layout: str | None, workers: int | None, as_json: bool
) -> None:
    """Check whether a raw corpus can be built.

    Reports what is missing or unreadable, and the time and disk that a build takes. Exits with 1 when it cannot work.

    \b
    mesm-data doctor IEMOCAP_full_release
    mesm-data doctor mosei --raw CMU_MOSEI --layout csd
    """
    from mesm_data.doctor import doctor as run

    if isinstance(target, str) and raw is None:
        raise click.UsageError(f"--raw is missing: mesm-data doctor {target} --raw FOLDER")
    if isinstance(target, Path) and raw is not None:
        raise click.UsageError("give the folder once: either FOLDER, or a corpus and --raw FOLDER")
    corpus = corpora.guess(target) if isinstance(target, Path) else target
    folder = target if isinstance(target, Path) else raw
    assert folder is not None
    diagnosis = run(corpus, folder, _reader_options(corpus, {"layout": layout}), out, workers)
    click.echo(_as_json(asdict(diagnosis)) if as_json else "\n".join(diagnosis.lines))
    if not diagnosis.works:
        click.get_current_context().exit(1)


@main.command()
@click.argument("corpus", type=CORPUS)
@click.option("--raw", type=FOLDER, required=True, help="Folder of the raw corpus, as you hold it.")
@click.option("--out", type=OUT, help="Folder of the dataset; an interrupted build resumes. [default: out/CORPUS]")
@click.option(
    "--split",
    "scheme",
    type=Scheme(),
    default="paper",
    show_default=True,
    metavar="SCHEME",
    help="paper, official, random (70/10/20), grouped or session:N.",
)
@click.option("--lists", type=FOLDER, help="Folder of train.txt, valid.txt, test.txt with the paper's ids (IEMOCAP).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random and grouped splits.")
@click.option("--layout", shell_complete=_suggested, help="MOSEI: the layout of the folder. [default: detected]")
@click.option(
    "--label-policy",
    metavar="any|majority|mean>=T",
    shell_complete=_suggested,
    help="MOSEI: when an emotion is 1. The paper's is any.",
)
@click.option("--step", type=click.FloatRange(min=0.01), default=0.5, show_default=True, help="Seconds between faces.")
@click.option(
    "--min-face",
    type=click.IntRange(min=12),
    default=20,
    show_default=True,
    help="Smallest face in pixels of a frame of 480 lines; 40 is 3x faster.",
)
@click.option("--sample-rate", type=click.IntRange(min=8000), help="Hz. [default: 16000 IEMOCAP, 44100 MOSEI]")
@click.option("--shard-mb", type=click.IntRange(min=1), default=256, show_default=True, help="Size of a shard.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one per core]")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=1800.0, show_default=True, help="Seconds per recording."
)
@click.option("--max-issues", type=Share(), default="5%", show_default=True, help="Utterances that may be left out.")
@click.option("--strict", is_flag=True, help="Stop at the first utterance that must be left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def build(corpus: str, raw: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Build the dataset of a raw corpus.

    The same command resumes after an interruption. The paper's split of IEMOCAP needs id lists: they are fetched once
    where there is a network, or give their folder to --lists.

    \b
    mesm-data build iemocap --raw IEMOCAP_full_release
    mesm-data build mosei --raw CMU_MOSEI --split grouped --out out/mosei-grouped
    """
    from mesm_data.build import Settings
    from mesm_data.build import build as run
    from mesm_data.clip import Recipe
    from mesm_data.pool import cores

    reader = _reader_options(corpus, {name: options[name] for name in ("layout", "label_policy")})
    if options["lists"] and options["scheme"] != "paper":
        raise click.UsageError(f"--lists goes with --split paper, not with --split {options['scheme']}")
    out = out or OUTPUTS / corpus
    if options["scheme"] == "paper" and not options["lists"]:
        _fetch_missing_lists(corpus)
    recipe = Recipe(
        step=options["step"],
        min_face=options["min_face"],
        sample_rate=options["sample_rate"] or corpora.load(corpus).SAMPLE_RATE,
    )
    settings = Settings(
        scheme=options["scheme"],
        seed=options["seed"],
        lists=options["lists"],
        recipe=recipe,
        reader=reader,
        shard_mb=options["shard_mb"],
        workers=options["workers"] or cores(),
        timeout=options["timeout"],
        max_issues=0 if options["strict"] else options["max_issues"],
    )
    summary = run(corpus, raw, out, settings)
    click.echo(_as_json({"out": str(out)} | asdict(summary)) if as_json else _in_lines(corpus, out, summary))


def _fetch_missing_lists(corpus: str) -> None:
    from mesm_data.splits.split import obtain_lists

    if said := obtain_lists(corpus):
        click.echo(said, err=True)


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(dataset: Path, as_json: bool) -> None:
    """Check every byte, row and count of a dataset.

    mesm-data verify out/iemocap
    """
    from mesm_data.dataset import verify
    from mesm_data.dataset.reader import load

    problems = verify.verify(dataset)
    index = load(dataset).index
    found = {
        "ok": not problems,
        "problems": problems,
        "utterances": sum(shard["rows"] for shard in index["shards"]),
        "shards": len(index["shards"]),
        "bytes": sum(file["bytes"] for file in index["files"].values()),
    }
    if as_json:
        click.echo(_as_json(found))
    elif problems:
        click.echo("\n".join(problems))
    else:
        size = f"{found['utterances']} utterances in {found['shards']} shards, {found['bytes']:,} bytes"
        click.echo(f"{dataset}: ok. {size}, all accounted for.")
    if problems:
        raise DataError(f"{dataset}: {len(problems)} problems; build the dataset again")


@main.command("verify-splits")
@click.argument("target", type=CorpusOr(), metavar="[CORPUS|FOLDER]", required=False)
@click.option("--raw", type=FOLDER, help="Raw corpus: labels, times and texts are read from it.")
@click.option("--labels", type=FILE, help="MOSEI: a CSV of all labelled segments instead of the raw corpus.")
@click.option("--lists", type=FOLDER, help="Folder of train.txt, valid.txt, test.txt with the paper's ids.")
@click.option("--expected", type=FILE, help="Another manifest than the paper's, as `synth iemocap --full-text` writes.")
@click.option("--diff", type=PAGE, help="Write every differing id to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--strict", is_flag=True, help="Fail on leaks between the splits as well.")
def verify_splits(
    target: str | Path | None, diff: Path | None, as_json: bool, strict: bool, **given: Path | None
) -> None:
    """Compare a split with the paper's Tables 1-2, cell by cell.

    Without an argument: every dataset below ./out, and the sums of the manifests themselves. Exits with 1 where a
    figure differs.

    \b
    mesm-data verify-splits
    mesm-data verify-splits out/iemocap
    mesm-data verify-splits mosei --labels utterances.csv
    mesm-data verify-splits iemocap --raw IEMOCAP_full_release --lists lists/
    """
    from mesm_data.dataset.reader import load
    from mesm_data.splits import split_report
    from mesm_data.verify_splits import Given, check_corpus, check_dataset, is_dataset

    if target is None or (isinstance(target, Path) and not is_dataset(target)):
        if options := [f"--{name}" for name, value in (given | {"diff": diff}).items() if value]:
            raise click.UsageError(f"{options[0]} goes with one corpus or dataset; name it")
        _check_all(target or OUTPUTS, as_json, strict)
        return
    dataset = load(target) if isinstance(target, Path) else None
    corpus = dataset.corpus if dataset is not None else str(target)
    if given["raw"] and given["labels"]:
        raise click.UsageError("--raw and --labels give the same facts; give one of them")
    if given["labels"] and corpus in corpora.names() and corpora.load(corpus).read_labels_csv is None:
        raise click.UsageError(f"--labels does not go with {corpus}; its labels are read from --raw")
    if dataset is not None:
        report = check_dataset(dataset, Given(**given))
    else:
        if not given["lists"] and not given["labels"]:
            _fetch_missing_lists(corpus)
        report = check_corpus(corpus, Given(**given))
    if diff:
        split_report.write_differences(diff, report)
    click.echo(_as_json(split_report.to_dict(report, strict)) if as_json else split_report.to_text(report, strict))
    if not report.passes(strict):
        raise click.exceptions.Exit(1)


def _check_all(folder: Path, as_json: bool, strict: bool) -> None:
    from mesm_data.verify_splits import check_folder

    checks = check_folder(folder, strict)
    click.echo(_as_json([asdict(check) for check in checks]) if as_json else "\n".join(c.line for c in checks))
    if not as_json and all(check.dataset is None for check in checks):
        click.echo(f"No dataset below {folder}: mesm-data build CORPUS --raw FOLDER makes one.")
    if any(check.ok is False for check in checks):
        raise click.exceptions.Exit(1)


@main.group()
def splits() -> None:
    """Fetch the published id lists."""


@splits.command("fetch")
@click.argument("corpus", type=click.Choice(["iemocap", "mosei"], case_sensitive=False))
@click.option("--out", type=OUT, help="Folder for the lists. [default: your cache, where build finds them]")
def fetch(corpus: str, out: Path | None) -> None:
    """Fetch a corpus's published id lists.

    They come from the authors' repository and are checked against their digests.

    mesm-data splits fetch iemocap
    """
    from mesm_data.splits.id_lists import fetch_lists

    click.echo(f"{fetch_lists(corpus, out)}: train.txt, valid.txt, test.txt are the published lists")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--out", type=PAGE, help="The page. [default: report.html in the dataset]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random sample of utterances.")
def report(dataset: Path, out: Path | None, seed: int) -> None:
    """Write an HTML page about a dataset, and its card.

    mesm-data report out/iemocap --out report.html
    """
    from mesm_data.report.card import write_card
    from mesm_data.report.page import write_report

    out = out or dataset / "report.html"
    write_report(dataset, out, seed)
    write_card(dataset)
    click.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, opens in any browser. Card: {dataset}/README.md, croissant.json"
    )


@main.command(context_settings={"ignore_unknown_options": True})  # ids of CMU-MOSEI may begin with a dash
@click.argument("dataset", type=FOLDER)
@click.argument("utterance")
@click.option("--out", type=PAGE, required=True, help="The image, a PNG.")
def show(dataset: Path, utterance: str, out: Path) -> None:
    """Draw one utterance as an image.

    Every face with its probability, the mel spectrogram, the text, the labels, every rater's vote.

    mesm-data show out/iemocap Ses01F_impro01_F000 --out sheet.png
    """
    from mesm_data.report.sheet import utterance_sheet

    expect_suffix(out, "--out", ".png")
    utterance_sheet(dataset, utterance, out)
    click.echo(str(out))


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--to", type=click.Choice(["clips", "webdataset", "hf", "mmsa"]), required=True, help="Format.")
@click.option("--out", type=OUT, required=True, help="Folder of the export; interrupted clips resume.")
@click.option("--raw", type=FOLDER, help="clips: the raw corpus that the dataset was built from.")
@click.option("--features", type=FOLDER, help="mmsa: features of the dataset, made by `mesm features`.")
@click.option("--workers", type=click.IntRange(min=1), help="clips: processes. [default: one per core]")
@click.option("--i-hold-the-licence", "holds_licence", is_flag=True, help="Confirm it; required for people's faces.")
def export(
    dataset: Path,
    to: str,
    out: Path,
    raw: Path | None,
    features: Path | None,
    workers: int | None,
    holds_licence: bool,
) -> None:
    """Convert a dataset for other tools.

    One video per utterance, WebDataset, Hugging Face, or the pickle of MMSA.

    mesm-data export out/iemocap --to clips --raw IEMOCAP_full_release --out clips/ --i-hold-the-licence
    """
    from mesm_data.export.export import export as run
    from mesm_data.export.samples import Options
    from mesm_data.pool import cores

    done = run(dataset, to, out, Options(raw, features, workers or cores()), holds_licence)
    size = f"{done.utterances} utterances in {done.files} files, {done.size / 1e6:.1f} MB"
    click.echo(f"{out}: {size}; {out / 'README.md'} describes them")


@main.group()
def synth() -> None:
    """Write synthetic raw corpora and datasets."""


@synth.command("iemocap")
@click.option("--out", type=OUT, required=True, help="Folder of the raw corpus.")
@click.option("--dialogues", type=click.IntRange(1, 151), default=6, show_default=True, help="Number of dialogues.")
@click.option("--full-text", is_flag=True, help="All 151 dialogues with Table 1's own counts, without media.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def synth_iemocap(out: Path, dialogues: int, full_text: bool, seed: int) -> None:
    """A small IEMOCAP with awkward and broken media.

    mesm-data synth iemocap --out raw/iemocap
    """
    from mesm_data import synth
    from mesm_data.files import new_folder

    with new_folder(out) as folder:
        if full_text:
            synth.write_iemocap_text(folder, seed=seed)
        else:
            synth.write_iemocap(folder, dialogues=dialogues, seed=seed)
    click.echo(f"{out}: a raw corpus; expected.json lists what is in it")


@synth.command("mosei")
@click.option("--out", type=OUT, required=True, help="Folder of the raw corpus.")
@click.option("--videos", type=click.IntRange(1, 1000), default=12, show_default=True, help="Number of videos.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def synth_mosei(out: Path, videos: int, seed: int) -> None:
    """A small CMU-MOSEI with awkward and broken media.

    mesm-data synth mosei --out raw/mosei
    """
    from mesm_data import synth
    from mesm_data.files import new_folder

    with new_folder(out) as folder:
        synth.write_mosei(folder, videos=videos, seed=seed)
    click.echo(f"{out}: a raw corpus; expected.json lists what is in it")


@synth.command("planted")
@click.option("--out", type=OUT, required=True, help="Folder of the dataset.")
@click.option(
    "--train",
    type=click.IntRange(min=1),
    help="Utterances to train on; valid gets a quarter and test half as many. [default: 2000]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def synth_planted(out: Path, train: int | None, seed: int) -> None:
    """A dataset with a known share of signal per modality.

    mesm-data synth planted --out out/planted
    """
    _print_bayes_optimal(out, "write_planted", train, seed)


@synth.command("pointer")
@click.option("--out", type=OUT, required=True, help="Folder of the dataset.")
@click.option(
    "--train",
    type=click.IntRange(min=1),
    help="Utterances to train on; valid gets a quarter and test half as many. [default: 2000]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def synth_pointer(out: Path, train: int | None, seed: int) -> None:
    """A dataset whose text says where to look and listen.

    mesm-data synth pointer --out out/pointer
    """
    _print_bayes_optimal(out, "write_pointer", train, seed)


def _print_bayes_optimal(out: Path, write: str, train: int | None, seed: int) -> None:
    from mesm_data.synth import planted, pointer, synthetic_dataset

    writer = {"write_planted": planted.write_planted, "write_pointer": pointer.write_pointer}[write]
    bayes_optimal = writer(out, synthetic_dataset.default_sizes(train or synthetic_dataset.TRAIN), seed)
    click.echo(synthetic_dataset.describe(bayes_optimal))
    click.echo(f"Written to {out}; the same figures are in {out / 'bayes_optimal.json'}")


def _in_lines(corpus: str, out: Path, summary: Any) -> str:
    """A build's summary: what is in the dataset, what is not and why, what was slow, what to do next."""
    rows = [("utterances", str(summary.utterances), f"{summary.speech / 60:.1f} minutes of speech")]
    tables = (("dropped, as in the paper", PAPER_DROPS), ("dropped", LEFT_OUT), ("doubtful", DOUBTFUL), ("note", NOTED))
    for title, kinds in tables:
        counted = [(kind, summary.issues[kind]) for kind in kinds if summary.issues.get(kind)]
        rows += [(title, str(number), f"{kind}: {kinds[kind]}") for kind, number in counted]
    if summary.absent:
        rows.append(("not in this copy", str(summary.absent), "ids of the split's lists"))
    rows += [("not in this copy", "", gap) for gap in summary.gaps]
    found = summary.faces_found / summary.faces if summary.faces else 0.0
    rows.append(("faces found", f"{found:.1%}", f"of {summary.faces} frames"))
    speed = f"{summary.speech / summary.seconds:.1f} times real time" if not summary.resumed else ""
    rows.append(("seconds", f"{summary.seconds:.1f}", speed or f"{summary.resumed} recordings were done before"))
    lines = [f"{title:<26}{value:>8}  {words}".rstrip() for title, value, words in rows]
    return "\n".join([*lines, f"Written to {out}. Next: {_next_commands(corpus, out, summary)}"])


def _next_commands(corpus: str, out: Path, summary: Any) -> str:
    """`verify-splits` only where it can pass: for the paper's split of the whole corpus."""
    from mesm_data.splits.expected import corpora_of_the_paper, read_expected

    commands = [f"mesm-data verify {out}", f"mesm-data report {out}"]
    papers = summary.scheme == "paper" and corpus in corpora_of_the_paper()
    if papers and summary.utterances == sum(read_expected(corpus).utterances.values()):
        commands.insert(1, f"mesm-data verify-splits {out}")
    return "; ".join(commands)


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=1)


if __name__ == "__main__":
    main()
