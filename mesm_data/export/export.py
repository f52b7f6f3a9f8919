"""A finished dataset in the forms that other tools read: video clips, WebDataset, Hugging Face, the pickle of MMSA.

    clips/          <id>.mp4 for every utterance, cut from the raw files; metadata.csv
    webdataset/     train-000000.tar ...: <id>.json, <id>.faces.npy, <id>.mels.npy
    hf/             data/train-00000-of-00001.parquet ...: what datasets.load_dataset reads
    mmsa/           features.pkl, see mmsa.py

Each has export.json, which says of which dataset it is, and README.md, its card, written last. A dataset has the same
bytes every time it is exported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DataError
from mesm_data.export.clips import check_raw, write_clips
from mesm_data.export.features import read_index
from mesm_data.export.huggingface import write_huggingface
from mesm_data.export.mmsa import write_mmsa
from mesm_data.export.samples import Options
from mesm_data.export.webdataset import write_webdataset
from mesm_data.files import Plan, check_folder, claim_folder, write_text
from mesm_data.report.card import CITATION, card_head
from mesm_data.report.render import render

PLAN = "export.json"
FORMATS: dict[str, Callable[[Dataset, Path, Options], dict[str, Any]]] = {
    "clips": write_clips,
    "webdataset": write_webdataset,
    "hf": write_huggingface,
    "mmsa": write_mmsa,
}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    utterances: int
    files: int
    size: int  # bytes


def export(folder: Path, to: str, out: Path, options: Options | None = None, holds_licence: bool = False) -> Exported:
    """Write the dataset of `folder` into `out` as `to`, a key of FORMATS; interrupted `clips` resume.

    Raises DataError where `out` holds something else, where raw files or votes are missing that the format needs, and
    for a corpus with a licence without `holds_licence`.
    """
    dataset, options = load(folder), options or Options()
    about = _about(dataset)
    if about and not holds_licence:
        raise DataError(
            f"{folder}: {about['title']} is licensed ({about['licence']}), and an export holds its faces and voices; "
            "give --i-hold-the-licence if you hold it"
        )
    plan = _plan(dataset, to, options)
    check_folder(out, plan)
    if to == "clips":
        check_raw(dataset, options.raw)
    with claim_folder(out, plan):
        remarks = FORMATS[to](dataset, out, options)
        write_text(out / "README.md", _card(dataset, to, about, remarks))
    files = [path for path in out.rglob("*") if path.is_file()]
    return Exported(len(dataset), len(files), sum(path.stat().st_size for path in files))


def _plan(dataset: Dataset, to: str, options: Options) -> Plan:
    """What export.json records. Raises DataError for features where they are not taken, or of another dataset."""
    content = {"to": to, "corpus": dataset.corpus, "content": dataset.index["content"]}
    if options.features:
        if to != "mmsa":
            raise DataError(f"--features goes with --to mmsa, not with --to {to}; leave it out")
        content["features"] = read_index(dataset, options.features)["digest"]
    shape = {"to": str, "corpus": str, "content": str, "features?": str}
    return Plan(PLAN, content, "export", "exports", shape, _difference)


def _difference(found: dict[str, str], wanted: dict[str, str]) -> str | None:
    if found == wanted:
        return None
    if found | {"features": ""} == wanted | {"features": ""}:
        return "of the same dataset with other features"
    return f"to {found['to']} of {found['corpus']} (content {found['content'][:12]})"


def _about(dataset: Dataset) -> dict[str, Any]:
    """Title, page, licence and cite of the corpus; empty for synthetic data."""
    known = "about" in dataset.index or dataset.corpus in corpora.names()
    return corpora.about(dataset.index) if known else {}


def _card(dataset: Dataset, to: str, about: dict[str, Any], remarks: dict[str, Any]) -> str:
    files = {split: f"data/{split}-*.parquet" for split in dataset.splits} if to == "hf" else {}
    title = about.get("title", dataset.corpus)
    head = card_head(f"{title}, exported by mesm", dataset.corpus, len(dataset), about, files)
    return render("export.md", head=head, dataset=dataset, to=to, about=about, title=title, paper=CITATION, **remarks)
