"""Words are read from every kind of transcript, at their times; what cannot be read is refused with its line."""

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from mesm_data.errors import DataError
from mesm_data.synth.video import write_wav
from mesm_model.prediction.transcripts import Segment, Transcript, read_transcript, recognise_speech
from tests.model.scripted_whisper import write_transformers_whisper

SRT = """1
00:00:01,500 --> 00:00:04,250
<i>We meet</i>
at last.

2
01:02:03,004 --> 01:02:05,000 X1:117 X2:602
{\\an8}- 1984
"""
VTT = """WEBVTT - a film
Kind: captions

STYLE
::cue { color: red }

NOTE nobody reads this,
nor this

intro
00:01.500 --> 00:04.250 line:0 position:20%
<v Roger>We meet <c.loud>at</c> last.

01:02:03.004 --> 01:02:05.000
&amp; <00:01:02.000>so on
"""
MOSEI = "-vxjVxOeScU___0___1.5___4.25___We meet at last.\n_a___b___12___3723.004___3725___tis ___ so\n"
IEMOCAP = (
    "Ses01F_impro01_F000 [001.5000-004.2500]: We meet: at last.\nM: [LAUGHTER]\n"
    "Ses01F_impro01_M000 [3723.004-3725.0]: Yes.\n"
)
LABELS = "1.5\t4.25\tWe meet at last.\n3723.004 3725 Yes.\n"


def read_with_notes(folder: Path, text: str | bytes, name: str = "words.txt") -> Transcript:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_transcript(path)


def read(folder: Path, text: str | bytes) -> list[Segment]:
    return list(read_with_notes(folder, text).segments)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (SRT, ["We meet at last.", "- 1984"]),
        (VTT, ["We meet at last.", "& so on"]),
        (MOSEI, ["We meet at last.", "tis ___ so"]),
        (IEMOCAP, ["We meet: at last.", "Yes."]),
        (LABELS, ["We meet at last.", "Yes."]),
    ],
    ids=["srt", "vtt", "mosei", "iemocap", "labels"],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_every_kind_of_transcript_is_known_by_what_is_in_it(
    tmp_path: Path, content: str, texts: list[str], ends: str
) -> None:
    expected = [Segment(1.5, 4.25, texts[0]), Segment(3723.004, 3725.0, texts[1])]
    assert read(tmp_path, content.replace("\n", ends)) == expected


def test_lines_come_in_order_of_time(tmp_path: Path) -> None:
    assert [line.start for line in read(tmp_path, "5 6 third\n1 2 first\n1.5 9 second\n")] == [1.0, 1.5, 5.0]


def test_subtitles_without_numbers_or_blank_lines_read_too(tmp_path: Path) -> None:
    text = "00:00:01,0 --> 00:00:02,0\nOne\n2\n00:00:03,0 --> 00:00:04,0\nTwo\n\nand more\n"
    assert [line.text for line in read(tmp_path, text)] == ["One", "Two and more"]


def test_a_number_that_is_said_is_no_number_of_a_cue(tmp_path: Path) -> None:
    cues = [
        "1\n00:00:01,0 --> 00:00:02,0\nHow old?",
        "2\n00:00:03,0 --> 00:00:04,0\n42",
        "3\n00:00:05,0 --> 00:00:06,0\n7",
    ]
    text = "\n\n".join(cues) + "\n"
    assert [line.text for line in read(tmp_path, text)] == ["How old?", "42", "7"]


def test_cues_without_a_word_are_left_out(tmp_path: Path) -> None:
    text = (
        "1\n00:00:01,0 --> 00:00:02,0\n\n2\n00:00:03,0 --> 00:00:04,0\n<b> </b>\n\n3\n00:00:05,0 --> 00:00:06,0\nSo.\n"
    )
    assert read(tmp_path, text) == [Segment(5.0, 6.0, "So.")]


# ---- times that are slightly wrong


@pytest.mark.parametrize(
    "times",
    [
        "00:00:1,000 --> 00:00:2,00", "00:00:01 --> 00:00:02", "0:0:1.0 --> 0:0:2.0", "00:01.000000 --> 00:02.000000",
        "00:00:01,000 -> 00:00:02,000", "00:00:01,000-->00:00:02,000", "00: 00: 01, 000 -> 00: 00: 02, 000",
        "\ufeff00:00:01,000 \u2192 00:00:02,000\u200f", "00:00:01,000 --> 00:00:02,000 X1:1 X2:2 Y1:1 Y2:9",
        "00:01.000 -- > 00:02.000 align:start position:0%",
    ],
)  # fmt: skip
def test_times_that_are_slightly_wrong_read_and_never_become_words(tmp_path: Path, times: str) -> None:
    text = f"1\n00:00:00,100 --> 00:00:00,900\nSo.\n\n2\n{times}\nAnd now?\n\n3\n00:00:02,000 --> 00:00:03,000\nBye.\n"
    for written in (text, text.replace("1\n", "WEBVTT\n\n1\n", 1)):
        assert read(tmp_path, written) == [
            Segment(0.1, 0.9, "So."), Segment(1.0, 2.0, "And now?"), Segment(2.0, 3.0, "Bye.")
        ]  # fmt: skip


@pytest.mark.parametrize(
    "times",
    [
        "00:00:01:500 --> 00:00:02:500", "00:00:01,000 00:00:02,000", "00:00:61,000 --> 00:00:62,000", "00:00:01,000",
        "00:75:00,000 --> 00:76:00,000", "00:00:O1,000 --> 00:00:O2,000", "00:00:01,000 --> soon 00:00:02,000",
        "00:00:01.000,00:00:02.000", "00;00;01;00 --> 00;00;02;00", "12345:00:01,000 --> 12345:00:02,000",
    ],
)  # fmt: skip
def test_times_that_cannot_be_read_are_refused_with_their_line(tmp_path: Path, times: str) -> None:
    text = f"1\n00:00:00,100 --> 00:00:00,900\nSo.\n\n2\n{times}\nAnd now?\n"
    with pytest.raises(DataError, match=rf"words\.txt:6: found {re.escape(repr(times))}, expected times such as"):
        read(tmp_path, text)


def test_words_on_the_line_of_times_are_words(tmp_path: Path) -> None:
    assert read(tmp_path, "00:01.0 --> 00:02.0 Hello there\n") == [Segment(1.0, 2.0, "Hello there")]


def test_a_cue_without_a_length_ends_where_the_next_one_begins_and_a_note_says_so(tmp_path: Path) -> None:
    cues = ["00:00:01,000 -->\nNow", "00:00:02,500 --> 00:00:02,500\nand then", "00:00:04,000 --> 00:00:05,000\nbye."]
    found = read_with_notes(tmp_path, "\n\n".join(cues))
    assert found.segments == (Segment(1.0, 2.5, "Now"), Segment(2.5, 4.0, "and then"), Segment(4.0, 5.0, "bye."))
    assert found.notes == (
        "words.txt:1 and 1 more: words without a length, taken to end where the next begin.",
    )  # fmt: skip
    found = read_with_notes(tmp_path, "1 2 So.\n4 4 Lost.\n")
    assert found.segments == (Segment(1.0, 2.0, "So."),)
    assert found.notes == (
        "words.txt:2: words without a length, taken to end where the next begin; the last one is left out.",
    )


def test_times_before_the_beginning_are_for_the_recording_to_cut(tmp_path: Path) -> None:
    assert read(tmp_path, "-1 2 so\n") == [Segment(-1.0, 2.0, "so")]
    assert read(tmp_path, "-00:00:01,500 --> 00:00:02,000\nso\n") == [Segment(-1.5, 2.0, "so")]


# ---- words


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("3 < 4 & 5 > 2 I <3 you", "3 < 4 & 5 > 2 I <3 you"),
        ("a<b and c>d, R&D &copying", "a<b and c>d, R&D &copying"),
        ('<font color="#ff0000">happy</font> {\\an8}<B>so</B><i/>', "happy so"),
        ("one<br>two<br/>three\\Nfour", "one two three four"),
        ("<v.loud Roger Bing>Hi <c.red.big>there</c> <00:00:01.200>you", "Hi there you"),
        ("&lt;i&gt; &amp; &#39;so&#39; {what} <laughs>", "<i> & 'so' {what} <laughs>"),
    ],
)
def test_tags_go_and_every_word_stays(tmp_path: Path, written: str, words: str) -> None:
    assert read(tmp_path, f"00:01.0 --> 00:02.0\n{written}\n") == [Segment(1.0, 2.0, words)]


@pytest.mark.parametrize("words", ["NOTE to myself", "STYLE", "REGION one"])
def test_only_webvtt_has_notes(tmp_path: Path, words: str) -> None:
    cues = f"00:00:01,000 --> 00:00:02,000\n\n{words}\nis it\n"
    assert read(tmp_path, cues) == [Segment(1.0, 2.0, f"{words} is it")]
    with pytest.raises(DataError, match="found no words"):
        read(tmp_path, f"WEBVTT\n\n{cues}")
    assert read(tmp_path, f"WEBVTT\n\n{cues}".replace(",000\n\n", ",000\n")) == [Segment(1.0, 2.0, f"{words} is it")]


def test_every_other_line_may_be_blank(tmp_path: Path) -> None:
    cues = ["1", "00:00:01,000 --> 00:00:02,000", "Six", "2", "00:00:03,000 --> 00:00:04,000", "7"]
    assert [one.text for one in read(tmp_path, "\n\n".join(cues))] == ["Six", "7"]


ROLLING = """WEBVTT
Kind: captions

00:00:00.160 --> 00:00:01.429 align:start position:0%
 
So<00:00:00.960><c> this</c><00:00:01.020><c> is</c><00:00:01.159><c> it</c>

00:00:01.429 --> 00:00:01.439 align:start position:0%
So this is it
 

00:00:01.439 --> 00:00:02.749 align:start position:0%
So this is it
no<00:00:01.760><c> more</c><00:00:02.000><c> words</c>

00:00:02.749 --> 00:00:02.759 align:start position:0%
no more words
 
"""  # noqa: W293
ROLL_UP = "00:01.0 --> 00:02.0\nOne.\n\n00:02.0 --> 00:03.0\nOne.\nTwo.\n\n00:03.0 --> 00:04.0\nTwo.\nThree.\n"


def test_rolling_captions_give_each_word_once_and_no_moments_of_ten_milliseconds(tmp_path: Path) -> None:
    found = read_with_notes(tmp_path, ROLLING)
    assert found.segments == (Segment(0.16, 1.439, "So this is it"), Segment(1.439, 2.759, "no more words"))
    assert found.notes == ("words.txt: rolling captions; lines that a cue repeats of the one before count once.",)
    as_subrip = ROLLING.partition("\n\n")[2].replace(".", ",")
    assert read_with_notes(tmp_path, as_subrip).segments == found.segments
    assert [one.text for one in read(tmp_path, ROLL_UP)] == ["One.", "Two.", "Three."]


def test_somebody_who_says_the_same_twice_is_heard_twice(tmp_path: Path) -> None:
    cues = [
        "00:01.0 --> 00:02.0\nWhy?",
        "00:02.0 --> 00:03.0\nNo.",
        "00:03.0 --> 00:04.0\nNo.",
        "00:04.0 --> 00:05.0\nOh.",
    ]
    found = read_with_notes(tmp_path, "\n\n".join(cues))
    assert ([one.text for one in found.segments], found.notes) == (["Why?", "No.", "No.", "Oh."], ())


# ---- encodings

GERMAN, RUSSIAN = "Ich bin so glücklich, daß du da bist.", "Я счастлив, что ты пришла."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_by_its_mark_or_as_what_it_is(tmp_path: Path, encoding: str) -> None:
    text = f"1 2 {GERMAN}\n3 4 {RUSSIAN}\n"
    for line_ends in (text, text.replace("\n", "\r\n")):
        found = read_with_notes(tmp_path, line_ends.encode(encoding))
        assert found == Transcript((Segment(1.0, 2.0, GERMAN), Segment(3.0, 4.0, RUSSIAN)))


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        (GERMAN, "windows-1252"), ("Größe", "windows-1252"), ("El niño está aquí, ¿no?", "windows-1252"),
        ("Jestem szczęśliwy, że przyszłaś", "windows-1250"), (RUSSIAN, "windows-1251"), ("Я счастлив", "koi8-r"),
        ("Είμαι πολύ χαρούμενος", "windows-1253"), ("我很高兴你来了", "gb18030"), ("今日は学校へ行きました。", "cp932"),
        ("정말 행복해요", "cp949"),
    ],
)  # fmt: skip
def test_other_encodings_are_read_as_the_likeliest_one_and_a_note_says_which(
    tmp_path: Path, words: str, encoding: str
) -> None:
    found = read_with_notes(tmp_path, f"1 2 {words}\n3 4 So.\n".encode(encoding))
    assert found.segments == (Segment(1.0, 2.0, words), Segment(3.0, 4.0, "So."))
    assert found.notes == (f"words.txt: not UTF-8; read as {encoding}, the likeliest encoding.",)


# ---- what cannot be read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "Bin blue at F two now.\n",
            r"words\.txt:1: found 'Bin blue at F two now\.', expected start and end in seconds",
        ),
        ("1 2 so\n\nand then?\n", r"words\.txt:3: found 'and then\?', expected start and end"),
        ("4 2 so\n", r"words\.txt:1: found 4 to 2 s, expected a start, then an end"),
        (f"1 {'9' * 400} so\n", r"words\.txt:1: found '1 9{78}'\.\.\., expected start and end"),
        ("hm\n\n00:00:01,0 --> 00:00:02,0\nSo.\n", r"words\.txt:1: found 'hm', expected times such as"),
        ("1\n00:00:03,0 --> 00:00:02,0\nSo.\n", r"words\.txt:2: found 3 to 2 s"),
        ("", r"words\.txt: found no words, expected subtitles"),
        ("WEBVTT\n\n00:01.0 --> 00:02.0\n", r"words\.txt: found no words"),
        (b"\x00\x01\xf2", r"words\.txt: found zero bytes, expected a text file"),
        (b"\xff\xfe\x00\xd8", r"words\.txt: byte 2 cannot be read as utf-16; save the file as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "words.srt")
    with pytest.raises(DataError, match=r"words\.srt: found a pipe, expected a file"):
        read_transcript(tmp_path / "words.srt")


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000, "<" * 100_000, "-" * 100_000, "{\\" * 50_000, "<v " * 50_000, "1 " * 50_000, "&a" * 50_000,
        "00:00:01,0 --> " * 9_000, "_" * 100_000, "a___1" * 20_000, " " * 100_000 + ".", "1" * 100_000, "9:" * 50_000,
    ],
    ids=lambda line: line[:8],
)  # fmt: skip
def test_long_lines_take_linear_time(tmp_path: Path, line: str) -> None:
    began = time.process_time()
    for content in (line, f"00:01.0 --> 00:02.0\n{line}\n", "00:01.0 --> 00:02.0\n" + f"{line[:8]}\n" * 10_000):
        with suppress(DataError):
            read(tmp_path, content)
    assert time.process_time() - began < 3.0


# ---- anything at all

PIECES = st.sampled_from(
    [
        "00:00:01,000", "00:02.5", " --> ", "->", "\n", "\n\n", "\r", "1", "WEBVTT", "NOTE ", "STYLE", "<i>", "</", "é",
        "{\\an8}", "&amp;", "___1___", "[1.5 - 2.5]:", "1.5 2.5 ", "F: ", "\ufeff", "\x00", "\u2028", "So.", "-", ":",
        ",", "9" * 30,
    ]
)  # fmt: skip


@seed(0)
@settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode()), st.binary(max_size=200)))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        found = read_with_notes(tmp_path, content)
    except DataError:
        return
    assert all(one.start < one.end and one.text for one in found.segments)


# ---- speech recognition


def speech(path: Path, seconds: float) -> Path:
    """Something that a detector of voices takes for one: it buzzes, and opens and shuts its mouth."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voice = sum(
        np.sin(n * phase) * np.exp(-(((n * 120 - f) / 180) ** 2)) for n in range(1, 30) for f in (600, 1400, 2600)
    )
    voice *= np.clip(np.sin(2 * np.pi * 3 * time), 0.05, 1)
    write_wav(path, (voice / np.abs(voice).max() * 20_000).astype(np.int16)[:, None], 16_000)
    return path


def test_a_model_on_disk_recognises_speech(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra asr)")
    converters = pytest.importorskip("ctranslate2.converters")
    said = ["<|0.20|>", *"Hello", "<|1.00|>", "<|1.20|>", *"you", "<|2.00|>"]
    source = write_transformers_whisper(tmp_path / "transformers", said)
    model = tmp_path / "model"
    converters.TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(model))
    lines = recognise_speech(speech(tmp_path / "voice.wav", 4.0), model).segments
    assert [line.text for line in lines] == ["Hello", "you"]
    assert lines[0].start < lines[0].end <= lines[1].start < lines[1].end <= 4.0
    write_wav(tmp_path / "silence.wav", np.zeros((32_000, 1), np.int16), 16_000)
    with pytest.raises(
        DataError, match=r"silence\.wav: .*model recognised no words; give --transcript FILE or --text WORDS"
    ):
        recognise_speech(tmp_path / "silence.wav", model)


def test_a_folder_without_a_model_is_refused_with_the_way_to_one(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra asr)")
    with pytest.raises(
        DataError, match=r"found no model\.bin and tokenizer\.json, .*`ct2-transformers-converter --model"
    ):
        recognise_speech(tmp_path / "voice.wav", tmp_path)
    for name in ("model.bin", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DataError, match=r"expected a Whisper model of faster-whisper"):
        recognise_speech(tmp_path / "voice.wav", tmp_path)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(DataError, match=r"--asr needs faster-whisper: run `pip install 'mesm\[asr\]'`, or give"):
        recognise_speech(tmp_path / "voice.wav", tmp_path)
