"""Pickles are counted before they are read: a few bytes must not keep a reader busy without end."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters.sources.archive import ArchiveError
from converters.sources.pickles import MOST_LEAVES, check_pickle
from converters.sources.weights import WeightsError, read_state

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3) | st.tuples(st.integers()), inner)
        | st.sets(st.integers() | st.tuples(st.integers(), st.text(max_size=2)))
        | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@given(values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_what_python_pickles_is_followed_to_its_end(value: Any, protocol: int) -> None:
    file = io.BytesIO(pickle.dumps(value, protocol) + b"more")
    check_pickle(file)
    assert file.read() == b"more"


@given(st.binary(max_size=60))
def test_any_bytes_are_a_pickle_or_an_archive_error(content: bytes) -> None:
    try:
        check_pickle(io.BytesIO(content))
    except ArchiveError as error:
        assert str(error)


def doubled(steps: int) -> tuple[Any, ...]:
    """A tuple of 2**steps leaves."""
    value: tuple[Any, ...] = ()
    for _ in range(steps):
        value = (value, value)
    return value


def pickled(steps: int, use: str) -> bytes:
    """A checkpoint that hashes, or would hash, such a tuple. It is never built: nothing could."""
    body = b"\x80\x02}" + b"q\x00" + b")"
    for step in range(1, steps + 1):
        body += b"q" + bytes([step]) + b"h" + bytes([step]) + b"\x86"
    if use == "key":
        return body + b"K\x01s."
    if use == "keys":
        return body.replace(b"q\x00)", b"q\x00()") + b"K\x01u."
    called = {"set": b"c__builtin__\nset\n", "Counter": b"ccollections\nCounter\n"}[use]
    return b"\x80\x02" + called + b"]" + body[5:] + b"a\x85R."


USES = ("key", "keys", "set", "Counter")


@pytest.mark.parametrize("use", USES)
def test_a_few_leaves_are_what_any_reader_takes(use: str) -> None:
    content = pickled(3, use)
    check_pickle(io.BytesIO(content))
    assert pickle.loads(content)  # noqa: S301 - written above


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.timeout(60)
def test_a_key_of_leaves_without_end_is_refused(tmp_path: Path, use: str, legacy: bool) -> None:
    content, path = pickled(26, use), tmp_path / "net.pth"
    assert len(content) < 1200
    if legacy:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in start) + content)
    else:
        torch.save({"w": torch.ones(1)}, tmp_path / "plain.pth")
        with zipfile.ZipFile(tmp_path / "plain.pth") as before, zipfile.ZipFile(path, "w") as after:
            for member in before.infolist():
                name = member.filename
                after.writestr(name, content if name.endswith("data.pkl") else before.read(name))
    with pytest.raises(WeightsError, match=rf"net\.pth: .* more than {MOST_LEAVES:,} parts"):
        read_state(path)


def test_a_million_doublings_cost_nothing() -> None:
    body = b"\x80\x02})" + b"q\x01h\x01\x86" * 20_000 + b"K\x01s."
    with pytest.raises(ArchiveError, match="parts"):
        check_pickle(io.BytesIO(body))


def test_keys_that_are_no_names_are_refused_without_being_shown(tmp_path: Path) -> None:
    torch.save({doubled(12): torch.ones(1)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"with the keys \(a tuple\), no state_dict") as caught:
        read_state(tmp_path / "net.pth")
    assert len(str(caught.value)) < 500


def test_a_whole_training_state_is_far_from_the_limit(tmp_path: Path) -> None:
    module = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(100)))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    for legacy in (False, True):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        assert isinstance(read_state(tmp_path / "a.pth"), dict | OrderedDict)
