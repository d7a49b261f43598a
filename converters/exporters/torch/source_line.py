"""Source lines of the model's code, for messages: file name, line and code, never a folder."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from types import FrameType

_CONVERTERS = str(Path(__file__).parents[2])


def user_frame() -> FrameType | None:
    """Return the innermost running frame of the model's code; None if there is none.

    Torch's own frames do not count, nor do those of Burnish that torch has called back.
    """
    frame: FrameType | None = sys._getframe(1)
    in_callback = True
    while frame is not None:
        path = frame.f_code.co_filename
        is_burnish = path.startswith(_CONVERTERS)
        if is_burnish and not in_callback:
            return None
        if not is_burnish and is_users(path):
            return frame
        in_callback = in_callback and is_burnish
        frame = frame.f_back
    return None


def is_users(path: str) -> bool:
    """Return whether a file is the model's code, not torch's."""
    import torch

    return not path.startswith((f"{Path(torch.__file__).parent}{os.sep}", "<"))


def source_line() -> str | None:
    """Return the innermost running line of the model's code, as messages cite it."""
    frame = user_frame()
    if frame is None:
        return None
    path, line = frame.f_code.co_filename, frame.f_lineno
    return cite(path, line, linecache.getline(path, line))


def cite(path: str, line: int | str, code: str) -> str:
    """Return a line of code as messages cite it."""
    return f"{Path(path).name}, line {line}: `{code.strip()}`"
