"""IEMOCAP: dialogues of ten actors, one voted emotion a turn; the six of the paper's Table 1 are kept.

    IEMOCAP_full_release/
        Session1/dialog/                            Session2 ... Session5 are the same; any part of the release will do
            EmoEvaluation/Ses01F_impro01.txt        who said what with which emotion, and what every rater heard
            transcriptions/Ses01F_impro01.txt       the words
            avi/DivX/Ses01F_impro01.avi             both speakers, side by side
            wav/Ses01F_impro01.wav                  both speakers, left and right channel

`Ses01F` names the session and who sits on the left: here the woman. She is then also in the left channel.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mesm_data.corpora import by_id, read_lines
from mesm_data.errors import CorpusError, Issue
from mesm_data.utterance import Source, Utterance, Vote

EMOTIONS = ("anger", "excited", "frustrated", "happiness", "neutral", "sadness")
SAMPLE_RATE = 16_000
ABOUT = {
    "title": "IEMOCAP",
    "page": "https://sail.usc.edu/iemocap/",
    "licence": "IEMOCAP data release form, signed with USC SAIL",
    "cite": "Carlos Busso et al.: IEMOCAP: interactive emotional dyadic motion capture database. Language Resources "
    "and Evaluation 42, 2008.",
    "language": "en",
}
ONE_EMOTION = True
SELF_REPORTS = ("C-F", "C-M", "A-F", "A-M")  # actors who rated their own turns
SESSIONS = (1, 2, 3, 4, 5)

VOTED = ("ang", "exc", "fru", "hap", "neu", "sad")  # in the order of EMOTIONS
NOT_KEPT = ("dis", "fea", "oth", "sur", "xxx")  # xxx: the raters did not agree
LEVELS = {"val": "valence", "act": "activation", "dom": "dominance"}
FILMS = (".avi", ".mp4", ".mkv", ".mov")

_DIALOGUE = re.compile(r"Ses0[1-5][FM]_(?:impro0[1-8][ab]?|script0[1-3]_[1-3]b?)")
_TURN = re.compile(rf"({_DIALOGUE.pattern})_([FM])\d{{3}}")
_TURN_LINE = "'[start - end]<TAB>turn<TAB>label<TAB>[v, a, d]'"
_SUMMARY = re.compile(r"\[(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?)\]\s+(\S+)\s+(\S+)\s+\[[^\]]*\]")
_RATER = re.compile(r"([CA]-[EFM]\d+):\s*([^\t(]*)")
_LEVEL = re.compile(r"(val|act|dom)\s*(\d+(?:\.\d+)?)?")
_SAID = re.compile(r"(Ses\S+)\s*\[[^\]]*\]:(.*)")


@dataclass(frozen=True)
class Turn:
    """One line of EmoEvaluation and the rater lines below it."""

    id: str
    start: float  # seconds
    end: float
    label: str  # one of VOTED or NOT_KEPT
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """The files of one dialogue; the annotations may lack, the media are only where they should be."""

    name: str
    evaluation: Path
    transcript: Path
    video: Path
    audio: Path


def read(root: Path) -> Iterator[Utterance | Issue]:
    """The utterances voted to be one of the six emotions, and an Issue for each that lacks its words or its votes.

    Raises CorpusError for a folder that is no IEMOCAP and for annotations that do not read as they should.
    """
    found = [item for dialogue in find_dialogues(root) for item in _read_dialogue(root, dialogue)]
    yield from sorted(found, key=by_id)


def survey(root: Path) -> list[str]:
    """What there is to read, in lines: dialogues, annotation files, every voted label, what is not read."""
    dialogues = find_dialogues(root)
    rated = [d for d in dialogues if d.evaluation.is_file()]
    said = [d for d in dialogues if d.transcript.is_file()]
    labels = Counter(turn.label for d in rated for turn in read_evaluation(d.evaluation))
    folders = {folder for d in dialogues for folder in (d.evaluation.parent, d.transcript.parent)}
    unread = sorted(_relative(root, path) for folder in folders for path in _text_files(folder, read=False))
    sessions = {d.evaluation.parent for d in dialogues}
    lines = [
        f"layout: IEMOCAP release, {len(sessions)} sessions, {len(dialogues)} dialogues",
        f"annotations: {len(rated)} files in EmoEvaluation, {len(said)} in transcriptions",
        "voted labels: " + ", ".join(f"{label} {labels[label]}" for label in (*VOTED, *NOT_KEPT) if labels[label]),
        f"kept: {sum(labels[label] for label in VOTED)} of {labels.total()} voted turns are one of the six emotions",
    ]
    lines += [f"only in transcriptions: {d.name}" for d in dialogues if d not in rated]
    lines += [f"only in EmoEvaluation: {d.name}" for d in dialogues if d not in said]
    return lines + [f"not read, no dialogue's name: {name}" for name in unread]


def recognises(root: Path) -> bool:
    """True where a dialogue has an annotation file."""
    try:
        return bool(find_dialogues(root))
    except CorpusError:
        return False


def gaps(utterances: Iterable[Utterance]) -> list[str]:
    """The sessions of which there is nothing here, in one line."""
    here = {session_of(utterance.group) for utterance in utterances}
    missing = [session for session in SESSIONS if session not in here]
    if not missing:
        return []
    return [f"{len(missing)} of {len(SESSIONS)} sessions: {', '.join(f'Session{number}' for number in missing)}"]


def session_of(group: str) -> int | None:
    """The session of a dialogue: 1 for Ses01F_impro01."""
    return int(group[3:5]) if _DIALOGUE.fullmatch(group) else None


def script_of(group: str) -> str | None:
    """The script that a dialogue plays, as script01_1; script01_1b is another take of it. None for improvisations."""
    script = re.search(r"_(script\d\d_\d)b?$", group)
    return script[1] if script else None


def find_dialogues(root: Path) -> list[Dialogue]:
    """Every dialogue that has an annotation file, by name; `root` is the release, a folder around it, or a part."""
    dialogues: dict[str, Dialogue] = {}
    for folder in _dialog_folders(root):
        films = _films(folder)
        names = {path.stem for part in ("EmoEvaluation", "transcriptions") for path in _text_files(folder / part)}
        for name in sorted(names):
            dialogue = Dialogue(
                name,
                evaluation=folder / "EmoEvaluation" / f"{name}.txt",
                transcript=folder / "transcriptions" / f"{name}.txt",
                video=films.get(name, folder / "avi" / "DivX" / f"{name}.avi"),
                audio=folder / "wav" / f"{name}.wav",
            )
            if name in dialogues:
                raise CorpusError(
                    f"{root}: found {name} in {_relative(root, dialogues[name].evaluation.parents[1])} and in "
                    f"{_relative(root, folder)}, expected it once; give a folder that holds one copy of the release"
                )
            dialogues[name] = dialogue
    if not dialogues:
        raise CorpusError(f"{root}: found no file named like EmoEvaluation/Ses01F_impro01.txt, expected one a dialogue")
    return [dialogues[name] for name in sorted(dialogues)]


def read_evaluation(path: Path) -> list[Turn]:
    """The turns of one EmoEvaluation file, in the order of the file: all of the woman's, then all of the man's.

    Lines without a turn's name are passed over. Raises CorpusError for anything else that does not read.
    """
    turns: dict[str, Turn] = {}
    votes: dict[str, list[Vote]] = {}
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if line.startswith("["):
            turn = _read_turn(where, line, path.stem)
            if turn.id in turns and "XX" not in turn.id:
                raise CorpusError(f"{where}: found turn {turn.id} again, expected it once")
            turns[turn.id], votes[turn.id] = turn, []
        elif line.startswith(("C-", "A-")):
            if not turns:
                raise CorpusError(f"{where}: found a rater's line {line!r}, expected a turn's line above it")
            votes[turn.id] += _read_votes(where, line)
        elif _TURN.search(line) and not line.startswith("%"):
            raise CorpusError(f"{where}: found {line!r}, expected {_TURN_LINE}")
    if not turns:
        raise CorpusError(f"{path}: found no turn, expected lines {_TURN_LINE}")
    return [replace(turn, votes=tuple(votes[turn.id])) for turn in turns.values() if "XX" not in turn.id]


def read_transcript(path: Path) -> dict[str, str]:
    """Turn -> its words. Turns that were never rated (their ids hold XX) and lines without an id are passed over.

    Raises CorpusError for an id without its words, and for an id twice with different words.
    """
    texts: dict[str, str] = {}
    for number, line in read_lines(path):
        if line.startswith("Ses"):
            said = _SAID.fullmatch(line)
            if not said:
                raise CorpusError(f"{path}:{number}: found {line!r}, expected 'turn [start-end]: words'")
            turn, text = said[1], said[2].strip()
            if "XX" not in turn and texts.setdefault(turn, text) != text:
                raise CorpusError(f"{path}:{number}: found turn {turn} again with other words, expected it once")
    return texts


def _read_dialogue(root: Path, dialogue: Dialogue) -> Iterator[Utterance | Issue]:
    turns = read_evaluation(dialogue.evaluation) if dialogue.evaluation.is_file() else []
    texts = read_transcript(dialogue.transcript) if dialogue.transcript.is_file() else {}
    for turn in turns:
        if turn.label in VOTED:
            yield _utterance(root, dialogue, turn, texts.get(turn.id))
    for name in texts.keys() - {turn.id for turn in turns}:
        yield Issue(name, "no-labels", _lacks(root, dialogue.evaluation))


def _utterance(root: Path, dialogue: Dialogue, turn: Turn, text: str | None) -> Utterance | Issue:
    if text is None:
        return Issue(turn.id, "no-text", _lacks(root, dialogue.transcript))
    if turn.end <= turn.start:
        return Issue(turn.id, "bad-times", f"starts at {turn.start:.4f} s and ends at {turn.end:.4f} s")
    letter = turn.id[-4]
    left = letter == turn.id[5]
    return Utterance(
        id=turn.id,
        source=Source(
            video=_relative(root, dialogue.video),
            audio=_relative(root, dialogue.audio),
            crop=(0.0, 0.0, 0.5, 1.0) if left else (0.5, 0.0, 1.0, 1.0),
            channel=0 if left else 1,
        ),
        start=turn.start,
        end=turn.end,
        text=text,
        labels=tuple(int(label == turn.label) for label in VOTED),
        votes=turn.votes,
        speaker=turn.id[:5] + letter,
        group=dialogue.name,
    )


def _lacks(root: Path, path: Path) -> str:
    return f"{_relative(root, path)} has no line for it" if path.is_file() else f"no file {_relative(root, path)}"


def _read_turn(where: str, line: str, dialogue: str) -> Turn:
    summary = _SUMMARY.fullmatch(line.strip())
    if not summary:
        raise CorpusError(f"{where}: found {line!r}, expected {_TURN_LINE}")
    start, end, name, label = summary.groups()
    turn = _TURN.fullmatch(name)
    if "XX" not in name and (not turn or turn[1] != dialogue):
        raise CorpusError(f"{where}: found turn {name!r}, expected one like {dialogue}_F000")
    if label not in VOTED + NOT_KEPT:
        raise CorpusError(f"{where}: found label {label!r}, expected one of {', '.join(VOTED + NOT_KEPT)}")
    return Turn(name, float(start), float(end), label)


def _read_votes(where: str, line: str) -> Iterator[Vote]:
    """C lines name emotions, `Anger; Neutral state;`; A lines give levels, some left open, `val 2; act 4; dom  ;`."""
    rater_line = _RATER.match(line)
    if not rater_line:
        raise CorpusError(f"{where}: found rater's line {line!r}, expected one like 'C-E2:<TAB>Anger;<TAB>()'")
    rater, given = rater_line[1], [name.strip() for name in rater_line[2].split(";") if name.strip()]
    for name in given:
        if rater.startswith("C"):
            yield Vote(rater, name, 1.0)
            continue
        level = _LEVEL.fullmatch(name)
        if not level:
            raise CorpusError(f"{where}: found level {name!r}, expected one like 'val 2', 'act 4' or 'dom 3'")
        if level[2]:
            yield Vote(rater, LEVELS[level[1]], float(level[2]))


def _dialog_folders(root: Path) -> list[Path]:
    """The folders that hold EmoEvaluation or transcriptions: root itself, or up to four folders below it."""
    levels = ["*/" * deep for deep in range(5)]
    parts = ("EmoEvaluation", "transcriptions")
    folders = {path.parent for level in levels for part in parts for path in root.glob(level + part) if path.is_dir()}
    if not folders:
        here = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else []
        raise CorpusError(
            f"{root}: found {', '.join(here) or 'nothing'}, expected an IEMOCAP release: folders "
            "Session1 ... Session5, each with dialog/EmoEvaluation and dialog/transcriptions"
        )
    return sorted(folders)


def _text_files(folder: Path, read: bool = True) -> list[Path]:
    """The text files of a folder that are named after a dialogue, or those that are not; never `._` files."""
    files = [path for path in folder.glob("*.txt") if not path.name.startswith("._")]
    return sorted(path for path in files if bool(_DIALOGUE.fullmatch(path.stem)) == read)


def _films(folder: Path) -> dict[str, Path]:
    """Dialogue -> its film, wherever it lies below `avi`; the one in avi/DivX is taken where there are several."""
    films = [path for path in (folder / "avi").rglob("*") if path.suffix.lower() in FILMS]
    films = [path for path in films if not path.name.startswith("._")]
    return {path.stem: path for path in sorted(films, key=lambda path: (path.parent.name == "DivX", path))}


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
