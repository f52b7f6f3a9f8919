"""What can go wrong: `DataError` stops a command, an `Issue` concerns one utterance or recording and is counted."""

import errno
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST_QUOTE = 80  # letters of a bad line that a message shows


class DataError(Exception):
    """Something a user can cause and fix. The message gives the file, what was found, what was expected, what to do."""


class CorpusError(DataError):
    """A folder that is not this corpus, or an annotation file that does not follow its format."""


class MediaError(DataError):
    """A video or audio file that cannot be opened or decoded at all."""


class SplitError(DataError):
    """Id lists or derived splits that do not fit each other or the corpus."""


class ShardError(DataError):
    """A shard or an index that is missing, truncated or changed."""


def in_words(error: OSError) -> str | None:
    """The system's message for a file that cannot be read or written; None for errors that are not about files."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"a file cannot be written ({error.strerror}); make room and give the same command again"
    return None


def quoted(found: object) -> str:
    """The first 80 letters of a bad value, for a message: a line may be megabytes long."""
    text = found if isinstance(found, str) else repr(found)
    start = text[:LONGEST_QUOTE]
    return (repr(start) if isinstance(found, str) else start) + ("..." if len(text) > LONGEST_QUOTE else "")


def not_a_file(path: Path) -> str | None:
    """What is at `path` instead of a regular file: "a pipe", "a folder", "no file", ...; None for a regular file.

    Opening a pipe or a device would wait forever, so this is asked before anything is opened.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to a file that is gone" if path.is_symlink() else "no file"
    except OSError as error:
        return "a link that leads back to itself" if error.errno == errno.ELOOP else f"{error.strerror}".lower()
    return None if stat.S_ISREG(mode) else next(name for holds, name in _KINDS if holds(mode))


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: True, "a device"),
)

# Every kind of Issue, by its consequence for the utterance.
PAPER_DROPS = {
    "no-fold": "video is in no standard fold",
    "negative-start": "video has a labelled clip that starts before 0",
    "after-media-end": "starts after the end of the media",
    "no-split": "in none of the split's id lists",
}
LEFT_OUT = {
    "bad-times": "start and end are not plausible times",
    "no-text": "no transcript line",
    "no-labels": "nobody rated it",
    "ambiguous": "labels and transcript lines do not pair one to one",
    "no-media": "no video file",
    "undecodable": "video cannot be decoded",
    "media-short": "media ends before the utterance does",
    "no-sound": "no audio in any file",
    "job-failed": "processing this video failed, died or timed out",
}
DOUBTFUL = {
    "silent": "no audible speech",
    "clipped": "audio is clipped",
    "length-differs": "audio and video differ in length",
    "decode-errors": "parts of the video or audio could not be decoded",
    "no-face": "no face found in any frame",
}
NOTED = {
    "two-files": "several files of one name; the one that reaches furthest is used",
}


@dataclass(frozen=True)
class Issue:
    """One utterance dropped or doubtful, or one recording worth a note (`NOTED`, where `utterance` names it).

    `kind` is a key of a table above, `detail` explains it in words with figures.
    """

    utterance: str
    kind: str
    detail: str

    @property
    def left_out(self) -> bool:
        """True when the utterance is not in the dataset; a doubtful one is."""
        return self.kind not in DOUBTFUL and self.kind not in NOTED
