"""A manifest that says no more than the gates read."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.spec import Dims, Specs


def manifest_of(
    inputs: Specs,
    outputs: Specs,
    *,
    dims: Dims | None = None,
    precision: str = "fp32",
    build: dict[str, object] | None = None,
    task: str | None = None,
) -> Manifest:
    """The manifest of an artifact with these tensors."""
    return Manifest(
        burnish="1",
        name="a",
        format="f",
        runtime="r",
        entry="e",
        devices=("cpu",),
        model="m",
        inputs=inputs,
        outputs=outputs,
        dims=dims or {},
        precision=precision,
        build=build or {},
        task=task,
    )
