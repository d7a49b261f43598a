"""Quantized artifacts of a real model: layers in integers, layers that stay float, the manifest."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from converters.build.build import build
from converters.graph.unfused.openvino import find_unfused_in_openvino
from converters.passes.quantize.budgets.budget import Point, choose
from converters.passes.quantize.budgets.judge import Judge, UserJudge
from converters.passes.quantize.trial import Trial
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.engines.openvino.openvino import properties
from runtimes.machine.machine import own_cpu, supports
from runtimes.results import Build, Row, Status
from runtimes.spec import Arrays
from runtimes.validator.outputs.metric import UserMetric


@pytest.fixture(scope="module")
def rows(quantized_build: Path) -> dict[str, Row]:
    return {row.name: row for row in Build.read(quantized_build).artifacts}


def read_build(folder: Path, name: str) -> dict[str, Any]:
    return Artifact.open(folder / name).manifest.build


def test_all_pass_but_the_one_whose_budget_nothing_can_hold(rows: dict[str, Row]) -> None:
    ran = {name: row.status for name, row in rows.items() if row.status is not Status.BUILT}
    assert ran.pop("openvino-budget") is Status.FAILED
    assert {name: rows[name].reason for name in ran if ran[name] is not Status.PASSED} == {}
    assert rows["tensorrt-int8"].status is Status.BUILT


@pytest.mark.parametrize(
    "name", ["onnx-int8", "onnx-arm", "onnx-ort", "openvino-int8", "tensorrt-int8"]
)
def test_all_layers_compute_in_int8(quantized_build: Path, rows: dict[str, Row], name: str) -> None:
    assert read_build(quantized_build, name)["compute_layers"] == {"int8": 3}
    assert rows[name].precision == "int8"


def test_the_manifest_says_how(quantized_build: Path) -> None:
    report = read_build(quantized_build, "onnx-int8")["passes"][0]["quantize"]
    assert (report["quantizer"], report["layers"], report["quantized_layers"]) == ("nncf", 3, 3)
    assert (
        read_build(quantized_build, "onnx-ort")["passes"][0]["quantize"]["quantizer"]
        == "onnxruntime"
    )


def test_integer_kernels_are_fused_ahead_of_time(
    quantized_build: Path, rows: dict[str, Row]
) -> None:
    manifest = read_build(quantized_build, "onnx-fast")
    assert manifest["compute_layers"] == {"int8": 3}
    assert manifest["operators"]["QLinearConv"] == 2 and "Conv" not in manifest["operators"]
    assert (
        manifest["rewrites"]["unsigned_activations"] > 0
        and manifest["rewrites"]["optimize"]["Conv"] == "-2"
    )
    fast, plain = (rows[name].parity.sqnr_db or 0.0 for name in ("onnx-fast", "onnx-int8"))
    if supports("avx512_vnni", "avx_vnni", "amx_int8"):
        assert fast == pytest.approx(plain, abs=0.5)
    else:  # a final graph saturates there, others do not
        assert 10 < fast < plain + 0.5


def test_what_is_kept_float_is_counted_as_such_among_fused_kernels(quantized_build: Path) -> None:
    manifest = read_build(quantized_build, "onnx-fused-head")
    assert manifest["compute_layers"] == {"int8": 2, "fp32": 1}
    assert len(manifest["kept_layers"]) == 1


def test_an_excluded_layer_stays_float(quantized_build: Path) -> None:
    assert read_build(quantized_build, "onnx-head")["compute_layers"] == {"int8": 2, "fp32": 1}


@pytest.mark.parametrize(
    ("name", "kind"), [("onnx-int8", onnx.TensorProto.UINT8), ("onnx-arm", onnx.TensorProto.INT8)]
)
def test_activations_are_what_the_cpu_s_kernels_take(
    quantized_build: Path, name: str, kind: int
) -> None:
    graph = onnx.load(Artifact.open(quantized_build / name).entry).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zeros = {kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert zeros == {kind}
    assert not any(node.op_type in ("Relu", "Clip") for node in graph.node), (
        "saturation does their work"
    )


def test_both_cpus_get_the_same_model_to_the_bit(quantized_build: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (4, 3, 32, 32)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    paths = [str(Artifact.open(quantized_build / name).entry) for name in ("onnx-int8", "onnx-arm")]
    mine, theirs = (
        onnxruntime.InferenceSession(path, options).run(None, {"image": x})[0] for path in paths
    )
    assert np.array_equal(mine, theirs)


def test_the_report_says_which_cpu_a_graph_is_for(
    quantized_build: Path, rows: dict[str, Row]
) -> None:
    assert read_build(quantized_build, "onnx-ort")["cpu"] == own_cpu(), "auto: this machine's"
    other = "onnx-arm" if own_cpu() == "x86" else "onnx-int8"
    for name, cpu, rewrite in (("onnx-int8", "x86", "unsigned"), ("onnx-arm", "arm", "signed")):
        assert read_build(quantized_build, name)["cpu"] == cpu
        assert f"{rewrite}_activations" in read_build(quantized_build, name)["rewrites"]
        notes = [
            note
            for note in rows[name].notes
            if note.startswith(f"lowered for {cpu} CPUs: correct on this")
        ]
        assert len(notes) == (name == other)


def test_what_no_kernel_of_the_engine_takes_is_named(
    quantized_build: Path, rows: dict[str, Row]
) -> None:
    """The global average: ONNX Runtime has no integer kernel for ReduceMean, TensorRT has."""
    (left,) = read_build(quantized_build, "onnx-int8")["unfused"]
    assert left == {
        "layer": "6",
        "operator": "ReduceMean",
        "why": "there is no integer kernel for it",
    }
    assert (
        "1 quantized operator computes in float: no kernel fuses it (ReduceMean 6)"
        in rows["onnx-int8"].notes
    )
    assert read_build(quantized_build, "tensorrt-int8")["unfused"] == []


def test_what_openvino_executes_in_float_here_is_named(
    quantized_build: Path, rows: dict[str, Row]
) -> None:
    """Its choice of kernels depends on the CPU: the truth is its report of the artifact here."""
    import openvino

    entry = Artifact.open(quantized_build / "openvino-int8").entry
    build = read_build(quantized_build, "openvino-int8")
    model = openvino.Core().read_model(entry)
    fixed = model.clone()
    fixed.reshape({0: [1, 3, 32, 32]})
    left = find_unfused_in_openvino(
        openvino.Core().compile_model(fixed, "CPU", properties(build, None)), fixed, {}
    )
    named = build["unfused"]
    assert [(operator["operator"], operator["why"]) for operator in named] == [
        (operator.operator, operator.why) for operator in left
    ]
    assert {operator["layer"] for operator in named} <= {str(index) for index in range(9)}, (
        "by the modules' paths"
    )
    notes = [note for note in rows["openvino-int8"].notes if "in float: no kernel fuses" in note]
    assert len(notes) == bool(named)


def test_a_budget_keeps_layers_until_it_holds(quantized_build: Path, rows: dict[str, Row]) -> None:
    budget = read_build(quantized_build, "onnx-budget")["passes"][0]["quantize"]["budget"]
    assert budget["met"]
    assert len(budget["sensitivity"]) == 3
    assert [point["kept"] for point in budget["curve"]] == list(range(len(budget["curve"])))
    assert all(point["drop"] > 4 for point in budget["curve"][:-1])
    assert budget["curve"][-1]["drop"] <= 4
    assert read_build(quantized_build, "onnx-budget")["kept_layers"] == budget["kept"]
    sqnr = rows["onnx-budget"].parity.sqnr_db
    assert sqnr is not None and sqnr >= -20 * np.log10(0.04)


def test_a_budget_that_cannot_be_held_fails_and_says_how_close_it_came(
    rows: dict[str, Row],
) -> None:
    row = rows["openvino-budget"]
    assert row.reason is not None and "SQNR in dB is" in row.reason and "at least 100" in row.reason
    assert any(
        "the budget cannot be held" in note and "sqnr drops by" in note for note in row.notes
    )


def judge_of(samples: int, labelled: bool = False) -> Judge:
    """Samples of which each has a class of its own."""
    truth = [np.eye(4, dtype=np.float32)[[index % 4]] for index in range(samples)]
    labels = [index % 4 if labelled else None for index in range(samples)]
    return Judge([{"x": array} for array in truth], labels, truth)


class Wrong(Trial):
    """Takes another class for the first `count` samples it is asked for."""

    def __init__(self, count: int) -> None:
        self._left = count

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        self._left -= 1
        return [np.roll(inputs["x"], 1) if self._left >= 0 else inputs["x"]]

    def profile(self, inputs: Arrays) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("metric", ["agreement", "top1"])
def test_a_loss_has_the_interval_by_which_the_validators_gate_judges_it(metric: str) -> None:
    judge = judge_of(400, labelled=metric == "top1")
    loss = judge.loss(Wrong(8), metric)
    assert loss.drop == pytest.approx(2.0)
    assert 3 < loss.high < 4.5
    assert judge.least_provable(metric) == pytest.approx(judge.loss(Wrong(0), metric).high)
    assert judge.least_provable(metric) < 1.0
    assert judge_of(16, labelled=True).least_provable(metric) > 10


def test_the_signal_needs_no_interval() -> None:
    loss = judge_of(4).loss(Wrong(1), "sqnr")
    assert loss.drop == loss.high > 10
    assert judge_of(4).least_provable("sqnr") == 0


class Exact(Wrong):
    """Answers as eager does."""

    def __init__(self) -> None:
        super().__init__(0)


def user_judge(samples: int, better: bool, labelled: bool = True) -> Judge:
    """A judge by the share of the samples whose class is right, or wrong."""

    def right(outputs: Arrays, inputs: Arrays, labels: np.ndarray[Any, Any] | None) -> float:
        assert (labels is not None) is labelled
        expected = inputs["x"].argmax(-1) if labels is None else labels
        share = float(np.mean(outputs["y"].argmax(-1) == expected))
        return share if better else 1 - share

    judge = judge_of(samples, labelled)
    metric = UserMetric("right", right, better)
    user = UserJudge.of(metric, ["y"], Exact(), judge.inputs, judge.labels)
    return replace(judge, user=user)


@pytest.mark.parametrize("better", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_loss_is_that_of_the_users_metric(better: bool, labelled: bool) -> None:
    judge = user_judge(16, better, labelled)
    assert judge.user is not None and judge.user.eager == (1.0 if better else 0.0)
    loss = judge.loss(Wrong(4), "user")
    assert loss.drop == loss.high == pytest.approx(0.25)
    assert judge.least_provable("user") == 0


METRIC = """\
import numpy as np
from torch import nn


def build():
    return nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))


answers = []


def error(outputs, inputs, labels):
    assert labels is None and inputs["x"].shape == (32, 16)
    answers.append(outputs["y"])  # eager's come first
    return 1000 * float(np.abs(outputs["y"] - answers[0]).mean())
"""


@pytest.mark.parametrize(("limit", "status"), [(500, Status.PASSED), (1e-9, Status.FAILED)])
def test_a_budget_of_the_recipes_own_metric_is_held_and_gated(
    tmp_path: Path, limit: float, status: Status, own_imports: None
) -> None:
    (tmp_path / "user_budget.py").write_text(METRIC, encoding="utf-8")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((64, 16), np.float32))
    recipe = tmp_path / "net.yaml"
    recipe.write_text(
        "model: python:user_budget:build\nweights: random:0\ninputs: {x: {shape: [batch, 16]}}\n"
        "outputs: [y]\ndims: {batch: {max: 4}}\n"
        "data: {calibration: {arrays: x.npy, samples: 32}, evaluation: {arrays: x.npy, samples: 32}}\n"
        "metric: {function: 'python:user_budget:error', better: lower}\n"
        "artifacts: {small: {format: onnx, passes: [{quantize: {to: int8, metric: user, "
        f"max_drop: {limit}}}}}]}}}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    assert row.status is status, row.reason
    kept = read_build(tmp_path / "out", "small")["passes"][0]["quantize"]["budget"]["kept"]
    assert (len(kept) == 0) is (status is Status.PASSED)
    assert any(gate.detail.startswith("error is ") for gate in row.gates)
    assert any("error is worse by" in note for note in row.notes)


def test_a_budget_is_spent_as_far_as_the_samples_prove_it() -> None:
    curve = [
        Point(0, None, 6.0, 9.0, 1.0),
        Point(1, "a", 0.8, 2.0, 1.1),
        Point(2, "b", 0.1, 0.9, 1.2),
    ]
    assert choose(curve, 1.0).kept == 2, "proven"
    assert choose(curve[:2], 1.0).kept == 1, "held, but too few samples prove it"
    assert choose(curve[:1], 1.0).kept == 0, "the least loss of all"


CASES = {
    "dynamic": ("dynamic", {"int8": 2}),
    "weight-only": ("weight-only", {"int8": 2}),
    "int4": ("int4", {"int4": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_matrix_products_without_samples(tmp_path: Path, name: str) -> None:
    word, layers = CASES[name]
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 32))\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "net.yaml"
    recipe.write_text(
        "model: python:net:build\nweights: random:0\ninputs: {x: {shape: [batch, 64]}}\n"
        f"dims: {{batch: {{max: 4}}}}\nartifacts: {{small: {{format: onnx, passes: [{{quantize: {word}}}]}}}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    assert row.status is Status.PASSED, row.reason
    assert read_build(tmp_path / "out", "small")["compute_layers"] == layers


def test_products_without_weights_are_not_asked_to_have_quantized_ones(tmp_path: Path) -> None:
    """Attention multiplies computed values: as many products as layers with weights."""
    (tmp_path / "attend.py").write_text(
        "from torch import nn\n\n\nclass Attend(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)\n\n"
        "    def forward(self, x):\n        y = self.first(x)\n"
        "        return self.last((y @ y.mT).softmax(-1) @ y)\n\n\n"
        "def build():\n    return Attend()\n",
        encoding="utf-8",
    )
    recipe = tmp_path / "attend.yaml"
    recipe.write_text(
        "model: python:attend:build\nweights: random:0\ninputs: {x: {shape: [batch, 8, 64]}}\n"
        "dims: {batch: {max: 4}}\nartifacts: {small: {format: onnx, passes: [{quantize: int4}]}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    assert row.status is Status.PASSED, row.reason
    assert read_build(tmp_path / "out", "small")["compute_layers"] == {"int4": 2, "fp32": 2}
    assert len(read_build(tmp_path / "out", "small")["kept_layers"]) == 2


_READER = """
from torch import nn


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        )
        self.read, self.head = nn.LSTM(128, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x):
        columns = self.look(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.read(columns)[0])


def build():
    return Reader()
"""


def test_a_mode_is_held_to_what_it_promises_for_each_kind_of_layer(tmp_path: Path) -> None:
    """A reader of words: ONNX Runtime has int8 convolutions by ranges, and int8 LSTMs without."""
    (tmp_path / "reader.py").write_text(_READER, encoding="utf-8")
    recipe = tmp_path / "reader.yaml"
    recipe.write_text(
        "model: python:reader:build\nweights: random:0\n"
        "inputs: {x: {shape: [batch, 1, 16, 48]}}\ndims: {batch: {max: 4}}\n"
        "data: {calibration: {random: 0, samples: 8}}\nartifacts:\n"
        "  static: {format: onnx, passes: [{quantize: int8}]}\n"
        "  dynamic: {format: onnx, passes: [{quantize: dynamic}]}\n"
        "  weights: {format: onnx, passes: [{quantize: {mode: weight-only, exclude: [head]}}]}\n",
        encoding="utf-8",
    )
    rows = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts
    assert [row.status for row in rows] == [Status.PASSED, Status.PASSED, Status.ERROR]
    words = {
        row.name: next(gate.detail for gate in row.gates if gate.gate == "precision")
        for row in rows[:2]
    }
    assert words["static"].endswith("(3 of 4 layers); float by design: LSTM layers (1)")
    assert words["dynamic"].endswith("(2 of 4 layers); float by design: convolutions (2)")
    assert "would leave 99% of the multiply-adds float" in str(rows[2].reason)


@pytest.mark.parametrize(
    ("data", "quantize", "message"),
    [
        ("{arrays: nothing.npy}", "int8", "nothing.npy cannot be read"),
        ("{arrays: wrong.npy}", "int8", r"is \[7\], the input 'image' is"),
        ("{arrays: nan.npy}", "int8", "values that are NaN or infinite"),
        ("{random: 0, samples: 4}", "{to: int8, exclude: [layer9]}", "no layer is named 'layer9'"),
    ],
)
def test_bad_data_and_names_are_an_error_of_that_artifact(
    small_recipe: Path, tmp_path: Path, data: str, quantize: str, message: str
) -> None:
    np.save(small_recipe.with_name("wrong.npy"), np.zeros((4, 7), np.float32))
    np.save(small_recipe.with_name("nan.npy"), np.full((4, 3, 32, 32), np.nan, np.float32))
    recipe = small_recipe.with_name("bad.yaml")
    recipe.write_text(
        "extends: small\n"
        f"data: {{calibration: {data}}}\n"
        "artifacts: {torchscript: null, onnx: {}, tensorrt: null, "
        f"onnx-int8: {{format: onnx, passes: [{{quantize: {quantize}}}]}}}}\n",
        encoding="utf-8",
    )
    fine, bad = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts
    assert fine.status is Status.PASSED
    assert bad.status is Status.ERROR
    assert re.search(message, bad.reason or ""), bad.reason


def test_a_model_with_nothing_to_quantize(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.GELU()\n", encoding="utf-8"
    )
    recipe = tmp_path / "net.yaml"
    recipe.write_text(
        "model: python:net:build\ninputs: {x: {shape: [batch, 64]}}\ndims: {batch: {max: 4}}\n"
        "data: {calibration: {random: 0}}\nartifacts: {small: {format: onnx, passes: [{quantize: "
        "int8}]}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    assert row.status is Status.ERROR
    assert "no convolution, matrix product or recurrent layer to quantize" in str(row.reason)


DEAD = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU6()
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def build():
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        net.features[0].weight[2] = 0  # always its bias: of 2 above 0, of 5 below
        net.features[0].weight[5] = 0
        net.features[0].bias[2], net.features[0].bias[5] = 1, -1
        net.features[3].bias[1] = -100  # its ReLU never opens
        net.head.weight[3] = 0
    return net
"""


def test_dead_and_constant_channels_are_in_the_manifest_and_in_one_note(tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text(DEAD, encoding="utf-8")
    recipe = tmp_path / "dead.yaml"
    recipe.write_text(
        "model: python:dead:build\ninputs: {x: {shape: [batch, 3, 16, 16]}}\ndims: {batch: {max: "
        "4}}\ndata: {calibration: {random: 0, samples: 40}}\nartifacts: {small: {format: onnx, "
        "passes: [{quantize: {to: int8, method: onnxruntime}}]}}\n",
        encoding="utf-8",
    )
    row = build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts[0]
    report = read_build(tmp_path / "out", "small")["passes"][0]["quantize"]
    most = {kind: report[kind]["most"] for kind in ("dead", "constant")}
    # The exporter folds the normalization into the convolution, which is called after it then.
    assert most == {
        "dead": {"features.1": {"channels": 1, "of": 8}, "features.3": {"channels": 1, "of": 6}},
        "constant": {"features.1": {"channels": 1, "of": 8}, "head": {"channels": 1, "of": 4}},
    }
    assert {report[kind]["samples"] for kind in most} == {32}
    [note] = [note for note in row.notes if "channels of" in note]
    assert (
        "1 of 8 channels of features.1, and 1 of other layers, were dead (0 at every place) on all "
        "32" in note
    )
    assert "1 of 8 channels of features.1, and 1 of other layers, were constant on all 32" in note
