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

# of the square matrices: large enough that memory does not matter, 0.1 s at 150 GFLOP/s
_SIDE = 2048
_OPERATIONS = 2 * _SIDE**3
_REPEATS = 5
_PEAK_SECONDS = 120.0


def peaks(threads: int) -> dict[str, float]:
    """Return peak operations per second by precision (`fp32`, `bf16`, `int8`) with `threads`.

    Measured in a process of its own on first use, then read from the user's cache folder.
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
    """Run the products; the best of `_REPEATS` each."""
    best: dict[str, float] = {}
    torch = matrix_products(_SIDE, threads) if find_spec("torch") else []
    for precision, product in [*torch, *_onnx_products(threads)]:
        product()
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
        best[precision] = max(best.get(precision, 0.0), _OPERATIONS / min(times))
    return best


def _onnx_products(threads: int) -> list[tuple[str, Callable[[], Any]]]:
    """MatMul in float32 and with uint8 activations and int8 weights, whose kernels are the fastest on x86."""
    if not find_spec("onnx"):
        return []
    from onnx import TensorProto

    return [
        ("fp32", _onnx_product("MatMul", np.float32, np.float32, TensorProto.FLOAT, threads)),
        ("int8", _onnx_product("MatMulInteger", np.uint8, np.int8, TensorProto.INT32, threads)),
    ]


def _onnx_product(operator: str, left: Any, right: Any, result: int, threads: int) -> Callable[[], Any]:
    import onnxruntime
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 100, (_SIDE, _SIDE)).astype(left), rng.integers(0, 100, (_SIDE, _SIDE)).astype(right)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(np.dtype(left)), a.shape)],
        [helper.make_tensor_value_info("c", result, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


def _machine_key(threads: int) -> str:
    machine = describe()
    torch, onnxruntime = (machine["versions"].get(name) for name in ("torch", "onnxruntime"))
    facts = [machine["cpu"], machine["isa"], torch, onnxruntime, threads]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
