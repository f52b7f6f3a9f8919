"""IEMOCAP: dialogues of ten actors, one voted emotion per turn; those of the paper's Table 1 are used.

    IEMOCAP_full_release/
        Session1/dialog/                            Session2 ... Session5 are the same; any part of the release will do
            EmoEvaluation/Ses01F_impro01.txt        turns with their voted emotion and every rater's votes
            transcriptions/Ses01F_impro01.txt       the words
            avi/DivX/Ses01F_impro01.avi             both speakers, side by side
            wav/Ses01F_impro01.wav                  both speakers, left and right channel

`Ses01F` names the session and who sits on the left: here the woman. She is then also in the left channel. Annotations
and media may lie in different `dialog` folders.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import lexists
from pathlib import Path

from mesm_data.corpora import by_id, read_lines, to_number, with_plausible_times
from mesm_data.corpora._listing import list_folder, one_of_each, walk, with_suffix
from mesm_data.errors import CorpusError, Issue, quoted
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
VIDEOS = (".avi", ".mp4", ".mkv", ".mov")
DEEP = 4  # folders between the one given and `dialog`

_DIALOGUE = re.compile(r"Ses0[1-5][FM]_(?:impro0[1-8][ab]?|script0[1-3]_[1-3]b?)")
_TURN = re.compile(rf"({_DIALOGUE.pattern})_([FM])\d{{3}}")
_TURN_LINE = "'[start - end]<TAB>turn<TAB>label<TAB>[v, a, d]'"
_TIME = r"(\d+(?:\.\d+)?(?:e\d+)?|inf|nan)"
_SUMMARY = re.compile(rf"\[{_TIME} - {_TIME}\]\s+(\S+)\s+(\S+)\s+\[[^\]]*\]")
_RATER = re.compile(r"([CA]-[EFM]\d+):\s*([^\t(]*)")
_LEVEL = re.compile(r"(val|act|dom)\s*(\d+(?:\.\d+)?)?")
_SAID = re.compile(r"(Ses[^\s\[]+)\s*\[[^\]]*\]:(.*)")  # no [ in the turn: else 100,000 of them take seconds


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
    """The files of one dialogue, or where they should be; `notes` is what else there is to know."""

    name: str
    evaluation: Path
    transcript: Path
    video: Path
    audio: Path
    notes: tuple[Issue, ...] = ()


def read(root: Path) -> Iterator[Utterance | Issue]:
    """The utterances voted to be one of the six emotions, and an Issue for each that lacks its words or its votes.

    Raises CorpusError for a folder that is no IEMOCAP and for annotations that do not follow their format.
    """
    found = [item for dialogue in find_dialogues(root) for item in _read_dialogue(root, dialogue)]
    yield from sorted(found, key=by_id)


def survey(root: Path) -> list[str]:
    """What there is to read, in lines: dialogues, annotation files, every voted label, what is not read."""
    dialogues = find_dialogues(root)
    rated = [d for d in dialogues if lexists(d.evaluation)]
    said = [d for d in dialogues if lexists(d.transcript)]
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
    folders = _dialog_folders(root)
    evaluations = _annotations(root, folders, "EmoEvaluation")
    transcripts = _annotations(root, folders, "transcriptions")
    names = sorted(evaluations.keys() | transcripts.keys())
    if not names:
        raise CorpusError(
            f"{root}: found no file named like EmoEvaluation/Ses01F_impro01.txt, expected one per dialogue"
        )
    media = _media(root, folders)
    return [_dialogue(name, evaluations.get(name), transcripts.get(name), media) for name in names]


def read_evaluation(path: Path) -> list[Turn]:
    """The turns of one EmoEvaluation file, in the order of the file: all of the woman's, then all of the man's.

    Lines without a turn's name are skipped. Raises CorpusError for anything else that does not follow the format.
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
                raise CorpusError(f"{where}: found a rater's line {quoted(line)}, expected a turn's line above it")
            votes[turn.id] += _read_votes(where, line)
        elif _TURN.search(line) and not line.startswith("%"):
            raise CorpusError(f"{where}: found {quoted(line)}, expected {_TURN_LINE}")
    if not turns:
        raise CorpusError(f"{path}: found no turn, expected lines {_TURN_LINE}")
    return [replace(turn, votes=tuple(votes[turn.id])) for turn in turns.values() if "XX" not in turn.id]


def read_transcript(path: Path) -> dict[str, str]:
    """Turn -> its words. Turns that were never rated (their ids hold XX) and lines without an id are skipped.

    Raises CorpusError for an id without its words, and for an id twice with different words.
    """
    texts: dict[str, str] = {}
    for number, line in read_lines(path):
        if line.startswith("Ses"):
            said = _SAID.fullmatch(line)
            if not said:
                raise CorpusError(f"{path}:{number}: found {quoted(line)}, expected 'turn [start-end]: words'")
            turn, text = said[1], said[2].strip()
            if "XX" not in turn and texts.setdefault(turn, text) != text:
                raise CorpusError(f"{path}:{number}: found turn {turn} again with other words, expected it once")
    return texts


def _read_dialogue(root: Path, dialogue: Dialogue) -> Iterator[Utterance | Issue]:
    yield from dialogue.notes
    turns = read_evaluation(dialogue.evaluation) if lexists(dialogue.evaluation) else []
    texts = read_transcript(dialogue.transcript) if lexists(dialogue.transcript) else {}
    for turn in turns:
        if turn.label in VOTED:
            yield _utterance(root, dialogue, turn, texts.get(turn.id))
    for name in texts.keys() - {turn.id for turn in turns}:
        yield Issue(name, "no-labels", _lacks(root, dialogue.evaluation))


def _utterance(root: Path, dialogue: Dialogue, turn: Turn, text: str | None) -> Utterance | Issue:
    if text is None:
        return Issue(turn.id, "no-text", _lacks(root, dialogue.transcript))
    letter = turn.id[-4]
    left = letter == turn.id[5]
    utterance = Utterance(
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
    return with_plausible_times(utterance, earliest=0.0)


def _lacks(root: Path, path: Path) -> str:
    return f"{_relative(root, path)} has no line for it" if lexists(path) else f"no file {_relative(root, path)}"


def _read_turn(where: str, line: str, dialogue: str) -> Turn:
    summary = _SUMMARY.fullmatch(line.strip())
    if not summary:
        raise CorpusError(f"{where}: found {quoted(line)}, expected {_TURN_LINE}")
    start, end, name, label = summary.groups()
    turn = _TURN.fullmatch(name)
    if "XX" not in name and (not turn or turn[1] != dialogue):
        raise CorpusError(f"{where}: found turn {quoted(name)}, expected one like {dialogue}_F000")
    if label not in VOTED + NOT_KEPT:
        raise CorpusError(f"{where}: found label {quoted(label)}, expected one of {', '.join(VOTED + NOT_KEPT)}")
    return Turn(name, to_number(where, start), to_number(where, end), label)


def _read_votes(where: str, line: str) -> Iterator[Vote]:
    """C lines name emotions, `Anger; Neutral state;`; A lines give levels, some left open, `val 2; act 4; dom  ;`."""
    rater_line = _RATER.match(line)
    if not rater_line:
        raise CorpusError(f"{where}: found rater's line {quoted(line)}, expected one like 'C-E2:<TAB>Anger;<TAB>()'")
    rater, given = rater_line[1], [name.strip() for name in rater_line[2].split(";") if name.strip()]
    for name in given:
        if rater.startswith("C"):
            yield Vote(rater, name, 1.0)
            continue
        level = _LEVEL.fullmatch(name)
        if not level:
            raise CorpusError(f"{where}: found level {quoted(name)}, expected one like 'val 2', 'act 4' or 'dom 3'")
        if level[2]:
            value = float(level[2])
            if not math.isfinite(value):
                raise CorpusError(f"{where}: found level {quoted(name)}, expected a number of 1 to 5")
            yield Vote(rater, LEVELS[level[1]], value)


@dataclass(frozen=True)
class _Media:
    """Dialogue -> its files, wherever they lie, and notes about dialogues with several."""

    videos: dict[str, Path]
    audios: dict[str, Path]
    notes: dict[str, Issue]


def _dialogue(name: str, evaluation: Path | None, transcript: Path | None, media: _Media) -> Dialogue:
    """A file that is not there is named as it should be, beside those that are."""
    folder = next(path.parents[1] for path in (evaluation, transcript) if path)
    return Dialogue(
        name,
        evaluation=evaluation or folder / "EmoEvaluation" / f"{name}.txt",
        transcript=transcript or folder / "transcriptions" / f"{name}.txt",
        video=media.videos.get(name, folder / "avi" / "DivX" / f"{name}.avi"),
        audio=media.audios.get(name, folder / "wav" / f"{name}.wav"),
        notes=(media.notes[name],) if name in media.notes else (),
    )


def _dialog_folders(root: Path) -> list[Path]:
    """The folders that hold EmoEvaluation or transcriptions: root itself, or up to four folders below it."""
    parts = {"EmoEvaluation", "transcriptions"}
    listings = walk(root, DEEP) if root.is_dir() else {}
    folders = [folder for folder, listing in listings.items() if parts.intersection(listing.folders)]
    if not folders:
        here = [name for names in (list_folder(root) if root.is_dir() else ()) for name in names]
        raise CorpusError(
            f"{root}: found {', '.join(sorted(here)[:8]) or 'nothing'}, expected an IEMOCAP release: folders "
            "Session1 ... Session5, each with dialog/EmoEvaluation and dialog/transcriptions"
        )
    return sorted(folders)


def _annotations(root: Path, folders: Iterable[Path], part: str) -> dict[str, Path]:
    """Dialogue -> its file in the folders called `part`. Raises CorpusError where there are two."""
    found: dict[str, Path] = {}
    for path in (path for folder in folders for path in _text_files(folder / part)):
        if path.stem in found:
            one, other = (_relative(root, file) for file in (found[path.stem], path))
            raise CorpusError(
                f"{root}: found {path.stem} in {one} and in {other}, expected it once; give a folder that holds one "
                "copy of the release"
            )
        found[path.stem] = path
    return found


def _media(root: Path, folders: Sequence[Path]) -> _Media:
    """Videos lie anywhere below `avi`; of several that reach equally far, the one in avi/DivX is used."""
    homes = [dialog / "avi" for dialog in folders if (dialog / "avi").is_dir()]
    inside = [folder for home in homes for folder in walk(home, 3)]
    videos = [path for folder in inside for path in with_suffix(folder, *VIDEOS)]
    chosen, notes = one_of_each(
        root, videos, lambda path: path.stem, lambda path: (path.parent.name != "DivX", path.suffix.lower(), path)
    )
    audios = [path for folder in folders for path in with_suffix(folder / "wav", ".wav")]
    return _Media(chosen, {path.stem: path for path in reversed(audios)}, {note.utterance: note for note in notes})


def _text_files(folder: Path, read: bool = True) -> list[Path]:
    """The text files of a folder that are named after a dialogue, or those that are not; never hidden files."""
    return [path for path in with_suffix(folder, ".txt") if bool(_DIALOGUE.fullmatch(path.stem)) == read]


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
