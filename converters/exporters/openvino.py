"""OpenVINO IR from the ONNX graph, with the precision counted on the model as OpenVINO executes it.

An IR does not contain the precision that it is computed in: that is chosen at compilation, so the
manifest carries it to the runtime. An IR only contains the precision of its stored weights, which
is the one to compute with.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_work, work_notes
from converters.exporters.job import Exported, ExportJob
from converters.graph.flow.work_openvino import computing_layers
from converters.graph.names import metadata_of, module_path
from converters.graph.unfused.openvino import find_unfused_in_openvino
from converters.graph.unfused.report import listed, notes
from converters.recipe.artifact import GraphExporter, PrecisionOptions
from runtimes.engines.openvino.layers import count_layers, executed_layers
from runtimes.engines.openvino.openvino import at_best_sizes, lacking, properties
from runtimes.machine.intel import INSTALL
from runtimes.precision.judge import Work
from runtimes.spec import Dims, Specs, graph_outputs

MODEL_FILE = "model.xml"
MODULES_KEY = ("burnish", "modules")
"""Place in the IR for the module of each operation: JSON of paths by the operations' names."""
_UNKNOWN = re.compile(r"No conversion rule found for operations: (.+)")
_COMPUTE = {
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
}


class OpenVinoOptions(PrecisionOptions):
    """Options of `format: openvino`."""

    hint: Literal["latency", "throughput"] = Field(
        "latency",
        description="OpenVINO's performance hint. latency: one run at a time; throughput: for "
        "sessions that several threads run at once.",
    )
    exporter: GraphExporter = "auto"
    opset: int = Field(20, ge=13, le=25, description="Opset of the ONNX graph.")


class OpenVinoExporter(Exporter):
    """Writes `model.xml` (the graph) and `model.bin` (the weights)."""

    format = "openvino"
    runtime = "openvino"
    devices = ("cpu", "intel-gpu", "intel-npu")
    packages = ("torch", "onnx", "onnxscript")
    quantization = ("static",)
    Options = OpenVinoOptions

    def missing(self, options: OpenVinoOptions) -> str | None:
        """Return the missing package; a CPU without the precision can build the IR for another."""
        if not find_spec("openvino"):
            return f"openvino is not installed: {INSTALL}"
        return super().missing(options)

    def graph_options(self, options: OpenVinoOptions) -> dict[str, Any]:
        """Return options of a float32 ONNX graph: precision is chosen when the IR is compiled."""
        return {"exporter": options.exporter, "opset": options.opset}

    def unrepeatable(self, options: OpenVinoOptions) -> str | None:
        """Return None: nothing in the file depends on time or place."""
        return None

    def export(self, job: ExportJob, options: OpenVinoOptions) -> Exported:
        """Read the graph, bound its dimensions, save it; compile the saved file, count layers."""
        import openvino

        if job.graph is None:
            raise ExportError("this exporter needs an ONNX graph")
        model = read_graph(job.graph)
        _name_and_bound(model, job.facts.inputs, job.facts.outputs, job.facts.dims)
        modules = _note_modules(model, job.graph)
        if options.precision == "bf16":
            store_as_bf16(model)
        openvino.save_model(
            model, job.folder / MODEL_FILE, compress_to_fp16=options.precision == "fp16"
        )
        build = {
            "version": openvino.__version__,
            "opset": options.opset,
            "inference_precision": options.precision,
            "hint": options.hint,
        }
        if problem := lacking(options.precision):
            note = (
                f"the precision of the layers is not counted: {problem}, so OpenVINO would use "
                "another one here"
            )
            return Exported(MODEL_FILE, options.asked_precision, build, [note])
        compiled, saved, fixed = _compiled(job, build)
        computing = computing_layers(fixed, executed_layers(compiled, saved), modules)
        check_work(computing, options)
        layers = count_layers(compiled, saved)
        work = Work.of(computing, options.asked_precision)
        remarks = work_notes(computing, options)
        if not layers["compute_layers"]:
            remarks.append("the model has no convolution or matrix product to count")
        if options.quantize:
            unfused = find_unfused_in_openvino(compiled, saved, modules)
            build["unfused"] = listed(unfused)
            remarks += notes(unfused)
        build |= {**layers, "work": work.for_build()}
        return Exported(MODEL_FILE, options.asked_precision, build, remarks)


def read_graph(path: Path) -> Any:
    """Read the `openvino.Model` of an ONNX file, plain or with QuantizeLinear and DequantizeLinear.

    Raises ExportError with the message of OpenVINO's reader; for operators that it lacks, with
    their names.
    """
    import openvino

    try:
        return openvino.Core().read_model(path)
    except Exception as error:  # the reader's exceptions share no base class
        unknown = _UNKNOWN.search(str(error))
        why = f"it has no operator {unknown[1]} (name, opset)" if unknown else error
        raise ExportError(f"OpenVINO cannot read the graph: {why}") from error


def _name_and_bound(model: Any, inputs: Specs, outputs: Specs, dims: Dims) -> None:
    """Check the names, and set the range of each dynamic dimension. Raises ExportError."""
    import openvino

    _check_names(model.inputs, list(inputs))
    _check_names(model.outputs, list(graph_outputs(inputs, outputs).values()))
    ranges: dict[int | str, Any] = {}
    for name, dim in dims.items():
        ranges[name] = openvino.Dimension(dim.min, dim.max)
    shapes = {}
    for index, spec in enumerate(inputs.values()):
        shapes[index] = openvino.PartialShape([ranges.get(size, size) for size in spec.shape])
    model.reshape(shapes)


def _check_names(ports: Any, wanted: Sequence[str]) -> None:
    names = [sorted(port.get_names()) for port in ports]
    same = len(names) == len(wanted) and all(map(operator.contains, names, wanted))
    if not same:
        raise ExportError(f"the model's inputs or outputs are named {names}, not {wanted}")


def _note_modules(model: Any, graph: Path) -> dict[str, str]:
    """Write the module of each operation into the IR, and return them; `burnish debug` needs it.

    OpenVINO's reader drops the metadata of ONNX nodes. If it makes several operations of one node,
    only the last has a name in ONNX: the others belong to the module of the operation that they
    feed. An IR keeps such notes for the whole model only.
    """
    import onnx

    origins: dict[str, str] = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        if path := module_path(metadata_of(node)):
            origins.update(dict.fromkeys(node.output, path))
    paths: dict[str, str | None] = {}
    for operation in reversed(model.get_ordered_ops()):
        silent = operation.get_type_name() in ("Constant", "Result")
        module = None if silent else _module_of(operation, origins, paths)
        paths[operation.get_friendly_name()] = module
    modules = {name: path for name, path in paths.items() if path}
    model.set_rt_info(json.dumps(modules), list(MODULES_KEY))
    return modules


def _module_of(
    operation: Any, origins: Mapping[str, str], paths: Mapping[str, str | None]
) -> str | None:
    """Return the module of an operation: that of its ONNX node, or else of its only reader."""
    names, readers = set[str](), set[str | None]()
    for port in operation.outputs():
        names |= port.get_names()
        for reader in port.get_target_inputs():
            readers.add(paths[reader.get_node().get_friendly_name()])
    for name in sorted(names):
        if name in origins:
            return origins[name]
    return readers.pop() if len(readers) == 1 and not names else None


def store_as_bf16(model: Any) -> int:
    """Store weights of convolutions and matrix products as bfloat16; return how many.

    The engine rounds them the same way, so the numbers stay. OpenVINO's own way to halve a file is
    float16, whose small range costs MobileNetV2 3 dB.
    """
    import ml_dtypes
    import openvino
    from openvino import opset13

    stored = 0
    for constant in model.get_ordered_ops():
        if (
            constant.get_type_name() != "Constant"
            or constant.get_element_type() != openvino.Type.f32
        ):
            continue
        users = list(constant.output(0).get_target_inputs())
        if not any(_computes(user.get_node()) for user in users):
            continue
        tensor = openvino.Tensor(openvino.Type.bf16, constant.output(0).get_shape())
        tensor.data.view("uint16")[...] = constant.data.astype(ml_dtypes.bfloat16).view("uint16")
        small = opset13.convert(opset13.constant(tensor), "f32")
        for user in users:
            user.replace_source_output(small.output(0))
        stored += 1
    return stored


def _computes(node: Any) -> bool:
    """Return whether a node is a convolution or matrix product, or reshapes the weights of one."""
    if node.get_type_name() == "Reshape":
        return any(_computes(user.get_node()) for user in node.output(0).get_target_inputs())
    return node.get_type_name() in _COMPUTE


def _compiled(job: ExportJob, build: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the saved model, compiled as a session does it for the best sizes; as read; at them.

    It is compiled for one thread: OpenVINO makes other layers for several, and a manifest shall not
    depend on the builder's cores.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(job.folder / MODEL_FILE)
    fixed = at_best_sizes(model, job.facts.inputs, job.facts.dims)
    return core.compile_model(fixed, "CPU", properties(build, 1)), model, fixed
