"""Gates of an artifact that was not built here: its manifest may be stricter, never more lenient."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.artifact.gates import Gates
from runtimes.validator.defaults import (
    LOSSY_ACCURACY_DROP,
    LOSSY_AGREEMENT,
    NOISE_FP32,
    ORIGINAL_SQNR_DB,
    SQNR_DB,
)


def strict_gates(manifest: Manifest) -> Gates:
    """Return the limits of a manifest that are at least as strict as the default ones.

    Who changed an artifact could have changed these too; so a limit that asks for less, and outputs
    that are left out, do not count.
    """
    given, default = manifest.gates, Gates()
    limits: dict[str, float | None] = {"max_abs": given.max_abs, "deadline_ms": given.deadline_ms}
    for name in ("speedup", "parent_speedup"):
        limits[name] = max(getattr(given, name) or 0.0, getattr(default, name))
    limits["parent_size"] = min(given.parent_size or 1.0, 1.0)
    for name, most in (("noise", NOISE_FP32), ("accuracy_drop", LOSSY_ACCURACY_DROP)):
        value = getattr(given, name)
        limits[name] = value if value is not None and value <= most else None
    least = {
        "sqnr_db": SQNR_DB.get(manifest.precision, 0.0),
        "top1_agreement": LOSSY_AGREEMENT,
        "original_sqnr_db": ORIGINAL_SQNR_DB,
    }
    for name, low in least.items():
        value = getattr(given, name)
        limits[name] = value if value is not None and value >= low else None
    return Gates.model_validate(
        {name: limit for name, limit in limits.items() if limit is not None}
    )
