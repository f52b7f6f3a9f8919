"""What is said when: subtitles (.srt, .vtt), transcripts with times, or speech recognition. Home of faster-whisper.

Transcripts are told apart by what is in them. A line is one of

    id___clip___1.50___4.25___text          CMU-MOSEI's
    Ses01F_impro01_F000 [001.5-004.25]: text      IEMOCAP's
    1.50 4.25 text                          seconds, with blanks or tabs; Audacity writes such labels
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data.corpora import read_lines
from mesm_data.errors import DataError
from mesm_data.media.audio import sounds
from mesm_data.media.container import DecodeLog
from mesm_data.media.mel import resample
from mesm_data.media.probe import probe

HEARD_RATE = 16_000  # Hz, what Whisper listens to
PIECE = 60.0  # seconds decoded at once
LONGEST = 24 * 3600.0  # seconds of a recording that does not say how long it is

_CLOCK = r"(?:(\d+):)?(\d\d?):(\d\d)[.,](\d{1,3})"
_CUE = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_TIMED = (
    re.compile(rf".+?___\d+___{_NUMBER}___{_NUMBER}___(.*)"),
    re.compile(rf"\S+\s*\[{_NUMBER}\s*-\s*{_NUMBER}\]:(.*)"),
    re.compile(rf"\s*{_NUMBER}\s+{_NUMBER}\s(.*)"),
)


_ASIDE = re.compile(r"[FM]: .*")  # IEMOCAP has some lines without an id and without times
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class Segment(NamedTuple):
    """Something said; seconds of the recording."""

    start: float
    end: float
    text: str


def read_words(path: Path) -> list[Segment]:
    """The lines of subtitles or a transcript, in order of time; those without a word are left out.

    Raises DataError with the line that does not read, and for a file without any word.
    """
    lines = list(read_lines(path))
    if any(_CUE.fullmatch(text) for _, text in lines):
        found = list(_cues(path, lines))
    else:
        found = [_timed(path, number, text) for number, text in lines if not _ASIDE.fullmatch(text)]
    said = sorted(line for line in found if line.text)
    if not said:
        raise DataError(f"{path}: found no words, expected subtitles (.srt, .vtt) or lines of start, end and text")
    return said


def listen(media: Path, model: Path) -> list[Segment]:
    """What a Whisper model in a folder hears in a recording. Raises DataError where there is no such model."""
    whisper = _whisper(model)
    segments, _ = whisper.transcribe(_heard(media), vad_filter=True)  # in silence Whisper makes words up
    said = [
        Segment(float(s.start), float(s.end), s.text.strip()) for s in segments if s.end > s.start and s.text.strip()
    ]
    if not said:
        raise DataError(f"{media}: {model} heard no words; give --transcript FILE or --text WORDS")
    return said


# ---- subtitles


def _cues(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Segment]:
    """WebVTT and SubRip: a cue is a line of times and what stands below it, up to the next one."""
    times: tuple[float, float] | None = None
    said: list[str] = []
    passing = False  # inside a header, note or style of WebVTT
    for place, (number, text) in enumerate(lines):
        follows = place > 0 and lines[place - 1][0] == number - 1  # no blank line between
        match = _CUE.fullmatch(text)
        if match:
            if times:
                yield Segment(*times, _plain(said))
            times = _checked(path, number, _seconds(match.groups()[:4]), _seconds(match.groups()[4:]))
            said, passing = [], False
        elif not follows and re.match(r"WEBVTT|NOTE|STYLE|REGION", text):
            passing = True
        elif (passing and follows) or _is_name(lines, place, follows):
            continue
        elif times is None:
            found = text.strip()[:60]
            raise DataError(f"{path}:{number}: found {found!r}, expected times such as 00:01.500 --> 00:04.250")
        else:
            said.append(text)
    if times:
        yield Segment(*times, _plain(said))


def _is_name(lines: Sequence[tuple[int, str]], place: int, follows: bool) -> bool:
    """True for the number or name of a cue, which stands right above its times."""
    number, text = lines[place]
    below = lines[place + 1] if place + 1 < len(lines) else (0, "")
    return below[0] == number + 1 and bool(_CUE.fullmatch(below[1])) and (text.strip().isdigit() or not follows)


def _seconds(clock: Iterable[str | None]) -> float:
    hours, minutes, seconds, fraction = clock
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + float(f"0.{fraction}")


def _plain(lines: Sequence[str]) -> str:
    """One line without tags and marks of place."""
    return " ".join(html.unescape(_TAG.sub("", " ".join(lines))).split())


# ---- transcripts


def _timed(path: Path, number: int, text: str) -> Segment:
    for form in _TIMED:
        match = form.fullmatch(text)
        if match:
            return Segment(*_checked(path, number, float(match[1]), float(match[2])), match[3].strip())
    raise DataError(
        f"{path}:{number}: found {text.strip()[:60]!r}, expected start and end in seconds and a text, or a cue of "
        ".srt or .vtt"
    )


def _checked(path: Path, number: int, start: float, end: float) -> tuple[float, float]:
    if not 0 <= start < end:
        raise DataError(f"{path}:{number}: found {start:g} to {end:g} s, expected a start from 0 on, then an end")
    return start, end


# ---- speech recognition


def _whisper(model: Path) -> Any:
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise DataError(
            "--asr needs faster-whisper: run `pip install 'mesm[asr]'`, or give --transcript FILE or --text WORDS"
        ) from None
    if not (model / "model.bin").is_file() or not (model / "tokenizer.json").is_file():
        raise DataError(
            f"{model}: found no model.bin and tokenizer.json, expected a Whisper model as faster-whisper reads it; "
            f"`ct2-transformers-converter --model {model} --output_dir OUT --copy_files tokenizer.json` makes one of a "
            "model of transformers"
        )
    try:
        return WhisperModel(str(model), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{model}: {str(error).splitlines()[0]}; expected a Whisper model of faster-whisper") from None


def _heard(media: Path) -> np.ndarray:
    """All sound, mono at HEARD_RATE, float32."""
    minutes = int((probe(media).duration or LONGEST) / PIECE) + 1
    spans = [(PIECE * n, PIECE * (n + 1)) for n in range(minutes)]
    pieces = [resample(s.samples, s.rate, HEARD_RATE) for s in sounds(media, spans, None, DecodeLog())]
    return np.concatenate([np.zeros(0, np.float32), *pieces])
