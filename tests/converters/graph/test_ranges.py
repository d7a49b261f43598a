"""The range check: what float16 cannot hold stays float32, and what it holds does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from converters.data.uses import some_samples
from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.graph import taps as module
from converters.graph.cast import cast_graph
from converters.graph.ranges import FLOAT16_LIMIT, NEAR, cast_checked, largest_values
from converters.models.examples import Examples
from converters.models.facts import ModelFacts
from converters.plan.load import load_recipe
from runtimes.spec import Arrays, DimRange, TensorSpec

FLOAT = TensorProto.FLOAT
SHAPE = [1, 4, 3]


def graph(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], shape: Sequence[Any] = SHAPE
) -> onnx_ir.Model:
    """A model from `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, FLOAT, shape) for name in ("x", "y")]
    arrays = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in constants.items()
    ]
    proto = helper.make_model(
        helper.make_graph(nodes, "graph", ends[:1], ends[1:], arrays),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def node(
    operator: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], name=name, **attributes)


def scaled(factor: float) -> onnx_ir.Model:
    """Values of about `factor` between `up` and `down`; the layer `calm` never sees them."""
    nodes = [
        node("Mul", ["x", "factor"], "big", "up"),
        node("Relu", ["big"], "same", "between"),
        node("Div", ["same", "factor"], "small", "down"),
        node("MatMul", ["small", "weight"], "y", "calm"),
    ]
    return graph(nodes, {"factor": factor, "weight": np.eye(3)})


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    return ExportJob(
        None, ModelFacts({"x": TensorSpec(shape=tuple(SHAPE))}, {}, {}, False, 0), tmp_path
    )


def noise(seed: int = 5, shape: Sequence[int] = SHAPE) -> Arrays:
    return {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def run(model: onnx_ir.Model, inputs: Arrays) -> np.ndarray[Any, Any]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    result: np.ndarray[Any, Any] = onnxruntime.InferenceSession(
        onnx_ir.to_proto(model).SerializeToString(), settings
    ).run(None, inputs)[0]
    return result


def in_float16(model: onnx_ir.Model, inputs: Arrays) -> np.ndarray[Any, Any]:
    """Run in ONNX's reference: ONNX Runtime's CPU would compute float16 in float32."""
    with np.errstate(all="ignore"):
        result: np.ndarray[Any, Any] = ReferenceEvaluator(onnx_ir.to_proto(model)).run(
            None, inputs
        )[0]
    return result


def test_onnx_runtime_computes_float16_in_float32_on_the_cpu_and_hides_an_overflow() -> None:
    """If this fails, ONNX Runtime has kernels now: the exporter's note on the CPU must change."""
    blind = scaled(1e6)
    cast_graph(blind, "fp16")
    assert np.isfinite(run(blind, noise())).all()


def test_without_the_check_a_large_inner_value_overflows_and_with_it_the_numbers_are_right(
    job: ExportJob,
) -> None:
    exact = run(scaled(1e6), noise())
    blind = scaled(1e6)
    cast_graph(blind, "fp16")
    assert not np.isfinite(in_float16(blind, noise())).all()
    checked = scaled(1e6)
    result = cast_checked(checked, "fp16", job.examples, job.folder)
    assert np.allclose(in_float16(checked, noise()), exact, atol=2e-3)
    assert np.allclose(run(checked, noise()), exact, atol=2e-3)
    ranges = result.report["ranges"]
    assert set(ranges["beyond"]) == {"up", "between", "down"}
    assert ranges["near"] == {}
    assert ranges["beyond"]["up"] == pytest.approx(
        max(np.abs(x["x"]).max() for x in job.some_inputs(8)[1]) * 1e6
    )
    assert result.report["kept_float32"] == {"Mul": 1, "Relu": 1, "Div": 1}
    (note,) = result.notes
    assert note.startswith(
        "3 of 4 nodes stay float32: 3 make or read values beyond float16's 65504, 0 beyond 512"
    )
    assert "8 of seeded noise" in note


def test_what_is_near_the_limit_stays_float32_too_and_is_listed_apart(job: ExportJob) -> None:
    model = scaled(2000)
    result = cast_checked(model, "fp16", job.examples, job.folder)
    ranges = result.report["ranges"]
    assert ranges["beyond"] == {}
    assert set(ranges["near"]) == {"up", "between", "down"}
    assert all(NEAR < size < FLOAT16_LIMIT for size in ranges["near"].values())
    assert "0 make or read values beyond float16's 65504, 3 beyond 512" in result.notes[0]
    kept = {
        kept_node.name
        for kept_node in model.graph
        if kept_node.outputs[0].dtype == onnx_ir.DataType.FLOAT
    }
    assert {"up", "between", "down"} <= kept
    assert "calm" not in kept


def test_a_graph_of_small_values_is_cast_whole(job: ExportJob) -> None:
    result = cast_checked(scaled(3), "fp16", job.examples, job.folder)
    assert result.report["kept_float32"] == {}
    assert (result.kept_layers, result.why) == ([], "")
    assert result.notes == ["no value is beyond 512, float16 ends at 65504 (by 8 of seeded noise)"]


def test_bf16_has_the_range_of_float32_and_nothing_is_run(job: ExportJob) -> None:
    def never(count: int) -> tuple[str, list[Arrays]]:
        raise AssertionError("samples were read")

    result = cast_checked(scaled(1e6), "bf16", Examples(job.facts, never), job.folder)
    assert "ranges" not in result.report
    assert (result.report["kept_float32"], result.notes) == ({}, [])


def test_layers_that_compute_are_told_with_the_path_that_their_author_knows(job: ExportJob) -> None:
    model = graph([node("MatMul", ["x", "weight"], "y", "n")], {"weight": np.eye(3) * 1e5})
    model.graph[0].metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'head.proj', 'linear']"
    result = cast_checked(model, "fp16", job.examples, job.folder)
    assert result.kept_layers == ["head.proj"]
    assert list(result.report["ranges"]["beyond"]) == ["head.proj"]
    assert result.why == "; 1 stay float32 since values beyond 512 go through them"


def test_nodes_without_names_are_told_apart(job: ExportJob) -> None:
    nodes = [
        node("Mul", ["x", "many"], "a"),
        node("Div", ["a", "many"], "b"),
        node("Tanh", ["b"], "y"),
    ]
    model = graph(nodes, {"many": 1e6})
    result = cast_checked(model, "fp16", job.examples, job.folder)
    assert set(result.report["ranges"]["beyond"]) == {"Mul 0", "Div 1"}
    assert result.report["nodes"] == 1


def test_infinities_are_no_large_values(job: ExportJob) -> None:
    """Masks of attention are made of them, and float16 has them."""
    nodes = [node("Add", ["x", "mask"], "a", "add"), node("Softmax", ["a"], "y", "softmax")]
    model = graph(nodes, {"mask": [0, 0, -np.inf]})
    exact = run(model, noise())
    result = cast_checked(model, "fp16", job.examples, job.folder)
    assert result.report["kept_float32"] == {}
    assert np.allclose(run(model, noise()), exact, atol=2e-3)


def test_the_largest_value_is_that_of_all_samples_and_no_file_stays(job: ExportJob) -> None:
    model = scaled(1)
    result = largest_values(
        model, [noise(1), {"x": np.full(SHAPE, -7, np.float32)}, noise(2)], job.folder
    )
    assert (result["x"], result["big"], result["same"]) == (
        7,
        7,
        pytest.approx(max(n["x"].max() for n in (noise(1), noise(2)))),
    )
    assert (result["factor"], result["weight"]) == (1, 1)
    assert list(job.folder.iterdir()) == []
    assert [kept_node.name for kept_node in model.graph] == ["up", "between", "down", "calm"], (
        "the graph itself is untouched"
    )


def test_a_graph_is_measured_in_parts(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = largest_values(scaled(10), [noise()], job.folder)
    tapped: list[int] = []

    def counted(model: Any, values: Mapping[str, Any]) -> Any:
        tapped.append(len(values))
        return original(model, values)

    original = module._tapped
    monkeypatch.setattr(module, "_tapped", counted)
    monkeypatch.setattr(module, "TAPS", 2)
    assert largest_values(scaled(10), [noise()], job.folder) == whole
    assert tapped == [2, 2, 1]


def test_empty_and_integer_values_do_no_harm(job: ExportJob) -> None:
    nodes = [
        node("Slice", ["x", "start", "start"], "nothing", "slice"),
        node("Shape", ["x"], "shape", "shape"),
        node("Concat", ["nothing", "x"], "all", "concat", axis=0),
        node("Reshape", ["all", "shape"], "y", "reshape"),
    ]
    model = graph(nodes, {})
    start = onnx_ir.tensor(np.zeros(1, np.int64), name="start")
    value = onnx_ir.Value(
        name="start", const_value=start, type=onnx_ir.TensorType(start.dtype), shape=start.shape
    )
    model.graph.register_initializer(value)
    for slice_node in model.graph:
        if slice_node.name == "slice":
            slice_node.replace_input_with(1, value)
            slice_node.replace_input_with(2, value)
    largest = largest_values(model, [noise()], job.folder)
    assert largest["nothing"] == 0
    assert largest["y"] == largest["x"] == np.abs(noise()["x"]).max()
    assert "shape" not in largest


def test_a_graph_that_does_not_run_is_an_error(job: ExportJob) -> None:
    with pytest.raises(ExportError, match=r"ONNX Runtime does not run the float32 graph: .*x"):
        largest_values(scaled(1), [{"x": np.zeros((9, 9), np.float32)}], job.folder)


def test_noise_of_a_job_has_the_sizes_to_be_fastest_at(tmp_path: Path) -> None:
    facts = ModelFacts(
        {"x": TensorSpec(shape=("batch", 3))},
        {},
        {"batch": DimRange(min=1, opt=2, max=8)},
        False,
        0,
    )
    description, samples = ExportJob(None, facts, tmp_path).some_inputs(3)
    assert (description, [sample["x"].shape for sample in samples]) == (
        "seeded noise",
        [(2, 3)] * 3,
    )


RECIPE = """
model: python:net:build
inputs: {x: {shape: [batch, 3]}}
dims: {batch: {min: 1, opt: 2, max: 8}}
artifacts: {onnx: {precision: fp16}}
"""


@pytest.mark.parametrize(
    ("data", "description", "first"),
    [
        ("", "seeded noise", None),
        (
            "data: {evaluation: {arrays: many.npy, samples: 4}}",
            "the recipe's evaluation samples",
            [0, 1],
        ),
        (
            "data: {calibration: {arrays: many.npy, samples: 5}}",
            "the recipe's calibration samples",
            [0, 0],
        ),
        (
            "data: {calibration: {arrays: many.npy, samples: 5}, evaluation: {arrays: many.npy}}",
            "the recipe's calibration samples",
            [0, 0],
        ),
        ("data: {calibration: {random: 0}}", "the recipe's calibration noise", None),
    ],
)
def test_samples_are_the_recipes_own_if_it_has_some(
    write: Callable[..., Path], tmp_path: Path, data: str, description: str, first: list[int] | None
) -> None:
    np.save(tmp_path / "many.npy", np.repeat(np.arange(40, dtype=np.float32)[:, None], 3, axis=1))
    plan = load_recipe(write(RECIPE + data))
    source, samples = some_samples(plan.recipe, plan.folder, 2 if first == [0, 0] else 40)
    assert source == description
    assert all(sample["x"].shape == (2, 3) for sample in samples)
    if first:
        assert samples[0]["x"][:, 0].tolist() == first
