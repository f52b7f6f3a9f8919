"""The command `mesm-data`: parse, call one function, print. Results go to stdout, progress to stderr."""

import json
import re
from pathlib import Path
from typing import Any

import click

from mesm_data import corpora
from mesm_data.commands import Commands, expect_suffix
from mesm_data.errors import DOUBTFUL, LEFT_OUT, PAPER_DROPS, DataError

CORPUS = click.Choice(corpora.names())
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)
PAGE = click.Path(dir_okay=False, path_type=Path)


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


@click.group(
    "mesm-data",
    cls=Commands,
    resumable={"build", "export"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mesm")
def main() -> None:
    """Raw recordings of emotional speech in, verified Parquet shards out.

    \b
    mesm-data doctor iemocap --raw IEMOCAP_full_release
    mesm-data build iemocap --raw IEMOCAP_full_release --out out/iemocap
    mesm-data verify-splits out/iemocap
    """


@main.command()
@click.argument("corpus", type=CORPUS)
@click.option("--raw", type=FOLDER, required=True, help="Folder of the raw corpus, as you hold it.")
@click.option("--out", type=OUT, default=".", help="Where the dataset would go, to see whether it fits.")
@click.option("--layout", help="MOSEI: which of the known layouts the folder has; found out by itself otherwise.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes of the build. [default: one for each core]")
def doctor(corpus: str, raw: Path, out: Path, layout: str | None, workers: int | None) -> None:
    """Say whether a raw corpus can be built, what is missing, and what the build will cost; exit 1 when it cannot.

    mesm-data doctor iemocap --raw IEMOCAP_full_release --out out/iemocap
    """
    from mesm_data.doctor import doctor as run

    diagnosis = run(corpus, raw, {"layout": layout} if layout else {}, out, workers)
    for line in diagnosis.lines:
        click.echo(line)
    if not diagnosis.works:
        click.get_current_context().exit(1)


@main.command()
@click.argument("corpus", type=CORPUS)
@click.option("--raw", type=FOLDER, required=True, help="Folder of the raw corpus, as you hold it.")
@click.option("--out", type=OUT, required=True, help="Folder of the dataset; an interrupted build goes on in it.")
@click.option("--split", default="paper", show_default=True, help="paper, official, random, grouped or session:N.")
@click.option("--lists", type=FOLDER, help="Folder of train.txt, valid.txt, test.txt with the paper's ids (IEMOCAP).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random and grouped splits.")
@click.option("--layout", help="MOSEI: which of the known layouts the folder has; found out by itself otherwise.")
@click.option("--label-policy", metavar="any|majority|mean>=T", help="MOSEI: when an emotion is 1. The paper's is any.")
@click.option("--step", type=click.FloatRange(min=0.01), default=0.5, show_default=True, help="Seconds between faces.")
@click.option(
    "--min-face",
    type=click.IntRange(min=12),
    default=20,
    show_default=True,
    help="Pixels at 480 lines; 40 is 3x faster.",
)
@click.option("--sample-rate", type=click.IntRange(min=8000), help="Hz. [default: 16000 IEMOCAP, 44100 MOSEI]")
@click.option("--shard-mb", type=click.IntRange(min=1), default=256, show_default=True, help="Size of a shard.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one for each core]")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=1800.0, show_default=True, help="Seconds a video.")
@click.option("--max-issues", type=Share(), default="5%", show_default=True, help="Utterances that may be left out.")
@click.option("--strict", is_flag=True, help="Stop at the first utterance that must be left out.")
def build(corpus: str, raw: Path, out: Path, **options: Any) -> None:
    """Build the dataset of a raw corpus; the same command goes on after an interruption.

    mesm-data build iemocap --raw IEMOCAP_full_release --out out/iemocap --lists lists/
    """
    from mesm_data.build import Settings
    from mesm_data.build import build as run
    from mesm_data.clip import Recipe
    from mesm_data.pool import cores

    reader = {name: options[name] for name in ("layout", "label_policy") if options[name]}
    if reader and corpus != "mosei":
        raise click.UsageError(f"--{next(iter(reader)).replace('_', '-')} goes with mosei, not with {corpus}")
    recipe = Recipe(
        step=options["step"],
        min_face=options["min_face"],
        sample_rate=options["sample_rate"] or corpora.load(corpus).SAMPLE_RATE,
    )
    settings = Settings(
        split=options["split"],
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
    _print_summary(out, summary)


@main.command()
@click.argument("dataset", type=FOLDER)
def verify(dataset: Path) -> None:
    """Account for every byte of a dataset: files, hashes, rows, ids, counts.

    mesm-data verify out/iemocap
    """
    from mesm_data.dataset import reader as reader_module
    from mesm_data.dataset import verify

    problems = verify.verify(dataset)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise DataError(f"{dataset}: {len(problems)} problems; build the dataset again")
    index = reader_module.open_dataset(dataset).index
    rows = sum(shard["rows"] for shard in index["shards"])
    size = sum(file["bytes"] for file in index["files"].values())
    click.echo(f"{dataset}: ok. {rows} utterances in {len(index['shards'])} shards, {size:,} bytes, all accounted for.")


@main.command("verify-splits")
@click.argument("target", metavar="iemocap|mosei|DATASET")
@click.option("--raw", type=FOLDER, help="Raw corpus: labels, times and texts are read from it.")
@click.option("--labels", type=FILE, help="MOSEI: a CSV of all labelled segments instead of the raw corpus.")
@click.option("--lists", type=FOLDER, help="Folder of train.txt, valid.txt, test.txt with the paper's ids.")
@click.option("--expected", type=FILE, help="Another manifest than the paper's, as `synth iemocap --full-text` writes.")
@click.option("--diff", type=PAGE, help="Write every differing id to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--strict", is_flag=True, help="Fail on leaks between the parts as well.")
def verify_splits(
    target: str,
    raw: Path | None,
    labels: Path | None,
    lists: Path | None,
    expected: Path | None,
    diff: Path | None,
    as_json: bool,
    strict: bool,
) -> None:
    """Hold a split against the paper's Tables 1-2, cell by cell; exit 1 where it differs.

    \b
    mesm-data verify-splits mosei --labels utterances.csv
    mesm-data verify-splits iemocap --raw IEMOCAP_full_release --lists lists/
    mesm-data verify-splits out/iemocap
    """
    from mesm_data.build import read_corpus
    from mesm_data.dataset.reader import open_dataset
    from mesm_data.splits import split_report
    from mesm_data.splits.expected import read_expected_file
    from mesm_data.splits.verify import verify_corpus, verify_rows

    dataset = None if target in corpora.names() else open_dataset(Path(target))
    corpus = dataset.corpus if dataset is not None else target
    if raw and labels:
        raise click.UsageError("--raw and --labels say the same things; give one of them")
    if labels and corpus != "mosei":
        raise click.UsageError("--labels goes with mosei; labels of iemocap are read from --raw")
    manifest = read_expected_file(expected) if expected else None
    utterances = None
    if labels:
        utterances = list(corpora.load(corpus).read_labels_csv(labels))
    elif raw:
        utterances = read_corpus(corpus, raw, {})[0]
    if dataset is not None:
        columns = ["id", "split", "text", "labels", "start", "end", "speaker", "group"]
        report = verify_rows(
            corpus,
            dataset.rows(columns),
            dataset.emotions,
            split=dataset.index["split"],
            utterances=utterances,
            lists=lists,
            expected=manifest,
        )
    else:
        report = verify_corpus(corpus, utterances=utterances, lists=lists, expected=manifest)
    click.echo(
        json.dumps(split_report.to_dict(report, strict), indent=1) if as_json else split_report.to_text(report, strict)
    )
    if diff:
        split_report.write_differences(diff, report)
    if not report.passes(strict):
        raise click.exceptions.Exit(1)


@main.group()
def splits() -> None:
    """The published id lists."""


@splits.command("fetch")
@click.argument("corpus", type=click.Choice(["iemocap", "mosei"]))
@click.option("--out", type=OUT, help="Folder for the lists. [default: your cache, where build finds them]")
def fetch(corpus: str, out: Path | None) -> None:
    """Fetch the published id lists once from the authors' repository, checked against their digests.

    mesm-data splits fetch iemocap
    """
    from mesm_data.splits.id_lists import fetch_lists

    click.echo(f"{fetch_lists(corpus, out)}: train.txt, valid.txt, test.txt are the published lists")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--out", type=PAGE, help="The page. [default: report.html in the dataset]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random sample of utterances.")
def report(dataset: Path, out: Path | None, seed: int) -> None:
    """Write a page that shows what is in a dataset; and the dataset's card beside its shards.

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
@click.option("--out", type=PAGE, required=True, help="The picture, a PNG.")
def show(dataset: Path, utterance: str, out: Path) -> None:
    """Draw one utterance: every face with its probability, the mel, the text, the label, every rater's vote.

    mesm-data show out/iemocap Ses01F_impro01_F000 --out sheet.png
    """
    from mesm_data.report.sheet import utterance_sheet

    expect_suffix(out, "--out", ".png")
    utterance_sheet(dataset, utterance, out)
    click.echo(str(out))


@main.command()
@click.argument("dataset", type=FOLDER)
@click.option("--to", type=click.Choice(["clips", "webdataset", "hf", "mmsa"]), required=True, help="The form.")
@click.option("--out", type=OUT, required=True, help="Folder of the export; interrupted clips go on in it.")
@click.option("--raw", type=FOLDER, help="clips: the raw corpus that the dataset was built from.")
@click.option("--workers", type=click.IntRange(min=1), help="clips: processes. [default: one for each core]")
@click.option("--i-hold-the-licence", "holds_licence", is_flag=True, help="You do; asked for with people's faces.")
def export(dataset: Path, to: str, out: Path, raw: Path | None, workers: int | None, holds_licence: bool) -> None:
    """Write a dataset for other tools: one film an utterance, WebDataset, Hugging Face, or the pickle of MMSA.

    mesm-data export out/iemocap --to clips --raw IEMOCAP_full_release --out clips/ --i-hold-the-licence
    """
    from mesm_data.export.export import export as run
    from mesm_data.pool import cores

    done = run(dataset, to, out, raw, holds_licence, workers or cores())
    size = f"{done.utterances} utterances in {done.files} files, {done.size / 1e6:.1f} MB"
    click.echo(f"{out}: {size}; {out / 'README.md'} says what they are")


@main.group()
def synth() -> None:
    """Write raw trees and datasets that nobody has to sign a licence for."""


@synth.command("iemocap")
@click.option("--out", type=OUT, required=True, help="Folder of the tree.")
@click.option("--dialogues", type=click.IntRange(1, 151), default=6, show_default=True, help="How many.")
@click.option("--full-text", is_flag=True, help="All 151 dialogues with Table 1's own counts, without media.")
@click.option("--seed", type=int, default=0, show_default=True)
def synth_iemocap(out: Path, dialogues: int, full_text: bool, seed: int) -> None:
    """A small IEMOCAP with the release's layout, its quirks and some broken media.

    mesm-data synth iemocap --out raw/iemocap
    """
    from mesm_data import synth
    from mesm_data.files import new_folder

    with new_folder(out) as folder:
        if full_text:
            synth.write_iemocap_text(folder, seed=seed)
        else:
            synth.write_iemocap(folder, dialogues=dialogues, seed=seed)
    click.echo(f"{out}: a raw tree; expected.json says what is in it")


@synth.command("mosei")
@click.option("--out", type=OUT, required=True, help="Folder of the tree.")
@click.option(
    "--videos", "--dialogues", "videos", type=click.IntRange(1, 1000), default=12, show_default=True, help="How many."
)
@click.option("--seed", type=int, default=0, show_default=True)
def synth_mosei(out: Path, videos: int, seed: int) -> None:
    """A small CMU-MOSEI in the layout of the old release, its quirks and some broken media.

    mesm-data synth mosei --out raw/mosei
    """
    from mesm_data import synth
    from mesm_data.files import new_folder

    with new_folder(out) as folder:
        synth.write_mosei(folder, videos=videos, seed=seed)
    click.echo(f"{out}: a raw tree; expected.json says what is in it")


@synth.command("planted")
@click.option("--out", type=OUT, required=True, help="Folder of the dataset.")
@click.option(
    "--train",
    type=click.IntRange(min=1),
    help="Utterances to train on; valid gets a quarter and test half as many. [default: 2000]",
)
@click.option("--seed", type=int, default=0, show_default=True)
def synth_planted(out: Path, train: int | None, seed: int) -> None:
    """A dataset in which text, sound and picture each carry a known share of what can be known.

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
@click.option("--seed", type=int, default=0, show_default=True)
def synth_pointer(out: Path, train: int | None, seed: int) -> None:
    """A dataset in which the text says where in sound and picture to look.

    mesm-data synth pointer --out out/pointer
    """
    _print_bayes_optimal(out, "write_pointer", train, seed)


def _print_bayes_optimal(out: Path, write: str, train: int | None, seed: int) -> None:
    from mesm_data.synth import planted, pointer, synthetic_dataset

    writer = {"write_planted": planted.write_planted, "write_pointer": pointer.write_pointer}[write]
    bayes_optimal = writer(out, synthetic_dataset.sizes(train or synthetic_dataset.TRAIN), seed)
    click.echo(synthetic_dataset.describe(bayes_optimal))
    click.echo(f"Written to {out}; the same figures are in {out / 'bayes_optimal.json'}")


def _print_summary(out: Path, summary: Any) -> None:
    click.echo(f"{'kept':<16}{summary.kept:>8}  utterances, {summary.speech / 60:.1f} minutes of speech")
    for title, kinds in (("left out (paper)", PAPER_DROPS), ("left out", LEFT_OUT), ("doubtful, kept", DOUBTFUL)):
        for kind, meaning in kinds.items():
            if summary.issues[kind]:
                click.echo(f"{title:<16}{summary.issues[kind]:>8}  {kind}: {meaning}")
    if summary.absent:
        click.echo(f"{'not in this copy':<16}{summary.absent:>8}  ids of the split's lists")
    found = summary.faces_found / summary.faces if summary.faces else 0.0
    click.echo(f"{'faces found':<16}{found:>8.1%}  of {summary.faces} pictures")
    speed = f", {summary.speech / summary.seconds:.1f} times real time" if not summary.resumed else ""
    resumed = f", {summary.resumed} recordings were done before" if summary.resumed else ""
    click.echo(f"{'seconds':<16}{summary.seconds:>8.1f}{speed}{resumed}")
    click.echo(f"Written to {out}. Next: mesm-data verify {out}; mesm-data verify-splits {out}")


if __name__ == "__main__":
    main()
