"""What forward() writes is named, and does not leak into what is exported."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import nn

from converters.models.facts import study
from converters.models.runs.state import restore_buffers, snapshot, written
from runtimes.spec import TensorSpec
from runtimes.validator.probes import synthetic_probes


class Window(nn.Module):
    """Keeps what it was given before, in a buffer, a list, or a queue."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.register_buffer("past", torch.zeros(1, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen: list[torch.Tensor] = []
        self.last: deque[torch.Tensor] = deque(maxlen=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.past.clone()
        if self.where == "buffer":
            self.past.copy_(x)
        if self.where == "list":
            before = self.seen[-1] if self.seen else before
            self.seen.append(x)
        if self.where == "queue":
            before = self.last[-1] if self.last else before
            self.last.append(x)
        self.calls += 1
        return x + before


def facts_of(where: str) -> tuple[tuple[str, ...], list[str]]:
    inputs = {"x": TensorSpec(shape=(1, 4))}
    probes = synthetic_probes(inputs, {})
    _, reference = study(Window(where), inputs, {}, probes, None, None)
    return reference.state, reference.notes


@pytest.mark.parametrize(
    ("where", "path"), [("buffer", "past"), ("list", "seen"), ("queue", "last")]
)
def test_a_state_that_answers_depend_on_is_named(where: str, path: str) -> None:
    state, notes = facts_of(where)
    assert path in state
    assert any("two runs differ" in note for note in notes)


def test_a_counter_that_no_answer_depends_on_is_a_note() -> None:
    state, notes = facts_of("nowhere")
    assert state == ()
    assert "forward() writes calls, on which no answer depends" in notes


def test_buffers_are_written_back() -> None:
    module = Window("buffer")
    before = snapshot(module)
    module(torch.ones(1, 4))
    assert written(module, before) == ["past", "calls"]
    restore_buffers(module, before)
    assert written(module, before) == []
