"""What no hook can see is read from the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.steps.observe.source import unseen_inputs


@pytest.mark.parametrize(
    ("code", "inputs"),
    [
        ("import datetime\ndatetime.datetime.now()", {"the clock"}),
        ("from datetime import date\nx = date.today()", {"the clock"}),
        ("import cv2, numpy", {"what cv2 reads"}),
        ("from h5py import File", {"what h5py reads"}),
        ("from .cv2 import x\nnow()", set()),
        ("not Python", set()),
    ],
)
def test_inputs_by_source(tmp_path: Path, code: str, inputs: set[str]) -> None:
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    assert unseen_inputs(str(tmp_path / "module.py")) == inputs
