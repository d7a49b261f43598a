"""Repeat tests while the cores are busy: `python tools/repeat_tests.py --times 100 TEST [TEST ...]`.

For tests of concurrency: what holds once on a quiet machine may fail when the scheduler stops a process in the
middle of a step. Each test runs so many times, in one pytest process, next to loops that keep every core busy; all
failures are counted, none ends the run. The exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Ends with its parent, however that ends.
_BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(10**6): pass"


class Repeated:
    """A pytest plugin that runs every test several times and counts how often each failed."""

    def __init__(self, times: int) -> None:
        self._times = times
        self.runs = Counter[str]()
        self.failures = Counter[str]()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give every test one more parameter, the number of the turn."""
        metafunc.fixturenames.append("turn_of_repetition")
        metafunc.parametrize(
            "turn_of_repetition", range(self._times), ids=lambda turn: f"turn{turn}"
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a run, and a failure in any of its phases."""
        name = report.nodeid.partition("turn")[0].rstrip("[-")
        self.runs[name] += report.when == "call"
        self.failures[name] += report.failed


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep so many cores busy."""
    command = [sys.executable, "-c", _BUSY, str(os.getpid())]
    loops = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    """Repeat the tests of the command line and report what failed how often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "tests", nargs="+", metavar="TEST", help="as pytest names them, with ::test_name or without"
    )
    parser.add_argument(
        "--times", type=int, default=100, help="how often each test runs (default: 100)"
    )
    parser.add_argument(
        "--busy", type=int, default=os.cpu_count() or 1, help="loops (default: one per core)"
    )
    given = parser.parse_args()
    os.chdir(ROOT)
    repeated = Repeated(given.times)
    with busy_cores(given.busy):
        pytest.main(["-q", "-p", "no:cacheprovider", *given.tests], plugins=[repeated])
    for name, runs in repeated.runs.items():
        print(f"{repeated.failures[name]:4} of {runs} failed: {name}")
    return int(not repeated.runs or bool(repeated.failures.total()))


if __name__ == "__main__":
    sys.exit(main())
