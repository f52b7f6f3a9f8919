"""Vectors of words: `glove`, cut down from a GloVe file, and `hash`, which needs no file.

A table is text, as GloVe's own files are: one word per line and its numbers. What a dataset needs of a 5 GB file is
written in that form too, so that it can be shared and given again.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from mesm_data.errors import DataError
from mesm_data.files import write_text
from mesm_data.splits.stats import words
from mesm_data.state import regular_file

SIZE = 300  # as the paper's GloVe vectors
NGRAMS = (3, 4, 5)  # letters of the pieces of a word, for hash
UTF8_MARK = b"\xef\xbb\xbf"  # which Windows writes first

Table = Mapping[str, np.ndarray]  # word -> float32 [size]


def rows(text: str, table: Table, size: int) -> np.ndarray:
    """A row per word of a text, float32 [words, size]; zeros for a word that the table lacks, also in small letters."""
    found = [_look_up(word, table) for word in _tokens(text)]
    nothing = np.zeros(size, np.float32)
    return np.stack([nothing if row is None else row for row in found]) if found else np.zeros((0, size), np.float32)


def coverage(texts: Iterable[str], table: Table) -> float:
    """The share of all words of these texts that the table has."""
    known = [_look_up(word, table) is not None for text in texts for word in _tokens(text)]
    return sum(known) / max(len(known), 1)


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Every word of these texts, as written and in small letters, sorted."""
    return sorted({spelling for text in texts for word in _tokens(text) for spelling in (word, word.lower())})


def hashed(vocabulary: Iterable[str], size: int = SIZE) -> Table:
    """Vectors from the letters of each word and of its pieces alone, so that "happy" is near "happily"."""
    return {word: _hashed(word, size) for word in sorted({word.lower() for word in vocabulary})}


def read_table(path: Path, wanted: Collection[str] | None = None) -> tuple[Table, int]:
    """The vectors of the `wanted` words, or of all, and their size. Raises DataError for a file of another kind.

    Only lines of wanted words are parsed: 2.2 million lines of GloVe take about a minute.
    """
    if found := regular_file(path):
        raise DataError(f"{path}: found {found}, expected a file")
    chosen = None if wanted is None else {word.encode() for word in wanted}
    table: dict[str, np.ndarray] = {}
    size = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(UTF8_MARK)
                size = _size(path, line)
                if _is_heading(line):
                    continue
            if chosen is not None and line.partition(b" ")[0] not in chosen:
                continue
            word, *values = line.rstrip().rsplit(b" ", size)  # a few of GloVe's words have spaces in them
            if chosen is not None and word not in chosen:
                continue
            table.setdefault(_decoded(f"{path}:{number}", word), _vector(f"{path}:{number}", values, size))
    if not size:
        raise DataError(f"{path}: empty, expected a word and its numbers on each line, as in glove.840B.300d.txt")
    return table, size


def write_table(path: Path, table: Table) -> None:
    """Write the table, five digits per number."""
    lines = (f"{word} {' '.join(f'{value:.5g}' for value in vector)}\n" for word, vector in table.items())
    write_text(path, "".join(lines))


@lru_cache(maxsize=100_000)
def _tokens(text: str) -> tuple[str, ...]:
    """The words of a text; each text is split three times: for the vocabulary, the vectors and the coverage."""
    return tuple(words(text))


def _look_up(word: str, table: Table) -> np.ndarray | None:
    return table.get(word, table.get(word.lower()))


def _hashed(word: str, size: int) -> np.ndarray:
    marked = f"<{word}>"
    pieces = {marked[at : at + n] for n in NGRAMS for at in range(len(marked) - n + 1)} - {marked}
    whole = _signs(marked, size)
    if not pieces:
        return whole
    together = np.sum([_signs(piece, size) for piece in sorted(pieces)], axis=0) / np.sqrt(len(pieces))
    return ((whole + together) / np.sqrt(2)).astype(np.float32)


def _signs(piece: str, size: int) -> np.ndarray:
    """+1 and -1 from the bits of a hash, the same on every machine."""
    digest = hashlib.shake_256(piece.encode()).digest(-(-size // 8))
    return np.unpackbits(np.frombuffer(digest, np.uint8))[:size].astype(np.float32) * 2 - 1


def _size(path: Path, line: bytes) -> int:
    """The number of numbers per word, from the first line."""
    if _is_heading(line):
        return int(line.split()[1])
    size = 0
    for field in reversed(line.rstrip().split(b" ")[1:]):
        try:
            float(field)
        except ValueError:
            break
        size += 1
    if size < 2:
        raise DataError(
            f"{path}:1: found {line[:60]!r}, expected a word and its numbers, as in glove.840B.300d.txt; a zip must be "
            "unpacked first"
        )
    return size


def _is_heading(line: bytes) -> bool:
    """True for the first line of word2vec's text files: the number of words and the size."""
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() and len(field) < 10 for field in fields)


def _decoded(where: str, word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise DataError(f"{where}: found the word {word[:60]!r}, expected UTF-8") from None


def _vector(where: str, values: list[bytes], size: int) -> np.ndarray:
    try:
        vector = np.array([float(value) for value in values], np.float32)
    except ValueError:
        vector = np.zeros(0, np.float32)
    if len(vector) != size or not np.isfinite(vector).all():
        raise DataError(f"{where}: found {len(values)} fields after the word, expected {size} numbers")
    return vector
