"""The page on adding a corpus holds a whole corpus: its code is taken out, put into a file, and reads MELD."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mesm_data import corpora
from mesm_data.errors import LEFT_OUT, CorpusError, Issue
from mesm_data.utterance import Source, Utterance

PAGE = Path(__file__).parents[2] / "docs" / "add_a_corpus.md"
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TRAIN = HEADER + (
    '2,"Well, ""no""\u2019s the word.",Chandler,neutral,neutral,10,1,8,21,"00:16:16,059","00:16:21,731"\n'
    '1,also I was...,The Interviewer,surprise,positive,0,0,8,21,"00:00:01,000","00:00:02,500"\n'
)
TEST = HEADER + '1,Why?,Mark,joy,positive,0,0,4,7,"01:00:00,000","01:00:00,000"\n'


@pytest.fixture
def meld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The corpus of the page, found by nothing but its file name."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(blocks) == 1
    folder = tmp_path / "corpora"
    folder.mkdir()
    (folder / "meld.py").write_text(blocks[0], encoding="utf-8")
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "mesm_data.corpora.meld", raising=False)
    assert corpora.names() == ["iemocap", "meld", "mosei"]
    return corpora.load("meld")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "MELD.Raw"
    root.mkdir()
    (root / "train_sent_emo.csv").write_text(TRAIN, encoding="utf-8")
    (root / "test_sent_emo.csv").write_text(TEST, encoding="utf-8")
    return root


def test_the_page_reads_meld(meld: ModuleType, raw: Path) -> None:
    assert "bad-times" in LEFT_OUT
    assert list(meld.read(raw)) == [
        Issue("test_dia0_utt0", "bad-times", "starts at 3600.000 s and ends at 3600.000 s"),
        Utterance(
            id="train_dia0_utt0",
            source=Source("train_splits/dia0_utt0.mp4", offset=1.0),
            start=1.0,
            end=2.5,
            text="also I was...",
            labels=(0, 0, 0, 0, 0, 0, 1),
            votes=(),
            speaker="The Interviewer",
            group="train_dia0",
        ),
        Utterance(
            id="train_dia10_utt1",
            source=Source("train_splits/dia10_utt1.mp4", offset=976.059),
            start=976.059,
            end=981.731,
            text='Well, "no"\u2019s the word.',
            labels=(0, 0, 0, 0, 1, 0, 0),
            votes=(),
            speaker="Chandler",
            group="train_dia10",
        ),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("neutral", "hapy"), "train_sent_emo.csv:2: found emotion 'hapy', expected one of anger, disgust, fear, joy"),
        (("00:16:16,059", "976.059"), "train_sent_emo.csv:2: found time '976.059', expected one like 00:16:16,059"),
        (("StartTime", "Start"), "train_sent_emo.csv:1: found columns Sr No., Utterance"),
    ],
)
def test_the_page_tells_bad_lists_by_their_line(
    meld: ModuleType, raw: Path, change: tuple[str, str], message: str
) -> None:
    (raw / "train_sent_emo.csv").write_text(TRAIN.replace(*change, 1), encoding="utf-8")
    with pytest.raises(CorpusError, match=re.escape(f"{raw}/{message}")):
        list(meld.read(raw))


def test_the_page_refuses_another_folder(meld: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"found none of train_sent_emo\.csv, dev_sent_emo\.csv, test_sent_emo\.csv"):
        list(meld.read(tmp_path))
