"""What the commands of both programs share: one line for what stopped them, exit code 1; 2 for wrong usage."""

import io
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from mesm_data.errors import DataError, in_words

EXTRAS = {"moviepy": "video", "optuna": "tune", "skimage": "synth"}  # library of one command -> the extra with it


class Commands(click.Group):
    """A group that reports every DataError, and every file that cannot be read or written, in one place.

    Ctrl-C exits with 130. `resumable` names the commands that resume when given again.
    """

    def __init__(self, *args: Any, resumable: Collection[str] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.resumable = resumable

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """A file whose name begins with a dash, as in `predict -x.mp4`, is a file and no option."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, [f"./{word}" if _is_file_with_dash(word) else word for word in rest]

    def invoke(self, ctx: click.Context) -> Any:
        _print_anything(sys.stdout)
        try:
            return super().invoke(ctx)
        except DataError as error:
            click.echo(f"{self.name}: {error}", err=True)
        except ModuleNotFoundError as error:
            library = (error.name or "").split(".")[0]
            if library not in EXTRAS:
                raise
            click.echo(f"{self.name}: needs {library}: run `pip install 'mesm[{EXTRAS[library]}]'`", err=True)
        except OSError as error:
            if (told := in_words(error)) is None:
                raise
            click.echo(f"{self.name}: {told}", err=True)
        except KeyboardInterrupt:
            way = "; the same command resumes here" if ctx.invoked_subcommand in self.resumable else ""
            click.echo(f"\n{self.name}: interrupted{way}", err=True)
            ctx.exit(130)
        ctx.exit(1)


class OutFolder(click.Path):
    """A folder to write into, which need not be there; a link to nothing would fail only after hours."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        if path.is_symlink() and not path.exists():
            self.fail(f"{path} is a link to {path.readlink()}, which is not there", param, ctx)
        return super().convert(value, param, ctx)


def expect_suffix(path: Path | None, option: str, *suffixes: str) -> None:
    """Raises click.BadParameter for a file, if one is asked for, whose suffix is not one of these."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise click.BadParameter(f"{path}: expected a name that ends with {' or '.join(suffixes)}", param_hint=option)


def _is_file_with_dash(word: str) -> bool:
    return word.startswith("-") and bool(Path(word).suffix) and Path(word).is_file()


def _print_anything(stream: Any) -> None:
    """Print `?` for letters that the terminal's encoding lacks, and for bytes of names that are no UTF-8."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
