"""Rows of verdicts: as they begin, as gates settle them, and as errors end them."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import BurnishError
from runtimes.machine.machine import burnish_version, own_cpu
from runtimes.results import GateResult, Outcome, Row, Status

UNPROVEN = "unproven"
"""First word of a reason if gates that the recipe asks for are undecided and none fails."""


def blank_row(artifact: Artifact, device: str) -> Row:
    """Return the row of an artifact that no gate has judged yet, with the notes of its manifest."""
    manifest = artifact.manifest
    notes = [*manifest.build.get("notes", [])]
    notes += _other_version_note(manifest.burnish)
    notes += _other_cpu_note(manifest, device)
    return Row(
        name=manifest.name,
        format=manifest.format,
        device=device,
        status=Status.PASSED,
        path=artifact.path.name,
        size_bytes=artifact.size_bytes,
        precision=manifest.precision,
        notes=notes,
    )


def settle(row: Row) -> Row:
    """Set the status by the row's gates, with every gate that failed it in the reason.

    A gate that the recipe asks for and that is undecided fails the row as `unproven`.
    """
    failed = [
        f"{result.gate}: {result.detail}" for result in row.gates if result.outcome is Outcome.FAILS
    ]
    unproven = [
        f"{UNPROVEN}: {result.gate}: {result.detail}; {result.remedy}"
        for result in row.gates
        if result.outcome is Outcome.UNDECIDED and result.required
    ]
    if not failed and not unproven:
        return row.model_copy(update={"status": Status.PASSED, "reason": None})
    reason = "; ".join([*failed, *unproven])
    return row.model_copy(update={"status": Status.FAILED, "reason": reason})


def undecided_notes(results: Sequence[GateResult]) -> list[str]:
    """Return a note for each undecided gate that the recipe does not ask for."""
    notes = []
    for result in results:
        if result.outcome is Outcome.UNDECIDED and not result.required:
            notes.append(f"undecided, by default not required: {result.gate}: {result.detail}")
    return notes


def end_with_error(row: Row, gate: str, error: BurnishError) -> Row:
    """Set the status to `error`, raised where `gate` was to be judged."""
    result = GateResult(gate=gate, ok=False, detail=str(error))
    update = {
        "status": Status.ERROR,
        "reason": f"{gate}: {error}",
        "gates": [*row.gates, result],
    }
    return row.model_copy(update=update)


def _other_version_note(version: str) -> list[str]:
    """Return a note if another version of Burnish, with other gates, built the artifact."""
    installed = burnish_version()
    if version == installed:
        return []
    return [f"built by Burnish {version}, judged by {installed}; `burnish convert` rebuilds it"]


def _other_cpu_note(manifest: Manifest, device: str) -> list[str]:
    """Return a note if the artifact was lowered for another CPU family than the one it runs on."""
    lowered, installed = manifest.build.get("cpu"), own_cpu()
    if device != "cpu" or lowered in (None, installed):
        return []
    slower = f"correct on this {installed} CPU too, but usually slower than with `cpu: {installed}`"
    return [f"lowered for {lowered} CPUs: {slower}"]
