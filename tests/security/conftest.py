"""Makes what somebody with bad intent would send: artifacts with digests that are right, graphs, checkpoints."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runtimes.errors import BurnishError
from tests.security.forgery import check_clean, manifest, write_artifact

Foreign = Callable[..., Path]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once an attack has worked."""
    return tmp_path / "the_attack_worked"


@pytest.fixture
def refused() -> Callable[..., str]:
    """Calls a function that must end in words for the user; gives the words."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(BurnishError) as caught:
            function(*args, **kwargs)
        told = str(caught.value)
        assert told
        assert "Traceback" not in told, traceback.format_exception(caught.value)
        return told

    return call


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Runs the command line; what it shows must be clean, and no traceback."""

    def invoke(*arguments: object) -> Result:
        from burnish.cli import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        check_clean(result.output)
        assert "Traceback" not in result.output
        assert "a bug in Burnish" not in result.output
        return result

    return invoke


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    """Writes an artifact as somebody else would: its digests are right, and this user never built it."""

    def make(runtime: str, files: dict[str, bytes], entry: str, **changes: Any) -> Path:
        folder = tmp_path / f"foreign-{len(list(tmp_path.glob('foreign-*')))}"
        return write_artifact(
            folder, files, json.dumps({**manifest(runtime, files, entry), **changes})
        )

    return make
