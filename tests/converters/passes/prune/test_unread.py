"""What no forward pass reads goes before channels do; what only looks unread stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

import torchvision  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from converters.models.structure import Structure, apply, difference  # noqa: E402
from converters.passes.prune.structured import PruningInputs, prune_structured  # noqa: E402
from converters.passes.prune.unread import drop_unread, find_unread  # noqa: E402
from converters.recipe.prune import PruneOptions  # noqa: E402


class Several(nn.Module):
    """Heads that are read in every way there is, and two that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.aux = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3))
        self.heads = nn.ModuleList([nn.Linear(16, 3), nn.Linear(16, 3)])
        self.by_weight, self.no_weights = nn.Linear(16, 3), nn.Dropout()

    def forward(self, x: torch.Tensor) -> Any:
        x = torch.relu(self.body(x))
        logits = self.head(x) + self.heads[0](x) + functional.linear(x, self.by_weight.weight)
        return (logits, self.aux(x)) if self.training else logits


class Asked(Several):
    """Asks a head for something else than its weights."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x) * len(self.aux)


class Compiled(nn.Module):
    """Parts of which nobody sees what they call."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts[0](x)


def on(*shape: int) -> Any:
    sample = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return lambda module: module(sample)


def test_what_nothing_reads_is_dropped_and_what_is_read_without_a_call_stays() -> None:
    module, run = Several().eval(), on(2, 8)
    before = run(module)
    assert drop_unread(module, [run]) == {"aux": 83, "heads.1": 51}
    assert module.aux is None
    assert module.heads[1] is None
    assert torch.equal(run(module), before)
    assert drop_unread(module, [run]) == {}, "there is nothing left to drop"


def test_what_any_of_the_runs_reads_stays() -> None:
    class Wide(Several):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) + (
                self.heads[1](torch.relu(self.body(x))) if len(x) > 1 else 0
            )

    assert find_unread(Wide().eval(), [on(1, 8)]) == ["aux", "heads.1"]
    assert find_unread(Wide().eval(), [on(1, 8), on(2, 8)]) == ["aux"]


def test_a_part_that_is_asked_for_something_else_is_put_back() -> None:
    module, run = Asked().eval(), on(2, 8)
    before = run(module)
    assert find_unread(module, [run]) == ["aux", "heads.1"]
    assert drop_unread(module, [run]) == {}
    assert isinstance(module.aux, nn.Sequential)
    assert torch.equal(run(module), before)


def test_a_compiled_part_is_not_looked_into() -> None:
    assert find_unread(Compiled().eval(), [on(2, 8)]) == []


def torchvisions(name: str, seed: int = 0, **args: Any) -> nn.Module:
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, weights=None, init_weights=False, **args).eval()


@pytest.mark.parametrize(
    ("name", "side", "heads"),
    [("googlenet", 64, {"aux1", "aux2"}), ("inception_v3", 96, {"AuxLogits"})],
)
def test_training_heads_of_torchvision_go_as_it_lets_them_go_itself(
    name: str, side: int, heads: set[str]
) -> None:
    module, without = torchvisions(name), torchvisions(name, aux_logits=False)
    run = on(2, 3, side, side)
    assert find_unread(without, [run]) == []
    assert drop_unread(module, [run]).keys() == heads
    assert module.state_dict().keys() == without.state_dict().keys()
    assert module.aux_logits is False


def test_a_pruned_model_without_its_training_heads_is_built_again_from_data(tmp_path: Path) -> None:
    module, runs = torchvisions("googlenet"), PruningInputs(on(2, 3, 64, 64), on(1, 3, 64, 64))
    drop_unread(module, [runs.best])
    smaller, removed = prune_structured(module, PruneOptions(structured=0.3), runs)
    assert removed.left == pytest.approx(0.7, abs=0.02)
    difference(torchvisions("googlenet", 1), smaller).save(tmp_path)
    structure = Structure.load(tmp_path)
    assert structure.dropped == ["aux1", "aux2"]
    again = torchvisions("googlenet", 2)
    apply(structure, again)
    again.load_state_dict(smaller.state_dict())
    with torch.no_grad():
        assert torch.equal(runs.example(again), runs.example(smaller))
