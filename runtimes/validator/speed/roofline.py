"""The roofline: this machine's rate in a large matrix product, per dtype, measured once and cached.

An artifact's compute share is its FLOP/s over this peak (Williams, Waterman, Patterson: Roofline,
2009). The peak is the best rate of the installed libraries: it is a property of the machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.engines.torch.session import matrix_products
from runtimes.files.atomic import write_atomically
from runtimes.machine.machine import cache_folder, describe
from runtimes.process.process import isolated

# Sides of the square matrices: the last is large enough that memory does not matter, 0.1 s at 150
# GFLOP/s.
_SIDES = (256, 512, 1024, 2048)
_REPEATS = 5
# A product that takes longer is not repeated, nor tried with larger matrices. On CPUs without
# instructions for bfloat16 PyTorch multiplies such matrices one number at a time: a minute for the
# last side, on an AVX2-only CPU.
_LONG_SECONDS = 0.5
_PEAK_SECONDS = 120.0


def peaks(threads: int) -> dict[str, float]:
    """Return peak operations per second by precision (`fp32`, `bf16`, `int8`) with `threads`.

    Measured in an isolated process on first use, then read from the user's cache folder.
    """
    return _read(threads) or _write(threads, {})


def beaten(threads: int, precision: str, reached: float) -> dict[str, float]:
    """Return the peaks, measured again if a session reached more: the machine was busy then.

    If no matrix product is as fast as the session's layers, the peak is the session's rate.
    """
    cached = peaks(threads)
    if reached <= cached.get(precision, math.inf):
        return cached
    return _write(threads, {**cached, precision: reached})


def _path(threads: int) -> Path:
    return cache_folder() / f"peaks-{_machine_key(threads)}.json"


def _read(threads: int) -> dict[str, float] | None:
    try:
        rates = json.loads(_path(threads).read_text(encoding="utf-8"))
        return {str(name): float(rate) for name, rate in rates.items()}
    except (OSError, ValueError, AttributeError):
        return None


def _write(threads: int, before: dict[str, float]) -> dict[str, float]:
    """Measure, and store the better rates of this measurement and `before`."""
    measured: dict[str, float] = isolated(
        measure,
        threads,
        what="the peak measurement",
        timeout=_PEAK_SECONDS,
        torch=bool(find_spec("torch")),
    )
    best = dict(before)
    for name, rate in measured.items():
        best[name] = max(rate, before.get(name, 0.0))
    _path(threads).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_path(threads), json.dumps(best) + "\n")
    return best


def measure(threads: int) -> dict[str, float]:
    """Return the best rate of each precision, over libraries and sizes of matrices."""
    best = _rates(_onnx_products, threads)
    if find_spec("torch"):
        for precision, rate in _rates(matrix_products, threads).items():
            best[precision] = max(rate, best.get(precision, 0.0))
    return best


Products = list[tuple[str, Callable[[], Any]]]
"""Precisions, each with a function that computes one product."""


def _rates(products: Callable[[int, int], Products], threads: int) -> dict[str, float]:
    """Return a library's operations per second by precision: the best of the sides tried."""
    best: dict[str, float] = {}
    slow: set[str] = set()
    for side in _SIDES:
        for precision, product in products(side, threads):
            if precision in slow:
                continue
            seconds = _fastest(product)
            best[precision] = max(best.get(precision, 0.0), 2 * side**3 / seconds)
            if seconds > _LONG_SECONDS:
                slow.add(precision)
    return best


def _fastest(product: Callable[[], Any]) -> float:
    """Return the seconds of the fastest run after a warm-up, or of a long warm-up."""
    times: list[float] = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
        if times[-1] > _LONG_SECONDS:
            return min(times)
    return min(times[1:])


def _onnx_products(side: int, threads: int) -> Products:
    """Return MatMul in float32 and in uint8 by int8, whose kernels are the fastest on x86."""
    if not find_spec("onnx"):
        return []
    from onnx import TensorProto

    return [
        ("fp32", _onnx_product("MatMul", np.float32, np.float32, TensorProto.FLOAT, side, threads)),
        (
            "int8",
            _onnx_product("MatMulInteger", np.uint8, np.int8, TensorProto.INT32, side, threads),
        ),
    ]


def _onnx_product(
    operator: str, left: Any, right: Any, result: int, side: int, threads: int
) -> Callable[[], Any]:
    import onnxruntime
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    a = rng.integers(0, 100, (side, side)).astype(left)
    b = rng.integers(0, 100, (side, side)).astype(right)
    left_type = helper.np_dtype_to_tensor_dtype(np.dtype(left))
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", left_type, a.shape)],
        [helper.make_tensor_value_info("c", result, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    return lambda: session.run(None, {"a": a})


def _machine_key(threads: int) -> str:
    machine = describe()
    torch, onnxruntime = (machine["versions"].get(name) for name in ("torch", "onnxruntime"))
    facts = [machine["cpu"], machine["isa"], torch, onnxruntime, threads]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
