"""The gate reads what the exporter listed, and what the engine says that it executed."""

from __future__ import annotations

from typing import Any

from runtimes.artifact.artifact import Manifest
from runtimes.precision.gate import precision_gate
from runtimes.precision.judge import ComputingLayer, Work
from runtimes.spec import TensorSpec
from tests.runtimes.validator.gates.manifests import manifest_of

PASSES = [{"quantize": {"options": {"mode": "dynamic"}}}]


def manifest(*layers: ComputingLayer, passes: Any = PASSES, **build: Any) -> Manifest:
    work = Work.of(layers, "int8").for_build()
    counts: dict[str, int] = {}
    for layer in layers:
        counts[layer.precision] = counts.get(layer.precision, 0) + 1
    entries = {"work": work, "compute_layers": counts, "passes": passes, **build}
    spec = {"logits": TensorSpec(shape=(2, 10))}
    return manifest_of(spec, spec, precision="int8", build=entries)


WEIGHTED = ComputingLayer("a", "a", "linear", "int8", 100)
COMPUTED = ComputingLayer("b", "b", "product", "fp32", 300)


def test_attention_under_dynamic_is_float_by_design() -> None:
    result = precision_gate(manifest(WEIGHTED, COMPUTED), None)
    assert result.ok
    assert result.detail == (
        "25.0% of the multiply-adds in int8 (1 of 2 layers); "
        "float by design: products of computed values (1)"
    )


def test_layers_that_were_listed_for_another_precision_prove_nothing() -> None:
    """A float32 artifact whose manifest calls it int8: all of its layers are as fp32 asks for them."""
    work = Work.of([WEIGHTED], "fp32").for_build()
    listed = manifest(work={**work, "layers": 3, "others": []}, compute_layers={"fp32": 3})
    result = precision_gate(listed, None)
    assert not result.ok
    assert result.detail == "computing layers: 3 fp32; required int8"


def test_an_engine_that_executes_other_layers_is_held_to_their_number() -> None:
    listed = manifest(WEIGHTED, COMPUTED)
    assert precision_gate(listed, {"int8": 1, "fp32": 1}).ok
    result = precision_gate(listed, {"fp32": 2})
    assert not result.ok
    assert result.detail == "computing layers: 2 fp32 (1 float by design); required int8"


def test_a_manifest_cannot_name_a_kind_that_is_not_in_the_table() -> None:
    build = {"precision": "int8", "layers": 1, "multiply_adds": 1, "others": []}
    other = {"name": "x", "layer": "x", "kind": "free", "precision": "fp32", "multiply_adds": 1}
    counts = {"int8": 1, "fp32": 1}
    listed = manifest(WEIGHTED, work={**build, "others": [other]}, compute_layers=counts)
    result = precision_gate(listed, None)
    assert not result.ok, "it is judged by the number of layers"
