"""The pass `prune` as a build runs it: what it reports, notes and keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from converters.models.facts import ModelFacts  # noqa: E402
from converters.passes.bench import Bench  # noqa: E402
from converters.passes.prune.cost import latency  # noqa: E402
from converters.passes.prune.run import prepare_pruning  # noqa: E402
from converters.plan.load import load_recipe  # noqa: E402
from converters.plan.plan import source_of  # noqa: E402
from converters.recipe.passes import PassOptions  # noqa: E402
from converters.sources.load import load_model  # noqa: E402
from runtimes.spec import TensorSpec  # noqa: E402

FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3)
        self.head, self.training_head = nn.Linear(64, 5), nn.Linear(64, 5)

    def forward(self, image):
        x = torch.relu(self.second(torch.relu(self.first(image)))).mean((2, 3))
        return (self.head(x), self.training_head(x)) if self.training else self.head(x)
"""

RECIPE = """
model: python:user_heads:Net
inputs: {image: {shape: [batch, 3, 12, 12]}}
dims: {batch: {max: 4}}
task: classification
artifacts: {onnx: {}}
"""


def pruned(tmp_path: Path, **options: Any) -> tuple[Any, dict[str, Any], list[str]]:
    """Return a freshly loaded model after the pass, its report, its notes."""
    (tmp_path / "user_heads.py").write_text(FACTORY, encoding="utf-8")
    (tmp_path / "heads.yaml").write_text(RECIPE, encoding="utf-8")
    plan = load_recipe(tmp_path / "heads.yaml")
    recipe, source = plan.recipe, source_of(plan)
    facts = ModelFacts(
        recipe.inputs, {"logits": TensorSpec(shape=("batch", 5))}, recipe.dims, False, 0, None
    )
    bench = Bench(source, recipe, facts, tmp_path / "models")
    pruning = prepare_pruning(bench, PassOptions.model_validate({"prune": options}))
    result = pruning.apply(load_model(source).module, tmp_path / "checkpoint.pt")
    return result.module, result.report, result.notes


@pytest.mark.parametrize("options", [{"structured": 0.3}, {"unstructured": 0.5}])
def test_parts_that_no_forward_pass_reads_are_left_out_and_counted_apart(
    tmp_path: Path, options: dict[str, float]
) -> None:
    module, report, notes = pruned(tmp_path, **options)
    assert module.training_head is None
    assert report["left_out"] == {"training_head": 325}
    assert (
        notes[1] == "left out training_head (325 parameters): no forward pass in eval mode reads it"
    )
    parameters = (*torch.nn.Conv2d(3, 64, 3).parameters(), *torch.nn.Linear(64, 5).parameters())
    read = sum(parameter.numel() for parameter in parameters)
    assert report["before"]["parameters"] == read + 64 * 64 * 9 + 64, "without what was left out"


def test_more_than_was_requested_is_reported(tmp_path: Path) -> None:
    _, report, notes = pruned(tmp_path, structured=0.1, round_to=32)
    left = report["after"]["macs"] / report["before"]["macs"]
    assert left < 0.85
    assert notes[0].endswith("more than requested, since units go in steps (`round_to: 32`)")
    assert "more than requested" not in pruned(tmp_path, structured=0.3)[2][0]


def test_sizes_of_the_weights_before_and_after_compression_are_reported(tmp_path: Path) -> None:
    _, report, notes = pruned(tmp_path, unstructured=0.8)
    after = report["after"]
    assert (
        f"compressed, their {after['bytes']:,} bytes take {after['compressed_bytes']:,}" in notes[0]
    )


def test_a_latency_is_foretold_and_its_tables_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer takes as long as it has weights here; `test_latency.py` times real engines."""
    monkeypatch.setattr(latency, "Pace", lambda: SimpleNamespace(wait=lambda seconds: (True, 0.0)))
    monkeypatch.setattr(
        latency, "_clock", lambda layer, shape, engine: lambda: float(layer.weight.numel())
    )
    _, report, notes = pruned(tmp_path, structured=0.4, of="latency")
    assert 0.3 < report["latency_left_foretold"] <= 0.61
    assert report["after"]["macs"] < report["before"]["macs"]
    assert notes[0].startswith("pruned 40% of latency: ")
    assert len(list((tmp_path / "latency").iterdir())) == 1
    monkeypatch.setattr(latency, "_clock", lambda *args: pytest.fail("measured again"))
    _, again, _ = pruned(tmp_path, structured=0.4, of="latency")
    assert again == report, "it chooses by the same tables"
