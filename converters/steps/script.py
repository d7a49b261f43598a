"""A script that runs one step again."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def write_script(logs: Path, name: str, again: tuple[str, ...]) -> Path:
    """Write `NAME.reproduce.sh` beside the log of a step."""
    script = logs / f"{name}.reproduce.sh"
    path = os.pathsep.join(one for one in sys.path if one and Path(one).is_dir())
    script.write_text(
        "#!/bin/sh\n"
        f"# Runs the step {name!r} again, alone. Results of earlier steps come from the cache.\n".replace("\r", " ")
        + f"cd {shlex.quote(str(Path.cwd()))} || exit\n"
        + f"PYTHONPATH={shlex.quote(path)} exec {shlex.join((*again, name))}\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script
