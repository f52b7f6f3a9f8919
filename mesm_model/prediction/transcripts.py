"""Transcripts with times: subtitles, transcripts of the corpora, speech recognition.

The format is detected from the content, not from the file's name:

    00:00:01,500 --> 00:00:04,250 and text below    SubRip (.srt) and WebVTT (.vtt)
    id___clip___1.50___4.25___text                  CMU-MOSEI's transcripts
    Ses01F_impro01_F000 [001.5-004.25]: text        IEMOCAP's transcripts
    1.50 4.25 text                                  seconds, separated by blanks or tabs: an Audacity label track

Subtitles have a reader of their own here: pysubs2 1.8 takes a cue whose times it cannot read for text of the cue before
it, and the time tags inside a line of automatic captions for cues. Home of chardet and faster-whisper.
"""

import codecs
import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mesm_data.errors import DataError, not_a_file, quoted
from mesm_data.media.audio import audio_spans
from mesm_data.media.container import DecodeLog
from mesm_data.media.mel import resample
from mesm_data.media.probe import probe

WHISPER_RATE = 16_000  # Hz
PIECE = 60.0  # seconds decoded at once
GAPLESS = 0.05  # seconds between two cues of rolling captions, at most

# A clock may lack hours and fraction, have blanks around its colons (translation programs put them there) and one digit
# where two are the rule.
_CLOCK = r"(-?)\s?(?:(\d{1,4})\s*:\s*)?(\d{1,3})\s*:\s*(\d{1,2})(?:\s*[.,]\s*(\d{1,9}))?"
_ARROW = r"(?:[-\u2013\u2014=]{1,4} ?>|\u2192)"
_CUE = re.compile(rf"{_CLOCK}\s*{_ARROW}\s*{_CLOCK}(?:\s+(.*))?")
_CUE_WITHOUT_END = re.compile(rf"{_CLOCK}\s*{_ARROW}")
_EXPECTED_TIMES = "expected times such as 00:01.500 --> 00:04.250"
_SETTING = re.compile(r"(?:[XY][12]|vertical|line|position|size|align|region):\S+", re.IGNORECASE)
_VTT_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s.*)?")
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c"  # marks of byte order and of direction, which wrap times
_BLANK = " \t\u00a0" + _INVISIBLE

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_TIMED = (
    re.compile(rf".+?___\d+___{_NUMBER}___{_NUMBER}___(.*)"),
    re.compile(rf"\S+\s*\[{_NUMBER}\s*-\s*{_NUMBER}\]:(.*)"),
    re.compile(rf"\s*{_NUMBER}\s+{_NUMBER}\s(.*)"),
)
_ASIDE = re.compile(r"[FM]: .*")  # IEMOCAP has some lines without an id and without times

# Only what is a tag of SubRip or WebVTT; every other < is a word or less-than.
_TAG = re.compile(
    r"</?(?:[ibus]|em|strong|small|ruby|rt|c|lang|v|span|p|div|font)(?:\.[\w.-]+)?\s*/?>"
    r"|<(?:font|span|p|div)\s[^<>]*=[^<>]*>|<(?:v|lang|c)[.\s][^<>]*>|<\d+:[\d:.,]+>|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s*/?>|\\[Nn]", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]\w{1,30});", re.IGNORECASE)

_MARKS = (  # UTF-32's mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_LATIN = ("windows-1252", "windows-1250", "windows-1254", "windows-1257")
_OTHER_SCRIPTS = (
    "windows-1251", "koi8-r", "cp866", "windows-1253", "windows-1255", "windows-1256", "gb18030", "big5", "shift_jis",
    "cp932", "euc-jp", "euc-kr", "cp949", "cp874",
)  # fmt: skip
_AS_LIKELY = 0.7  # of the likeliest encoding's confidence, with which Windows-1252 is preferred


class Segment(NamedTuple):
    """Something said; seconds of the recording."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What is said when, in order of time, and in sentences what the reader had to assume."""

    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()


def read_transcript(path: str | Path) -> Transcript:
    """Subtitles or a transcript with times; segments without a word are left out, times may lie outside the recording.

    Raises DataError with file and line for a line that cannot be read, and for a file without any word.
    """
    path = Path(path)
    text, notes = _decode(path)
    lines = [line.strip(_BLANK) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    timed_like_cues = any(_CUE.fullmatch(line) or _is_broken_cue(line) for line in lines)
    found = list(_cues(path, lines)) if timed_like_cues else list(_timed_lines(path, lines))
    found = _with_ends(path, sorted(found, key=lambda cue: cue.start), notes)
    if timed_like_cues:
        found = _unrolled(path, found, notes)
    said = sorted(Segment(cue.start, cue.end, text) for cue in found if (text := " ".join(cue.lines)))
    if not said:
        raise DataError(f"{path}: found no words, expected subtitles (.srt, .vtt) or lines of start, end and text")
    return Transcript(tuple(said), tuple(notes))


def recognise_speech(media: str | Path, model: Path) -> Transcript:
    """What the Whisper model in the folder `model` recognises in a recording. Raises DataError without such a model."""
    whisper = _whisper(model)
    # In silence Whisper makes words up.
    segments, _ = whisper.transcribe(_samples(Path(media)), vad_filter=True)
    said = tuple(
        Segment(float(s.start), float(s.end), s.text.strip()) for s in segments if s.end > s.start and s.text.strip()
    )
    if not said:
        raise DataError(f"{media}: {model} recognised no words; give --transcript FILE or --text WORDS")
    return Transcript(said)


# ---- encodings


def _decode(path: Path) -> tuple[str, list[str]]:
    """The text of a file, and a note on its encoding where that is an assumption."""
    if found := not_a_file(path):
        raise DataError(f"{path}: found {found}, expected a file with a transcript")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    encoding = _marked(data) or _unmarked(data)
    try:
        if encoding:
            return data.decode(encoding), []
        encoding = _likeliest_encoding(path, data)
        return data.decode(encoding), [f"{path.name}: not UTF-8; read as {encoding}, the likeliest encoding."]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} cannot be read as {encoding}; save the file as UTF-8 and try again"
        ) from None


def _marked(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)


def _unmarked(data: bytes) -> str | None:
    """UTF-8, or UTF-16 without a mark: every other byte of an ASCII letter is 0."""
    for zeros, encoding in ((data[1::2], "utf-16-le"), (data[::2], "utf-16-be")):
        if len(data) >= 8 and zeros.count(0) > 0.4 * len(zeros) and data.count(0) < 0.6 * len(data):
            return encoding
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _likeliest_encoding(path: Path, data: bytes) -> str:
    """By the lines that are not ASCII: in Latin script letters of ASCII are in the majority, in other scripts not.

    Asked with a list of encodings for either, chardet is right more often. Of the Western encodings, which look alike,
    Windows-1252 is preferred.
    """
    import chardet

    if b"\0" in data:
        raise DataError(f"{path}: found zero bytes, expected a text file")
    lines = b"\n".join(line for line in data.splitlines() if not line.isascii())[:100_000]
    other = sum(byte > 127 for byte in lines)
    latin = other < sum(chr(byte).isalpha() for byte in lines if byte < 128)
    encodings = _LATIN if latin else _OTHER_SCRIPTS
    candidates = chardet.detect_all(
        lines,
        include_encodings=encodings,
        no_match_encoding=encodings[0],
        ignore_threshold=True,
        prefer_superset=True,
    )
    found = {str(one["encoding"]).lower(): one["confidence"] for one in candidates if one["encoding"]}
    likeliest = max(found, key=lambda name: found[name], default="windows-1252")
    if latin and found.get("windows-1252", 0.0) >= _AS_LIKELY * found.get(likeliest, 0.0):
        return "windows-1252"
    return likeliest


# ---- subtitles


@dataclass(frozen=True)
class _Cue:
    """What one line of times governs."""

    number: int  # of its line in the file
    start: float
    end: float  # NaN where the file does not say
    lines: list[str] = field(default_factory=list)


def _cues(path: Path, lines: Sequence[str]) -> Iterator[_Cue]:
    """The cues of WebVTT or SubRip: a line of times, and what stands below it up to the next one."""
    filled = [(n, line) for n, line in enumerate(lines, start=1) if line]
    webvtt = bool(filled) and filled[0][1].startswith("WEBVTT")
    cue: _Cue | None = None
    skips = False  # inside the header, a note or a style of WebVTT
    for place, (number, line) in enumerate(filled):
        head_of_block = place == 0 or filled[place - 1][0] < number - 1
        timed = _read_times(path, number, line)
        if timed:
            if cue:
                yield cue
            cue, skips = timed, False
            continue
        skips = (skips and not head_of_block) or (webvtt and head_of_block and _is_aside(line, place))
        if skips or _is_name(filled, place, webvtt and head_of_block, head_of_block and (not cue or bool(cue.lines))):
            continue
        if cue is None:
            raise DataError(f"{path}:{number}: found {quoted(line)}, {_EXPECTED_TIMES}")
        cue.lines.extend(_plain(line))
    if cue:
        yield cue


def _is_aside(line: str, place: int) -> bool:
    """True for the first line of a block of WebVTT that is not spoken."""
    return bool(_VTT_BLOCK.fullmatch(line)) or place == 0


def _is_name(filled: Sequence[tuple[int, str]], place: int, may_be_words: bool, may_be_apart: bool) -> bool:
    """True for the number, or in WebVTT the name, of a cue, which stands above a line of times.

    `may_be_apart`: a blank line between a number and its times is forgiven, as where every other line is blank.
    """
    number, line = filled[place]
    below, times = filled[place + 1] if place + 1 < len(filled) else (0, "")
    if not _CUE_WITHOUT_END.match(times):
        return False
    counts = line.isdecimal() and len(line) < 9
    return (below == number + 1 and (counts or may_be_words)) or (counts and may_be_apart)


def _read_times(path: Path, number: int, line: str) -> _Cue | None:
    """A cue without its words for a line of times; None for another line. Raises DataError for times that are wrong."""
    match = _CUE.fullmatch(line)
    if match:
        start, end = _seconds(match.groups()[:5]), _seconds(match.groups()[5:10])
        behind = match[11] or ""
        settings = all(_SETTING.fullmatch(word) for word in behind.split())
        if start is not None and end is not None:
            return _Cue(number, start, end, [] if settings else _plain(behind))
    elif match := _CUE_WITHOUT_END.fullmatch(line):
        start = _seconds(match.groups())
        if start is not None:
            return _Cue(number, start, math.nan)
    elif not _is_broken_cue(line):
        return None
    raise DataError(f"{path}:{number}: found {quoted(line)}, {_EXPECTED_TIMES}")


def _is_broken_cue(line: str) -> bool:
    """True for a line that is meant to be times: it has a clock and an arrow, or begins with a whole clock."""
    if re.match(r"-?\d{1,4}\s?:\s?\d{1,2}\s?:\s?\d{1,2}\s?[.,;:]\s?\d", line):
        return True
    arrow = re.search(_ARROW, line)
    return bool(arrow and re.search(r"\d\s?[:;]\s?\d", line))


def _seconds(clock: Sequence[str | None]) -> float | None:
    """None for a clock with more than 59 seconds, or minutes where there are hours."""
    sign, hours, minutes, seconds, fraction = clock
    if int(seconds or 0) > 59 or (hours is not None and int(minutes or 0) > 59):
        return None
    value = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + float(f"0.{fraction or 0}")
    return -value if sign else value


def _plain(line: str) -> list[str]:
    """The words of a line without tags and marks of place, as one line or none."""
    bare = _TAG.sub("", _BREAK.sub(" ", line))
    words = " ".join(_ENTITY.sub(lambda match: html.unescape(match[0]), bare).split()).strip(_BLANK)
    return [words] if words else []


def _with_ends(path: Path, cues: Sequence[_Cue], notes: list[str]) -> list[_Cue]:
    """Each cue with an end after its start. One that has none ends where the next one begins, which becomes a note.

    Raises DataError for a cue that ends before it starts.
    """
    found: list[_Cue] = []
    without: list[_Cue] = []
    next_start, start = math.inf, math.inf  # of the cues after this one: the first start that is later than its own
    for cue in reversed(cues):
        if cue.start < start:
            next_start, start = start, cue.start
        if cue.end < cue.start:
            raise DataError(f"{path}:{cue.number}: found {cue.start:g} to {cue.end:g} s, expected a start, then an end")
        if cue.end > cue.start:
            found.append(cue)
        elif cue.lines:
            without.append(cue)
            found += [replace(cue, end=next_start)] if next_start < math.inf else []
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        last = "; the last one is left out" if without[0].start == cues[-1].start else ""
        notes.append(
            f"{path.name}:{without[-1].number}{more}: words without a length, taken to end where the next begin{last}."
        )
    return found[::-1]


def _unrolled(path: Path, cues: Sequence[_Cue], notes: list[str]) -> list[_Cue]:
    """Rolling captions with each line once: what a cue repeats of the one before it is taken out.

    Captions count as rolling when half of the cues, or more, begin with what the one before ends with, without a gap.
    """
    repeats = [_repeated(*pair) for pair in pairwise(cues)]
    if not any(repeats) or 2 * sum(count > 0 for count in repeats) < len(repeats):
        return list(cues)
    found = [cues[0]]
    for cue, count in zip(cues[1:], repeats, strict=True):
        if cue.lines[count:]:
            found.append(replace(cue, lines=cue.lines[count:]))
        else:
            found[-1] = replace(found[-1], end=max(found[-1].end, cue.end))
    notes.append(f"{path.name}: rolling captions; lines that a cue repeats of the one before count once.")
    return found


def _repeated(before: _Cue, cue: _Cue) -> int:
    """How many lines of a cue repeat the last ones of the cue before, which ends where this one begins."""
    if abs(cue.start - before.end) > GAPLESS:
        return 0
    most = min(len(before.lines), len(cue.lines))
    return next((n for n in range(most, 0, -1) if before.lines[-n:] == cue.lines[:n]), 0)


# ---- transcripts


def _timed_lines(path: Path, lines: Sequence[str]) -> Iterator[_Cue]:
    for number, line in enumerate(lines, start=1):
        if line and not _ASIDE.fullmatch(line):
            yield _timed_line(path, number, line)


def _timed_line(path: Path, number: int, line: str) -> _Cue:
    for form in _TIMED:
        match = form.fullmatch(line)
        if match and all(math.isfinite(float(time)) for time in match.groups()[:2]):
            return _Cue(number, float(match[1]), float(match[2]), [match[3].strip()])
    raise DataError(
        f"{path}:{number}: found {quoted(line)}, expected start and end in seconds and a text, or a cue of .srt or .vtt"
    )


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
            f"{model}: found no model.bin and tokenizer.json, expected a Whisper model in faster-whisper's format; "
            f"`ct2-transformers-converter --model {model} --output_dir OUT --copy_files tokenizer.json` converts one "
            "of transformers"
        )
    try:
        return WhisperModel(str(model), local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{model}: {str(error).splitlines()[0]}; expected a Whisper model of faster-whisper") from None


def _samples(media: Path) -> np.ndarray:
    """The whole audio, mono at WHISPER_RATE, float32."""
    seconds = probe(media).duration
    spans = [(PIECE * n, PIECE * (n + 1)) for n in range(int(seconds / PIECE) + 1)]
    pieces = [resample(s.samples, s.rate, WHISPER_RATE) for s in audio_spans(media, spans, None, DecodeLog())]
    return np.concatenate([np.zeros(0, np.float32), *pieces])
