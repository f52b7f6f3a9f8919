"""Arrows point down, and each outside library has one home."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mesm_data", "mesm_model")

# Library -> the files that may import it. Whoever needs it elsewhere calls these.
HOMES = {
    "av": {"mesm_data/media.py", "mesm_data/synth/"},
    "click": {"mesm_data/cli.py", "mesm_data/commands.py", "mesm_model/cli.py"},
    "facenet_pytorch": {"mesm_data/faces.py"},
    "faster_whisper": {"mesm_model/words.py"},
    "ffmpeg": {"mesm_data/encode.py"},
    "imageio_ffmpeg": {"mesm_data/encode.py"},
    "jinja2": {"mesm_data/report/", "mesm_data/export.py", "mesm_model/page.py", "mesm_model/timeline.py"},
    "krippendorff": {"mesm_data/report/votes.py"},
    "librosa": {"mesm_data/mel.py"},
    "moviepy": {"mesm_model/attention_film.py"},
    "mmsdk": {"mesm_data/corpora/mosei.py"},
    "nltk": {"mesm_data/splits/stats.py"},
    "optuna": {"mesm_model/tune.py"},
    "pandas": {"mesm_data/splits/stats.py"},
    "pebble": {"mesm_data/pool.py"},
    "pyarrow": {
        "mesm_data/shards.py",
        "mesm_data/export.py",
        "mesm_model/loader.py",
        "mesm_model/features.py",
        "mesm_model/extract.py",
    },
    "skimage": {"mesm_data/synth/"},
    "transformers": {"mesm_model/text.py"},
    "tokenizers": {"mesm_model/text.py"},
    "triton": {"mesm_model/sparse/"},
    "torch": {"mesm_data/faces.py", "mesm_model/"},
    "torchvision": {"mesm_data/faces.py"},
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


def test_the_data_side_never_imports_the_models() -> None:
    guilty = [
        f for f, names in sources() if f.startswith("mesm_data/") and any(n.startswith("mesm_model") for n in names)
    ]
    assert guilty == []


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
