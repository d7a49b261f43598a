"""The graph of a TensorRT engine made again, and engines of it that give inner values; needs no device.

An engine keeps no inner values, and its artifact holds nothing else. So the eager model is exported once more, with
the options that the manifest records, and lowered as the exporter does.
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
from converters.exporters.tensorrt.network import count_layers
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
class Tapped:
    """An engine that gives inner values.

    Attributes:
        plan: serialized.
        outputs: the engine's outputs by the values asked for.
    """

    plan: bytes
    outputs: dict[str, str]


@dataclass(frozen=True)
class Remade:
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
        """The shapes of outputs and of inner float values, at the sizes of these inputs.

        Integers inside are left out: they are mostly shapes, which live on the host. So are shapes that depend on
        the data.
        """
        _, network = self._parsed(self.lowered.path)
        for index in range(network.num_inputs):
            network.get_input(index).shape = inputs[network.get_input(index).name].shape
        found = {
            name: tuple(one.shape)
            for name, one in _tensors(network).items()
            if one.is_network_output or (one.dtype.name in _FLOATS and not one.is_shape_tensor)
        }
        return {name: shape for name, shape in found.items() if min(shape, default=0) >= 0}

    def tapped(self, values: Sequence[str]) -> Tapped:
        """Build an engine, with the artifact's settings, that gives these values beside its own outputs.

        Raises ArtifactError where TensorRT does not build it.
        """
        builder, network = self._parsed(self.lowered.path)
        outputs = _mark(self.trt, network, values)
        plan = self._built(builder, network, self.facts)
        if plan is None:
            raise ArtifactError(
                "TensorRT could not build the engine that gives inner values; the log has its words"
            )
        return Tapped(plan, outputs)

    def builds_to(self, inputs: Arrays, value: str) -> bool:
        """Whether TensorRT builds the nodes up to the one that makes `value`, at the sizes of these inputs."""
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

    def differences(self, made: Manifest) -> list[str]:
        """In what the graph is not the one that the engine was built from, as far as the manifest tells."""
        _, network = self._parsed(self.lowered.path)
        now: dict[str, Any] = {"version": self.trt.__version__, **count_layers(network, self.trt)}
        now["kept_layers"] = self.lowered.cast.kept_layers
        then = {"kept_layers": [], **made.build}
        return [
            f"the engine was built again otherwise than before: {key} {now[key]}, the manifest has {then[key]}"
            for key in now
            if key in then and now[key] != then[key]
        ]

    def _parsed(self, path: Path) -> tuple[Any, Any]:
        """A builder and its network. Raises ExportError where TensorRT refuses the graph."""
        builder = self.trt.Builder(quiet_logger(self.trt))
        return builder, exporter.parsed(self.trt, builder, path, self.lowered.names)

    def _built(self, builder: Any, network: Any, facts: ModelFacts) -> bytes | None:
        """The engine, with the artifact's settings; None where TensorRT does not build it."""
        config = builder.create_builder_config()
        exporter.configure(self.trt, builder, config, facts, self.options, self.options.flavor)
        plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(memoryview(plan))


def refuse(made: Manifest) -> None:
    """Raise UsageError or Unavailable where the values of an engine cannot be had here, with what to do instead."""
    if any(one.get("quantize") for one in _recorded(made).get("passes", ())):
        raise UsageError(
            "burnish debug does not read quantized TensorRT engines: an engine keeps no inner values, and its "
            "graph comes from a calibration, which is not made again. Debug an onnx artifact with the same passes: "
            "it is made from the same quantized graph"
        )
    if problem := absent("cuda") or TensorRtRuntime().missing("cuda", made.build):
        raise Unavailable(
            "debugging a TensorRT engine builds it again with inner values as outputs and runs it, which cannot be "
            f"done here: {problem}. Debug the onnx artifact of the same recipe here (the engine is made from the "
            "same graph), or this one where there is such a device"
        )


def remake(made: Manifest, module: torch.nn.Module, folder: Path, samples: InputReader | None) -> Remade:
    """Export the eager model and lower the graph as when the artifact was built.

    Args:
        made: the artifact's.
        module: the eager model, in float32, after the passes that changed it.
        folder: for files.
        samples: of the recipe, which tell what float16 cannot hold; None where it is not at hand.
    """
    build = made.build
    options = _options(made)
    keyword = bool(build.get("by_keyword"))
    facts = ModelFacts(
        made.inputs, made.outputs, made.dims, keyword, build.get("parameters", 0), build.get("flops")
    )
    chosen = OnnxOptions(format="onnx", **TensorRtExporter().graph_options(options))
    exported = OnnxExporter().export(ExportJob(module, facts, folder), chosen)
    job = ExportJob(None, facts, folder, folder / exported.entry, samples)
    return Remade(options, facts, exporter.lower(folder / exported.entry, job, options))


def _options(made: Manifest) -> TensorRtOptions:
    """The manifest's, for the flavor that built it and this machine's devices.

    Passes have changed the model already: only the pattern 2:4 says something to whoever lowers it.
    """
    recorded = _recorded(made)
    sparse = any((one.get("prune") or {}).get("pattern") for one in recorded.get("passes", ()))
    here = {"flavor": made.build["flavor"], "compute_capabilities": ()}
    passes = [{"prune": {"pattern": "2:4"}}] if sparse else []
    try:
        return TensorRtOptions.model_validate({**recorded, "passes": passes, **here})
    except ValidationError as error:
        raise UsageError(f"{made.name} was built by another Burnish, with other options: build it again") from error


def _recorded(made: Manifest) -> dict[str, Any]:
    return dict(made.build.get("options", {}))


def _tensors(network: Any) -> dict[str, Any]:
    """What the layers of a network make, by name: the parser calls values as ONNX does."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made = [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]
    return {one.name: one for one in made}


def _mark(trt: Any, network: Any, values: Sequence[str]) -> dict[str, str]:
    """Make values outputs of a network; what its outputs are called, by value.

    NumPy has no bfloat16: such a value is given as float32, which holds it exactly.
    """
    tensors, outputs = _tensors(network), dict[str, str]()
    for value in dict.fromkeys(values):
        given = tensor = tensors[value]
        if tensor.dtype == trt.bfloat16:
            given = network.add_cast(tensor, trt.float32).get_output(0)
            given.name = f"{value} in float32"
        if not given.is_network_output:
            network.mark_output(given)
        outputs[value] = given.name
    return outputs


def _part(model: Any, inputs: Arrays, value: str) -> Any:
    """The nodes up to the one that makes `value`, for the sizes of these inputs, without outputs."""
    last = next(number for number, node in enumerate(model.graph.node) if value in node.output)
    del model.graph.node[last + 1 :]
    del model.graph.value_info[:]
    del model.graph.output[:]
    for given in model.graph.input:
        for size, dim in zip(inputs[given.name].shape, given.type.tensor_type.shape.dim, strict=True):
            dim.dim_value = size
    return model
