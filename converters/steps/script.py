"""A script that runs one step again."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def write_script(logs: Path, name: str, command: tuple[str, ...]) -> Path:
    """Write `NAME.reproduce.sh` beside the log of a step, which appends its name to `command`."""
    script = logs / f"{name}.reproduce.sh"
    folders = [folder for folder in sys.path if folder and Path(folder).is_dir()]
    python_path = shlex.quote(os.pathsep.join(folders))
    comment = (
        f"# Runs the step {name!r} again, alone. Results of earlier steps come from the cache."
    )
    lines = [
        "#!/bin/sh",
        comment.replace("\r", " "),
        f"cd {shlex.quote(str(Path.cwd()))} || exit",
        f"PYTHONPATH={python_path} exec {shlex.join((*command, name))}",
    ]
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)
    return script
