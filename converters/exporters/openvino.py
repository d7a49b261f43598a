"""OpenVINO IR from the ONNX graph, with the precision counted on the model as OpenVINO executes it.

An IR says nothing of the precision that it is computed in: that is chosen when it is compiled, so the manifest
carries it to the runtime. What an IR does say is how its weights are stored: as they will be computed with.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from converters.errors import ExportError
from converters.exporters.base import Exporter, check_precision
from converters.exporters.job import Exported, ExportJob
from converters.graph.names import module_path
from converters.graph.qdq import count_float_products
from converters.graph.unfused.openvino import find_unfused_in_openvino
from converters.graph.unfused.report import listed, notes
from converters.recipe.artifact import PrecisionOptions
from runtimes.engines.openvino.openvino import at_best_sizes, count_layers, lacking, properties
from runtimes.machine.intel import INSTALL
from runtimes.spec import Dims, Specs

MODEL_FILE = "model.xml"
MODULES_KEY = ("burnish", "modules")
"""Where the IR notes which module each operation comes from: JSON of paths by the operations' names."""
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
        description="latency: one run at a time; throughput: for sessions that several threads run at once.",
    )
    opset: int = Field(20, ge=13, le=25, description="Of the ONNX graph.")


class OpenVinoExporter(Exporter):
    """Writes `model.xml` (the graph) and `model.bin` (the weights)."""

    format = "openvino"
    runtime = "openvino"
    devices = ("cpu", "intel-gpu", "intel-npu")
    packages = ("torch", "onnx", "onnxscript")
    quantization = ("static",)
    Options = OpenVinoOptions

    def missing(self, options: OpenVinoOptions) -> str | None:
        """The packages; a CPU without the precision builds the IR all the same, for one that has it."""
        if not find_spec("openvino"):
            return f"openvino is not installed: {INSTALL}"
        return super().missing(options)

    def graph_options(self, options: OpenVinoOptions) -> dict[str, Any]:
        """A float32 ONNX graph: precision is chosen when the IR is compiled."""
        return {"opset": options.opset}

    def unrepeatable(self, options: OpenVinoOptions) -> str | None:
        """Nothing in it depends on when or where it is made."""
        return None

    def export(self, job: ExportJob, options: OpenVinoOptions) -> Exported:
        """Read the graph, bound its dimensions, save it; compile what was saved and count its layers."""
        import openvino

        if job.graph is None:
            raise ExportError("this exporter needs an ONNX graph")
        model = read_graph(job.graph)
        _name_and_bound(model, job.facts.inputs, job.facts.outputs, job.facts.dims)
        modules = _note_modules(model, job.graph)
        if options.precision == "bf16":
            store_as_bf16(model)
        openvino.save_model(model, job.folder / MODEL_FILE, compress_to_fp16=options.precision == "fp16")
        build = {
            "version": openvino.__version__,
            "opset": options.opset,
            "inference_precision": options.precision,
            "hint": options.hint,
        }
        if problem := lacking(options.precision):
            note = f"the precision of the layers is not counted: {problem}, so OpenVINO would take another one here"
            return Exported(MODEL_FILE, options.asked_precision, build, [note])
        compiled, saved = _compiled(job, build)
        layers = count_layers(compiled, saved)
        left = count_float_products(job.graph) if options.quantize else 0
        check_precision(layers["compute_layers"], options.asked_precision, options.least_share, left=left)
        told = [] if layers["compute_layers"] else ["the model has no convolution or matrix product to count"]
        if options.quantize:
            unfused = find_unfused_in_openvino(compiled, saved, modules)
            build, told = {**build, "unfused": listed(unfused)}, [*told, *notes(unfused)]
        return Exported(MODEL_FILE, options.asked_precision, {**build, **layers}, told)


def read_graph(path: Path) -> Any:
    """The `openvino.Model` of an ONNX file, plain or with QuantizeLinear and DequantizeLinear.

    Raises ExportError with the words of OpenVINO's reader; of operators that it lacks, with their names alone.
    """
    import openvino

    try:
        return openvino.Core().read_model(path)
    except Exception as error:  # the reader's exceptions share no base class of their own
        unknown = _UNKNOWN.search(str(error))
        why = f"it has no operator {unknown[1]} (name, opset)" if unknown else error
        raise ExportError(f"OpenVINO cannot read the graph: {why}") from error


def _name_and_bound(model: Any, inputs: Specs, outputs: Specs, dims: Dims) -> None:
    """Check the names, and give every dynamic dimension its range. Raises ExportError."""
    import openvino

    for ports, specs in ((model.inputs, inputs), (model.outputs, outputs)):
        given = [sorted(port.get_names()) for port in ports]
        if len(given) != len(specs) or any(name not in names for name, names in zip(specs, given, strict=True)):
            raise ExportError(f"the model's inputs or outputs are named {given}, not {list(specs)}")
    shapes = {
        index: openvino.PartialShape(
            [openvino.Dimension(dims[size].min, dims[size].max) if size in dims else size for size in spec.shape]
        )
        for index, spec in enumerate(inputs.values())
    }
    model.reshape(shapes)


def _note_modules(model: Any, graph: Path) -> dict[str, str]:
    """Write into the IR which module each operation comes from, and return that; `burnish debug` needs it.

    OpenVINO's reader drops what the ONNX nodes note, and of several operations that it makes of one only the last
    has a name in ONNX: the others are a part of what they feed. An IR keeps such notes for the whole model only.
    """
    import onnx

    made: dict[str, str] = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        path = module_path({entry.key: entry.value for entry in node.metadata_props})
        made.update((name, path) for name in node.output if path)
    found: dict[str, str | None] = {}
    for operation in reversed(model.get_ordered_ops()):
        ports = operation.outputs()
        names = {name for port in ports for name in port.get_names()}
        users = {found[user.get_node().get_friendly_name()] for port in ports for user in port.get_target_inputs()}
        own = next((made[name] for name in sorted(names) if name in made), None)
        inherited = users.pop() if len(users) == 1 and not names else None
        silent = operation.get_type_name() in ("Constant", "Result")
        found[operation.get_friendly_name()] = None if silent else own or inherited
    known = {name: path for name, path in found.items() if path}
    model.set_rt_info(json.dumps(known), list(MODULES_KEY))
    return known


def store_as_bf16(model: Any) -> int:
    """Store weights of convolutions and matrix products as bfloat16, which halves the file; return how many.

    The engine rounds them the same way, so the numbers stay. OpenVINO's own way to halve a file is float16, whose
    small range costs MobileNetV2 3 dB.
    """
    import ml_dtypes
    import openvino
    from openvino import opset13

    stored = 0
    for constant in model.get_ordered_ops():
        if constant.get_type_name() != "Constant" or constant.get_element_type() != openvino.Type.f32:
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
    """Whether a node is a convolution or matrix product, or shapes the weights of one."""
    if node.get_type_name() == "Reshape":
        return any(_computes(user.get_node()) for user in node.output(0).get_target_inputs())
    return node.get_type_name() in _COMPUTE


def _compiled(job: ExportJob, build: dict[str, Any]) -> tuple[Any, Any]:
    """What was saved, compiled as a session does it for the sizes to be fastest at; and as it was read.

    For one thread: OpenVINO makes other layers for several, and a manifest shall not depend on the builder's cores.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(job.folder / MODEL_FILE)
    fixed = at_best_sizes(model, job.facts.inputs, job.facts.dims)
    return core.compile_model(fixed, "CPU", properties(build, 1)), model
