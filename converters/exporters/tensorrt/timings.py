"""TensorRT's timing cache: what its tactics took, kept between builds so that the next one chooses the same ones.

Most of an engine's choices are then repeated, and the build is faster. That all are is not promised: what the cache
lacks is timed, and what differs by less than the clock's noise may then be chosen otherwise.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from runtimes.machine.devices import gpus
from runtimes.machine.machine import cache_folder


def timings_file(asked: str | None, version: str) -> Path:
    """Where timings are kept: the recipe's file, else one for this TensorRT and GPU in the user's cache folder.

    TensorRT itself refuses the timings of another version or device.
    """
    if asked:
        return Path(asked)
    device = re.sub(r"\W+", "-", gpus()[0].name if gpus() else "no GPU").strip("-")
    return cache_folder() / "timings" / f"tensorrt-{version}-{device}"


def load_timings(config: Any, file: Path) -> None:
    """Have the builder start from the timings in a file; from none where TensorRT does not take them."""
    kept = _read(config, file)
    if kept is None or not config.set_timing_cache(kept, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timings(config: Any, file: Path, asked: bool) -> None:
    """Add what the builder has timed to the file, and keep what other builds have added meanwhile.

    `asked`: the recipe names the file. Raises OSError where it cannot be written; what nobody asked for is let be.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    if (others := _read(config, file)) is not None:
        cache.combine(others, ignore_mismatch=False)
    with contextlib.nullcontext() if asked else contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_bytes(memoryview(cache.serialize()))
        scratch.replace(file)


def _read(config: Any, file: Path) -> Any:
    """The timings in a file; None where there is none, or it is damaged."""
    return config.create_timing_cache(file.read_bytes()) if file.is_file() else None
