"""The report of `burnish inspect`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

from burnish.report.terminal import console, show_pairs
from burnish.report.text import listed, size, sizes
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.artifact.keys import fingerprint
from runtimes.artifact.signature import SIGNATURE, Signature, SignatureError
from runtimes.errors import UsageError
from runtimes.precision.gate import judge_manifest
from runtimes.results import Build

_MAX_OPERATORS = 12
_BUILD_KEYS = (
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


def show_artifact(artifact: Artifact) -> None:
    """Show an artifact's manifest."""
    manifest = artifact.manifest
    build = manifest.build
    pairs = [
        ("artifact", _summary(artifact)),
        ("model", f"{manifest.model}, {build.get('parameters', 0):,} parameters"),
        ("weights", _weights(manifest.weights)),
        *_signature_of_model(manifest),
        ("runs on", ", ".join(manifest.devices)),
        ("operators", _counts(build.get("operators"))),
        ("computing layers", _counts(build.get("compute_layers"))),
        ("work", _work(manifest)),
    ]
    pairs += _labelled("computes in float", _unfused(build.get("unfused")))
    pairs += [
        ("made by", _versions(manifest)),
        ("deterministic", _deterministic(manifest)),
        *_rests_on(artifact),
        ("signature", _signature(artifact)),
    ]
    for key in _BUILD_KEYS:
        if build.get(key):
            pairs.append((key.replace("_", " "), _value(build[key])))
    pairs += _labelled("note", build.get("notes", []))
    show_pairs([(name, value) for name, value in pairs if value], console())


def _labelled(label: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return a line for each text, all with the same label."""
    return list(zip(repeat(label), texts))


def _summary(artifact: Artifact) -> str:
    manifest = artifact.manifest
    kind = f"{manifest.format}, {manifest.precision}"
    return f"{manifest.name} ({kind}), {size(artifact.size_bytes)}"


def _work(manifest: Manifest) -> str:
    """Return the shares of the multiply-adds; nothing if the manifest does not list the layers."""
    judgement = judge_manifest(manifest)
    return "" if judgement is None else judgement.words


def _signature_of_model(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the inputs, dimensions and outputs."""
    pairs = _labelled("input", listed(manifest.inputs, ": "))
    for name, dim in manifest.dims.items():
        related = f", {dim.equals}" if dim.equals else ""
        pairs.append(("dimension", f"{name}: {dim.min} to {dim.max}, best at {dim.best}{related}"))
    return pairs + _labelled("output", listed(manifest.outputs, ": "))


def _unfused(operators: list[dict[str, str]] | None) -> list[str]:
    """Return the quantized operators that no kernel computes; empty if they are unknown."""
    if operators is None:
        return []
    lines = []
    for operator in operators[:_MAX_OPERATORS]:
        lines.append(f"{operator.get('operator')} {operator.get('layer')}: {operator.get('why')}")
    return lines or ["no quantized operator: every pair is fused"]


def _weights(record: dict[str, Any]) -> str:
    source = record.get("source", "unknown")
    text = f"RANDOM ({source})" if record.get("random") else str(source)
    return text + (f", sha256 {record['sha256']}" if record.get("sha256") else "")


def _versions(manifest: Manifest) -> str:
    versions = manifest.build.get("versions") or {}
    packages = ", ".join(listed(versions))
    return f"Burnish {manifest.burnish}; {packages}"


def _deterministic(manifest: Manifest) -> str:
    if manifest.deterministic is None:
        return ""
    if manifest.deterministic:
        return "yes: the same recipe and versions give the same bytes"
    return f"no: {manifest.provenance.varies if manifest.provenance else None}"


def _signature(artifact: Artifact) -> str:
    """Return whose key signed the artifact: a claim, unless this process trusts that key."""
    if not (artifact.path / SIGNATURE).exists():
        return ""
    try:
        signature = Signature.read(artifact.path)
    except SignatureError as error:
        return str(error)
    name = fingerprint(signature.key)
    if artifact.trust.key:
        return f"by {name}"
    return f"claimed by {name}: `burnish verify --key PUBLIC` checks it"


def _rests_on(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what the build's verdict rests on, if the artifact lies in its build."""
    try:
        rows = Build.read(artifact.path.resolve().parent).artifacts
    except UsageError:
        return []
    for row in rows:
        if row.path != artifact.path.name:
            continue
        lines = []
        if tried := row.parity.sizes:
            by_dim = []
            for name, dim in tried.dims.items():
                by_dim.append(f"{name}: {', '.join(map(str, dim.tried))}")
            lines.append(f"sizes: {sizes(tried)}; {'; '.join(by_dim)}")
        return _labelled("verdict rests on", [*lines, *row.parity.rests_on])
    return []


def _counts(counts: dict[str, int] | None) -> str:
    if not counts:
        return ""
    items = [f"{count} {name}" for name, count in counts.items()]
    more = len(items) - _MAX_OPERATORS
    text = ", ".join(items[:_MAX_OPERATORS])
    return f"{text}, and {more} more kinds" if more > 0 else text


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_value(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
