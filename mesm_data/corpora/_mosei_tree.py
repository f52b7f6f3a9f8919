"""Where the parts of somebody's copy of CMU-MOSEI lie, and which of the four known layouts they make."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesm_data.corpora import read_table
from mesm_data.corpora._listing import Listing, list_folder, walk
from mesm_data.errors import CorpusError, not_a_file

RATED = ("Input.VIDEO_ID", "Input.CLIP")  # columns that tell a csv file of ratings from others
SHEET = ("video_id", "clip_id", "text", "label")  # columns of label.csv
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv")  # of two files of one name and length, the earlier here

# The parts that each layout cannot do without.
LAYOUTS = {
    "release": ("transcripts", "ratings"),
    "csd": ("transcripts", "csd"),
    "clips": ("sheet", "clips"),
    "processed": ("meta",),
}
PARTS = {
    "transcripts": "transcripts (a folder of <video>.txt with lines video___number___start___end___words)",
    "ratings": "ratings (csv files with columns Input.VIDEO_ID, Input.CLIP, Answer.anger ... Answer.surprise)",
    "csd": "label means (CMU_MOSEI_Labels.csd)",
    "videos": "videos (a folder of <video>.mp4)",
    "segments": "cut videos (a folder of <video>_<number>.mp4)",
    "audios": "audio (a folder of <video>.wav)",
    "sheet": "words and sentiment (a csv file with columns video_id, clip_id, text, label)",
    "clips": "cut videos (<video>/<number>.mp4, for the videos of that csv file)",
    "meta": "the authors' tree (meta.pkl beside folders <video>_<number>)",
}

_DEEP = 6  # folders below the root that are looked into: CMU_MOSEI/Raw/Transcript/Segmented/Combined, and one more
_MANY = 50  # a folder of more folders than this has one for each video or clip: only the first is looked into


@dataclass(frozen=True)
class Tree:
    """The parts that were found, as PARTS describes them; None or empty for what a copy lacks."""

    root: Path
    transcripts: Path | None
    ratings: tuple[Path, ...]
    csd: Path | None
    videos: Path | None
    segments: Path | None
    audios: Path | None
    sheet: Path | None
    clips: Path | None
    meta: Path | None

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def look(root: Path) -> Tree:
    """Find the parts by what the files are rather than by where they lie, up to six folders below `root`."""
    folders = walk(root, _DEEP, _worth_a_look)
    every = [folder / name for folder in folders for name in folders[folder].files]
    tables = {path: _columns(path) for path in every if path.suffix.lower() == ".csv"}
    sheet = next((path for path, columns in tables.items() if columns.issuperset(SHEET)), None)
    rated = {path.parent for path, columns in tables.items() if columns.issuperset(RATED)}
    # Beside ratings every table counts as ratings, or a damaged one would take its labels with it unnoticed.
    beside = [path for path in tables if path.parent in rated and path != sheet]
    ratings = {(path.name, path.stat().st_size): path for path in reversed(beside)}  # a copy of a copy counts once
    listed = {row["video_id"] for _, row in read_table(sheet, SHEET)} if sheet else set()
    csds = [path for path in every if path.suffix.lower() == ".csd" and "label" in path.name.lower()]
    metas = [path for path in every if path.name == "meta.pkl"]
    transcripts = _transcripts(folders)
    ids = _stems(folders[transcripts].files, (".txt",)) if transcripts else set()
    return Tree(
        root,
        transcripts,
        ratings=tuple(ratings[key] for key in sorted(ratings)),
        csd=min(csds, key=lambda path: path.name != "CMU_MOSEI_Labels.csd", default=None),
        videos=_most(folders, lambda folder: _stems(folders[folder].files, VIDEOS) & ids),
        segments=_most(folders, lambda folder: _segments(folders[folder].files, ids)),
        audios=_most(folders, lambda folder: _stems(folders[folder].files, (".wav",)) & ids),
        sheet=sheet,
        clips=_most(folders, lambda folder: listed.intersection(folders[folder].folders)),
        # The authors' folder holds IEMOCAP's beside it.
        meta=min(metas, key=lambda path: "MOSEI" not in path.parent.name.upper(), default=None),
    )


def choose_layout(tree: Tree, layout: str) -> str:
    """The layout requested, or found by `auto`. Raises CorpusError: what is there, and what each layout lacks."""
    if layout not in ("auto", *LAYOUTS):
        raise CorpusError(f"found layout {layout!r}, expected auto, {', '.join(LAYOUTS)}")
    whole = [name for name, parts in LAYOUTS.items() if all(getattr(tree, part) for part in parts)]
    if layout in whole:
        return layout
    if layout != "auto" or not whole:
        raise CorpusError(_no_layout(tree, [layout] if layout in LAYOUTS else list(LAYOUTS)))
    cut = [name for name in whole if name in ("clips", "processed")]
    return cut[0] if cut and not tree.videos else whole[0]  # transcripts and labels may lie beside cut videos


def parts_found(tree: Tree) -> list[str]:
    """A line for each part that is there, and where it lies."""
    found = {part: tree.relative(path) for part in PARTS if isinstance(path := getattr(tree, part), Path)}
    found["ratings"] = ", ".join(map(tree.relative, tree.ratings))
    return [f"{PARTS[part].partition(' (')[0]}: {found[part]}" for part in PARTS if found.get(part)]


def _no_layout(tree: Tree, layouts: Sequence[str]) -> str:
    lacks = {name: [PARTS[part] for part in LAYOUTS[name] if not getattr(tree, part)] for name in layouts}
    here = sorted(name for names in list_folder(tree.root) for name in names)[:8] or ["nothing"]
    found = parts_found(tree) or [f"no part of CMU-MOSEI, but {', '.join(here)}"]
    return "\n  ".join(
        [f"{tree.root}: no CMU-MOSEI in a known layout ({_DEEP} folders deep)"]
        + [f"found {part}" for part in found]
        + [f"expected for layout {name} also {' and '.join(missing)}" for name, missing in lacks.items()]
    )


def _worth_a_look(folders: list[str]) -> list[str]:
    return folders if len(folders) <= _MANY else folders[:1]


def _stems(names: Iterable[str], suffixes: tuple[str, ...]) -> set[str]:
    return {Path(name).stem for name in names if name.lower().endswith(suffixes)}


def _most(folders: Iterable[Path], fitting: Callable[[Path], Collection[str]]) -> Path | None:
    """The folder in which most names fit; the first of several, None if nothing fits anywhere."""
    counts = {folder: len(fitting(folder)) for folder in folders}
    best = max(counts, key=lambda folder: counts[folder])
    return best if counts[best] else None


def _segments(names: Iterable[str], videos: Collection[str]) -> set[str]:
    """The stems `<video>_<number>` of videos."""
    return {stem for stem in _stems(names, VIDEOS) if (cut := stem.rpartition("_"))[0] in videos and cut[2].isdecimal()}


def _transcripts(folders: Mapping[Path, Listing]) -> Path | None:
    """The folder of transcripts; of several, as of another copy, the one with most of the videos that are here."""
    texts = {folder: _stems(_texts(folder, listing.files), (".txt",)) for folder, listing in folders.items()}
    present = Counter(stem for listing in folders.values() for stem in _stems(listing.files, (*VIDEOS, ".wav")))
    present.update(stem.rpartition("_")[0] for stem in list(present))  # cut ones
    present.update(name for listing in folders.values() for name in listing.folders)
    here = {folder: [stem for stem in stems if stem in present] for folder, stems in texts.items()}
    return _most(folders, here.__getitem__) or _most(folders, texts.__getitem__)


def _texts(folder: Path, names: Iterable[str]) -> list[str]:
    """The text files, if one of the first few looks like a transcript; else none."""
    texts = [name for name in names if name.lower().endswith(".txt")]
    return texts if any("___" in _first_line(folder / name) for name in texts[:5]) else []


def _columns(path: Path) -> set[str]:
    return {column.strip().strip('"') for column in _first_line(path).split(",")}


def _first_line(path: Path) -> str:
    if found := not_a_file(path):
        raise CorpusError(f"{path}: found {found}, expected a file")
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    return start.decode("utf-8-sig", errors="replace").lstrip().partition("\n")[0].strip()
