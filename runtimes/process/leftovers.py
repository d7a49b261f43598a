"""The temporary folder of multiprocessing, which would stay if a build is killed.

The fork server listens at a socket in a folder `pymp-*`, which its parent removes when it ends. If
the parent is killed, the server does that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

_PREFIX = "pymp-"
_SERVER = re.compile(r"forkserver import main; main\((\d+)")


def survive_group() -> None:
    """Leave the process group of the parent, which may be killed as a whole."""
    with contextlib.suppress(OSError):  # it leads a group already
        os.setsid()


def server_folder() -> Path | None:
    """Return the folder of the socket at which this fork server listens, while it is open."""
    for argument in sys.orig_argv:
        if listening := _SERVER.search(argument):
            with contextlib.suppress(OSError):
                with socket.socket(fileno=os.dup(int(listening[1]))) as listener:
                    folder = Path(listener.getsockname()).parent
                return folder if folder.name.startswith(_PREFIX) else None
    return None


def end_server(folder: Path | None) -> NoReturn:
    """End the fork server, whose parent has ended, without tearing down its imports."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
