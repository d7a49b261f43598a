"""OpenVINO artifacts on the CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.artifact.artifact import MANIFEST, Artifact, publish
from runtimes.engines.openvino import openvino as engine
from runtimes.engines.openvino.openvino import OpenVinoRuntime, lacking, properties
from runtimes.errors import ArtifactError, BurnishError, InputError, Unavailable
from runtimes.files.layout import REFERENCE_FILE
from runtimes.machine.intel import INSTALL
from runtimes.machine.machine import cores
from runtimes.results import Row, Status
from runtimes.session import SessionOptions, load
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

pytestmark = pytest.mark.skipif(
    not find_spec("openvino"), reason=f"openvino is not installed: {INSTALL}"
)

Change = Callable[..., Artifact]


def noise(batch: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "image": np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
    }


def judge(artifact: Artifact, ir_build: Path) -> Row:
    return validate(
        [Target(artifact, "cpu")],
        Reference.load(ir_build / REFERENCE_FILE),
        lambda device: None,
        budget=0,
    )[0]


def test_the_cpu_is_always_there() -> None:
    assert OpenVinoRuntime().missing("cpu", {}) is None


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert (
        OpenVinoRuntime().missing("cpu", {})
        == "openvino is not installed: pip install 'burnish[openvino]'"
    )


@pytest.mark.parametrize("name", ["openvino", "openvino-bf16"])
def test_every_gate_holds(ir_build: Path, name: str) -> None:
    artifact = Artifact.open(ir_build / name)
    if problem := OpenVinoRuntime().missing("cpu", artifact.manifest.build):
        pytest.skip(problem)
    row = judge(artifact, ir_build)
    assert (row.status, row.reason) == (Status.PASSED, None)
    assert {gate.gate for gate in row.gates} >= {"precision", "parity", "batch", "deterministic"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cpu_without_the_precision_does_not_run_it_in_another(
    changed: Change, monkeypatch: pytest.MonkeyPatch, ir_build: Path, precision: str
) -> None:
    monkeypatch.setattr(engine, "_capabilities", lambda plugin: ("FP32", "INT8"))
    artifact = changed({"inference_precision": precision}, precision=precision)
    with pytest.raises(Unavailable, match=rf"does not compute in {precision} \(it does in fp32\)"):
        load(artifact.path)
    row = judge(artifact, ir_build)
    assert (row.status, row.reason) == (
        Status.BUILT,
        f"cannot run here: this CPU does not compute in {precision} (it does in fp32)",
    )


def test_the_precision_gate_believes_the_engine_and_not_the_manifest(
    changed: Change, ir_build: Path
) -> None:
    artifact = changed({"compute_layers": {"int8": 3}}, precision="int8")
    row = judge(artifact, ir_build)
    assert (row.status, row.reason) == (
        Status.FAILED,
        "precision: computing layers: 3 fp32; required int8",
    )


def test_float32_means_float32_whatever_the_cpu_prefers(ir_build: Path) -> None:
    import openvino

    with load(ir_build / "openvino") as session:
        assert session._fixed.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
        assert session.compute_layers() == {"fp32": 3}


@pytest.mark.skipif(
    not find_spec("openvino") or lacking("bf16") is not None,
    reason="this CPU does not compute in bf16",
)
def test_bfloat16_is_what_is_executed(ir_build: Path) -> None:
    with load(ir_build / "openvino-bf16") as session, load(ir_build / "openvino") as exact:
        assert session.compute_layers() == {"bf16": 3}
        error = session.run(noise())["logits"] - exact.run(noise())["logits"]
        assert 0 < np.abs(error).max() < 0.1


def test_threads_are_passed_on_and_not_pinned(ir_build: Path) -> None:
    with load(ir_build / "openvino", options=SessionOptions(threads=1)) as session:
        assert session._fixed.get_property("INFERENCE_NUM_THREADS") == 1
        assert session._fixed.get_property("ENABLE_CPU_PINNING") is False
    assert "INFERENCE_NUM_THREADS" not in properties({}, None)


def test_latency_is_one_request_at_a_time_on_all_threads(ir_build: Path) -> None:
    with load(ir_build / "openvino", options=SessionOptions(threads=2)) as session:
        assert session._fixed.get_property("PERFORMANCE_HINT") == "LATENCY"
        assert session._fixed.get_property("NUM_STREAMS") == 1


@pytest.mark.skipif(len(cores()) < 2, reason="on one core nothing runs at once")
def test_throughput_is_several_requests_at_once_each_on_a_stream_of_its_own(
    changed: Change,
) -> None:
    """Both threads hold a request before either has run one."""
    barrier, wanted = threading.Barrier(2), {}
    with load(changed({"hint": "throughput"}).path, options=SessionOptions(threads=2)) as session:
        assert session._fixed.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
        assert session._fixed.get_property("NUM_STREAMS") == 2
        assert session._fixed.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 2
        for size in (1, 4):
            wanted[size] = session.run(noise(size))["logits"]

        def serve(size: int) -> tuple[list[np.ndarray[Any, Any]], int]:
            request = session._request("fixed" if size == 1 else "ranges")
            barrier.wait(timeout=60)
            return [session.run(noise(size))["logits"] for _ in range(50)], id(request)

        for sizes in ((1, 1), (1, 4), (4, 4)):
            with ThreadPoolExecutor(2) as threads:
                served = list(threads.map(serve, sizes))
            assert served[0][1] != served[1][1], "a request of its own for each thread"
            for size, (answers, _) in zip(sizes, served, strict=True):
                for answer in answers:
                    np.testing.assert_allclose(answer, wanted[size], atol=1e-6)


def test_other_sizes_than_the_best_are_compiled_when_they_come(ir_build: Path) -> None:
    with load(ir_build / "openvino") as session:
        single = session.run(noise(1))["logits"]
        assert session._ranges is None
        concatenated = session.run(
            {"image": np.concatenate([noise(1)["image"], noise(4)["image"]])}
        )["logits"]
        assert session._ranges is not None
        assert concatenated.shape == (5, 10)
        np.testing.assert_allclose(concatenated[:1], single, atol=1e-5)
        with pytest.raises(InputError, match=r"batch=9, outside 1\.\.8"):
            session.run(noise(9))


def test_answers_are_copies_and_inputs_stay(ir_build: Path) -> None:
    with load(ir_build / "openvino") as session:
        inputs = noise(1)
        first = session.run(inputs)["logits"]
        copy = first.copy()
        session.run({"image": inputs["image"] + 1})
        assert np.array_equal(first, copy)
        assert np.array_equal(inputs["image"], noise(1)["image"])


def test_inputs_may_be_read_only_or_of_another_order(ir_build: Path) -> None:
    with load(ir_build / "openvino") as session:
        wanted, image = session.run(noise(2))["logits"], np.asfortranarray(noise(2)["image"])
        image.flags.writeable = False
        assert np.array_equal(session.run({"image": image})["logits"], wanted)


def test_several_threads_may_run_one_session(ir_build: Path) -> None:
    with load(ir_build / "openvino") as session, ThreadPoolExecutor(4) as threads:
        sizes = [1, 2, 3, 1, 2, 3, 1, 1] * 4
        wanted = {size: session.run(noise(size))["logits"] for size in set(sizes)}
        for size, outputs in zip(
            sizes, threads.map(lambda size: session.run(noise(size)), sizes), strict=True
        ):
            np.testing.assert_allclose(outputs["logits"], wanted[size], atol=1e-6)


def test_a_closed_session_does_not_run(ir_build: Path) -> None:
    session = load(ir_build / "openvino")
    session.close()
    with pytest.raises(BurnishError, match="closed"):
        session.run(noise())


@pytest.mark.parametrize("file", ["model.xml", "model.bin"])
def test_a_changed_file_is_refused_before_openvino_reads_it(
    ir_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    copy = Path(shutil.copytree(ir_build / "openvino", tmp_path / "copy"))
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    monkeypatch.setattr(OpenVinoRuntime, "open", lambda *arguments: pytest.fail("it was opened"))
    with pytest.raises(ArtifactError, match=f"{file} was changed after it was made"):
        load(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [("model.xml", b""), ("model.xml", b"<net>"), ("model.bin", b""), ("model.bin", None)],
)
def test_files_that_are_no_model_are_told_in_the_engines_words(
    ir_build: Path, tmp_path: Path, file: str, content: bytes | None
) -> None:
    """Their digests are right: they were broken before they were published."""
    broken = Artifact.open(shutil.copytree(ir_build / "openvino", tmp_path / "broken"))
    (broken.path / MANIFEST).unlink()
    if content is None:
        (broken.path / file).unlink()
    else:
        (broken.path / file).write_bytes(content)
    publish(broken.path, tmp_path / "published", broken.manifest)
    with pytest.raises(
        ArtifactError, match=r"(OpenVINO cannot load model\.xml: |model\.xml is refused: ).+"
    ):
        load(tmp_path / "published")


def test_nothing_is_kept_that_was_not_asked_for(ir_build: Path, caches: Path) -> None:
    with load(ir_build / "openvino") as session:
        session.run(noise())
    assert not caches.exists()


def test_what_was_compiled_is_kept_in_the_users_cache_and_used_again(
    ir_build: Path, caches: Path
) -> None:
    answers = []
    for cached in (False, True):
        with load(ir_build / "openvino", options=SessionOptions(cache=True)) as session:
            assert session._fixed.get_property("LOADED_FROM_CACHE") is cached
            answers += [session.run(noise(1))["logits"], session.run(noise(3))["logits"]]
    assert np.array_equal(answers[0], answers[2]) and np.array_equal(answers[1], answers[3])
    assert len(list(caches.glob("*/*.blob"))) == 2, "one for the best size, one for all"
    Artifact.open(ir_build / "openvino").verify()


def test_another_model_at_the_same_place_is_not_taken_from_the_cache(
    changed: Change, caches: Path
) -> None:
    artifact = changed()
    options = SessionOptions(cache=True)
    with load(artifact.path, options=options) as session:
        before = session.run(noise())["logits"]
    values = np.fromfile(artifact.path / "model.bin", np.float32)
    values[np.abs(values) > 1e-30] *= 2  # what is less is not a float but a size
    values.tofile(artifact.path / "model.bin")
    (artifact.path / MANIFEST).unlink()
    publish(artifact.path, artifact.path.with_name("again"), artifact.manifest)
    artifact.path.with_name("again").rename(artifact.path)
    with load(artifact.path, options=options) as session:
        assert not session._fixed.get_property("LOADED_FROM_CACHE")
        assert not np.allclose(session.run(noise())["logits"], before)


@pytest.mark.parametrize("damage", [b"", b"not a blob", None])
def test_a_damaged_cache_is_rebuilt(ir_build: Path, caches: Path, damage: bytes | None) -> None:
    options = SessionOptions(cache=True)
    with load(ir_build / "openvino", options=options) as session:
        wanted = session.run(noise())["logits"]
    (blob,) = caches.glob("*/*.blob")
    blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2] if damage is None else damage)
    with load(ir_build / "openvino", options=options) as session:
        assert np.array_equal(session.run(noise())["logits"], wanted)


def test_a_flipped_bit_in_the_cache_changes_no_answer(ir_build: Path, caches: Path) -> None:
    options = SessionOptions(cache=True)
    with load(ir_build / "openvino", options=options) as session:
        wanted = session.run(noise())["logits"]
    (blob,) = caches.glob("*/*.blob")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 64
    blob.write_bytes(content)
    with load(ir_build / "openvino", options=options) as session:
        assert not session._fixed.get_property("LOADED_FROM_CACHE")
        assert np.array_equal(session.run(noise())["logits"], wanted)


def test_a_cache_folder_that_cannot_be_made_is_done_without(ir_build: Path, caches: Path) -> None:
    caches.parent.mkdir(parents=True)
    caches.write_text("a file where a folder should be")
    with load(ir_build / "openvino", options=SessionOptions(cache=True)) as session:
        assert session.run(noise())["logits"].shape == (1, 10)


def test_running_an_artifact_imports_no_torch(ir_build: Path) -> None:
    code = """
import sys
import numpy, runtimes
with runtimes.load(sys.argv[1]) as session:
    outputs = session.run({"image": numpy.zeros((3, 3, 32, 32), numpy.float32)})
print(outputs["logits"].shape, sorted({"torch", "onnxruntime", "converters", "openvino"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(ir_build / "openvino")]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[4]
    )
    assert ended.stdout == "(3, 10) ['openvino']\n", ended.stderr
