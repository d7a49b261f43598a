"""Importing OpenVINO and NNCF through Burnish reports nothing and leaves nothing in the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
sys.modules.pop("pytest", None)
from runtimes.machine.telemetry import refuse_telemetry
refuse_telemetry()
import {module}
"""


@pytest.mark.parametrize("module", ["openvino", "nncf"])
def test_nothing_is_written_to_the_home_folder(tmp_path: Path, module: str) -> None:
    pytest.importorskip(module)
    unset = ("CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["HOME"] = str(tmp_path)
    code = CODE.format(module=module)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / "intel").exists()
