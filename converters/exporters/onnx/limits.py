"""The newest ONNX versions that the installed ONNX Runtime loads, found by trials."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import count

from converters.errors import ExportError

# Each ONNX Runtime that Burnish installs takes these: the search for the newest starts here.
_OPSET, _IR = 13, 7


def check_versions(opset: int, ir_version: int) -> None:
    """Raise ExportError if ONNX Runtime does not load graphs of this opset and IR version."""
    import onnxruntime

    if _loads(opset, ir_version):
        return
    newest = _newest(lambda version: _loads(version, _IR), _OPSET)
    newest_ir = _newest(lambda version: _loads(_OPSET, version), _IR)
    raise ExportError(
        f"the graph has opset {opset} and IR version {ir_version}; the installed ONNX Runtime "
        f"{onnxruntime.__version__} takes opsets up to {newest} and IR versions up to {newest_ir}"
    )


def _newest(works: Callable[[int], bool], first: int) -> int:
    return next(version for version in count(first) if not works(version + 1))


@cache
def _loads(opset: int, ir_version: int) -> bool:
    """Return whether a graph of one node loads."""
    import onnxruntime
    from onnx import TensorProto, helper

    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    identity = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([identity], "graph", [source], [result])
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # a refusal is the answer, not an error
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime's exceptions share no base class
        return False
    return True
