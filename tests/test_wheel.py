"""The wheel holds everything that the code reads: manifests, templates, tables, and the marker of typed packages."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Run by a Python that sees the unpacked wheel and the standard library, and none of the dependencies.
READ = """
import sys
from importlib.resources import files

from mesm_data.splits.expected import MANIFESTS, read_expected

for corpus in ("iemocap", "mosei"):
    print(corpus, sum(read_expected(corpus).utterances.values()))
print(MANIFESTS.is_relative_to(sys.argv[1]))
for package, name in (
    ("mesm_data", "report/templates/report.html"),
    ("mesm_data", "manifests/README.md"),
    ("mesm_data", "py.typed"),
    ("mesm_model", "templates/run.html"),
    ("mesm_model", "evaluation/paper_tables.json"),
    ("mesm_model", "py.typed"),
):
    if not files(package).joinpath(name).is_file():
        print("missing:", package, name)
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    folder: Path = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    made = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(made, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def test_an_installed_wheel_reads_its_files_without_any_dependency(unpacked: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); exec({READ!r})"
    shown = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(unpacked)], capture_output=True, text=True)
    assert shown.stdout.splitlines() == ["iemocap 7380", "mosei 20477", "True"], shown.stderr


def test_the_wheel_ships_neither_tests_nor_benchmarks(unpacked: Path) -> None:
    assert sorted(path.name for path in unpacked.iterdir() if path.name != "bin" and "-" not in path.name) == [
        "mesm_data",
        "mesm_model",
    ]
