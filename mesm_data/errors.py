"""What can go wrong: `DataError` stops a command, an `Issue` costs or doubts one utterance and is counted."""

import errno
from dataclasses import dataclass


class DataError(Exception):
    """Something a user can cause and mend. Its text says where, what was found, what was expected, and the way out."""


class CorpusError(DataError):
    """A folder that is not this corpus, or an annotation file that does not read as its format says."""


class MediaError(DataError):
    """A video or sound file that cannot be opened or decoded at all."""


class SplitError(DataError):
    """Id lists or derived parts that do not fit each other or the corpus."""


class ShardError(DataError):
    """A shard or an index that is missing, cut short or changed."""


def in_words(error: OSError) -> str | None:
    """What the system says of a file that cannot be read or written; None for what is no matter of files."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"a file cannot be written ({error.strerror}); make room and give the same command again"
    return None


# Every kind of Issue, by what it means for the utterance.
PAPER_DROPS = {
    "no-fold": "video is in no standard fold",
    "negative-start": "video has a labelled clip that starts before 0",
    "after-media-end": "starts after the media end",
    "no-part": "in none of the split's id lists",
}
LEFT_OUT = {
    "bad-times": "ends before it starts",
    "no-text": "no transcript line",
    "no-labels": "nobody rated it",
    "ambiguous": "labels and transcript lines do not pair one to one",
    "no-media": "no video file",
    "undecodable": "video cannot be decoded",
    "media-short": "media ends before the utterance does",
    "no-sound": "no sound in any file",
    "job-failed": "the work on this video failed, died or ran out of time",
}
DOUBTFUL = {
    "silent": "nothing to hear",
    "clipped": "sound is clipped",
    "length-differs": "sound and picture differ in length",
    "decode-errors": "parts of the video could not be decoded",
    "no-face": "no face found in any frame",
}


@dataclass(frozen=True)
class Issue:
    """One utterance left out or doubted. `kind` is a key above, `detail` says it in words with figures."""

    utterance: str
    kind: str
    detail: str

    @property
    def left_out(self) -> bool:
        """True when the utterance is not in the dataset; a doubtful one is kept."""
        return self.kind not in DOUBTFUL
