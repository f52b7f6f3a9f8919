"""Pickles from elsewhere, read without running what is in them: containers, strings, numbers; arrays if asked for.

numpy's own unpickling trusts what it is given: a crafted dtype or array state crashes the process. So arrays and their
dtypes are put together here, from plain kinds whose bytes have the size that the shape asks for.
"""

import pickle
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.errors import CorpusError

PLAIN_KINDS = "biufcSU"  # of dtypes: booleans, numbers, texts; objects only as a list of what was read before

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
    RecursionError,
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
        reason = " ".join(str(error).split())[:200]  # some are of several lines
        raise CorpusError(f"{path}: {reason}; expected a pickle of plain {kinds}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Containers, strings and numbers need no class; a pickle that asks for one may run any program."""

    def __init__(self, file: Any, arrays: bool) -> None:
        super().__init__(file, encoding="latin1" if arrays else "ASCII")  # Python 2 wrote arrays so
        self.arrays = arrays

    def find_class(self, module: str, name: str) -> Any:
        if self.arrays and (module.replace("numpy._core", "numpy.core"), name) in _STAND_INS:
            return _STAND_INS[module.replace("numpy._core", "numpy.core"), name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class _Dtype:
    """Stands in for numpy.dtype: plain kinds without fields, subarrays or metadata."""

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        self.dtype = np.dtype(code if isinstance(code, str) else "")  # the type of a text is a text
        if self.dtype.kind not in f"{PLAIN_KINDS}O" or self.dtype.fields or self.dtype.subdtype:
            raise pickle.UnpicklingError(f"it asks for an array of {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """`state` is (version, byte order, subarray, names, fields, item size, alignment, flags, ...)."""
        _, order, subarray, names, fields, *more = state
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("it asks for an array of records")
        if self.dtype.kind in "SU" and more[0] != self.dtype.itemsize:
            raise pickle.UnpicklingError(f"it asks for texts of {more[0]} bytes, expected {self.dtype.itemsize}")
        self.dtype = self.dtype.newbyteorder(order) if order in "<>" else self.dtype


class _Array(np.ndarray):
    """An array that takes no state but one whose bytes have the size of its shape."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """`state` is (version, shape, dtype, Fortran order, bytes, or a list of objects)."""
        _, shape, stand_in, fortran, data = state
        super().__setstate__((1, tuple(shape), _checked(stand_in, shape, data), bool(fortran), data))  # type: ignore[arg-type]


_NDARRAY = object()  # stands in for numpy.ndarray, which only `_reconstruct` takes


def _reconstruct(subtype: object, shape: object, kind: object) -> np.ndarray:
    """An empty array; its state follows."""
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError("it asks for an array of another class")
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(stand_in: object, data: object = b"") -> Any:
    """A number of numpy's."""
    return np.frombuffer(_bytes(data), _checked(stand_in, (), data))[0]


def _frombuffer(data: object, stand_in: object, shape: tuple[int, ...], order: str, *axes: object) -> np.ndarray:
    """An array as protocol 5 stores it."""
    if axes and axes[0] is not None:
        raise pickle.UnpicklingError("it asks for an array with permuted axes")
    dtype = _checked(stand_in, shape, data)
    return np.frombuffer(_bytes(data), dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Bytes, as Python 3 writes them into the old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """As Python 3 writes none into the old protocols."""
    return b""


def _checked(stand_in: object, shape: Any, data: Any) -> np.dtype:
    """The dtype, where the data has the size that it and the shape ask for."""
    if not isinstance(stand_in, _Dtype) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise pickle.UnpicklingError("it has an array without a plain type or shape")
    dtype = stand_in.dtype
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != prod(shape) or not shape:
            raise pickle.UnpicklingError("it has an array of objects that are no list of them")
    elif len(_bytes(data)) != dtype.itemsize * prod(shape):
        raise pickle.UnpicklingError(
            f"it has an array of {len(_bytes(data))} bytes, expected {dtype.itemsize * prod(shape)}"
        )
    return dtype


def _bytes(data: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as a text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it has an array made of a {type(data).__name__}")
    return bytes(data)


# What numpy writes arrays and numbers as, before and since its second version, and what is called in its place.
_STAND_INS: dict[tuple[str, str], Callable[..., Any] | object] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
