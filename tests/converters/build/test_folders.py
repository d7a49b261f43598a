"""A build removes only its own files from the folder that it writes into."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.build.folders import output_folder, remove_changed_models
from runtimes.errors import UsageError
from runtimes.process.process import ChildDied

KEY = "0123456789ab"


def _models(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "models").iterdir())


def test_only_changed_models_are_removed(tmp_path: Path) -> None:
    for name in (KEY, "f" * 12, "resnet"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models" / "best.pth").touch()
    remove_changed_models(tmp_path, {KEY})
    assert _models(tmp_path) == [KEY, "best.pth", "resnet"]
    remove_changed_models(tmp_path, {""})
    assert _models(tmp_path) == ["best.pth", "resnet"]


def test_a_folder_of_changed_models_that_is_empty_goes(tmp_path: Path) -> None:
    (tmp_path / "models" / KEY).mkdir(parents=True)
    remove_changed_models(tmp_path, {""})
    assert not (tmp_path / "models").exists()


def test_a_build_that_finishes_nothing_takes_nothing_along(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best.pth").touch()
    with output_folder(tmp_path) as scratch:
        assert scratch.is_dir()
    assert _models(tmp_path) == ["best.pth"]


def test_the_log_of_a_step_that_died_stays_where_nothing_else_was_made(tmp_path: Path) -> None:
    """Its message names it; any other mistake leaves nothing."""
    for name, error in (("died", ChildDied("killed")), ("wrong", UsageError("no such factory"))):
        with pytest.raises(type(error)), output_folder(tmp_path / name):
            (tmp_path / name / "logs" / "load.log").touch()
            raise error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["died"]
    assert (tmp_path / "died" / "logs" / "load.log").exists()
