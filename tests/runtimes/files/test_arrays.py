"""Arrays from elsewhere: nothing is unpickled, waited for, or larger than its file."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtimes.files.arrays import read_npy, read_npz
from tests.security.forgery import Payload

DTYPES = st.sampled_from(["<f4", ">f8", "<f2", "i8", "u1", "?", "<c8", "<U3"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, min_side=0, max_side=4)), st.booleans()
)
def test_it_reads_what_numpy_writes(
    tmp_path: Path, array: np.ndarray[Any, Any], columns_first: bool
) -> None:
    np.save(tmp_path / "a.npy", np.array(array, order="F" if columns_first else "C"))
    back = read_npy(tmp_path / "a.npy")
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    np.savez(tmp_path / "a.npz", a=array, b=array)
    assert [entry.tobytes() for entry in read_npz(tmp_path / "a.npz").values()] == [
        array.tobytes()
    ] * 2


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", bytes(8)),
            "and the file 8",
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"),
            "and the file 0",
        ),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}"),
            "and the file 0",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(8)), "shape"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"N."), "objects of Python"),
        (npy("{'descr': '<f4'}", bytes(8)), "keys"),
        (npy("(" * 500 + ")" * 500, bytes(8)), "header"),
        (npy("1", version=9), "version"),
        (b"PK\x03\x04", "magic"),
        (b"", "EOF"),
        (b"\x93NUMPY", "EOF"),
    ],
    ids=range(11),
)
@pytest.mark.timeout(30)
def test_headers_that_lie(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_npy(tmp_path / "a.npy")


def test_a_pickle_in_either_file_is_not_read(tmp_path: Path, marker: Path) -> None:
    objects = np.array([Payload(marker)], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.ones(2), b=objects)
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("a.npy", pickle.dumps(Payload(marker)))
    with pytest.raises(ValueError, match="objects of Python"):
        read_npy(tmp_path / "a.npy")
    for name in ("a.npz", "raw.npz"):
        with pytest.raises(ValueError, match=r"pickle"):
            read_npz(tmp_path / name)
    assert not marker.exists()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once an attack has worked."""
    return tmp_path / "the_attack_worked"


def test_what_is_no_npz_is_a_value_error(tmp_path: Path) -> None:
    plain = io.BytesIO()
    np.save(plain, np.ones(3))
    for content in (b"", b"PK\x05\x06" + bytes(18), b"PK\x03\x04", plain.getvalue(), b"text"):
        (tmp_path / "a.npz").write_bytes(content)
        try:
            assert read_npz(tmp_path / "a.npz") == {}
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize("read", [read_npy, read_npz])
@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "a")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("a", "link"):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / name)
