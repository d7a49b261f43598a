"""ONNX Runtime's graph optimizations, done once ahead of time instead of at each load.

The CPU provider decides. Inputs and outputs stay as they were declared. ONNX Runtime drops the
exporter's metadata of each node (the module that it comes from); unchanged nodes get it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

Level = Literal["basic", "extended", "all"]
"""basic: standard operators; extended: ONNX Runtime's own too; all: for the building CPU."""


def optimize_graph(
    source: Path, target: Path, level: Level, external: bool = False
) -> dict[str, Any]:
    """Write the graph as ONNX Runtime runs it: repeatable on the same CPU and version.

    Args:
        source: the ONNX file.
        target: the file to write.
        level: how far to go.
        external: write the weights beside the file, as `target`.data.

    Returns:
        The change in the number of nodes of each operator: less (-) or more (+) than before.

    Raises the exceptions of ONNX Runtime for a graph that it cannot load.
    """
    import onnx

    _run_optimizer(source, target, level, external)
    before = onnx.load(str(source), load_external_data=False)
    after = onnx.load(str(target), load_external_data=False)
    _restore_ends(before.graph, after.graph)
    _restore_notes(before.graph.node, after.graph.node)
    _drop_stale(after)
    target.write_bytes(after.SerializeToString(deterministic=True))
    changes = Counter(_operators(after))
    changes.subtract(_operators(before))
    return {name: f"{count:+d}" for name, count in sorted(changes.items()) if count}


def _run_optimizer(source: Path, target: Path, level: Level, external: bool) -> None:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # it warns about a layout for this CPU; the manifest says so
    levels = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = getattr(levels, f"ORT_ENABLE_{level.upper()}")
    settings.optimized_model_filepath = str(target)
    if external:
        prefix = "session.optimized_model_external_initializers"
        settings.add_session_config_entry(f"{prefix}_file_name", f"{target.name}.data")
        settings.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")  # as onnx_ir does
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])


def _operators(model: onnx.ModelProto) -> list[str]:
    return [f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node]


def _restore_ends(before: onnx.GraphProto, after: onnx.GraphProto) -> None:
    """Restore the declarations of the inputs and outputs that still exist."""
    for originals, values in ((before.input, after.input), (before.output, after.output)):
        declared = {value.name: value for value in originals}
        for value in values:
            if value.name in declared:
                value.CopyFrom(declared[value.name])


def _restore_notes(before: Sequence[onnx.NodeProto], after: Sequence[onnx.NodeProto]) -> None:
    """Restore the metadata of nodes that compute the same value by the same operator.

    A fused node has no single origin.
    """
    origins = {(node.output[0], node.domain, node.op_type): node for node in before}
    for node in after:
        origin = origins.get((node.output[0], node.domain, node.op_type))
        if origin is not None and not node.metadata_props:
            node.metadata_props.extend(origin.metadata_props)


def _drop_stale(model: onnx.ModelProto) -> None:
    """Remove unused parts that ONNX Runtime writes: domains, types of removed values."""
    used = {"", "ai.onnx"}
    used.update(node.domain for node in _all_nodes(model.graph))
    used.update(function.domain for function in model.functions)
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    outputs = set[str]()
    for node in model.graph.node:
        outputs.update(node.output)
    kept = [value for value in model.graph.value_info if value.name in outputs]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of the graph and of the graphs inside its nodes."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                nodes += _all_nodes(body)
    return nodes
