"""A trace reports the dependencies of a step, and changes of them in words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.steps.child import StepRun
from converters.steps.dependencies import ABSENT, current_digests, describe_changes

Run = Callable[[Path, str], StepRun]


def files(step_run: StepRun) -> dict[str, str]:
    files = {}
    for name, digest in step_run.read.items():
        if name.split()[0] in ("file", "folder"):
            files[name] = digest
    return files


def test_files_that_python_opens_are_dependencies(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    before = files(run(tmp_path, "open(home / 'data.txt').read()"))
    assert list(before) == ["file data.txt"]
    (tmp_path / "data.txt").write_text("2", encoding="utf-8")
    after = files(run(tmp_path, "open(home / 'data.txt').read()"))
    assert before != after
    assert describe_changes(before, after) == ["data.txt changed"]


def test_modules_are_dependencies_with_what_they_import(run: Run, tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text("import inner\n", encoding="utf-8")
    (tmp_path / "inner.py").write_text("", encoding="utf-8")
    assert set(files(run(tmp_path, "import outer"))) == {"file outer.py", "file inner.py"}


def test_a_listed_folder_counts_by_its_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    before = files(run(tmp_path, "list((home / 'pictures').glob('*'))"))
    assert list(before) == ["folder pictures"]
    (tmp_path / "pictures" / "b.png").touch()
    now = current_digests(before, tmp_path)
    assert describe_changes(before, now) == ["pictures changed"]


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
    ids=[
        "its own files",
        "what it wrote",
        "caches",
        "the kernel's",
        "what is not there",
        "installed packages",
    ],
)
def test_files_that_are_no_input_are_left_out(run: Run, tmp_path: Path, code: str) -> None:
    assert files(run(tmp_path, code)) == {}


def test_packages_count_by_their_versions(run: Run, tmp_path: Path) -> None:
    from importlib.metadata import version

    read = run(tmp_path, "import yaml").read
    assert read["package PyYAML"] == version("PyYAML")
    now = {**read, "package PyYAML": "0.1"}
    assert describe_changes(read, now) == [f"PyYAML changed {version('PyYAML')} -> 0.1"]


def test_burnishs_own_code_counts(run: Run, tmp_path: Path) -> None:
    read = run(tmp_path, "import converters.graph.names").read
    assert "code converters/graph/names.py" in read
    now = {**read, "code converters/graph/names.py": "another"}
    assert describe_changes(read, now) == ["Burnish's own code changed (names.py)"]


def test_a_named_file_need_not_exist(run: Run, tmp_path: Path) -> None:
    read = files(
        run(tmp_path, "from converters.steps.trace import depend; depend(home / 'weights.pth')")
    )
    assert read == {"file weights.pth": ABSENT}
    (tmp_path / "weights.pth").touch()
    assert describe_changes(read, current_digests(read, tmp_path)) == ["weights.pth appeared"]


def test_files_that_change_while_they_are_read_are_reported(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    code = "open(home / 'data.txt').read(); os.utime(home / 'data.txt', (2e9, 2e9))"
    assert run(tmp_path, code).disturbed == ["data.txt"]
    os.utime(tmp_path / "data.txt", (time.time() - 9, time.time() - 9))
    assert run(tmp_path, "open(home / 'data.txt').read()").disturbed == []


def test_the_same_files_elsewhere_are_the_same(run: Run, tmp_path: Path) -> None:
    dependencies: list[dict[str, Any]] = []
    for name in ("first", "second"):
        (home := tmp_path / name).mkdir()
        (home / "data.txt").write_text("1", encoding="utf-8")
        dependencies.append(files(run(home, "open(home / 'data.txt').read()")))
    assert dependencies[0] == dependencies[1]


def test_a_missing_file_that_was_opened_is_a_dependency(run: Run, tmp_path: Path) -> None:
    code = "import contextlib\nwith contextlib.suppress(OSError): open(home / 'override.json')"
    before = files(run(tmp_path, code))
    assert before == {"file override.json": ABSENT}
    (tmp_path / "override.json").touch()
    assert describe_changes(before, current_digests(before, tmp_path)) == ["override.json appeared"]


def test_a_folder_that_a_module_lists_while_it_is_imported_counts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    code = "import os\nNAMES = os.listdir(os.path.dirname(__file__) + '/layers')\n"
    (tmp_path / "listing.py").write_text(code, encoding="utf-8")
    assert set(files(run(tmp_path, "import listing"))) == {"file listing.py", "folder layers"}


def test_a_library_of_the_users_counts(run: Run, tmp_path: Path) -> None:
    code = "import ctypes, contextlib\nwith contextlib.suppress(OSError): ctypes.CDLL(str(home / 'ops.so'))"
    (tmp_path / "ops.so").write_text("no library", encoding="utf-8")
    assert set(files(run(tmp_path, code))) == {"file ops.so"}


def test_a_module_at_another_place_on_the_path_has_changed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "recipe").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "one")
    read = run(home, "import network").read
    assert describe_changes(read, current_digests(read, home)) == []
    monkeypatch.syspath_prepend(tmp_path / "two")
    assert describe_changes(read, current_digests(read, home)) == ["network changed"]


def test_a_package_that_is_installed_later_is_a_change(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = run(
        tmp_path,
        "from converters.steps.trace import depend_on_module; depend_on_module('packed_weights')",
    ).read
    assert read["module packed_weights"] == read["package packed_weights"] == ABSENT
    (tmp_path / "site" / "packed_weights").mkdir(parents=True)
    (tmp_path / "site" / "packed_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert describe_changes(read, current_digests(read, tmp_path)) == ["packed_weights appeared"]


@pytest.mark.parametrize(
    "code",
    [
        "depend(file); file.write_text('2')",
        "open(file).read(); old.rename(file)",
        "import inner; file = home / 'inner.py'; old.rename(file)",
    ],
    ids=["opened by native code", "an older one put in its place", "a module"],
)
def test_files_that_changed_after_they_were_read_are_reported(
    run: Run, tmp_path: Path, code: str
) -> None:
    for name in ("data.txt", "old.txt", "inner.py"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9, 1e9))
    lead = "from converters.steps.trace import depend\nimport time\n"
    lead += "file, old = home / 'data.txt', home / 'old.txt'\n"
    step_run = run(tmp_path, lead + "time.sleep(0.02); " + code)
    assert step_run.disturbed == ["inner.py" if "inner" in code else "data.txt"]
