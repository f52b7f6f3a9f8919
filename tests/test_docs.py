"""Every command that README and docs show is run, in the order of the page, in an empty folder.

Blocks marked `sh` run as they stand. Blocks marked `console` hold what takes hours or needs another machine: their
commands run too, with a smaller dataset, one epoch and one seed.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesm_data import cli as data_cli
from mesm_model import cli as model_cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_HERE = ("make ", "git clone", "cd ", "pip install", ". .venv", ".venv/bin/", "sbatch ")  # what the tests run in
PROGRAMS = {"mesm-data": data_cli.main, "mesm": model_cli.main}
PYTHON = ("README.md", "quick_start.md")  # the other pages show parts of programs
SMALLER = {  # of `console` blocks; a later option counts more than an earlier one
    "mesm-data synth planted": "--train 24",
    "mesm-data synth pointer": "--train 24",
    "mesm train": "--epochs 1 --seeds 1",
    "mesm sweep": "--epochs 1 --seeds 1 --top-p 0.5",
    "mesm ablate": "--epochs 1 --seeds 1",
}


def commands(page: Path) -> list[str]:
    """The commands of the page, continued lines joined, comments and blank lines left out."""
    found = []
    text = page.read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(sh|console|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if kind == "python":
            found += [f"python -c {shlex.quote(block)}"] * (page.name in PYTHON)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*", "", line).strip().removeprefix("$ ")
            if command and not command.startswith("#"):
                found.append(smaller(command) if kind == "console" else command)
    return found


def smaller(command: str) -> str:
    return next((f"{command} {options}" for start, options in SMALLER.items() if command.startswith(start)), command)


def run(command: str) -> tuple[int, str]:
    """Exit code and output; the project's own programs run in this process, which spares their imports."""
    words = shlex.split(command)
    if words[0] in PROGRAMS and not set("|<>;&$") & set(command):
        arguments = [name for word in words[1:] for name in (sorted(glob(word)) if "*" in word else [word])]
        result = CliRunner().invoke(PROGRAMS[words[0]], arguments, prog_name=words[0])
        return result.exit_code, result.output + (repr(result.exception) if result.exception else "")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for command in commands(page):
        if not command.startswith(NOT_HERE):
            code, output = run(command)
            assert code == 0, f"{page.name}: {command}\n{output[-3000:]}"


def test_every_make_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"\bmake ([a-z][a-z-]+)\b", "\n".join(commands(page)))
        assert set(named) <= targets, page.name


def test_every_page_that_a_page_links_to_exists() -> None:
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_api_page_is_what_the_docstrings_say() -> None:
    specification = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert specification is not None
    assert specification.loader is not None
    make_api = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make_api)
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == make_api.page(), "docs/api.md is older than the docstrings; run: python docs/make_api.py"
