"""Settings of pruning_latency.py: the models, their data, the ways to prune and the shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WHOLE = "onnx"
"""The artifact of the whole model."""


@dataclass(frozen=True)
class Setting:
    """Setup of the comparison for one model.

    Attributes:
        folder: of its data, in the folder given by `--data`.
        data: the recipe's, as YAML.
        shares: by way. Those of BASE reach further on both sides, so that the others lie between.
        prune, recover: options that both ways have in common.
        minutes: of recovery.
    """

    folder: str
    data: str
    shares: Mapping[str, Sequence[float]]
    prune: str
    recover: str
    minutes: float


BASE = "macs"
WAYS = {"macs": "of: macs", "macs-by-16": "of: macs, round_to: 16", "latency": "of: latency"}
"""Prunings to compare. By 16: how much of the gain of `of: latency` is that it knows the blocks of kernels."""

SETTINGS = {
    "fashion_cnn": Setting(
        "FashionMNIST/raw",
        """\
  training: {{factory: "python:fashion_cnn.data:samples", args: {{folder: {data}, split: train}}, samples: 20000}}
  calibration: null
""",
        {"macs": (0.4, 0.55, 0.7, 0.82), "macs-by-16": (0.5, 0.65), "latency": (0.45, 0.6, 0.72)},
        "most: 0.9",
        "epochs: 1000, patience: 1000",
        1.0,
    ),
    # A hundred pictures teach little, so the shares are small: what is pruned by a third has forgotten everything.
    "mobilenet_v2": Setting(
        "imagenet-500",
        """\
  training: {{images: {data}, samples: 100}}
  evaluation: {{images: {data}, samples: 400, labels: prefix}}
""",
        {
            "macs": (0.04, 0.08, 0.14, 0.22),
            "macs-by-16": (0.06, 0.12),
            "latency": (0.05, 0.1, 0.16),
        },
        "most: 0.9, importance: taylor",
        "epochs: 1000, patience: 1000, batch: 25, rate: 1.0e-4, augment: [flip]",
        1.5,
    ),
}
RECIPE = """\
extends: {base}
data:
{data}
gates: {{accuracy_drop: 100 points, parent_speedup: null, speedup: null}}
artifacts:
{artifacts}"""
