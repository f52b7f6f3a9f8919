"""A dataset card beside the shards: `README.md` with Hugging Face's fields, and `croissant.json` (Croissant 1.1).

Neither is in index.json: both repeat, for other programs, what the index says.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesm_data import corpora
from mesm_data.dataset.reader import Dataset, load
from mesm_data.errors import DOUBTFUL, LEFT_OUT, NOTED, PAPER_DROPS
from mesm_data.files import write_text
from mesm_data.report.render import render

README, CROISSANT = "README.md", "croissant.json"
CITATION = (
    "Wenliang Dai, Samuel Cahyawijaya, Zihan Liu, Pascale Fung: Multimodal End-to-End Sparse Model for Emotion "
    "Recognition. NAACL 2021."
)

# Column -> Croissant's type, its shape where it is a list, what it is. Without a type it has fields of its own.
COLUMNS: dict[str, tuple[str, str | None, str]] = {
    "id": ("sc:Text", None, "name of the utterance, unique"),
    "corpus": ("sc:Text", None, "corpus it is from"),
    "split": ("sc:Text", None, "split it is in: train, valid or test"),
    "text": ("sc:Text", None, "transcript"),
    "labels": ("cr:Int8", "-1", "0 or 1 for each emotion, in the order of the record set `emotions`"),
    "votes": ("", "-1", "votes of each rater"),
    "start": ("cr:Float64", None, "start, second of the recording"),
    "end": ("cr:Float64", None, "end, second of the recording"),
    "speaker": ("sc:Text", None, "speaker"),
    "group": ("sc:Text", None, "dialogue or video it is from"),
    "faces": ("cr:UInt8", "-1,48,48,3", "V faces, RGB: each cell is the 6912 bytes of uint8 [48, 48, 3]"),
    "face_times": ("cr:Float32", "-1", "V times of the faces, seconds of the recording"),
    "face_boxes": ("cr:Float32", "-1,4", "V boxes in pixels of the frame: left, top, right, bottom; 0 where none"),
    "face_scores": ("cr:Float32", "-1", "V probabilities of the detector, 0 where no face was found"),
    "face_landmarks": ("cr:Float32", "-1,10", "V times x and y of eyes, nose and corners of the mouth, in pixels"),
    "face_found": ("sc:Boolean", "-1", "V times whether a face was found"),
    "mels": (
        "cr:Float16",
        "-1,128,32",
        "A mel chunks, natural log of power: each cell is the 8192 bytes of float16 [128, 32], 32 steps of 12.5 ms",
    ),
    "sample_rate": ("cr:Int32", None, "Hz of the audio that the mels were computed from"),
    "quality": ("sc:Text", "-1", "kinds of doubtful Issues, empty for most"),
}
VOTE = {
    "rater": ("sc:Text", "name of the rater"),
    "name": ("sc:Text", "emotion or scale"),
    "value": ("cr:Float32", "1 for an emotion they chose, else the rating"),
}
CONTEXT = {  # the one that the specification recommends
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_card(dataset: Path) -> None:
    """Write `README.md` and `croissant.json` of a finished dataset into its folder. Raises ShardError without one."""
    opened = load(dataset)
    write_text(dataset / README, card(opened))
    write_text(dataset / CROISSANT, json.dumps(croissant(opened), indent=1, ensure_ascii=False) + "\n")


def card(dataset: Dataset) -> str:
    """The text of README.md: Hugging Face's fields, then what people want to know."""
    about = _about(dataset)
    files = {split: f"shards/{split}-*.parquet" for split in dataset.splits}
    return render(
        "card.md",
        head=card_head(f"{_title(dataset)}, prepared by mesm", dataset.corpus, len(dataset), about, files),
        dataset=dataset,
        title=_title(dataset),
        about=about,
        rows=len(dataset),
        columns=COLUMNS,
        meanings=PAPER_DROPS | LEFT_OUT | DOUBTFUL | NOTED,
        paper=CITATION,
    )


def card_head(name: str, corpus: str, rows: int, about: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The YAML fields of a card, as Hugging Face reads them; `files` are patterns of the files of each split.

    `about` is what a corpus says of itself, empty for synthetic data.
    """
    from huggingface_hub import DatasetCardData

    splits = [{"split": split, "path": path} for split, path in files.items()]
    fields = {
        "pretty_name": name,
        "language": [about["language"]] if about.get("language") else None,
        "license": "other",
        "license_name": about.get("licence", "none needed: synthetic data"),
        "license_link": about.get("page") or None,
        "task_categories": ["audio-classification", "text-classification", "video-classification"],
        "tags": ["emotion recognition", "multimodal", corpus],
        "size_categories": [_size_category(rows)],
        "configs": [{"config_name": "default", "data_files": splits}] if splits else None,
    }
    head: str = DatasetCardData(**{key: value for key, value in fields.items() if value is not None}).to_yaml()
    return head


def croissant(dataset: Dataset) -> dict[str, Any]:
    """The dataset in Croissant 1.1: every file with its hash, every column with its type."""
    about = _about(dataset)
    files = dataset.index["files"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"{dataset.corpus}-mesm",
        "description": _description(dataset),
        **({"url": about["page"]} if about["page"] else {}),
        "license": about["page"] or about["licence"],
        "creator": {"@type": "sc:Organization", "name": _title(dataset)},
        "datePublished": _built(dataset),
        "version": f"{dataset.index['schema_version']}.0.0",
        **({"inLanguage": about["language"]} if about["language"] else {}),
        "keywords": ["emotion recognition", "multimodal", dataset.corpus],
        "citeAs": about["cite"] or CITATION,
        "distribution": [
            *(_file(name, file) for name, file in files.items()),
            {
                "@type": "cr:FileSet",
                "@id": "parquet",
                "name": "parquet",
                "description": "All shards.",
                "encodingFormat": "application/x-parquet",
                "includes": "shards/*.parquet",
            },
        ],
        "recordSet": [
            _enumeration("splits", "cr:Split", dataset.splits),
            _enumeration("emotions", "sc:Enumeration", dataset.emotions),
            {
                "@type": "cr:RecordSet",
                "@id": "utterances",
                "name": "utterances",
                "description": "One record per utterance.",
                "key": {"@id": "utterances/id"},
                "field": [_field(column) for column in COLUMNS],
            },
        ],
    }


def _about(dataset: Dataset) -> dict[str, Any]:
    return corpora.about(dataset.index)


def _title(dataset: Dataset) -> str:
    title: str = _about(dataset)["title"]
    return title


def _description(dataset: Dataset) -> str:
    counts = dataset.index["counts"]
    parts = ", ".join(f"{part['utterances']} {name}" for name, part in counts.items())
    return (
        f"Utterances of {_title(dataset)} ({parts}) with faces, mel chunks, text and emotions, in the split "
        f"{dataset.index['split']}; made by mesm from the raw corpus."
    )


def _built(dataset: Dataset) -> str:
    """The day on which the dataset was finished."""
    written = (dataset.folder / "index.json").stat().st_mtime
    return datetime.fromtimestamp(written, UTC).date().isoformat()


def _size_category(rows: int) -> str:
    steps = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for most, name in steps if rows < most), "1M<n<10M")


def _file(name: str, file: dict[str, Any]) -> dict[str, Any]:
    formats = {".parquet": "application/x-parquet", ".json": "application/json", ".jsonl": "application/jsonlines"}
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": Path(name).name,
        "contentUrl": name,
        "contentSize": f"{file['bytes']} B",
        "encodingFormat": formats[Path(name).suffix],
        "sha256": file["sha256"],
    }


def _enumeration(name: str, data_type: str, values: tuple[str, ...]) -> dict[str, Any]:
    key = f"{name}/name"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": data_type,
        "key": {"@id": key},
        "field": [{"@type": "cr:Field", "@id": key, "name": "name", "dataType": "sc:Text"}],
        "data": [{key: value} for value in values],
    }


def _field(column: str) -> dict[str, Any]:
    data_type, shape, description = COLUMNS[column]
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"utterances/{column}",
        "name": column,
        "description": description,
        "source": {"fileSet": {"@id": "parquet"}, "extract": {"column": column}},
    }
    if column == "votes":
        del field["source"]
        field["subField"] = [_vote_field(*one) for one in VOTE.items()]
    else:
        field["dataType"] = data_type
    if column == "split":
        field["references"] = {"field": {"@id": "splits/name"}}
    return field | ({"isArray": True, "arrayShape": shape} if shape else {})


def _vote_field(name: str, about: tuple[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"utterances/votes/{name}",
        "name": name,
        "dataType": about[0],
        "description": about[1],
        "source": {
            "fileSet": {"@id": "parquet"},
            "extract": {"column": "votes"},
            "transform": {"jsonPath": name},
        },
    }
