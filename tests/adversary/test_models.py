"""Correct models of the kinds that people convert, really exported and run, pass."""

from __future__ import annotations

import copy
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.openvino import OpenVinoExporter, OpenVinoOptions
from converters.exporters.torch.torchscript import TorchScriptExporter, TorchScriptOptions
from runtimes.artifact.artifact import publish
from runtimes.session import SessionOptions, load
from tests.adversary.harness import Subject, module_of, studied, verdict
from tests.adversary.models import detection, language, signals, vision
from tests.manifests import exported_manifest

MODELS = (*vision.MODELS, *detection.MODELS, *language.MODELS, *signals.MODELS)
BY_NAME = {model.name: model for model in MODELS}
# Some of each kind by torch.export, which takes seconds for each; the others by tracing.
DYNAMO = (
    "resnet",
    "segmenter",
    "bert",
    "decoder",
    "clip",
    "best cells",
    "streaming",
    "recommender",
)
# And in the other formats: what differs there is the engine.
OPENVINO = ("mobilenet", "unet", "vit", "bert", "gru", "streaming", "temperature", "best cells")
TORCHSCRIPT = ("resnet", "segmenter", "clip", "lstm", "grid detector", "recommender", "counts")


def _exported(subject: Subject, folder: Path, format: str, dynamo: bool = False) -> Exported:
    """Write the files of an artifact; `dynamo`: by torch.export, else by tracing."""
    facts, model = studied(subject).facts, copy.deepcopy(module_of(subject))
    folder.mkdir()
    job = ExportJob(model, facts, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format == "onnx":
            exporter: Any = "dynamo" if dynamo else "torchscript"
            return OnnxExporter().export(job, OnnxOptions(format="onnx", exporter=exporter))
        if format == "torchscript":
            options = TorchScriptOptions(format="torchscript", method="trace")
            return TorchScriptExporter().export(job, options)
        graph = folder.with_name("graph")
        _exported(subject, graph, "onnx")
        from_graph = ExportJob(None, facts, folder, graph / "model.onnx")
        return OpenVinoExporter().export(from_graph, OpenVinoOptions(format="openvino"))


def _problems(subject: Subject, folder: Path, format: str, dynamo: bool = False) -> list[str]:
    """Return why a really exported artifact of a subject is not passed."""
    exported = _exported(subject, folder / "files", format, dynamo)
    facts = studied(subject).facts
    manifest = exported_manifest(exported, facts, format, model=subject.name, task=subject.task)
    artifact = publish(folder / "files", folder / "published", manifest)
    with load(artifact.path, "cpu", SessionOptions(threads=1)) as session:
        failed = verdict(artifact.manifest, session, studied(subject).reference)
    return [f"{result.gate}: {result.detail}" for result in failed]


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in DYNAMO])
def test_a_right_onnx_artifact_passes(name: str, tmp_path: Path) -> None:
    assert _problems(BY_NAME[name], tmp_path, "onnx") == []


@pytest.mark.parametrize("name", DYNAMO)
def test_a_right_onnx_artifact_of_torch_export_passes(name: str, tmp_path: Path) -> None:
    assert _problems(BY_NAME[name], tmp_path, "onnx", dynamo=True) == []


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("name", OPENVINO)
def test_a_right_openvino_artifact_passes(name: str, tmp_path: Path) -> None:
    assert _problems(BY_NAME[name], tmp_path, "openvino") == []


@pytest.mark.parametrize("name", TORCHSCRIPT)
def test_a_right_torchscript_artifact_passes(name: str, tmp_path: Path) -> None:
    assert _problems(BY_NAME[name], tmp_path, "torchscript") == []


def test_there_are_24_models_or_more() -> None:
    assert len(BY_NAME) == len(MODELS) >= 24
