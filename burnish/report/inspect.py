"""The result of `burnish inspect`."""

from __future__ import annotations

from typing import Any

from burnish.report.terminal import console, show_pairs
from burnish.report.text import size
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.artifact.keys import fingerprint
from runtimes.artifact.signature import SIGNATURE, Signature, SignatureError

_OPERATORS_SHOWN = 12


def show_artifact(artifact: Artifact) -> None:
    """What a manifest says, for a person."""
    made = artifact.manifest
    pairs = [
        ("artifact", f"{made.name} ({made.format}, {made.precision}), {size(artifact.size_bytes)}"),
        ("model", f"{made.model}, {made.build.get('parameters', 0):,} parameters"),
        ("weights", _weights(made.weights)),
        *(("input", f"{name}: {spec}") for name, spec in made.inputs.items()),
        *(("dimension", f"{name}: {dim.min} to {dim.max}, best at {dim.best}") for name, dim in made.dims.items()),
        *(("output", f"{name}: {spec}") for name, spec in made.outputs.items()),
        ("runs on", ", ".join(made.devices)),
        ("operators", _counts(made.build.get("operators"))),
        ("computing layers", _counts(made.build.get("compute_layers"))),
        *(("computes in float", line) for line in _unfused(made.build.get("unfused"))),
        (
            "made by",
            f"Burnish {made.burnish}; " + ", ".join(f"{k} {v}" for k, v in _versions(made.build).items()),
        ),
        ("deterministic", _deterministic(made)),
        ("signature", _signature(artifact)),
        *((key.replace("_", " "), _value(made.build[key])) for key in _SHOWN if made.build.get(key)),
        *(("note", note) for note in made.build.get("notes", [])),
    ]
    show_pairs([(name, value) for name, value in pairs if value], console())


_SHOWN = (
    "method",
    "exporter",
    "opset",
    "optimize",
    "flavor",
    "version",
    "compute_capabilities",
    "platform",
    "isa",
    "hint",
    "cpu",
    "rewrites",
    "failed",
    "fallback",
)


def _unfused(listed: list[dict[str, str]] | None) -> list[str]:
    """The quantized operators that no kernel takes; nothing where that is not known."""
    if listed is None:
        return []
    lines = [f"{one.get('operator')} {one.get('layer')}: {one.get('why')}" for one in listed]
    return lines[:_OPERATORS_SHOWN] or ["no quantized operator: every pair is fused"]


def _weights(record: dict[str, Any]) -> str:
    text = f"RANDOM ({record.get('source')})" if record.get("random") else str(record.get("source", "unknown"))
    return text + (f", sha256 {record['sha256']}" if record.get("sha256") else "")


def _deterministic(made: Manifest) -> str:
    if made.deterministic is None:
        return ""
    why = made.provenance.varies if made.provenance else None
    return "yes: the same recipe and versions give the same bytes" if made.deterministic else f"no: {why}"


def _signature(artifact: Artifact) -> str:
    """Whose key signed it, which is a claim unless this process was asked to trust that key."""
    if not (artifact.path / SIGNATURE).exists():
        return ""
    try:
        found = Signature.read(artifact.path)
    except SignatureError as error:
        return str(error)
    name = fingerprint(found.key)
    return f"by {name}" if artifact.trust.key else f"claimed by {name}: `burnish verify --key PUBLIC` checks it"


def _versions(build: dict[str, Any]) -> dict[str, str]:
    return dict(build.get("versions") or {})


def _counts(counts: dict[str, int] | None) -> str:
    items = list((counts or {}).items())
    more = f", and {len(items) - _OPERATORS_SHOWN} more kinds" if len(items) > _OPERATORS_SHOWN else ""
    return ", ".join(f"{count} {name}" for name, count in items[:_OPERATORS_SHOWN]) + more


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_value(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
