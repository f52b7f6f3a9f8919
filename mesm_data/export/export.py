"""A finished dataset in the forms that other tools read: films, WebDataset, Hugging Face, the pickle of MMSA.

    clips/          <id>.mp4 for every utterance, cut from the raw files; metadata.csv
    webdataset/     train-000000.tar ...: <id>.json, <id>.faces.npy, <id>.mels.npy
    hf/             data/train-00000-of-00001.parquet ...: what datasets.load_dataset reads
    mmsa/           features.pkl, see mmsa.py

Each has README.md, its card, written last, and export.json, which says of which dataset it is. A dataset has the same
bytes every time it is exported.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset, open_dataset
from mesm_data.errors import DataError
from mesm_data.export.clips import check_raw, write_clips
from mesm_data.export.huggingface import write_huggingface
from mesm_data.export.mmsa import write_mmsa
from mesm_data.export.webdataset import write_webdataset
from mesm_data.files import exclusive, has_other_files, write_text
from mesm_data.report.card import CITATION

PLAN = "export.json"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    utterances: int
    files: int
    size: int  # bytes


def export(
    folder: Path, to: str, out: Path, raw: Path | None = None, holds_licence: bool = False, workers: int = 1
) -> Exported:
    """Write the dataset of `folder` into `out` as `to`, a key of FORMATS; `clips` go on where they were stopped.

    `raw` is the corpus that the dataset was built from; only `clips` need it. Raises DataError where `out` holds
    something else, where raw files are missing, and for a corpus with a licence without `holds_licence`.
    """
    dataset = open_dataset(folder)
    about = _about(dataset)
    if about and not holds_licence:
        raise DataError(
            f"{folder}: {about['title']} is licensed ({about['licence']}), and an export holds its faces and voices; "
            "give --i-hold-the-licence if you hold it"
        )
    if to == "clips":
        check_raw(dataset, raw)
    plan = {"to": to, "corpus": dataset.corpus, "content": dataset.index["content"]}
    _check_folder(out, plan)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, "exports"):
        _check_folder(out, plan)  # again, since another export may have begun and ended meanwhile
        write_text(out / PLAN, json.dumps(plan, indent=1) + "\n")
        remarks = FORMATS[to](dataset, out, raw, workers)
        write_text(out / "README.md", _card(dataset, to, about, remarks))
    files = [path for path in out.rglob("*") if path.is_file()]
    utterances = sum(part["utterances"] for part in dataset.index["counts"].values())
    return Exported(utterances, len(files), sum(path.stat().st_size for path in files))


FORMATS: dict[str, Callable[[Dataset, Path, Path | None, int], dict[str, Any]]] = {
    "clips": write_clips,
    "webdataset": write_webdataset,
    "hf": write_huggingface,
    "mmsa": write_mmsa,
}


def _check_folder(out: Path, plan: dict[str, str]) -> None:
    """Raises DataError where the folder holds something else than this export."""
    path = out / PLAN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != plan:
            there = f"{found['to']} of {found['corpus']} (content {found['content'][:12]})"
            raise DataError(f"{path}: this folder holds an export to {there}; give another --out")
    elif has_other_files(out, f"{PLAN}.tmp"):
        raise DataError(f"{out}: not empty and no export of this program; give another --out")


def _about(dataset: Dataset) -> dict[str, Any]:
    """Title, page, licence and cite of the corpus; empty for data that was made up, which has no corpus."""
    known = "about" in dataset.index or dataset.corpus in corpora.names()
    return corpora.about(dataset.index) if known else {}


def _card(dataset: Dataset, to: str, about: dict[str, Any], remarks: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("mesm_data.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("export.md").render(
        dataset=dataset, to=to, about=about, title=about.get("title", dataset.corpus), paper=CITATION, **remarks
    )
