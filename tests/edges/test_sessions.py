"""Sessions under threads, processes and event loops; the memory, inputs and answers of each."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

import burnish
from runtimes.errors import ArtifactError, InputError, UsageError
from runtimes.session import MOST_THREADS, Session, SessionOptions
from runtimes.spec import Arrays, TensorSpec
from tests.edges.conftest import (
    FORMATS,
    ROWS,
    WIDTH,
    network,
    samples,
    save_exported,
    save_onnx,
    save_torchscript,
    weight_arrays,
)

every_format = pytest.mark.parametrize("name", FORMATS)
Paths = dict[str, Path]


def expected(inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weights = weight_arrays()  # NumPy's threads survive a fork, torch's do not
    answer: np.ndarray[Any, Any] = np.maximum(inputs @ weights["first"], 0) @ weights["second"]
    return answer


def opened(path: Path, threads: int | None = 2) -> Session:
    return burnish.load(path, threads=threads, trust=True)


def check(session: Session, seed: int = 0) -> None:
    inputs = samples(seed)
    np.testing.assert_allclose(
        session.run({"x": inputs})["y"], expected(inputs), rtol=1e-3, atol=1e-4
    )


# Memory


class Keeps(nn.Module):
    """Writes to its input, and returns it, a view of it, and a buffer that the next call overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(ROWS, WIDTH))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x.mul_(2)
        self.kept.copy_(x)
        return x, x[:, :3], self.kept


def keeping(folder: Path, save: Callable[..., Path]) -> Path:
    outputs = {
        "y": {"shape": [ROWS, WIDTH]},
        "view": {"shape": [ROWS, 3]},
        "kept": {"shape": [ROWS, WIDTH]},
    }
    return save(Keeps(), folder, outputs=outputs, build={"optimize_for_inference": False})


@pytest.mark.parametrize("save", [save_torchscript, save_exported])
def test_a_model_that_writes_and_keeps_shares_no_memory_with_its_caller(
    tmp_path: Path, save: Callable[..., Path]
) -> None:
    with opened(keeping(tmp_path / "keeps", save)) as session:
        inputs = samples()
        before = inputs.copy()
        first = session.run({"x": inputs})
        np.testing.assert_array_equal(inputs, before)
        for name, other in (("y", "view"), ("y", "kept"), ("view", "kept")):
            assert not np.may_share_memory(first[name], first[other])
        assert not any(np.may_share_memory(array, inputs) for array in first.values())
        copies = {name: array.copy() for name, array in first.items()}
        second = session.run({"x": inputs * 5})
        for name, array in first.items():
            np.testing.assert_array_equal(array, copies[name])
        for array in second.values():
            array[:] = np.nan  # the caller's to write to
        third = session.run({"x": inputs})
        for name, array in third.items():
            np.testing.assert_array_equal(array, copies[name])


class Constant(nn.Module):
    """Returns its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ROWS, WIDTH))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, self.weight


@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("save", [save_torchscript, save_exported])
def test_a_weight_that_is_returned_stays_the_sessions(
    tmp_path: Path, save: Callable[..., Path], optimized: bool
) -> None:
    outputs = {name: {"shape": [ROWS, WIDTH]} for name in ("y", "weight")}
    build = {"optimize_for_inference": optimized}
    with opened(save(Constant(), tmp_path / "c", outputs=outputs, build=build)) as session:
        session.run({"x": samples()})["weight"][:] = 7
        assert (session.run({"x": samples()})["weight"] == 1).all()


def test_graphs_that_return_their_input_or_a_weight_do_not_share_it(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    with opened(save_onnx(nodes, tmp_path / "identity")) as session:
        inputs = samples()
        outputs = session.run({"x": inputs})
        assert not np.may_share_memory(outputs["y"], inputs)
        outputs["y"][:] = 0
        np.testing.assert_array_equal(inputs, samples())


@every_format
@pytest.mark.parametrize(
    "view",
    [
        lambda array: array,
        lambda array: array[::-1, ::-1],
        lambda array: np.asfortranarray(array),
        lambda array: np.broadcast_to(array[:1], array.shape),
        lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    ],
    ids=["plain", "reversed", "columns first", "one row for all", "read only"],
)
def test_inputs_and_answers_of_every_engine_are_the_callers(
    artifacts: Paths, name: str, view: Callable[[Any], Any]
) -> None:
    inputs = view(samples())
    before = inputs.copy()
    with opened(artifacts[name]) as session:
        first = session.run({"x": inputs})["y"]
        kept = first.copy()
        assert not np.may_share_memory(first, inputs)
        second = session.run({"x": samples(1)})["y"]
        assert not np.may_share_memory(first, second)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(inputs, before)
        second[:] = 0
    first += 1  # also after the session was closed


class Careless(Session):
    """An engine of another package: doubles its input in place, and answers in one buffer."""

    def __init__(self, answer: Callable[[Any], Any] = lambda array: array) -> None:
        spec = TensorSpec(shape=("rows", 4))
        super().__init__({"x": spec}, {"y": spec}, {})
        self.buffer, self.give = np.zeros((2, 4), np.float32), answer

    def _run(self, inputs: Arrays) -> Arrays:
        inputs["x"] *= 2
        self.buffer[:] = inputs["x"]
        return {"y": self.give(self.buffer)}


def test_an_engine_that_says_nothing_about_memory_is_copied_both_ways() -> None:
    session, inputs = Careless(), np.ones((2, 4), np.float32)
    first = session.run({"x": inputs})["y"]
    session.run({"x": inputs * 9})
    assert (inputs == 1).all()
    assert (first == 2).all()
    assert (session.answer({"x": inputs})["y"] == 2).all()
    assert (inputs == 2).all(), "a validator sees what the engine does"


# Inputs and options


@every_format
def test_masked_arrays_are_refused(artifacts: Paths, name: str) -> None:
    inputs = samples()
    with opened(artifacts[name]) as session:
        for mask in (inputs > 0, False, np.ma.nomask):
            with pytest.raises(InputError, match=r"'x' is a masked array.*array\.filled"):
                session.run({"x": np.ma.masked_array(inputs, mask)})
        check(session)


@pytest.mark.parametrize("threads", [0, -1, MOST_THREADS + 1, 5000, 2**31, 2**63])
def test_threads_without_sense_are_refused_with_the_limit(artifacts: Paths, threads: int) -> None:
    with pytest.raises(
        UsageError, match=rf"threads={threads}: must be 1 to {MOST_THREADS} on this"
    ):
        burnish.load(artifacts["onnx"], threads=threads)


@pytest.mark.parametrize("threads", [True, False, 2.0, "2", [2], np.float32(2)])
def test_threads_that_are_no_number_are_refused(threads: Any) -> None:
    with pytest.raises(UsageError, match="threads must be a whole number, not "):
        SessionOptions(threads=threads)


@every_format
@pytest.mark.parametrize("threads", [1, np.int64(2), 64])
def test_threads_with_sense_are_taken(artifacts: Paths, name: str, threads: Any) -> None:
    before = torch.get_num_threads()
    try:
        with opened(artifacts[name], threads) as session:
            check(session)
    finally:
        torch.set_num_threads(before)


# Answers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda array: array.astype(np.float64), r"'y' is float64\[2, 4\], expected float32\["),
        (lambda array: array[0], r"'y' is float32\[4\], expected float32\[rows, 4\]"),
        (lambda array: array[None], r"'y' is float32\[1, 2, 4\], expected"),
        (lambda array: [array, array], "'y' is a list, expected float32"),
        (lambda array: None, "'y' is a NoneType, expected float32"),
        (lambda array: {"y": array}, "'y' is a dict, expected float32"),
    ],
    ids=["dtype", "lower rank", "higher rank", "sequence", "nothing", "map"],
)
def test_an_answer_that_the_manifest_does_not_promise_is_an_error(
    answer: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(ArtifactError, match=f"not what the artifact's manifest promises: {words}"):
        Careless(answer).run({"x": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Cast", ["x"], ["y"], to=11), "'y' is float64"),
        (helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0), r"'y' is float32\[\]"),
        (helper.make_node("SequenceConstruct", ["x", "x"], ["y"]), "'y' is a list"),
    ],
    ids=["dtype", "rank", "sequence"],
)
def test_answers_of_a_real_engine_are_compared_too(tmp_path: Path, node: Any, words: str) -> None:
    import onnx

    folder = save_onnx([node], tmp_path / "g")
    model = onnx.load(folder / "model.onnx")
    model.graph.output[0].ClearField("type")  # whatever the node gives
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "manifest.json").unlink()
    from tests.edges.conftest import write

    write(folder, "onnx", "model.onnx")
    with opened(folder) as session, pytest.raises(ArtifactError, match=words):
        session.run({"x": samples()})


@pytest.mark.parametrize("save", [save_torchscript, save_exported])
def test_answers_of_torch_are_compared_too(tmp_path: Path, save: Callable[..., Path]) -> None:
    outputs = {"y": {"shape": [ROWS, WIDTH, 1]}}
    path = save(network(), tmp_path / "n", outputs=outputs)
    words = r"'y' is float32\[64, 256\], expected .*, 1\]"
    with opened(path) as session, pytest.raises(ArtifactError, match=words):
        session.run({"x": samples()})


# Threads, processes, event loops


@every_format
def test_threads_share_a_session_and_each_gets_its_own_answer(artifacts: Paths, name: str) -> None:
    with opened(artifacts[name]) as session, ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda seed: check(session, seed), range(24)):
            pass


@every_format
def test_an_event_loop_runs_a_session_in_its_threads(artifacts: Paths, name: str) -> None:
    async def all_at_once(session: Session) -> None:
        await asyncio.gather(*(asyncio.to_thread(check, session, seed) for seed in range(12)))

    with opened(artifacts[name]) as session:
        asyncio.run(all_at_once(session))


@every_format
def test_a_session_that_is_closed_while_it_runs_ends_in_words(artifacts: Paths, name: str) -> None:
    session, wrong = opened(artifacts[name]), []

    def keep_running() -> None:
        while True:
            try:
                check(session)
            except UsageError as error:
                assert "the session is closed; load the artifact again" in str(error)
                return
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=keep_running) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    closing = [threading.Thread(target=session.close) for _ in range(3)]
    for thread in closing:
        thread.start()
    for thread in [*threads, *closing]:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def _answer_elsewhere(paths: Paths, pipe: Any) -> None:
    for name, path in paths.items():
        with opened(path) as session:
            check(session)
        pipe.send(name)


def test_a_spawned_process_loads_and_runs(artifacts: Paths) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sessions = [opened(path) for path in artifacts.values()]
    process = context.Process(target=_answer_elsewhere, args=(artifacts, there))
    process.start()
    there.close()
    assert [here.recv() for _ in artifacts] == list(artifacts)
    process.join()
    assert process.exitcode == 0
    for session in sessions:
        check(session)
        session.close()


FORKING = """
    import os, sys, time
    from pathlib import Path

    from tests.edges.test_sessions import check, opened

    def fork(path, session):
        child = os.fork()
        if not child:
            try:
                check(session or opened(path), 1)
            except BaseException as error:
                sys.stderr.write(f"{path}: {error}")
                os._exit(1)
            os._exit(0)
        deadline = time.monotonic() + 60
        while not (done := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(child, 9)
                sys.exit(f"a child hangs: {path}")
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(done[1]) == 0

    for path in map(Path, sys.argv[1:]):
        session = opened(path)
        check(session)
        fork(path, session)
        fork(path, None)
        check(session, 2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_runs_its_parents_session_and_its_own(artifacts: Paths) -> None:
    paths = [artifacts[name] for name in ("onnx", "openvino", "torchscript", "torch-export")]
    subprocess.run(
        [sys.executable, "-c", dedent(FORKING), *paths],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=200,
    )


def test_a_fork_before_anything_was_computed_keeps_all_threads() -> None:
    code = """
        import os, torch, runtimes.engines.torch.session as engine
        torch.set_num_threads(3)
        child = os.fork()
        if not child:
            engine.use_threads(2)
            os._exit(torch.get_num_threads())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    """
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", dedent(code)], check=True, cwd=root, timeout=100)
