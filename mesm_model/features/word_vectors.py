"""Vectors of words: `glove`, cut down from a GloVe file; `hash` and `svd`, which need no file. And tables of them.

A table is text, as GloVe's own files are: a word a line, then its numbers. What a dataset needs of a 5 GB file is
written in that form too, so it can be passed on and given again.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from mesm_data.errors import DataError
from mesm_data.files import write_text
from mesm_data.splits.stats import words

SIZE = 300  # as the paper's GloVe vectors
WINDOW = 4  # words to each side that svd counts as company
RARE = 2  # svd: a word must be there so often in the training part
NGRAMS = (3, 4, 5)  # letters of the pieces of a word that hash looks at

Table = Mapping[str, np.ndarray]  # word -> float32 [size]


def rows(text: str, table: Table, size: int) -> np.ndarray:
    """A row for each word of a text, float32 [words, size]; 0 for a word that the table has not, in no spelling."""
    found = [_look_up(word, table) for word in _tokens(text)]
    nothing = np.zeros(size, np.float32)
    return np.stack([nothing if row is None else row for row in found]) if found else np.zeros((0, size), np.float32)


def coverage(texts: Iterable[str], table: Table) -> float:
    """The share of all words of these texts that the table has."""
    known = [_look_up(word, table) is not None for text in texts for word in _tokens(text)]
    return sum(known) / max(len(known), 1)


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Every word of these texts, in every spelling that is looked for, sorted."""
    return sorted({spelling for text in texts for word in _tokens(text) for spelling in (word, word.lower())})


def hashed(vocabulary: Iterable[str], size: int = SIZE) -> Table:
    """A vector that follows from the word's letters alone, its pieces included, so that "happy" is near "happily"."""
    return {word: _hashed(word, size) for word in sorted({word.lower() for word in vocabulary})}


def factorised(texts: Iterable[str], size: int = SIZE) -> Table:
    """Words that keep the same company in these texts get vectors that are near each other.

    Positive pointwise mutual information of a word and its neighbours, and the directions in which it differs most
    (Levy and Goldberg 2014). Give it the training part only. Texts with fewer words than `size` leave the rest 0.
    """
    sentences = [[word.lower() for word in _tokens(text)] for text in texts]
    counted = Counter(word for sentence in sentences for word in sentence)
    kept = sorted(word for word, count in counted.items() if count >= RARE)
    information = _company(sentences, {word: n for n, word in enumerate(kept)})
    rank = min(size, len(kept) - 1)
    vectors = np.zeros((len(kept), size))
    if rank > 0 and information.nnz:
        left, strength, _ = svds(information, rank, v0=np.ones(len(kept)))
        left, strength = left[:, ::-1], strength[::-1]
        signs = np.sign(np.take_along_axis(left, np.abs(left).argmax(0)[None], 0))
        vectors[:, :rank] = left * np.where(signs == 0, 1, signs) * np.sqrt(strength)
    return dict(zip(kept, vectors.astype(np.float32), strict=True))


def read_table(path: Path, wanted: Collection[str] | None = None) -> tuple[Table, int]:
    """The vectors of the `wanted` words, or of all, and their size. Raises DataError for what is no such file.

    Only lines of wanted words are parsed: 2.2 million lines of GloVe take about a minute.
    """
    chosen = None if wanted is None else {word.encode() for word in wanted}
    table: dict[str, np.ndarray] = {}
    size = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                size = _size(path, line)
                if _is_heading(line):
                    continue
            if chosen is not None and line.partition(b" ")[0] not in chosen:
                continue
            word, *values = line.rstrip().rsplit(b" ", size)  # a few of GloVe's words have spaces in them
            if chosen is not None and word not in chosen:
                continue
            table.setdefault(word.decode(), _vector(f"{path}:{number}", values, size))
    if not size:
        raise DataError(f"{path}: empty, expected a word and its numbers on each line, as in glove.840B.300d.txt")
    return table, size


def write_table(path: Path, table: Table) -> None:
    """Five digits a number."""
    lines = (f"{word} {' '.join(f'{value:.5g}' for value in vector)}\n" for word, vector in table.items())
    write_text(path, "".join(lines))


@lru_cache(maxsize=100_000)
def _tokens(text: str) -> tuple[str, ...]:
    """A text is looked at three times: for its words, for their vectors, and to count them."""
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


def _company(sentences: list[list[str]], index: Mapping[str, int]) -> csr_array:
    """Positive pointwise mutual information of every two words that stand near each other, [words, words]."""
    pairs: Counter[tuple[int, int]] = Counter()
    for sentence in sentences:
        at = [index[word] for word in sentence if word in index]
        for place, one in enumerate(at):
            for other in at[place + 1 : place + 1 + WINDOW]:
                pairs[one, other] += 1
                pairs[other, one] += 1
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    counts = np.array(list(pairs.values()), float)
    total = np.bincount(ends[:, 0], counts, len(index))
    information = np.log(counts * counts.sum() / (total[ends[:, 0]] * total[ends[:, 1]])).clip(min=0)
    return csr_array((information, (ends[:, 0], ends[:, 1])), shape=(len(index), len(index)))


def _size(path: Path, line: bytes) -> int:
    """How many numbers a word has, by the first line."""
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
    """word2vec's text files begin with the number of words and the size."""
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _vector(where: str, values: list[bytes], size: int) -> np.ndarray:
    try:
        vector = np.array([float(value) for value in values], np.float32)
    except ValueError:
        vector = np.zeros(0, np.float32)
    if len(vector) != size or not np.isfinite(vector).all():
        raise DataError(f"{where}: found {len(values)} fields behind the word, expected {size} numbers")
    return vector
