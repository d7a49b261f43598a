"""Tensors without plain values are named, whatever file they come in."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from converters.sources.kinds import unusual_kind
from converters.sources.weights import WeightsError, read_state
from tests.irregular import make_irregular


def kinds() -> dict[str, torch.Tensor]:
    ones = torch.ones(4, 4)
    return {
        "meta": torch.empty(4, 4, device="meta"),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "quantized": torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
        "sparse_coo": ones.to_sparse(),
        "sparse_csr": ones.to_sparse_csr(),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(kinds()))
def test_a_tensor_without_plain_values_is_named_with_its_file(tmp_path: Path, kind: str) -> None:
    assert str(unusual_kind(kinds()[kind])).startswith(kind)
    torch.save({"body": torch.ones(2), "odd.weight": kinds()[kind]}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth: ") as caught:
        read_state(tmp_path / "net.pth")
    assert f"odd.weight is a {kind}" in str(caught.value) or "would run code" in str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64]
)
def test_plain_values_of_any_type_are_usual(dtype: torch.dtype) -> None:
    assert unusual_kind(torch.ones(2).to(dtype)) is None


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E8M0", "Q4_0", "", "X" * 100_000])
def test_types_of_safetensors_without_plain_values_are_refused(tmp_path: Path, dtype: str) -> None:
    header = json.dumps({"w": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    try:
        state = read_state(path)
    except WeightsError as error:
        assert str(error).startswith(f"{path}: ")
        assert len(str(error)) < 1000
    else:
        assert unusual_kind(state["w"]) is None


@pytest.mark.parametrize("suffix", [".pth", ".pt2", ".safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder"])
@pytest.mark.timeout(30)
def test_weights_that_are_no_file_are_not_waited_for(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    path = make_irregular(tmp_path / f"net{suffix}", kind)
    with pytest.raises(
        WeightsError, match=rf"net\{suffix} cannot be read: (not a regular|Is a dir)"
    ):
        read_state(path)
