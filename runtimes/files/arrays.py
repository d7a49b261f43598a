"""Arrays in .npy and .npz files: nothing is unpickled, and no more is read than the file has."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from runtimes.files.regular import open_regular

Array = np.ndarray[Any, Any]


def read_npy(path: str | Path) -> Array:
    """Return the array of a .npy file, which stays on the disk until it is used (read-only).

    Raises OSError as `open_regular` does, ValueError if it is damaged or holds objects of Python.
    """
    with open_regular(path) as file:
        shape, columns_first, dtype = _header(file)
        start = file.tell()
        size = dtype.itemsize * _count(shape)
        available = file.seek(0, 2) - start
        if size > available:
            raise ValueError(f"its array has {size:,} bytes, and the file {available:,} for it")
        order = "F" if columns_first else "C"
        if not size:
            return np.empty(shape, dtype, order)  # type: ignore[call-overload, no-any-return]
        return np.memmap(file, dtype, "r", start, shape, order)  # type: ignore[call-overload, no-any-return]


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"it has the version {version} of the format, which holds no numbers")
    shape, columns_first, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, which would have to be unpickled")
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return shape, columns_first, dtype


def _count(shape: tuple[int, ...]) -> int:
    count = 1  # not math.prod of NumPy's integers, which wrap around
    for size in shape:
        count *= int(size)
    return count


def read_npz(path: str | Path) -> dict[str, Array]:
    """Return all arrays of a .npz file, which is read whole.

    Raises OSError as `open_regular` does, ValueError if it is damaged or holds objects of Python.
    """
    with open_regular(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, KeyError) as error:
            # the latter three: a .npy file in its place, and members that are no arrays
            raise ValueError(f"it is no .npz file ({error})") from error
        except MemoryError as error:
            raise ValueError(f"an array in it does not fit into memory ({error})") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy gives the bytes of any other member
            raise ValueError(f"{name!r} in it is no array of NumPy, and objects are not unpickled")
    return arrays
