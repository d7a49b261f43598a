"""The gate of precision: an artifact is held to the row of its format and mode."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.precision.judge import Judgement, Work, judge_work
from runtimes.precision.table import row_of
from runtimes.results import GateResult
from runtimes.validator.defaults import COMPUTE_SHARE


def judge_manifest(manifest: Manifest) -> Judgement | None:
    """Hold the layers that a manifest lists to the table; None if it lists none for its precision."""
    work = Work.from_build(manifest.build)
    if work is None or work.precision != manifest.precision or not (work.layers or work.others):
        return None
    kept = manifest.build.get("kept_layers", [])
    return judge_work(work, row_of(manifest.format, _mode(manifest)), kept)


def precision_gate(manifest: Manifest, executed: dict[str, int] | None) -> GateResult:
    """Check that layers compute in the required precision.

    Args:
        manifest: lists the layers as the exporter counted them.
        executed: their number by precision on this device, if the engine reports it.
    """
    judgement = judge_manifest(manifest)
    counted = manifest.build.get("compute_layers")
    if judgement is not None and executed in (None, counted):
        return GateResult(gate="precision", ok=judgement.holds, detail=judgement.words)
    layers = executed or counted
    if not layers:
        detail = "this format does not report the precision of its layers"
        return GateResult(gate="precision", ok=None, detail=detail)
    return _by_number(manifest, layers, judgement)


def _by_number(
    manifest: Manifest, layers: dict[str, int], judgement: Judgement | None
) -> GateResult:
    """Judge by the number of layers: an older manifest does not list them, another CPU has others."""
    required = manifest.precision
    kept = manifest.build.get("kept_layers", [])
    designed = len(kept) if judgement is None else judgement.designed
    share = layers.get(required, 0) / max(1, sum(layers.values()) - designed)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(layers.items()))
    if designed:
        counts += f" ({designed} float by design)"
    detail = f"computing layers: {counts}; required {required}"
    return GateResult(gate="precision", ok=share >= COMPUTE_SHARE, detail=detail)


def _mode(manifest: Manifest) -> str | None:
    """Return the mode of the artifact's quantization; None if it has none."""
    for record in manifest.build.get("passes", []):
        if quantize := record.get("quantize"):
            return str(quantize.get("options", {}).get("mode", "static"))
    return None
