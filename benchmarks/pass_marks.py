"""Pass marks of the benchmarks: the scripts measure, and compare their results with these values."""

from __future__ import annotations

from typing import NamedTuple


class Rival(NamedTuple):
    """A row that an expert builds by hand, and the speed and agreement to reach beside it.

    Attributes:
        row: name of the rival.
        speedup: least ratio of the rival's latency to the artifact's.
        agreement: least share of pictures on which the artifact decides as eager does.
    """

    row: str
    speedup: float
    agreement: float


# fast_artifacts.py: by artifact, on MobileNetV2; on models with random weights SQNR takes the place of agreement.
RIVALS = {
    "onnx": Rival("onnx fp32", 1.0, 1.0),
    "openvino-bf16": Rival("openvino bf16", 1.0, 0.985),
    "onnx-int8": Rival("onnx int8, NNCF lowered", 1.1, 0.975),
    "openvino-int8": Rival("openvino int8, NNCF", 1.15, 0.97),
}
# fast_artifacts.py: the fastest artifact within an accuracy budget, beside the fastest one by hand.
BUDGET_ARTIFACTS = ("onnx-int8", "openvino-budget")
BUDGET_SPEEDUP, BUDGET_AGREEMENT = 1.15, 0.98
BUDGET_SQNR_DB = 20.0  # of the budget of 10 % rms


class Pruned(NamedTuple):
    """Speed and accuracy that a pruned artifact has to reach beside the whole one.

    Attributes:
        artifact: its name.
        base: artifact of the whole model.
        speedup: least ratio of the base's latency to the artifact's.
        accuracy_drop: largest loss of accuracy.
    """

    artifact: str
    base: str
    speedup: float
    accuracy_drop: float


# pruning.py: on Fashion-MNIST.
PRUNED = (Pruned("onnx-50", "onnx", 1.6, 0.003), Pruned("onnx-70", "onnx", 2.3, 0.008))
PRUNED_INT8_SPEEDUP = 2.0  # the fastest pruned int8 artifact over the fastest whole one

# convert_cost.py: as they stand in the table.
COSTS = {
    "help": "0.3 s",
    "recipe error": "0.7 s",
    "convert": "60 s",
    "validator": "30 s",
    "memory": "3 GB",
    "isolation": "5 %",
    "unchanged": "1.5 s",
}
