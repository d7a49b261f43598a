"""The error of a quantized graph before any engine or lowering: what its artifacts may err."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtimes.engines.onnx.onnx import PRECISE_BYTES
from runtimes.validator.outputs.honest import honest_samples, measure_errors
from runtimes.validator.reference import Reference


def expected_errors(
    graph: Path, reference: Reference, integers: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the errors of each output over the reference's samples, for the manifest, and notes.

    There are no errors, and a note, if ONNX Runtime cannot run the graph.

    Args:
        graph: after quantization.
        reference: has the samples and the truth.
        integers: whether the graph itself computes in integers, as a dynamic quantization does. Only
            complete optimization keeps these from saturating.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    # Constants are folded, but no quantized operator is fused: the graph's own arithmetic.
    levels = onnxruntime.GraphOptimizationLevel
    basic, complete = levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL
    settings.graph_optimization_level = complete if integers else basic
    settings.add_session_config_entry(PRECISE_BYTES, "1")
    names = list(reference.truth[0])
    answers = {}
    try:
        session = onnxruntime.InferenceSession(
            str(graph), settings, providers=["CPUExecutionProvider"]
        )
        for index in honest_samples(reference.probes):
            outputs = session.run(names, reference.probes[index].inputs)
            answers[index] = dict(zip(names, outputs, strict=True))
    except Exception as error:  # onnxruntime's exceptions share no base class
        return {}, [f"its error is not compared with that of its quantized graph: {error}"]
    errors = measure_errors(answers, reference)
    return {name: measured.rounded() for name, measured in errors.items()}, []
