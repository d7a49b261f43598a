"""Where an artifact's time goes: shares of its operators, by the engine's own profiler."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from runtimes.artifact.artifact import Artifact
from runtimes.spec import Arrays

RUNS = 40


def shares(artifact: Artifact, inputs: Arrays, threads: int) -> dict[str, float]:
    """Share of the time of each kind of operator, the largest first."""
    times = (
        _openvino(artifact, inputs, threads)
        if artifact.manifest.runtime == "openvino"
        else _onnx(artifact, inputs, threads)
    )
    total = sum(times.values())
    return {kind: value / total for kind, value in times.most_common() if total}


def _onnx(artifact: Artifact, inputs: Arrays, threads: int) -> Counter[str]:
    import onnxruntime

    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.intra_op_num_threads = True, threads
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(artifact.entry), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(RUNS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    return times


def _openvino(artifact: Artifact, inputs: Arrays, threads: int) -> Counter[str]:
    import openvino

    core = openvino.Core()
    model = core.read_model(artifact.entry)
    model.reshape({name: list(array.shape) for name, array in inputs.items()})
    settings = {
        "PERF_COUNT": True,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": artifact.manifest.build.get("inference_precision", "f32"),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    times: Counter[str] = Counter()
    for _ in range(RUNS):
        request.infer(inputs)
        for one in request.profiling_info:
            times[one.node_type] += one.real_time.total_seconds()
    return times


def in_words(found: dict[str, float], most: int = 4) -> str:
    """The largest shares."""
    return ", ".join(f"{kind} {share:.0%}" for kind, share in list(found.items())[:most])


_MATRICES = (
    "Conv",
    "FullyConnected",
    "MatMul",
    "Gemm",
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "DynamicQuantize",
)


def left_to_gain(found: dict[str, float], gain: float) -> str:
    """Time that all but the engine's kernels for products would have to save for a speed-up of `gain`."""
    products = sum(share for kind, share in found.items() if kind.startswith(_MATRICES))
    said = f"The engine's own kernels for products take {products:.0%}: "
    if 1 / gain <= products:
        return f"{said}were all else free, it would be {1 / products:.2f}x as fast, and {gain:.2f}x is asked."
    return f"{said}all else would have to take {(1 - 1 / gain) / (1 - products):.0%} less."
