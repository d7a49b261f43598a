"""The reference: probes, eager's float32 outputs and the float64 truth, in one file that travels."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from runtimes.errors import ArtifactError, UsageError
from runtimes.files.documents import parse_json
from runtimes.files.layout import REFERENCE_FILE
from runtimes.spec import Arrays
from runtimes.validator.defaults import CONSTANT_SPREAD
from runtimes.validator.probes import Probe, ProbeKind


@dataclass(frozen=True)
class Reference:
    """What eager answers to each probe.

    Attributes:
        probes: the inputs.
        eager: per probe, eager's outputs in float32 on the CPU.
        truth: per probe, the same model's outputs in float64.
        truth_dtype: `float64`, or `float32` where the model cannot run in float64.
        repeat_error: largest difference between two runs of eager on the same probe.
        notes: what a reader must know.
        original: per probe, what the model answered before passes pruned or trained it; None where none did.
            Classes and accuracy are compared with it, errors with the model as it was exported.
    """

    probes: list[Probe]
    eager: list[Arrays]
    truth: list[Arrays]
    truth_dtype: str = "float64"
    repeat_error: float = 0.0
    notes: list[str] = field(default_factory=list)
    original: list[Arrays] | None = None

    @property
    def decisions(self) -> list[Arrays]:
        """What the classes that an artifact decides for are compared with: the user's own model."""
        return self.original or self.eager

    @property
    def synthetic(self) -> bool:
        """Whether no probe is real data."""
        return not any(probe.kind == "data" for probe in self.probes)

    def constant_outputs(self) -> list[str]:
        """Names of outputs that do not depend on the input: agreeing with them proves nothing."""
        samples = [truth for probe, truth in zip(self.probes, self.truth, strict=True) if probe.kind != "edge"]
        return [name for name in self.truth[0] if _constant([outputs[name] for outputs in samples])]

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file."""
        from safetensors.numpy import save_file

        tensors = {}
        for index, probe in enumerate(self.probes):
            for group, arrays in (
                ("input", probe.inputs),
                ("eager", self.eager[index]),
                ("truth", self.truth[index]),
                ("original", self.original[index] if self.original else {}),
            ):
                # not ascontiguousarray, which makes a vector of a scalar
                tensors.update({f"{index}/{group}/{name}": np.asarray(a, order="C") for name, a in arrays.items()})
        facts = {
            "probes": [[probe.name, probe.kind, probe.sizes, probe.rows, probe.labels] for probe in self.probes],
            "outputs": list(self.truth[0]),
            "inputs": list(self.probes[0].inputs),
            "truth_dtype": self.truth_dtype,
            "repeat_error": self.repeat_error if math.isfinite(self.repeat_error) else None,
            "notes": self.notes,
            "changed": self.original is not None,
        }
        save_file(tensors, path, {"burnish": json.dumps(facts)})
        path.chmod(0o644)  # safetensors leaves it to its owner alone; it is to travel

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a reference. Raises UsageError where there is none, ArtifactError where it is damaged."""
        from safetensors import safe_open

        check_there(path)
        try:
            with safe_open(path, framework="numpy") as file:
                facts = _Facts.model_validate(parse_json(file.metadata()["burnish"].encode()))

                def arrays(index: int, group: str, names: list[str]) -> Arrays:
                    return {name: _plain(file.get_tensor(f"{index}/{group}/{name}")) for name in names}

                probes = [
                    Probe(name, arrays(index, "input", facts.inputs), kind, sizes, tuple(rows), tuple(labels))
                    for index, (name, kind, sizes, rows, labels) in enumerate(facts.probes)
                ]

                def outputs(group: str) -> list[Arrays]:
                    return [arrays(index, group, facts.outputs) for index in range(len(probes))]

                return cls(
                    probes,
                    outputs("eager"),
                    outputs("truth"),
                    facts.truth_dtype,
                    math.inf if facts.repeat_error is None else facts.repeat_error,
                    facts.notes,
                    outputs("original") if facts.changed else None,
                )
        except Exception as error:  # safetensors raises its own, OSError, and KeyError for foreign files
            raise ArtifactError(
                f"{path} is not a reference that can be read ({error}); `burnish convert` makes it again"
            ) from error


def check_there(path: Path) -> None:
    """Raise UsageError where there is no reference."""
    if not path.is_file():
        raise UsageError(f"there is no {path}: copy {REFERENCE_FILE} of the build beside the artifact's folder")


class _Facts(BaseModel):
    """What the file says beside its arrays: of each probe its name, kind, sizes, rows and labels."""

    model_config = ConfigDict(extra="ignore")

    probes: list[tuple[str, ProbeKind, dict[str, int], list[int], list[int]]] = Field(min_length=1)
    outputs: list[str] = Field(min_length=1)
    inputs: list[str]
    truth_dtype: str
    repeat_error: float | None = Field(..., description="None for infinity, which JSON has not.")
    notes: list[str]
    changed: bool = False


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array. Raises ValueError for one that is no numbers, such as float8 as bytes."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of {array.dtype}")
    return array


def _constant(outputs: list[np.ndarray[Any, Any]]) -> bool:
    """Whether all samples of all probes have the same values (outputs of differing sizes cannot be compared)."""
    rows = [row for output in outputs if output.ndim for row in np.asarray(output, np.float64)]
    rows = [row for row in rows if row.shape == rows[0].shape]
    if len(rows) < 2:
        return False
    stack = np.stack(rows)
    stack = np.where(np.isfinite(stack), stack, 0.0)  # nothing is compared there, so it cannot vary either
    rms = math.sqrt(float(np.mean(np.square(stack))))
    return bool(np.ptp(stack, axis=0).max(initial=0.0) <= CONSTANT_SPREAD * rms)
