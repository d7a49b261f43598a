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
    least = {
        "speedup": default.speedup,
        "parent_speedup": default.parent_speedup,
        "sqnr_db": SQNR_DB.get(manifest.precision, 0.0),
        "top1_agreement": LOSSY_AGREEMENT,
        "original_sqnr_db": ORIGINAL_SQNR_DB,
    }
    most = {
        "parent_size": default.parent_size,
        "noise": NOISE_FP32,
        "accuracy_drop": LOSSY_ACCURACY_DROP,
        "max_abs": None,
        "deadline_ms": None,
        "metric_drop": None,
    }
    strict: dict[str, float] = {}
    for name in given.model_fields_set & (least.keys() | most.keys()):
        value = getattr(given, name)
        if value is None:
            continue
        low, high = least.get(name), most.get(name)
        if (low is None or value >= low) and (high is None or value <= high):
            strict[name] = value
    return Gates.model_validate(strict)
