"""What the user's code looks at without reading it is a dependency, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.steps.child import StepRun
from converters.steps.dependencies import (
    ABSENT,
    current_digests,
    describe_changes,
    unseen_note,
)

Run = Callable[[Path, str], StepRun]


def module(home: Path, name: str, code: str) -> None:
    (home / f"{name}.py").write_text(f"import os\nfrom pathlib import Path\n{code}\n", "utf-8")


def changed(read: dict[str, str], home: Path) -> list[str]:
    return describe_changes(read, current_digests(read, home))


@pytest.mark.parametrize(
    "code",
    [
        "Path({path!r}).exists()",
        "os.path.isfile({path!r})",
        "os.access({path!r}, os.R_OK)",
        "os.path.exists({path!r})",
    ],
)
def test_existence_is_a_dependency(run: Run, tmp_path: Path, code: str) -> None:
    path = tmp_path / "lite"
    read = run(tmp_path, code.format(path=str(path))).read
    assert read["existence lite"] == ABSENT
    path.write_text("1", encoding="utf-8")
    assert changed(read, tmp_path) == ["lite appeared"]


def test_of_an_existing_file_only_the_existence_counts_if_that_was_asked(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "lite"
    path.write_text("1", encoding="utf-8")
    read = run(tmp_path, "(home / 'lite').is_file()").read
    path.write_text("22", encoding="utf-8")
    assert changed(read, tmp_path) == []


@pytest.mark.parametrize("code", ["os.stat(p).st_size", "os.path.getmtime(p)", "p.stat()"])
def test_a_status_is_a_dependency(run: Run, tmp_path: Path, code: str) -> None:
    path = tmp_path / "weights.bin"
    path.write_text("1", encoding="utf-8")
    read = run(tmp_path, f"p = home / 'weights.bin'\n{code}").read
    assert changed(read, tmp_path) == []
    os.utime(path, (1e9, 1e9))
    assert changed(read, tmp_path) == ["weights.bin changed"]


@pytest.mark.parametrize("code", ["os.readlink(home / 'now')", "(home / 'now' / 'x').resolve()"])
def test_a_link_is_a_dependency(run: Run, tmp_path: Path, code: str) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "now").symlink_to("old")
    read = run(tmp_path, code).read
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to("new")
    assert changed(read, tmp_path) == ["now leads elsewhere"]


def test_a_file_that_is_opened_to_change_it_was_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.npy").write_bytes(bytes(16))
    code = "import numpy; numpy.memmap(home / 'data.npy', 'uint8')"
    read = run(tmp_path, code).read
    (tmp_path / "data.npy").write_bytes(bytes([1] * 16))
    assert changed(read, tmp_path) == ["data.npy changed"]


def test_a_file_that_the_step_made_and_changed_is_no_input(run: Run, tmp_path: Path) -> None:
    code = "p = home / 'made'\np.write_text('1')\nwith open(p, 'r+') as f: f.read()"
    assert "file made" not in run(tmp_path, code).read


@pytest.mark.parametrize(
    "code",
    [
        "try: import extra_layers\nexcept ImportError: pass",
        "from importlib.util import find_spec; find_spec('extra_layers')",
    ],
)
def test_a_module_that_is_missing_is_a_dependency(run: Run, tmp_path: Path, code: str) -> None:
    module(tmp_path, "network", code)
    read = run(tmp_path, "import network").read
    assert read["module extra_layers"] == ABSENT
    (tmp_path / "extra_layers.py").touch()
    assert changed(read, tmp_path) == ["extra_layers appeared"]


def test_a_helper_without_source_is_a_dependency(run: Run, tmp_path: Path) -> None:
    import py_compile

    module(tmp_path, "helper", "SIZE = 1")
    py_compile.compile(str(tmp_path / "helper.py"), cfile=str(tmp_path / "helper.pyc"))
    (tmp_path / "helper.py").unlink()
    read = run(tmp_path, "import helper").read
    (tmp_path / "helper.pyc").write_bytes(b"")
    assert changed(read, tmp_path) == ["helper.pyc changed"]


def test_a_variable_that_the_users_code_reads_is_a_dependency(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERS", "3")
    module(tmp_path, "network", "LAYERS = os.environ.get('LAYERS'), os.getenv('WIDTH')")
    read = run(tmp_path, "import network").read
    variables = {name for name in read if name.startswith("variable ")}
    assert variables == {"variable LAYERS", "variable WIDTH"}
    assert read["variable WIDTH"] == ABSENT and read["variable LAYERS"] != "3"
    monkeypatch.setenv("LAYERS", "4")
    assert changed(read, tmp_path) == ["the environment variable LAYERS changed"]


@pytest.mark.parametrize("code", ["open('data.txt').read()", "Path.cwd()"])
def test_the_working_folder_counts_if_a_path_is_relative(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_text(name, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "first")
    module(tmp_path, "network", code)
    read = run(tmp_path, "import network").read
    assert changed(read, tmp_path) == []
    monkeypatch.chdir(tmp_path / "second")
    change = "the working folder changed, and the code uses relative paths"
    assert change in changed(read, tmp_path)


def test_the_working_folder_does_not_count_for_absolute_paths(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.txt").touch()
    code = f"import tempfile; tempfile.gettempdir(); open({str(tmp_path / 'data.txt')!r}).read()"
    module(tmp_path, "network", code)
    assert "working folder" not in run(tmp_path, "import network").read


def test_files_of_the_system_count_if_the_users_code_reads_them(run: Run, tmp_path: Path) -> None:
    module(tmp_path, "network", "open('/etc/hostname').read()")
    assert "file /etc/hostname" in run(tmp_path, "import network").read
    assert "file /etc/hostname" not in run(tmp_path, "import socket, mimetypes").read


@pytest.mark.parametrize(
    ("code", "unseen"),
    [
        ("import time; time.time()", "the clock"),
        ("import datetime; datetime.datetime.now()", "the clock"),
        ("open('/proc/uptime').read()", "the state of the system"),
        ("import subprocess; subprocess.run(['true'])", "other programs"),
        ("dict(os.environ)", "the whole environment"),
    ],
)
def test_what_leaves_nothing_to_compare_is_reported(
    run: Run, tmp_path: Path, code: str, unseen: str
) -> None:
    module(tmp_path, "network", code)
    read = run(tmp_path, "import network").read
    assert {name for name in read if name.startswith("unseen ")} == {f"unseen {unseen}"}
    assert not any(name.startswith("variable ") for name in read)
    assert unseen in unseen_note(read)[0]
    assert changed(read, tmp_path) == []


def test_of_code_that_uses_no_such_thing_nothing_is_reported(run: Run, tmp_path: Path) -> None:
    module(tmp_path, "network", "import numpy, logging; logging.getLogger().warning('x')")
    assert unseen_note(run(tmp_path, "import network").read) == []
