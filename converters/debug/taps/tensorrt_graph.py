"""The rebuilt graph of a TensorRT engine, and engines of it that give inner values.

No device is needed.

An engine keeps no inner values, and its artifact holds nothing else. So the eager model is exported
again, with the options that the manifest records, and lowered as the exporter does.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from converters.errors import ExportError
from converters.exporters.job import ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.tensorrt import tensorrt as exporter
from converters.exporters.tensorrt.network import count_layers, parse_network
from converters.exporters.tensorrt.tensorrt import Lowered, TensorRtExporter, TensorRtOptions
from converters.models.examples import InputReader
from converters.models.facts import ModelFacts
from runtimes.artifact.artifact import Manifest
from runtimes.engines.tensorrt import PACKAGES, TensorRtRuntime, quiet_logger
from runtimes.errors import ArtifactError, Unavailable, UsageError
from runtimes.machine.devices import absent
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch

_FLOATS = ("FLOAT", "HALF", "BF16")


@dataclass(frozen=True)
class TappedEngine:
    """An engine that gives inner values.

    Attributes:
        plan: serialized.
        outputs: the names of the engine's outputs, by the requested values.
    """

    plan: bytes
    outputs: dict[str, str]


@dataclass(frozen=True)
class RebuiltGraph:
    """A graph as the exporter gives it to TensorRT.

    Attributes:
        options: the artifact's, for this machine's devices.
        facts: of the model.
        lowered: the graph's file, in a folder where more files may go.
    """

    options: TensorRtOptions
    facts: ModelFacts
    lowered: Lowered

    @property
    def trt(self) -> Any:
        """TensorRT, of the flavor that built the artifact."""
        return importlib.import_module(PACKAGES[self.options.flavor])

    def shapes(self, inputs: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shapes of outputs and of inner float values, at the sizes of these inputs.

        Inner integers are left out: they are mostly shapes, which live on the host. So are shapes
        that depend on the data.
        """
        _, network = self._parsed(self.lowered.path)
        for index in range(network.num_inputs):
            network_input = network.get_input(index)
            network_input.shape = inputs[network_input.name].shape
        shapes = {}
        for name, tensor in _tensors(network).items():
            is_inner_float = tensor.dtype.name in _FLOATS and not tensor.is_shape_tensor
            if tensor.is_network_output or is_inner_float:
                shapes[name] = tuple(tensor.shape)
        return {name: shape for name, shape in shapes.items() if min(shape, default=0) >= 0}

    def tapped(self, values: Sequence[str]) -> TappedEngine:
        """Build an engine, with the artifact's settings, that gives these values too.

        Raises ArtifactError if TensorRT does not build it.
        """
        builder, network = self._parsed(self.lowered.path)
        outputs = _mark(self.trt, network, values)
        plan = self._built(builder, network, self.facts)
        if plan is None:
            raise ArtifactError(
                "TensorRT could not build the engine that gives inner values; see TensorRT's "
                "errors in the log"
            )
        return TappedEngine(plan, outputs)

    def builds_to(self, inputs: Arrays, value: str) -> bool:
        """Check that TensorRT builds the nodes up to the one of `value`, at these input sizes."""
        import onnx

        model = onnx.load(str(self.lowered.path), load_external_data=False)
        path = self.lowered.path.with_name("part.onnx")
        onnx.save(_part(model, inputs, value), str(path))
        try:
            builder, network = self._parsed(path)
        except ExportError:
            return False
        network.mark_output(_tensors(network)[value])
        return self._built(builder, network, replace(self.facts, dims={})) is not None

    def differences(self, manifest: Manifest) -> list[str]:
        """Report how the graph differs from the one that the manifest records."""
        _, network = self._parsed(self.lowered.path)
        current: dict[str, Any] = {
            "version": self.trt.__version__,
            **count_layers(network, self.trt),
            "kept_layers": self.lowered.cast.kept_layers,
        }
        recorded = {"kept_layers": [], **manifest.build}
        return [
            f"the rebuilt engine differs from the artifact's: {key} is {value}, the manifest has "
            f"{recorded[key]}"
            for key, value in current.items()
            if key in recorded and value != recorded[key]
        ]

    def _parsed(self, path: Path) -> tuple[Any, Any]:
        """Return a builder and its network. Raises ExportError if TensorRT refuses the graph."""
        builder = self.trt.Builder(quiet_logger(self.trt))
        return builder, parse_network(self.trt, builder, path, self.lowered.names)

    def _built(self, builder: Any, network: Any, facts: ModelFacts) -> bytes | None:
        """Build the engine with the artifact's settings; return None if TensorRT does not."""
        config = builder.create_builder_config()
        exporter.configure(self.trt, builder, config, facts, self.options, self.options.flavor)
        plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(memoryview(plan))


def refuse(manifest: Manifest) -> None:
    """Raise UsageError or Unavailable if an engine's values cannot be read here."""
    passes = _recorded(manifest).get("passes", ())
    if any(options.get("quantize") for options in passes):
        raise UsageError(
            "burnish debug does not read quantized TensorRT engines: an engine keeps no inner "
            "values, and its graph comes from a calibration, which is not repeated. Debug an onnx "
            "artifact with the same passes: it is made from the same quantized graph"
        )
    if problem := absent("cuda") or TensorRtRuntime().missing("cuda", manifest.build):
        raise Unavailable(
            "debugging a TensorRT engine rebuilds it with inner values as outputs and runs it, "
            f"which is not possible here: {problem}. Debug the onnx artifact of the same recipe "
            "here (the engine is made from the same graph), or this one on a machine with such a "
            "device"
        )


def rebuild_graph(
    manifest: Manifest, module: torch.nn.Module, folder: Path, samples: InputReader | None
) -> RebuiltGraph:
    """Export the eager model and lower the graph as when the artifact was built.

    Args:
        manifest: the artifact's.
        module: the eager model, in float32, after the passes that changed it.
        folder: for files.
        samples: of the recipe, which show what float16 cannot hold; None if unavailable.
    """
    build = manifest.build
    options = _options(manifest)
    facts = ModelFacts(
        manifest.inputs,
        manifest.outputs,
        manifest.dims,
        by_keyword=bool(build.get("by_keyword")),
        parameters=build.get("parameters", 0),
        flops=build.get("flops"),
        flat=bool(build.get("flat")),
    )
    onnx_options = OnnxOptions(format="onnx", **TensorRtExporter().graph_options(options))
    exported = OnnxExporter().export(ExportJob(module, facts, folder), onnx_options)
    graph_path = folder / exported.entry
    job = ExportJob(None, facts, folder, graph_path, samples)
    return RebuiltGraph(options, facts, exporter.lower(graph_path, job, options))


def _options(manifest: Manifest) -> TensorRtOptions:
    """Return the manifest's options, for the flavor that built it and this machine's devices.

    Passes have changed the model already: only the pattern 2:4 matters to the lowering.
    """
    recorded = _recorded(manifest)
    prunings = [options.get("prune") or {} for options in recorded.get("passes", ())]
    sparse = any(pruning.get("pattern") for pruning in prunings)
    changes = {
        "passes": [{"prune": {"pattern": "2:4"}}] if sparse else [],
        "flavor": manifest.build["flavor"],
        "compute_capabilities": (),
    }
    try:
        return TensorRtOptions.model_validate({**recorded, **changes})
    except ValidationError as error:
        raise UsageError(
            f"{manifest.name} was built by another version of Burnish, with other options: build "
            "it again"
        ) from error


def _recorded(manifest: Manifest) -> dict[str, Any]:
    return dict(manifest.build.get("options", {}))


def _tensors(network: Any) -> dict[str, Any]:
    """Return the outputs of a network's layers by name: the parser names values as ONNX does."""
    tensors = {}
    for layer_index in range(network.num_layers):
        layer = network.get_layer(layer_index)
        for index in range(layer.num_outputs):
            tensor = layer.get_output(index)
            tensors[tensor.name] = tensor
    return tensors


def _mark(trt: Any, network: Any, values: Sequence[str]) -> dict[str, str]:
    """Make values outputs of a network; return the outputs' names, by value.

    NumPy has no bfloat16: such a value is cast to float32, which holds it exactly.
    """
    tensors, outputs = _tensors(network), dict[str, str]()
    for value in dict.fromkeys(values):
        tensor = tensors[value]
        if tensor.dtype == trt.bfloat16:
            tensor = network.add_cast(tensor, trt.float32).get_output(0)
            tensor.name = f"{value} in float32"
        if not tensor.is_network_output:
            network.mark_output(tensor)
        outputs[value] = tensor.name
    return outputs


def _part(model: Any, inputs: Arrays, value: str) -> Any:
    """Keep the nodes up to the one of `value`, for the sizes of these inputs, without outputs."""
    nodes = model.graph.node
    last = next(number for number, node in enumerate(nodes) if value in node.output)
    del model.graph.node[last + 1 :]
    del model.graph.value_info[:]
    del model.graph.output[:]
    for declared in model.graph.input:
        sizes = inputs[declared.name].shape
        for size, dim in zip(sizes, declared.type.tensor_type.shape.dim, strict=True):
            dim.dim_value = size
    return model
