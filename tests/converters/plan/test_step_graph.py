"""The graph of a recipe's steps: artifacts share the steps they have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from converters.plan.step_graph import StepGraph
from converters.steps.key import first_key, step_parts

Write = Callable[..., Path]

RECIPE = """
model: python:net:build
weights: random:0
inputs: {x: {shape: [batch, 3, 8, 8]}}
dims: {batch: {min: 1, max: 4}}
data: {calibration: {random: 0, samples: 8}}
artifacts:
"""


@pytest.fixture
def steps(write: Write) -> Callable[[str], StepGraph]:
    """The steps of a recipe with these artifacts."""

    def of(artifacts: str) -> StepGraph:
        lines = "".join(f"  {line}\n" for line in artifacts.splitlines())
        plan = load_recipe(write(RECIPE + lines, "net.yaml"))
        return StepGraph.of(plan, source_of(plan))

    return of


def needs(steps: StepGraph) -> dict[str, tuple[str, ...]]:
    return {name: step.needs for name, step in steps.by_name.items()}


def test_each_step_comes_after_those_that_it_needs(steps: Callable[[str], StepGraph]) -> None:
    graph = steps(
        "torchscript: {}\nvino: {format: openvino, passes: [{prune: {structured: 0.3}}, {quantize: int8}]}"
    )
    before: set[str] = set()
    for name, step in graph.by_name.items():
        assert set(step.needs) <= before, name
        before.add(name)
    key = graph.chains["vino"].model.key
    assert needs(graph) == {
        "load": (),
        "torchscript": ("load",),
        f"prune-{key}": ("load",),
        f"study-{key}": ("load", f"prune-{key}"),
        f"graph-auto-opset20-{key}": (f"prune-{key}", f"study-{key}"),
        "vino-quantize": (f"graph-auto-opset20-{key}", f"study-{key}"),
        "vino": (f"study-{key}", "vino-quantize"),
    }


def test_a_plain_onnx_artifact_is_the_graph_of_the_others(
    steps: Callable[[str], StepGraph],
) -> None:
    graph = steps("vino: {format: openvino}\nolder: {format: openvino, opset: 18}\nonnx: {}")
    assert graph.by_name["vino"].needs == ("load", "onnx")
    assert graph.by_name["older"].needs == ("load", "graph-auto-opset18")


def test_one_quantization_serves_all_that_ask_for_the_same(
    steps: Callable[[str], StepGraph],
) -> None:
    quantized = "passes: [{quantize: int8}]"
    budget = "passes: [{quantize: {to: int8, max_drop: 5, metric: sqnr}}]"
    graph = steps(
        f"a: {{format: onnx, {quantized}}}\nb: {{format: openvino, {quantized}}}\n"
        f"c: {{format: onnx, {budget}}}\nd: {{format: openvino, {budget}}}"
    )
    assert {name: chain.quantize for name, chain in graph.chains.items()} == {
        "a": "a-quantize",
        "b": "a-quantize",
        "c": "c-quantize",
        "d": "d-quantize",  # a budget is measured in an engine
    }


def test_steps_that_measure_time_run_alone(steps: Callable[[str], StepGraph]) -> None:
    graph = steps(
        "a: {format: onnx, passes: [{quantize: int8}]}\n"
        "b: {format: onnx, passes: [{prune: {structured: 0.3}}, {quantize: {to: int8, max_drop: 5, metric: sqnr}}]}"
    )
    assert {name for name, step in graph.by_name.items() if step.alone} == {
        f"prune-{graph.chains['b'].model.key}",
        "b-quantize",
    }


def test_only_passes_that_train_depend_on_the_data(write: Write) -> None:
    def key(passes: str, data: str, kind: str) -> str:
        text = RECIPE.replace("{random: 0, samples: 8}", data) + f"  onnx: {{passes: {passes}}}\n"
        plan = load_recipe(write(text, "net.yaml"))
        steps = StepGraph.of(plan, source_of(plan)).by_name
        step = next(step for name, step in steps.items() if name.startswith(kind))
        return first_key(step_parts(step, {}))

    few, more = "{random: 0, samples: 8}", "{random: 0, samples: 16}"
    prune, taylor = (
        "[{prune: {structured: 0.3}}]",
        "[{prune: {structured: 0.3, importance: taylor}}]",
    )
    assert key(prune, few, "prune") == key(prune, more, "prune")
    assert key(taylor, few, "prune") != key(taylor, more, "prune")
    assert key("[{recover: logits}]", few, "recover") != key("[{recover: logits}]", more, "recover")


def test_portable_formats_do_not_depend_on_the_machine(steps: Callable[[str], StepGraph]) -> None:
    graph = steps(
        "torchscript: {}\nonnx: {}\nfast: {format: onnx, optimize: all}\nvino: {format: openvino}"
    )
    assert {name for name, step in graph.by_name.items() if not step.machine} == {
        "torchscript",
        "onnx",
    }


def test_an_artifact_may_have_the_name_of_a_step(steps: Callable[[str], StepGraph]) -> None:
    graph = steps("load: {format: torchscript}")
    assert graph.chains["load"].export == "load-artifact"
    assert graph.by_name["load-artifact"].needs == ("load",)


def test_the_key_of_a_step_follows_its_dependencies(steps: Callable[[str], StepGraph]) -> None:
    def key(artifacts: str, name: str) -> str:
        return first_key(step_parts(steps(artifacts).by_name[name], {}))

    plain = key("onnx: {}", "onnx")
    assert key("onnx: {opset: 20}", "onnx") == plain, "a default that is written out"
    assert key("other: {format: onnx}", "other") == plain, "its name is no part of it"
    assert key("onnx: {gates: {noise: 5}}", "onnx") == plain, "gates judge, and change no file"
    assert key("onnx: {opset: 19}", "onnx") != plain


def test_artifacts_may_have_the_names_of_steps(steps: Callable[[str], StepGraph]) -> None:
    graph = steps(
        "onnx: {passes: [{quantize: int8}]}\nonnx-quantize: {format: onnx, opset: 18}\n"
        "graph-auto-opset20: {format: torchscript}\nload: {format: torchscript, method: trace}"
    )
    assert len({chain.export for chain in graph.chains.values()}) == 4
    for name, chain in graph.chains.items():
        assert graph.by_name[chain.export].description == f"exporting {name}"
        assert graph.by_name[chain.export].result.__name__ == "Exported"


def test_another_folder_of_torchvisions_weights_is_a_dependency(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(weights: str) -> str:
        text = RECIPE.replace("python:net:build", "torchvision:resnet18").replace(
            "random:0", weights
        )
        plan = load_recipe(write(f"{text}  torchscript: {{}}\n", "net.yaml"))
        return first_key(step_parts(StepGraph.of(plan, source_of(plan)).by_name["load"], {}))

    monkeypatch.delenv("TORCH_HOME", raising=False)
    before = {weights: loading(weights) for weights in ("random:0", "DEFAULT")}
    monkeypatch.setenv("TORCH_HOME", "/elsewhere")
    assert loading("random:0") == before["random:0"]
    assert loading("DEFAULT") != before["DEFAULT"]


def test_steps_that_run_side_by_side_can_be_told_apart(steps: Callable[[str], StepGraph]) -> None:
    graph = steps(
        "torchscript: {}\n"
        "onnx: {}\n"
        "half: {format: onnx, passes: [{prune: {structured: 0.5}}, {quantize: int8}]}\n"
        "third: {format: openvino, passes: [{prune: {structured: 0.3}}, {quantize: int8}]}"
    )
    descriptions = [step.description for step in graph.by_name.values()]
    assert len(set(descriptions)) == len(descriptions)
    assert "pruning the model for half" in descriptions
    assert "studying the model for third" in descriptions
