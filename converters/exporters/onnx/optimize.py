"""ONNX Runtime's own graph optimizations, ahead of time: what it would do to a graph at every load, done once.

The CPU provider decides. Inputs and outputs stay as they were declared. ONNX Runtime drops what the exporter notes
of each node (the module that it comes from); nodes that are as they were get it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

Level = Literal["basic", "extended", "all"]
"""basic: standard operators alone; extended: ONNX Runtime's own too; all: laid out for the CPU that does it."""


def optimize_graph(source: Path, target: Path, level: Level, external: bool = False) -> dict[str, Any]:
    """Write the graph as ONNX Runtime runs it; the same graph, ONNX Runtime and CPU give the same file.

    Args:
        source: the ONNX file.
        target: the file to write.
        level: how far to go.
        external: write the weights beside the file, as `target`.data.

    Returns:
        How often each operator is there less (-) or more (+) than before.

    Raises what ONNX Runtime raises of a graph that it cannot load.
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
    settings.log_severity_level = 3  # of a layout for this CPU it warns; the manifest says so
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    settings.optimized_model_filepath = str(target)
    if external:
        prefix = "session.optimized_model_external_initializers"
        settings.add_session_config_entry(f"{prefix}_file_name", f"{target.name}.data")
        settings.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")  # as onnx_ir does
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])


def _operators(model: onnx.ModelProto) -> list[str]:
    return [f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node]


def _restore_ends(before: onnx.GraphProto, after: onnx.GraphProto) -> None:
    """The inputs and outputs as they were declared, as far as they are still there."""
    for given, kept in ((before.input, after.input), (before.output, after.output)):
        declared = {value.name: value for value in given}
        for value in kept:
            if value.name in declared:
                value.CopyFrom(declared[value.name])


def _restore_notes(before: Sequence[onnx.NodeProto], after: Sequence[onnx.NodeProto]) -> None:
    """Metadata of the nodes that make the same value by the same operator: what was fused has no single origin."""
    known = {(node.output[0], node.domain, node.op_type): node for node in before}
    for node in after:
        origin = known.get((node.output[0], node.domain, node.op_type))
        if origin is not None and not node.metadata_props:
            node.metadata_props.extend(origin.metadata_props)


def _drop_stale(model: onnx.ModelProto) -> None:
    """Remove what ONNX Runtime writes and nothing needs: its list of domains, types of values that are gone."""
    used = {node.domain for node in _all_nodes(model.graph)} | {function.domain for function in model.functions}
    imports = [entry for entry in model.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    made = {name for node in model.graph.node for name in node.output}
    kept = [value for value in model.graph.value_info if value.name in made]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Of the graph and of those inside its nodes."""
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                found += _all_nodes(body)
    return found
