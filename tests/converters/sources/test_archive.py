"""Layout of checkpoints: files of torch and safetensors pass, other bytes are refused."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from converters.sources.archive import ArchiveError, check_safetensors, check_zip

states = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=10),
    st.lists(st.integers(0, 3), max_size=3).map(torch.ones),
    max_size=5,
)


@given(states)
def test_what_torch_saves_is_a_checkpoint(state: dict[str, torch.Tensor]) -> None:
    file = io.BytesIO()
    torch.save(state, file)
    assert check_zip(file) == "checkpoint"


@given(states.filter(lambda state: "__metadata__" not in state))
def test_what_safetensors_saves_passes(state: dict[str, torch.Tensor]) -> None:
    check_safetensors(io.BytesIO(save(state, {"format": "pt"})))


def test_programs_are_told_apart() -> None:
    module, scripted, exported = nn.Linear(2, 2), io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(module), scripted)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 2),)), exported)
    assert check_zip(scripted) == "torchscript"
    assert check_zip(exported) == "exported"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(content: bytes) -> None:
    for check in (check_zip, check_safetensors):
        with pytest.raises(ArchiveError) as caught:
            check(io.BytesIO(content))
        assert str(caught.value)


@given(states, st.data())
def test_any_end_that_is_cut_off_is_missed(
    state: dict[str, torch.Tensor], data: st.DataObject
) -> None:
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    with pytest.raises(ArchiveError):
        check_zip(io.BytesIO(content[: data.draw(st.integers(0, len(content) - 1))]))
