"""Arrows point down, nothing imports in a circle, folders stay small, and each outside library has one home."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mesm_data", "mesm_model")
MOST_MODULES = 14  # in one folder

# From the bottom to the top: what stands on one line may import what stands on lines above it, and its own folder.
LAYERS = {
    "mesm_data": (
        "errors",
        "state",
        "files",
        "clip utterance pickles",
        "votes media",
        "corpora faces",
        "decode splits dataset",
        "synth report pool",
        "build export",
        "doctor verify_splits commands",
        "cli",
    ),
    "mesm_model": (
        "sparse batch",
        "models",
        "features",
        "loader runs",
        "evaluation",
        "training prediction",
        "experiments api options",
        "cli",
        "__main__",
    ),
}

# The one arrow from mesm_data to mesm_model: `Dataset.to_torch` imports the loader when it is called.
HANDED_UP = ("mesm_data.dataset.reader", "mesm_model.loader")

# Library -> the files that may import it. Whoever needs it elsewhere calls these.
HOMES = {
    "av": {"mesm_data/media/", "mesm_data/synth/"},
    "chardet": {"mesm_model/prediction/transcripts.py"},
    "click": {"mesm_data/cli.py", "mesm_data/commands.py", "mesm_model/cli.py", "mesm_model/options.py"},
    "facenet_pytorch": {"mesm_data/faces/mtcnn.py"},
    "faster_whisper": {"mesm_model/prediction/transcripts.py"},
    "ffmpeg": {"mesm_data/media/encode.py"},
    "filelock": {"mesm_data/files.py"},
    "huggingface_hub": {"mesm_data/report/card.py", "mesm_model/models/common/text.py"},
    "imageio_ffmpeg": {"mesm_data/media/encode.py"},
    "jinja2": {"mesm_data/report/render.py"},
    "krippendorff": {"mesm_data/votes.py"},
    "librosa": {"mesm_data/media/mel.py"},
    "moviepy": {"mesm_model/prediction/attention_video.py"},
    "mmsdk": {"mesm_data/corpora/mosei.py"},
    "nltk": {"mesm_data/splits/stats.py"},
    "optuna": {"mesm_model/experiments/tune.py"},
    "pebble": {"mesm_data/pool.py"},
    "pyarrow": {
        "mesm_data/dataset/",
        "mesm_data/export/features.py",
        "mesm_data/export/huggingface.py",
        "mesm_model/loader.py",
        "mesm_model/features/",
    },
    "tabulate": {"mesm_data/splits/split_report.py", "mesm_model/"},
    "skimage": {"mesm_data/synth/"},
    "transformers": {"mesm_model/models/common/text.py"},
    "tokenizers": {"mesm_model/models/common/text.py"},
    "triton": {"mesm_model/sparse/kernels/"},
    "torch": {"mesm_data/faces/mtcnn.py", "mesm_model/"},
    "torchvision": {"mesm_data/faces/mtcnn.py"},
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def sources() -> Iterator[tuple[str, set[str]]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), set(imports(path))


def modules() -> dict[str, tuple[Path, set[str]]]:
    """Module -> its file and the modules of both packages that it imports, wherever in the file."""
    files = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            files[name.removesuffix(".__init__")] = path
    found = {}
    for name, path in files.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                whole = (f"{node.module}.{alias.name}" for alias in node.names)
                imported |= {one if one in files else node.module for one in whole}
        found[name] = path, imported - {name} - ({HANDED_UP[1]} if name == HANDED_UP[0] else set())
    return found


def test_arrows_point_down() -> None:
    level = {
        f"{package}.{name}": number
        for package, layers in LAYERS.items()
        for number, layer in enumerate(layers)
        for name in layer.split()
    }
    upward = []
    for name, (_, imported) in modules().items():
        own = ".".join(name.split(".")[:2])
        for other in imported:
            its = ".".join(other.split(".")[:2])
            if own.split(".")[0] == its.split(".")[0] and "." in own and "." in its and own != its:
                assert {own, its} <= set(level), f"{own} -> {its}: one of them has no place in LAYERS"
                if level[its] >= level[own]:
                    upward.append(f"{name} -> {other}")
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({name: imported for name, (_, imported) in modules().items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folder_has_more_modules_than_one_can_survey() -> None:
    counts: dict[str, int] = {}
    for path, _ in modules().values():
        if path.name != "__init__.py":
            counts[str(path.parent.relative_to(ROOT))] = counts.get(str(path.parent.relative_to(ROOT)), 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_the_data_side_never_imports_the_models() -> None:
    """But for `Dataset.to_torch`, inside the function: people look for it beside `to_pandas`."""
    upward = {
        (f, name)
        for f, names in sources()
        if f.startswith("mesm_data/")
        for name in names
        if name.startswith("mesm_model")
    }
    assert upward == {(f"{HANDED_UP[0].replace('.', '/')}.py", HANDED_UP[1])}
    code = (
        "import sys, mesm_data.dataset.reader\n"
        "print([name for name in sys.modules if name.startswith(('mesm_model', 'torch'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("library", HOMES)
def test_each_outside_library_has_one_home(library: str) -> None:
    users = {f for f, names in sources() if any(n == library or n.startswith(library + ".") for n in names)}
    strangers = {user for user in users if not any(user.startswith(home) for home in HOMES[library])}
    assert strangers == set(), f"{library} belongs into {sorted(HOMES[library])}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_command_line_loads_nothing_heavy(package: str) -> None:
    heavy = ["av", "librosa", "numpy", "pandas", "pyarrow", "torch", "transformers"]
    code = f"import sys, {package}.cli; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_the_gpu_benchmark_needs_nothing_but_torch() -> None:
    """It runs on borrowed machines, where nothing is installed."""
    code = "import sys, benchmarks.bench_gpu; print(*{name.split('.')[0] for name in sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(shown.stdout.split()) & set(HOMES) <= {"torch", "triton"}
