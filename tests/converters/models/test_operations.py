"""Multiply-adds: in total and by module as arithmetic gives them; the module is not changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torchvision.models import VisionTransformer, resnet18  # noqa: E402

from converters.models.attention import replace_attentions  # noqa: E402
from converters.models.facts import study  # noqa: E402
from converters.models.operations import Run, count  # noqa: E402
from converters.passes.prune.cost.cost import mac_costs  # noqa: E402
from runtimes.spec import TensorSpec  # noqa: E402
from runtimes.validator.probes import synthetic_probes  # noqa: E402

SIDE, PATCH, LAYERS, HEADS, WIDTH, INNER, CLASSES = 32, 8, 2, 4, 64, 96, 10
TOKENS = (SIDE // PATCH) ** 2 + 1


def vit() -> nn.Module:
    """A vision transformer whose numbers are small and all different."""
    torch.manual_seed(0)
    return VisionTransformer(SIDE, PATCH, LAYERS, HEADS, WIDTH, INNER, num_classes=CLASSES).eval()


def by_hand() -> int:
    """Add up the patches; per layer the projections, attention and two linear layers; the head."""
    patches = (TOKENS - 1) * 3 * PATCH**2 * WIDTH
    attention = TOKENS * 4 * WIDTH**2 + 2 * TOKENS**2 * WIDTH
    return patches + LAYERS * (attention + 2 * TOKENS * WIDTH * INNER) + WIDTH * CLASSES


def on_pictures(count: int = 1, side: int = SIDE) -> Run:
    picture = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    return lambda module: module(picture)


class Looking(nn.Module):
    """Looks at a value, which the meta device has not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) if float(x.sum()) < 1e9 else x


def test_attention_is_counted_whatever_kernel_runs_it() -> None:
    assert count(vit(), on_pictures()).total == by_hand()
    assert count(vit(), on_pictures(3)).total == 3 * by_hand()


def test_a_model_that_looks_at_values_is_counted_on_the_cpu_to_the_same_number() -> None:
    plain, looking = count(vit(), on_pictures()), count(Looking(vit()), on_pictures())
    assert looking.total == plain.total == by_hand()
    in_plain = {f"inner.{name}": macs for name, macs in plain.modules.items() if macs}
    assert in_plain == {name: macs for name, macs in looking.modules.items() if macs}
    assert torch.backends.mha.get_fastpath_enabled(), "as it was before"


@pytest.mark.parametrize("looking", [False, True])
def test_modules_add_up_to_the_total(looking: bool) -> None:
    for module, side in ((vit(), SIDE), (resnet18().eval(), 64)):
        replace_attentions(module)
        operations = count(Looking(module) if looking else module, on_pictures(side=side))
        assert sum(operations.modules.values()) == operations.total
        counted = [
            name.removeprefix("inner.")
            for name, module_macs in operations.modules.items()
            if module_macs
        ]
        assert len({type(module.get_submodule(name)) for name in counted}) >= 2


def test_the_costs_of_layers_add_up_to_the_total_of_a_transformer() -> None:
    module = vit()
    replace_attentions(module)
    costs = mac_costs(module, on_pictures())
    assert costs.total == by_hand()
    assert sum(layer(1, 1) for layer in costs.layers.values()) == by_hand()
    attention = costs.layers["encoder.layers.encoder_layer_0.self_attention"](1, 1)
    assert attention == TOKENS * 3 * WIDTH**2 + 2 * TOKENS**2 * WIDTH, (
        "its output projection is a layer itself"
    )


def test_facts_count_two_operations_for_a_multiply_add() -> None:
    inputs = {"image": TensorSpec(shape=(1, 3, SIDE, SIDE))}
    module = vit()
    nn.init.normal_(module.get_submodule("heads.head").weight)  # type: ignore[arg-type]
    facts, _ = study(module, inputs, {}, synthetic_probes(inputs, {}), None, "classification")
    assert facts.flops == 2 * by_hand()


def test_the_state_of_a_forward_pass_does_not_change_the_module() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.kept = nn.Linear(4, 4), torch.ones(4)
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            result = self.layer(x) + self.kept + self.seen
            self.kept = result.detach()[0]
            return result

    module = Keeping().eval()
    state = copy.deepcopy(module.state_dict())
    assert count(module, lambda module: module(torch.zeros(2, 4))).total == 2 * 4 * 4
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(module.kept, torch.ones(4))
    assert not module._forward_hooks


def test_inputs_by_name_and_layers_that_are_used_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.again = self.layer

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
            return {"y": self.layer(left) + self.again(right)}

    inputs = {"right": torch.zeros(1, 8), "left": torch.zeros(1, 8)}
    operations = count(Twice(), lambda module: module(**inputs))
    assert (operations.total, operations.modules["layer"]) == (128, 128)


def test_a_compiled_part_is_counted_with_what_calls_it() -> None:
    module = nn.Sequential(nn.Linear(4, 6), torch.jit.script(nn.Linear(6, 3)))
    operations = count(module, lambda module: module(torch.zeros(2, 4)))
    assert (operations.total, operations.modules["0"], sum(operations.modules.values())) == (
        84,
        48,
        84,
    )


def test_a_forward_pass_that_fails_everywhere_fails_as_it_does() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        count(nn.Linear(4, 4), lambda module: module(torch.zeros(1, 5)))
