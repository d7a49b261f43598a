"""Weights from somebody else: no code of theirs runs, and no file is more than it seems."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from converters.sources.checkpoint import read_state
from tests.security.forgery import ESCAPES, Payload

Refused = Callable[..., str]
Invoke = Callable[..., Any]


def test_the_payload_works_on_who_takes_no_care(marker: Path) -> None:
    pickle.loads(pickle.dumps(Payload(marker)))  # noqa: S301 - or the tests below would prove nothing
    assert marker.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("trust", [False, True], ids=["", "trusted"])
def test_a_pickle_that_writes_a_file_does_not(
    tmp_path: Path, marker: Path, refused: Refused, legacy: bool, trust: bool
) -> None:
    path = tmp_path / "net.pth"
    torch.save(
        {"w": torch.ones(2), "x": Payload(marker)}, path, _use_new_zipfile_serialization=not legacy
    )
    told = refused(read_state, path, trust)
    assert not marker.exists()
    assert "would run code that the file carries" in told


# Zip files that no torch writes


@pytest.fixture
def members(tmp_path: Path) -> list[tuple[str, bytes]]:
    """The members of a checkpoint."""
    torch.save({"w": torch.ones(64)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as archive:
        return [(one.filename, archive.read(one)) for one in archive.infolist()]


Members = list[tuple[str, bytes]]
Zipped = Callable[..., Path]


@pytest.fixture
def zipped(tmp_path: Path) -> Zipped:
    """Writes members as a zip file called net.pth."""

    def write(members: Members, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> Path:
        path = tmp_path / "net.pth"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.comment = comment
            for name, content in members:
                archive.writestr(name, content)
        return path

    return write


def test_members_as_torch_writes_them_are_read(zipped: Zipped, members: Members) -> None:
    assert torch.equal(read_state(zipped(members))["w"], torch.ones(64))


def test_a_bomb_that_inflates_is_refused_and_not_inflated(
    zipped: Zipped, members: Members, refused: Refused
) -> None:
    path = zipped([*members, ("plain/data/9", bytes(200 << 20))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "is compressed, which torch never does" in refused(read_state, path)


def test_a_bomb_in_torchscripts_code_is_refused(tmp_path: Path, refused: Refused) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), str(tmp_path / "plain.pt"))
    path = tmp_path / "net.pt"
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as before,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for one in before.infolist():
            after.writestr(one.filename, before.read(one), one.compress_type)
        with after.open("plain/code/bomb.py", "w") as bomb:
            for _ in range(300):
                bomb.write(bytes(1 << 20))
    assert "a zip bomb" in refused(read_state, path, trust=True)


@pytest.mark.parametrize(
    "name",
    [
        "plain/../../escape",
        "/etc/passwd",
        "plain\\..\\x",
        "C:/x",
        "plain/\x1b[2J",
        "plain//x",
        "plain/" + "a" * 5000,
    ],
)
def test_names_that_are_no_plain_path(
    zipped: Zipped, members: Members, refused: Refused, name: str
) -> None:
    told = refused(read_state, zipped([*members, (name, b"x")]))
    assert "not a plain path" in told or "several folders" in told


@pytest.mark.parametrize("name", ["plain/data.pkl", "plain/DATA.PKL"])
def test_one_name_twice(zipped: Zipped, members: Members, refused: Refused, name: str) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate")
        if name in dict(members)
        else pytest.MonkeyPatch.context()
    ):
        path = zipped([*members, (name, b"x")])
    assert "one name twice" in refused(read_state, path)


def test_members_of_several_folders(zipped: Zipped, members: Members, refused: Refused) -> None:
    assert "several folders" in refused(read_state, zipped([*members, ("other/data.pkl", b"x")]))


def test_a_zip_file_of_something_else(zipped: Zipped, refused: Refused) -> None:
    assert "torch did not write it" in refused(read_state, zipped([("docs/a.txt", b"hello")]))


def test_something_behind_the_end(zipped: Zipped, members: Members, refused: Refused) -> None:
    assert "after its end" in refused(read_state, zipped(members, comment=b"a comment"))
    told = refused(
        read_state, zipped(members, comment=b"PK\x05\x06" + bytes(18))
    )  # another end, in the comment
    assert "does not lie before its end" in told
    path = zipped(members)
    path.write_bytes(path.read_bytes() + b"more")
    assert "after its end" in refused(read_state, path)


def test_something_before_the_start(zipped: Zipped, members: Members, refused: Refused) -> None:
    path = zipped(members)
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())
    assert "damaged, or not a checkpoint" in refused(read_state, path)


def patched(path: Path, magic: bytes, offset: int, value: bytes, nth: int = 0) -> Path:
    """Overwrite bytes of the nth header of a kind."""
    content, at = bytearray(path.read_bytes()), -1
    for _ in range(nth + 1):
        at = content.index(magic, at + 1)
    content[at + offset : at + offset + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("magic", "offset", "value", "words"),
    [
        (b"PK\x01\x02", 8, b"\x01\x00", "is encrypted"),
        (b"PK\x03\x04", 6, b"\x01\x00", "its local header differs from the directory"),
        (b"PK\x03\x04", 8, b"\x08\x00", "its local header differs from the directory"),
        (b"PK\x03\x04", 30, b"other", "its local header differs from the directory"),
        (b"PK\x01\x02", 10, b"\x63\x00", "compressed by the method 99"),
        (b"PK\x01\x02", 24, struct.pack("<L", 1 << 30), "a zip bomb"),
        (b"PK\x01\x02", 20, struct.pack("<2L", 1 << 20, 1 << 20), "overlaps what comes after it"),
        (b"PK\x01\x02", 46, b"\xff\xfe", "not valid UTF-8"),
        (b"PK\x01\x02", 0, b"nope", "damaged"),
        (b"PK\x05\x06", 10, b"\x01\x00", "longer than it says"),
        (b"PK\x05\x06", 10, b"\xff\xff", "damaged, or not a checkpoint"),
        (b"PK\x05\x06", 16, b"\x00\x00\x00\x00", "does not lie before its end"),
        (b"PK\x05\x06", 16, b"\xff\xff\xff\xff", "does not lie before its end"),
    ],
)
def test_headers_that_lie(
    zipped: Zipped,
    members: Members,
    refused: Refused,
    magic: bytes,
    offset: int,
    value: bytes,
    words: str,
) -> None:
    assert words in refused(read_state, patched(zipped(members), magic, offset, value))


def test_members_that_share_their_bytes(zipped: Zipped, members: Members, refused: Refused) -> None:
    """Fifield's bomb: many entries of the directory, one content."""
    path = zipped(members)
    first = path.read_bytes().index(b"PK\x03\x04")
    told = refused(read_state, patched(path, b"PK\x01\x02", 42, struct.pack("<L", first), nth=1))
    assert "overlaps" in told or "by its own header" in told


def test_more_members_than_tensors(tmp_path: Path, refused: Refused) -> None:
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 30, 45, 0, 0, 10**9, 10**9, 0, 4)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 4, 1)
    (tmp_path / "net.pth").write_bytes(
        b"PK\x03\x04" + end + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", *[0] * 7)
    )
    assert "more than 100000 members" in refused(read_state, tmp_path / "net.pth")


def test_names_of_tensors_reach_messages_clean(tmp_path: Path, invoke: Invoke) -> None:
    torch.save({ESCAPES: torch.ones(2)}, tmp_path / "net.pth")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "model: torchvision:resnet18\nweights: net.pth\ninputs: {x: {shape: [1, 3, 8, 8]}}\n"
        "artifacts: {onnx: {}}\n",
        encoding="utf-8",
    )
    result = invoke("convert", recipe, "-o", tmp_path / "out", "--no-speed")
    assert result.exit_code == 2
    assert "unknown to the model: \\x1b]0;owned" in result.stderr


# safetensors


TENSOR = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[%s]}}'
TWO = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'
HUGE = '{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
OVERFLOW = '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors(b"{}", length=1 << 60), "its header is said to have"),
        (safetensors(b" " * (1 << 25)), "its header is said to have"),
        (safetensors(b'{"a":' * 5000), "its header is not valid JSON"),
        (safetensors(b'{"a":1,"a":2}'), "its header is not valid JSON"),
        (safetensors(b"[]"), "its header is not a mapping"),
        (safetensors(TWO.encode(), bytes(6)), "overlaps another"),
        (safetensors(TENSOR.replace("%s", "4,8").encode(), bytes(8)), "or leaves a gap"),
        (safetensors(TENSOR.replace("%s", "0,4").encode(), bytes(8)), "its tensors have 4 bytes"),
        (safetensors(HUGE.encode(), bytes(4)), "its tensors have 4398046511104 bytes"),
        (safetensors(OVERFLOW.encode()), "damaged, or not a safetensors file"),
        (safetensors(b'{"a":{"data_offsets":[true,false]}}'), "has no valid offsets"),
        (safetensors(b'{"a":5}'), "has no valid offsets"),
    ],
    ids=range(12),
)
def test_safetensors_headers_that_lie(
    tmp_path: Path, refused: Refused, content: bytes, words: str
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    assert words in refused(read_state, path)


def test_an_honest_safetensors_file_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3), "empty": torch.ones(0), "b": torch.ones(2, 2).half()}
    (tmp_path / "net.safetensors").write_bytes(save(tensors, {"format": "pt"}))
    assert read_state(tmp_path / "net.safetensors").keys() == tensors.keys()
