"""The same module with flat ends: tensors in order, and a tuple of tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from converters.models.calls.flat import flat


@dataclasses.dataclass
class Result:
    logits: Any
    parts: Any


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.full((3,), 2.0))

    def forward(self, xs: list[torch.Tensor], *, shift: torch.Tensor) -> Result:
        first = self.layer(xs[0]) * self.scale
        return Result(first + shift, {"second": self.layer(xs[1]), "none": None})


NAMES = ["shift", "xs.1", "xs.0"]


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)]


def same(module: nn.Module, flattened: nn.Module) -> bool:
    shift, second, first = inputs()
    expected = module(xs=[first, second], shift=shift)
    logits, part = flattened(shift, second, first)
    return torch.equal(logits, expected.logits) and torch.equal(part, expected.parts["second"])


def test_it_takes_tensors_in_order_and_returns_tensors() -> None:
    module = Structured().eval()
    assert same(module, flat(module, NAMES))


def test_parts_and_parameters_keep_their_paths_and_are_shared() -> None:
    module = Structured().eval()
    flattened = flat(module, NAMES)
    assert [name for name, _ in flattened.named_modules()] == ["", "layer"]
    assert list(flattened.state_dict()) == list(module.state_dict())
    assert flattened.layer is module.layer
    assert type(module) is Structured, "the original stays what it is"
    assert isinstance(flattened, Structured)


def test_a_forward_that_the_instance_has_is_called() -> None:
    module = Structured().eval()
    original = module.forward
    module.forward = lambda xs, *, shift: original([2 * x for x in xs], shift=shift)  # type: ignore[method-assign]
    assert same(module, flat(module, NAMES))


def test_hooks_see_the_arguments_that_forward_has() -> None:
    module, seen = Structured().eval(), list[Any]()
    module.register_forward_pre_hook(
        lambda part, args, kwargs: seen.append(sorted(kwargs)), with_kwargs=True
    )
    assert same(module, flat(module, NAMES))
    assert seen == [["shift", "xs"]] * 2


def test_a_scripted_module() -> None:
    scripted = torch.jit.script(nn.Linear(4, 3)).eval()
    x = torch.randn(2, 4)
    [result] = flat(scripted, ["x"])(x)
    assert torch.equal(result, scripted(x))


@pytest.mark.parametrize("strict", [False, True])
def test_the_exported_program_names_the_users_inputs_and_modules(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        flat(Structured().eval(), NAMES),
        tuple(inputs()),
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        strict=strict,
    )
    assert program.graph_signature.user_inputs == ("shift", "xs_1", "xs_0")
    stacks = [node.meta.get("nn_module_stack", {}) for node in program.graph.nodes]
    paths = {path for stack in stacks for path, _ in stack.values()}
    assert paths == {"", "layer"}
