"""What a step read is found out, and told in words when it changes."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from converters.steps import child as run_step
from converters.steps import trace
from runtimes.process.process import isolated

Done = Callable[[Path, str], run_step.Done]
isolate = partial(isolated, what="the step", torch=False)


READS = """
import os, sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reads:
    home: Path
    code: str

    def __call__(self, folder, needs):
        sys.path.insert(0, str(self.home))
        exec(self.code, {"home": self.home, "folder": folder, "os": os, "Path": Path})
"""


@pytest.fixture
def done(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Done:
    """What a process that runs a piece of Python has seen. It must find the class of the step, as any step's."""
    place = tmp_path_factory.mktemp("step")
    (place / "reading_step.py").write_text(READS, encoding="utf-8")
    monkeypatch.syspath_prepend(place)

    def done(home: Path, code: str) -> run_step.Done:
        (home / "scratch").mkdir(exist_ok=True)
        reads = importlib.import_module("reading_step").Reads
        job = run_step.StepRequest(reads(home, code), home, (home / "ignored", place))
        found: run_step.Done = isolate(run_step.Hand().do, job, home / "scratch", {})
        return found

    return done


def files(found: run_step.Done) -> dict[str, str]:
    return {name: digest for name, digest in found.read.items() if name.split()[0] in ("file", "folder")}


def test_files_that_python_opens_are_seen(done: Done, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    before = files(done(tmp_path, "open(home / 'data.txt').read()"))
    assert list(before) == ["file data.txt"]
    (tmp_path / "data.txt").write_text("2", encoding="utf-8")
    after = files(done(tmp_path, "open(home / 'data.txt').read()"))
    assert before != after
    assert trace.changes(before, after) == ["data.txt changed"]


def test_modules_are_seen_with_what_they_import(done: Done, tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text("import inner\n", encoding="utf-8")
    (tmp_path / "inner.py").write_text("", encoding="utf-8")
    assert set(files(done(tmp_path, "import outer"))) == {"file outer.py", "file inner.py"}


def test_a_folder_counts_by_its_names_where_it_was_listed(done: Done, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    before = files(done(tmp_path, "list((home / 'pictures').glob('*'))"))
    assert list(before) == ["folder pictures"]
    (tmp_path / "pictures" / "b.png").touch()
    now = trace.current(before, tmp_path)
    assert trace.changes(before, now) == ["pictures changed"]


@pytest.mark.parametrize(
    "code",
    [
        "(folder / 'x').write_text('1'); (folder / 'x').read_text()",
        "(home / 'made').write_text('1'); (home / 'made').read_text()",
        "(home / 'ignored').mkdir(exist_ok=True); p = home / 'ignored' / 'x'; p.touch(); p.read_text()",
        "open('/proc/self/status').read()",
        "os.path.exists(home / 'not there')",
        "import json, numpy",
    ],
    ids=["its own files", "what it wrote", "caches", "the kernel's", "what is not there", "installed packages"],
)
def test_what_is_no_input_is_left_out(done: Done, tmp_path: Path, code: str) -> None:
    assert files(done(tmp_path, code)) == {}


def test_packages_count_by_their_versions(done: Done, tmp_path: Path) -> None:
    from importlib.metadata import version

    found = done(tmp_path, "import yaml").read
    assert found["package PyYAML"] == version("PyYAML")
    now = {**found, "package PyYAML": "0.1"}
    assert trace.changes(found, now) == [f"PyYAML changed {version('PyYAML')} -> 0.1"]


def test_burnishs_own_code_counts(done: Done, tmp_path: Path) -> None:
    found = done(tmp_path, "import converters.graph.names").read
    assert "code converters/graph/names.py" in found
    now = {**found, "code converters/graph/names.py": "another"}
    assert trace.changes(found, now) == ["Burnish's own code changed (names.py)"]


def test_a_file_may_be_named_that_is_not_there_yet(done: Done, tmp_path: Path) -> None:
    read = files(done(tmp_path, "from converters.steps.trace import depend; depend(home / 'weights.pth')"))
    assert read == {"file weights.pth": trace.ABSENT}
    (tmp_path / "weights.pth").touch()
    assert trace.changes(read, trace.current(read, tmp_path)) == ["weights.pth appeared"]


def test_what_changes_while_it_is_read_is_told(done: Done, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    code = "open(home / 'data.txt').read(); os.utime(home / 'data.txt', (2e9, 2e9))"
    assert done(tmp_path, code).disturbed == ["data.txt"]
    os.utime(tmp_path / "data.txt", (time.time() - 9, time.time() - 9))
    assert done(tmp_path, "open(home / 'data.txt').read()").disturbed == []


def test_the_same_files_elsewhere_are_the_same(done: Done, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for name in ("here", "there"):
        (home := tmp_path / name).mkdir()
        (home / "data.txt").write_text("1", encoding="utf-8")
        found.append(files(done(home, "open(home / 'data.txt').read()")))
    assert found[0] == found[1]


def test_a_file_that_was_looked_for_counts_though_it_is_not_there(done: Done, tmp_path: Path) -> None:
    code = "import contextlib\nwith contextlib.suppress(OSError): open(home / 'override.json')"
    before = files(done(tmp_path, code))
    assert before == {"file override.json": trace.ABSENT}
    (tmp_path / "override.json").touch()
    assert trace.changes(before, trace.current(before, tmp_path)) == ["override.json appeared"]


def test_a_folder_that_a_module_lists_while_it_is_imported_counts(done: Done, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "listing.py").write_text("import os\nNAMES = os.listdir(os.path.dirname(__file__) + '/layers')\n",
                                         encoding="utf-8")  # fmt: skip
    assert set(files(done(tmp_path, "import listing"))) == {"file listing.py", "folder layers"}


def test_a_library_of_the_users_counts(done: Done, tmp_path: Path) -> None:
    code = "import ctypes, contextlib\nwith contextlib.suppress(OSError): ctypes.CDLL(str(home / 'ops.so'))"
    (tmp_path / "ops.so").write_text("no library", encoding="utf-8")
    assert set(files(done(tmp_path, code))) == {"file ops.so"}


def test_a_module_that_is_found_elsewhere_now_is_another(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "recipe").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "one")
    read = done(home, "import network").read
    assert trace.changes(read, trace.current(read, home)) == []
    monkeypatch.syspath_prepend(tmp_path / "two")
    assert trace.changes(read, trace.current(read, home)) == ["network changed"]


def test_a_package_that_is_not_installed_may_be_one_day(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = done(tmp_path, "from converters.steps.trace import want; want('packed_weights')").read
    assert read["module packed_weights"] == read["package packed_weights"] == trace.ABSENT
    (tmp_path / "site" / "packed_weights").mkdir(parents=True)
    (tmp_path / "site" / "packed_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert trace.changes(read, trace.current(read, tmp_path)) == ["packed_weights appeared"]


@pytest.mark.parametrize(
    "code",
    [
        "depend(file); file.write_text('2')",
        "open(file).read(); old.rename(file)",
        "import inner; file = home / 'inner.py'; old.rename(file)",
    ],
    ids=["opened by native code", "an older one put in its place", "a module"],
)
def test_what_was_read_and_changed_meanwhile_is_told(done: Done, tmp_path: Path, code: str) -> None:
    for name in ("data.txt", "old.txt", "inner.py"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9, 1e9))
    lead = (
        "from converters.steps.trace import depend\nfile, old = home / 'data.txt', home / 'old.txt'\nimport time\n"
    )
    found = done(tmp_path, lead + "time.sleep(0.02); " + code)
    assert found.disturbed == ["inner.py" if "inner" in code else "data.txt"]
