"""Progress of the command line: live lines on a terminal, a line per event elsewhere, nothing when quiet."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import Result

import burnish
from burnish.progress import progress
from burnish.report.live import Display, clock, count_text, done_share
from runtimes.progress import Count, Counts, Progress
from tests.burnish.screen import Screen
from tests.security.forgery import ESCAPES, check_clean

PROBES = (Count("probes", 120, 400),)
NESTED = (Count("epochs", 2, 9, limit=True), Count("batches", 12, 50))


class Terminal:
    """A display on a terminal of some width, and a clock that a test turns."""

    def __init__(self, width: int, height: int = 24) -> None:
        self.file, self.now, self.screen = io.StringIO(), 0.0, Screen(width)
        out = Console(
            file=self.file, force_terminal=True, width=width, height=height, highlight=False
        )
        self.display = Display(out, lambda: self.now)

    @property
    def text(self) -> str:
        """Draw, and look."""
        self.display._draw()
        self.feed()
        return self.screen.text

    def feed(self) -> None:
        """Have the screen show what was written."""
        self.screen.feed(self.file.getvalue())
        self.file.seek(0)
        self.file.truncate()


@pytest.fixture(autouse=True)
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen is drawn when a test asks for it."""
    monkeypatch.setattr("burnish.report.live._TICK_SECONDS", 3600)


@pytest.fixture(params=[60, 80, 120])
def terminal(request: pytest.FixtureRequest) -> Terminal:
    return Terminal(request.param)


def test_several_steps_are_several_lines_with_what_counts_them_last(terminal: Terminal) -> None:
    with terminal.display as display:
        display.report(Progress(0, "artifacts", (Count("done", 5, 8),), overall=True))
        display.report(Progress(1, "loading torchvision:resnet18", PROBES))
        display.report(Progress(2, "exporting onnx"))
        terminal.now = 75.0
        first, second, last = terminal.text.splitlines()
    assert re.fullmatch(r"loading torch.*probes 120/400 +1:15 +2:55 left", first)
    assert re.fullmatch(r"exporting onnx .* 1:15", second), "it is not known how long that takes"
    assert re.fullmatch(r"artifacts .* done 5/8 +1:15", last)


def test_afterwards_nothing_is_left(terminal: Terminal) -> None:
    with terminal.display as display:
        display("loading")
        display.report(Progress(0, "artifacts", (Count("done", 0, 8),), overall=True))
        display.report(Progress(1, "loading", PROBES))
        assert "probes" in terminal.text
        assert not terminal.screen.cursor
        display.report(Progress(1, "loading", ended=True))
        assert "probes" not in terminal.text
        assert "artifacts" in terminal.text
    terminal.feed()
    assert terminal.screen.text == ""
    assert terminal.screen.cursor


def test_an_interrupt_leaves_a_clean_terminal(terminal: Terminal) -> None:
    with contextlib.suppress(KeyboardInterrupt), terminal.display as display:
        display.report(Progress(1, "loading", PROBES))
        display("pruning " * 50)
        assert "probes" in terminal.text
        terminal.screen.feed("^C")  # a terminal shows what is typed, where the cursor is
        raise KeyboardInterrupt
    terminal.feed()
    assert (terminal.screen.text, terminal.screen.cursor) == ("", True)


def test_long_words_are_cut_off_and_never_wrap(terminal: Terminal) -> None:
    """The screen refuses what is wider than it is."""
    with terminal.display as display:
        display("a message " * 30)
        display.report(
            Progress(1, "timing " + ", ".join(f"artifact-{number}" for number in range(30)), NESTED)
        )
        terminal.now = 4000.0
        words, message = terminal.text.splitlines()
    assert "…" in words
    assert "epochs 2/9" in words
    assert ("batches 12/50" in words) == (terminal.screen.width >= 80)
    assert message.endswith("…")


def test_what_stands_beside_a_count_stays_in_its_place(terminal: Terminal) -> None:
    with terminal.display as display:
        places = set()
        for done in (0, 7, 99, 400):
            display.report(Progress(1, "loading", (Count("probes", done, 400),)))
            places.add(terminal.text.splitlines()[0].index("probes"))
        assert len(places) == 1


def test_more_steps_than_lines_of_the_terminal() -> None:
    terminal = Terminal(80, height=6)
    with terminal.display as display:
        display.report(Progress(99, "artifacts", (Count("done", 5, 40),), overall=True))
        for number in range(30):
            display.report(Progress(number, f"step {number}"))
        lines = terminal.text.splitlines()
    assert len(lines) <= 5
    assert lines[-1].startswith("artifacts")


def test_while_time_is_measured_only_who_reports_draws() -> None:
    """Not the clock: it would take a core from what is timed."""
    terminal = Terminal(80)
    with terminal.display as display:
        display.report(Progress(1, "timing onnx", timed=True))
        assert not display._untimed.is_set(), "the clock waits"
        terminal.feed()
        assert "timing onnx" in terminal.screen.text, "drawn before it begins"
        display.report(
            Progress(1, "timing onnx", (Count("seconds", 0, 40, limit=True),), timed=True)
        )
        terminal.now = 0.5
        display.report(
            Progress(1, "timing onnx", (Count("seconds", 4, 40, limit=True),), timed=True)
        )
        terminal.feed()
        assert "seconds  0/40" in terminal.screen.text, "not so soon again"
        terminal.now = 10.0
        display.report(
            Progress(1, "timing onnx", (Count("seconds", 10, 40, limit=True),), timed=True)
        )
        terminal.feed()
        assert re.search(r"seconds 10/40 +0:10 +<0:30 left", terminal.screen.text)
        display.report(Progress(1, "timing onnx", timed=True, ended=True))
        assert display._untimed.is_set()


def test_what_comes_from_elsewhere_is_not_obeyed() -> None:
    terminal = Terminal(400)
    with terminal.display as display:
        display(f"{ESCAPES} and more")
        display.report(Progress(1, ESCAPES, (Count(ESCAPES, 1, 2),)))
        lines = terminal.text.splitlines()  # the screen knows no other codes than rich's
        assert len(lines) == 2
    for line in lines:
        check_clean(line)


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_ends_the_display_and_not_the_work() -> None:
    terminal = Terminal(80)
    with terminal.display as display:
        display.report(Progress(1, "loading", PROBES))
        display._out.file = Gone()
        display._draw()
        display.report(Progress(1, "loading", ended=True))
        display("still working")


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ((), None),
        ((Count("probes", 3),), None),
        ((Count("probes", 1, 4),), 0.25),
        ((Count("epochs", 1, 4), Count("batches", 5, 10)), 0.375),
        ((Count("ranges", 0, 2), Count("samples", 5)), 0.0),
        ((Count("things", 0, 0),), 1.0),
        ((Count("epochs", 4, 4), Count("batches", 5, 10)), 1.0),
    ],
)
def test_the_share_that_is_done(counts: Counts, share: float | None) -> None:
    assert done_share(counts) == share


def test_counts_in_words() -> None:
    assert (
        count_text((*NESTED[:1], Count("parts", 1, 2), *NESTED[1:]), both=True)
        == "epochs 2/9, batches 12/50"
    )
    assert count_text(NESTED, both=False) == "epochs 2/9"
    assert count_text((Count("probes", 3),), both=True) == "probes 3"
    assert count_text((), both=True) == ""


def test_times() -> None:
    assert [clock(seconds) for seconds in (-1, 0.4, 65, 7265)] == [
        "0:00",
        "0:00",
        "1:05",
        "2:01:05",
    ]


def test_off_a_terminal_each_event_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a log of CI
    with progress(False) as tell:
        tell("loading x")
        tell("exporting onnx")
    shown = capsys.readouterr()
    assert re.fullmatch(r" +0\.\d s  loading x\n +0\.\d s  exporting onnx\n", shown.err)
    assert shown.out == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(True) as tell:
        tell("loading")
    assert capsys.readouterr() == ("", "")


def test_off_a_terminal_a_build_says_what_it_did_before(
    invoke: Callable[..., Result], tiny_recipe: Path, tmp_path: Path
) -> None:
    result = invoke(
        "convert", tiny_recipe, "-o", tmp_path / "out", "--no-speed", "--no-cache", "--json"
    )
    assert [line[10:] for line in result.stderr.splitlines()] == [
        "loading python:user_tiny:Net",
        "exporting torchscript",
        "checking the numbers of torchscript on cpu",
    ]
    assert result.stdout.startswith("{")


_SAMPLES = """
import time

import numpy as np


class Slow:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        time.sleep(0.05)
        return np.random.default_rng(index).normal(size=(3, 32, 32)).astype(np.float32)


def build():
    return Slow()
"""


def on_a_pty(command: list[str], columns: int) -> SimpleNamespace:
    """Run a program on a terminal of its own, and look at it to the end."""
    parent, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    unlike = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
    environment = {name: value for name, value in os.environ.items() if name not in unlike}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(Path(burnish.__file__).parents[1])}
    screen, decode = Screen(columns), codecs.getincrementaldecoder("utf-8")()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        written = ""
        while True:
            try:
                read = os.read(parent, 1 << 16)
            except OSError:  # so does Linux report that nobody has the terminal open any more
                break
            if not read:
                break
            written += decode.decode(read)
    os.close(parent)
    screen.feed(written)
    return SimpleNamespace(screen=screen, code=process.returncode)


def test_a_build_on_a_terminal(small_recipe: Path, tmp_path: Path) -> None:
    small_recipe.with_name("slow_samples.py").write_text(_SAMPLES, encoding="utf-8")
    recipe = small_recipe.with_name("watched.yaml")
    recipe.write_text(
        "extends: small\n"
        "data: {evaluation: {factory: 'python:slow_samples:build'}}\n"
        "artifacts: {onnx: null, tensorrt: null}\n",
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "burnish",
        "convert",
        str(recipe),
        "-o",
        str(tmp_path / "out"),
        "--no-speed",
    ]
    done = on_a_pty(command, columns=80)
    assert done.code == 0, done.screen.text
    seen = "\n".join(done.screen.seen)
    counts = [int(done) for done in re.findall(r"samples +(\d+)/24", seen)]
    assert len(set(counts)) > 2, "the counts of the child that reads samples"
    assert counts == sorted(counts)
    for words in (
        "artifacts",
        "done 0/1",
        "loading python:small_cnn:build",
        "checking the numbers",
        "probes",
    ):
        assert words in seen
    assert done.screen.cursor
    for words in ("artifacts", "checking", "loading", "probes", "exporting"):
        assert words not in done.screen.text, "the result alone is left"
    assert re.search(r"^ *torchscript +cpu +passed", done.screen.text, re.MULTILINE)
