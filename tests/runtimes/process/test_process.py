"""A child process answers, or its end is an answer."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from runtimes.artifact.artifact import Artifact
from runtimes.errors import UsageError
from runtimes.process.child import StepError, tell
from runtimes.process.process import (
    ALLOCATOR,
    Child,
    ChildDied,
    Limits,
    isolated,
    last_lines,
    stopwatch,
)

# A fresh interpreter rather than the server with torch: what is tested is the same, and starts
# sooner.
run = partial(isolated, what="the step", torch=False)


def test_the_result_comes_back() -> None:
    assert run(math.hypot, 3, 4) == 5


def test_the_function_runs_in_another_process() -> None:
    assert run(os.getpid) != os.getpid()


def test_an_object_keeps_its_state_between_calls() -> None:
    with Child(list, what="the list") as child:
        child.call("append", "first")
        child.call("append", "second")
        assert child.call("copy") == ["first", "second"]


def test_what_the_child_raises_is_told_with_its_traceback() -> None:
    with pytest.raises(StepError, match="ValueError: math domain error") as error:
        run(math.sqrt, -1)
    assert error.value.trace.startswith("Traceback")
    assert error.value.trace.endswith("ValueError: math domain error\n")


def test_what_the_child_tells_while_it_works_arrives_before_its_answer() -> None:
    messages: list[str] = []
    assert run(tell, "half done", listener=messages.append) is None
    assert messages == ["half done"]
    tell("to nobody")  # outside of a child nobody listens


def test_an_error_for_the_user_keeps_its_type_and_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an artifact"):
        run(Artifact.open, tmp_path)


def test_a_child_that_raised_still_answers() -> None:
    with Child(list, what="the list") as child:
        with pytest.raises(StepError, match="IndexError"):
            child.call("pop")
        assert child.call("copy") == []


def test_out_of_memory_is_told_as_such() -> None:
    with pytest.raises(StepError, match=r"^out of memory"):
        run(bytes, 1 << 60)


def test_a_result_that_cannot_travel_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(StepError, match="cannot pickle"):
        run(threading.Lock)


def test_sys_exit_is_an_error() -> None:
    with pytest.raises(StepError, match="SystemExit: 3"):
        run(sys.exit, 3)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_the_signal_that_killed_the_child_is_named(name: str) -> None:
    with pytest.raises(ChildDied, match=f"^the step was killed by {name}"):
        run(signal.raise_signal, getattr(signal, name))


def test_sigkill_hints_at_memory() -> None:
    with pytest.raises(ChildDied, match=r"SIGKILL \(out of memory\?\)"):
        run(signal.raise_signal, signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 7])
def test_an_exit_without_an_answer_is_told_with_its_code(code: int) -> None:
    with pytest.raises(ChildDied, match=f"the step ended with exit status {code} and no answer"):
        run(os._exit, code)


def test_a_child_that_died_is_still_dead_at_the_next_call() -> None:
    with Child(partial(os._exit, 7), what="the step") as child:
        for _ in range(2):
            with pytest.raises(ChildDied, match="exit status 7"):
                child.call("anything")


def test_a_child_that_hangs_is_stopped() -> None:
    with Child(partial(time.sleep, 600), what="the step") as child:
        with pytest.raises(ChildDied, match=r"the step gave no answer for 0\.2 s and was stopped"):
            child.call("anything", timeout=0.2)
        assert not child._process.is_alive()


def test_a_child_that_neither_speaks_nor_computes_is_stopped() -> None:
    clock = stopwatch()
    with pytest.raises(ChildDied, match="the step made no progress for 1 s and was stopped"):
        run(time.sleep, 600, limits=Limits(idle=1))
    assert clock() < 60


def test_a_child_that_computes_has_not_hung() -> None:
    assert run(sum, range(60_000_000), limits=Limits(idle=0.6)) == 1799999970000000


def test_a_child_that_takes_too_much_memory_is_stopped() -> None:
    with pytest.raises(ChildDied, match=r"the step was out of memory at its limit of 0\.5 GB"):
        run(
            eval,
            "[bytearray(b'x') * 10**9, __import__('time').sleep(600)]",
            limits=Limits(memory=500_000_000),
        )


def test_what_a_child_has_started_ends_with_it(tmp_path: Path) -> None:
    command = f"echo $$ > {tmp_path / 'pid'}; exec sleep 600"
    with pytest.raises(ChildDied):
        run(subprocess.run, ["sh", "-c", command], limits=Limits(idle=1))
    assert _ends(int((tmp_path / "pid").read_text()))


def test_an_exception_in_the_parent_kills_the_child() -> None:
    with pytest.raises(KeyboardInterrupt), Child(list, what="the list") as child:
        raise KeyboardInterrupt
    assert child._process.exitcode == -signal.SIGKILL


def test_closing_ends_the_child_in_peace() -> None:
    with Child(list, what="the list") as child:
        child.call("copy")
    assert child._process.exitcode == 0


def test_output_goes_to_the_log_and_not_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "step.log"
    run(os.write, 1, b"from below Python\n", log=log)
    with pytest.raises(StepError):
        run(math.sqrt, -1, log=log)
    text = log.read_text(encoding="utf-8")
    assert text.startswith("from below Python\n")
    assert "ValueError: math domain error" in text
    assert capfd.readouterr() == ("", "")


def test_a_crash_leaves_the_stack_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    with pytest.raises(ChildDied):
        run(signal.raise_signal, signal.SIGSEGV, log=log)
    assert "Fatal Python error: Segmentation fault" in log.read_text(encoding="utf-8")


def test_a_child_ignores_ctrl_c() -> None:
    assert run(signal.getsignal, signal.SIGINT) is signal.SIG_IGN


def test_children_get_the_shared_allocator_and_the_parent_keeps_its_own() -> None:
    before = {key: os.environ.get(key) for key in ALLOCATOR}
    assert {key: run(os.getenv, key) for key in ALLOCATOR} == ALLOCATOR
    assert {key: os.environ.get(key) for key in ALLOCATOR} == before


@pytest.mark.parametrize("torch", [False, True])
def test_the_users_script_is_not_run_again(tmp_path: Path, torch: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from runtimes.process.process import isolated\n"
        "print('started', flush=True)\n"  # at the top level, with no guard by __name__
        f"assert isolated(os.getpid, what='the step', torch={torch}) != os.getpid()\n"
        "print('done')\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(),
    )
    assert (ended.stdout, ended.returncode) == ("started\ndone\n", 0), ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("torch", [False, True])
def test_a_busy_child_dies_with_its_parent(tmp_path: Path, torch: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib, os, signal, threading, time\n"
        "from functools import partial\n"
        "from runtimes.process.process import Child\n"
        f"child = Child(partial(importlib.import_module, 'time'), what='the clock', torch={torch})\n"
        "child.call('sleep', 0)\n"
        "threading.Thread(target=child.call, args=('sleep', 600), daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(),
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert _ends(int(ended.stdout))


def _ends(pid: int) -> bool:
    """Whether the process is gone, or a zombie that nobody has collected, within some seconds."""
    status, clock = Path(f"/proc/{pid}/status"), stopwatch()
    while clock() < 10:
        try:
            if "State:\tZ" in status.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def _environment() -> dict[str, str]:
    """Where a script outside the repository finds these packages."""
    return os.environ | {"PYTHONPATH": str(Path(sys.modules["runtimes"].__path__[0]).parent)}


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    assert last_lines(log) == ""
    log.write_bytes(b"one\ntwo\nthree\xff\n")
    assert last_lines(log, 2) == "two\nthree\ufffd"


def test_a_server_that_is_killed_while_it_loads_is_named(tmp_path: Path) -> None:
    """As by a kernel that is out of memory."""
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "killer.py").write_text(kill, encoding="utf-8")
    code = (
        "from runtimes.process.process import isolated, preload\n"
        "preload('killer')\n"
        "isolated(int, what='a step')\n"
    )
    environment = _environment()
    environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment
    )
    assert "a step could not be started: the process that imports PyTorch" in ended.stderr
    assert "ChildDied" in ended.stderr
