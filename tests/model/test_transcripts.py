"""Words are read from every kind of transcript, at their times; what does not read is told with its line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mesm_data.errors import DataError
from mesm_data.synth.film import write_wav
from mesm_model.prediction.transcripts import Segment, listen, read_words
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


def read(folder: Path, text: str | bytes, name: str = "words.txt") -> list[Segment]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_words(path)


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


@pytest.mark.parametrize(
    "content", ["1 2 Größe".encode("utf-8-sig"), "1 2 Größe".encode("cp1252")], ids=["utf-8 with mark", "windows"]
)
def test_old_encodings_read(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == [Segment(1.0, 2.0, "Größe")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "Bin blue at F two now.\n",
            r"words\.txt:1: found 'Bin blue at F two now\.', expected start and end in seconds",
        ),
        ("1 2 so\n\nand then?\n", r"words\.txt:3: found 'and then\?', expected start and end"),
        ("4 2 so\n", r"words\.txt:1: found 4 to 2 s, expected a start from 0 on, then an end"),
        ("-1 2 so\n", r"words\.txt:1: found -1 to 2 s"),
        ("hm\n\n00:00:01,0 --> 00:00:02,0\nSo.\n", r"words\.txt:1: found 'hm', expected times such as"),
        ("1\n00:00:03,0 --> 00:00:02,0\nSo.\n", r"words\.txt:2: found 3 to 2 s"),
        ("", r"words\.txt: found no words, expected subtitles"),
        ("WEBVTT\n\n00:01.0 --> 00:02.0\n", r"words\.txt: found no words"),
        (b"\x00\x01\x02", r"words\.txt: found zero bytes, expected a text file"),
    ],
)
def test_what_does_not_read_is_told_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


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


def test_a_model_on_disk_is_listened_with(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra asr)")
    converters = pytest.importorskip("ctranslate2.converters")
    said = ["<|0.20|>", *"Hello", "<|1.00|>", "<|1.20|>", *"you", "<|2.00|>"]
    source = write_transformers_whisper(tmp_path / "transformers", said)
    model = tmp_path / "model"
    converters.TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(model))
    lines = listen(speech(tmp_path / "voice.wav", 4.0), model)
    assert [line.text for line in lines] == ["Hello", "you"]
    assert lines[0].start < lines[0].end <= lines[1].start < lines[1].end <= 4.0
    write_wav(tmp_path / "silence.wav", np.zeros((32_000, 1), np.int16), 16_000)
    with pytest.raises(
        DataError, match=r"silence\.wav: .*model heard no words; give --transcript FILE or --text WORDS"
    ):
        listen(tmp_path / "silence.wav", model)


def test_a_folder_without_a_model_is_told_with_the_way_to_one(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra asr)")
    with pytest.raises(
        DataError, match=r"found no model\.bin and tokenizer\.json, .*`ct2-transformers-converter --model"
    ):
        listen(tmp_path / "voice.wav", tmp_path)
    for name in ("model.bin", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DataError, match=r"expected a Whisper model of faster-whisper"):
        listen(tmp_path / "voice.wav", tmp_path)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(DataError, match=r"--asr needs faster-whisper: run `pip install 'mesm\[asr\]'`, or give"):
        listen(tmp_path / "voice.wav", tmp_path)
