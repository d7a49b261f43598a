"""TensorRT's timing cache: times of its tactics, kept for the choices of the next build.

Most of an engine's choices are then repeated, and the build is faster. Not all of them are: tactics
that the cache lacks are timed, and a difference below the clock's noise may lead to another choice.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from runtimes.machine.devices import gpus
from runtimes.machine.machine import cache_folder


def timings_file(chosen: str | None, version: str) -> Path:
    """Return the recipe's file, or one for this TensorRT and GPU in the user's cache folder.

    TensorRT refuses the timings of another version or device.
    """
    if chosen:
        return Path(chosen)
    device = re.sub(r"\W+", "-", gpus()[0].name if gpus() else "no GPU").strip("-")
    return cache_folder() / "timings" / f"tensorrt-{version}-{device}"


def load_timings(config: Any, file: Path) -> None:
    """Have the builder start from the timings in a file, or from none if TensorRT refuses them."""
    kept = _read(config, file)
    if kept is None or not config.set_timing_cache(kept, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timings(config: Any, file: Path, required: bool) -> None:
    """Add the builder's timings to the file, and keep those that other builds have added.

    Raises OSError if the file cannot be written and is `required`: the recipe names it.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    if (stored := _read(config, file)) is not None:
        cache.combine(stored, ignore_mismatch=False)
    with contextlib.nullcontext() if required else contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_bytes(memoryview(cache.serialize()))
        scratch.replace(file)


def _read(config: Any, file: Path) -> Any:
    """Return the timings in a file, or None if there is none or it is damaged."""
    return config.create_timing_cache(file.read_bytes()) if file.is_file() else None
