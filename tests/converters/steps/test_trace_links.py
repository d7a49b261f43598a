"""An environment that a link leads to: its packages are packages, whichever way they are named."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.steps import dependencies, trace


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A folder of packages and a link to it; Python names the folder by the link."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "package").mkdir(parents=True)
    (real / "package" / "module.py").write_text("", encoding="utf-8")
    link.symlink_to(real)
    paths = sysconfig.get_paths() | {"purelib": str(link), "platlib": str(link)}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    caches = (dependencies.installed_folders, trace._installed_prefixes)
    for cached in caches:
        cached.cache_clear()
    yield real, link
    for cached in caches:
        cached.cache_clear()


def test_packages_are_no_input_of_a_step_by_either_name(
    environments: tuple[Path, Path], tmp_path: Path
) -> None:
    recorded = trace.Trace(tmp_path, ())
    for folder in environments:
        recorded.record.opened_file(*(str(folder / "package" / "module.py"), "r", 0))
    (tmp_path / "user.py").write_text("", encoding="utf-8")
    recorded.record.opened_file(*(str(tmp_path / "user.py"), "r", 0))
    inputs = [path for path in recorded.record.opened if recorded._is_users(path)]
    assert inputs == [str(tmp_path / "user.py")]
