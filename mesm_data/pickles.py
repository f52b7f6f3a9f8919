"""Pickles from elsewhere, read without running what is in them: containers, strings, numbers; arrays if asked for."""

import pickle
from pathlib import Path
from typing import Any

from mesm_data.errors import CorpusError

# What numpy writes arrays and numbers as, before and since its second version. None of these runs a program.
_ARRAYS = {
    (f"{core}.{module}", name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

# What the standard library says that a broken pickle may raise.
_NO_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)


def read_pickle(path: Path, arrays: bool = False) -> Any:
    """What the file holds; `arrays` admits numpy's. Raises CorpusError for anything else, and for what is no pickle."""
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, arrays).load()
    except _NO_PICKLE as error:
        kinds = "dicts, lists, strings, numbers and arrays" if arrays else "dicts, lists, strings and numbers"
        raise CorpusError(f"{path}: {error}; expected a pickle of plain {kinds}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Containers, strings and numbers need no class; a pickle that asks for one may run any program."""

    def __init__(self, file: Any, arrays: bool) -> None:
        super().__init__(file, encoding="latin1" if arrays else "ASCII")  # Python 2 wrote arrays so
        self.arrays = arrays

    def find_class(self, module: str, name: str) -> Any:
        if self.arrays and (module, name) in _ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
