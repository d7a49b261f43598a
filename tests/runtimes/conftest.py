"""Fixtures of the runtime's tests: artifacts of a foreign runtime with any behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from runtimes import registry
from runtimes.artifact.artifact import Artifact, Manifest, publish
from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.probes import Probe, synthetic_probes, with_limits
from runtimes.validator.reference import Reference

_PLUGIN = """
import os, signal, time

import numpy as np

from runtimes.session import Session


class Runtime:
    needs_torch = False

    def missing(self, device, build):
        return build.get("missing")

    def open(self, artifact, device, options):
        made = artifact.manifest
        if made.build["behaviour"] == "raises on load":
            raise RuntimeError("no engine today")
        return Linear(made.inputs, made.outputs, made.dims, made.build["behaviour"])


class Linear(Session):
    def __init__(self, inputs, outputs, dims, behaviour):
        super().__init__(inputs, outputs, dims)
        self.behaviour, self.answered = behaviour, set()
        self.calls, self.quick, self.before, self.last = 0, 0, 0.0, None
        self.seen, self.buffers = {}, {}

    def _run(self, inputs):
        answer = self._in_haste(inputs["x"])
        self.calls += 1
        return answer

    def _in_haste(self, x):
        match self.behaviour:
            case "repeats its last answer in haste":
                now = time.perf_counter()
                self.quick = self.quick + 1 if now - self.before < 0.02 else 0
                self.before = now
                # The probes that judge numbers come quickly too, but not so many of them.
                if self.quick < 60 or len(self.last["logits"]) != len(x):
                    self.last = self._answer({"x": x})
                return self.last
            case "is off by two after 100 calls" if self.calls > 100:
                return {"logits": self._answer({"x": x})["logits"] + np.float32(2)}
            case "looks up what it has seen":
                key = x.tobytes()
                if key not in self.seen:
                    time.sleep(0.005)
                    self.seen[key] = self._answer({"x": x})
                return {name: array.copy() for name, array in self.seen[key].items()}
            case "looks up arrays by their identity":
                if self.calls < 60:
                    return self._answer({"x": x})
                return self.seen.setdefault((id(x), x.shape), self._answer({"x": x}))
            case "takes its time":
                time.sleep(0.005)
            case "returns one of ten buffers":
                buffer = self.buffers.setdefault((self.calls % 10, len(x)), np.empty((len(x), 3), np.float32))
                buffer[:] = self._answer({"x": x})["logits"]
                return {"logits": buffer}
        return self._answer({"x": x})

    def _answer(self, inputs):
        again = inputs["x"].tobytes() in self.answered
        self.answered.add(inputs["x"].tobytes())
        size = np.abs(inputs["x"]).max()
        weight = np.linspace(-1, 1, 12).reshape(4, 3)
        logits = (inputs["x"].astype(np.float64) @ weight).astype(np.float32)
        match self.behaviour:
            case "is killed":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hangs":
                time.sleep(600)
            case "answers NaN":
                logits[0, 0] = np.nan
            case "answers NaN the second time" if again:
                logits[0, 0] = np.nan
            case "moves a little the second time" if again:
                logits *= np.float32(1 + 1e-5)
            case "changes its shape the second time" if again:
                logits = np.concatenate([logits, logits])
            case "answers NaN to large values" if size > 100:
                logits[0, 0] = np.nan
            case "adds a bias to small values" if size < 0.1:
                logits += np.float32(1e-3)
            case "is wrong at the largest batch" if len(logits) == 8:
                logits[7] += np.float32(1e-3)
            case "subtracts a share of the batch mean":
                logits -= np.float32(1e-3) * logits.mean(0)
            case "swaps two classes":
                logits = logits[:, [1, 0, 2]]
            case "is wrong by 1 %":
                logits *= np.float32(1.01)
            case "answers float64":
                logits = logits.astype(np.float64)
            case "drops a column":
                logits = logits[:, :2]
        return {"logits": logits}
"""

Make = Callable[..., Artifact]
LinearData = Callable[..., Reference]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a runtime called `linear` like a foreign package: by an entry point."""
    folder = tmp_path / "site"
    info = folder / "burnish_linear-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "burnish_linear.py").write_text(dedent(_PLUGIN), encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: burnish-linear\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[burnish.runtimes]\nlinear = burnish_linear:Runtime\nonnx = burnish_linear:Runtime\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(folder)
    registry._plugins.cache_clear()
    yield "linear"
    registry._plugins.cache_clear()


@pytest.fixture
def linear_reference() -> Reference:
    """Answers of a correct `linear` artifact: noise, batches of 3 and 8, and edge values."""
    return answered(
        synthetic_probes({"x": TensorSpec(shape=("batch", 4))}, {"batch": DimRange(max=8)})
    )


@pytest.fixture
def broken_before(tmp_path: Path) -> Callable[[Artifact, bytes], Artifact]:
    """Publish an artifact with `content` as its entry: only the engine can refuse it."""

    def make(artifact: Artifact, content: bytes) -> Artifact:
        artifact.entry.write_bytes(content)
        (artifact.path / "manifest.json").unlink()
        return publish(artifact.path, tmp_path / "published", artifact.manifest)

    return make


@pytest.fixture
def linear_data() -> LinearData:
    """Make the reference of a recipe with data: samples, labelled with eager's classes."""

    def make(samples: np.ndarray[Any, Any], labelled: bool = True) -> Reference:
        inputs, dims = {"x": TensorSpec(shape=("batch", 4))}, {"batch": DimRange(max=8)}
        classes = answered([Probe("all", {"x": samples})]).eager[0]["logits"].argmax(-1)
        probes = [
            Probe(
                f"sample {k}",
                {"x": samples[k : k + 1]},
                "data",
                {"batch": 1},
                (),
                (int(label),) * labelled,
            )
            for k, label in enumerate(classes)
        ]
        return answered(with_limits(probes, inputs, dims))

    return make


def answered(probes: list[Probe]) -> Reference:
    """The probes with what the linear model answers, in float32 and in float64."""
    weight = np.linspace(-1, 1, 12).reshape(4, 3)
    eager = [{"logits": probe.inputs["x"] @ weight.astype(np.float32)} for probe in probes]
    truth = [{"logits": probe.inputs["x"].astype(np.float64) @ weight} for probe in probes]
    return Reference(probes, eager, truth)


@pytest.fixture
def linear(plugin: str, tmp_path: Path) -> Make:
    """Make an artifact of the `linear` runtime with a given behaviour."""

    def make(behaviour: str = "is correct", **changes: object) -> Artifact:
        name = behaviour.replace(" ", "-").replace("%", "percent")
        folder = tmp_path / "work" / name
        folder.mkdir(parents=True)
        (folder / "model.txt").write_text("weights", encoding="utf-8")
        manifest = Manifest(
            burnish="1.0",
            name=name,
            format="linear",
            runtime=plugin,
            entry="model.txt",
            devices=("cpu",),
            model="python:linear:build",
            task="classification",
            inputs={"x": TensorSpec(shape=("batch", 4))},
            outputs={"logits": TensorSpec(shape=("batch", 3))},
            dims={"batch": DimRange(max=8)},
            build={"behaviour": behaviour},
        )
        return publish(folder, tmp_path / name, manifest.model_copy(update=changes))

    return make
