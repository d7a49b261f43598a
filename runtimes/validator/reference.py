"""The reference: probes, eager's float32 outputs and the float64 truth, in one portable file."""

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
from runtimes.validator.inputs.coherent import incoherence, sequence_problem
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.probes import Probe, ProbeKind

Rounding = dict[str, dict[str, Errors]]
"""Errors by precision (`fp16`, `bf16`) and output."""


@dataclass(frozen=True)
class Reference:
    """Eager's answers to each probe, and the truth.

    Attributes:
        probes: the inputs.
        eager: per probe, eager's outputs in float32 on the CPU.
        truth: per probe, the same model's outputs in float64.
        truth_dtype: `float64`, or `float32` if the model cannot run in float64.
        repeat_error: largest difference between two runs of eager on the same probe.
        notes: for the reader of a report.
        original: per probe, the answers of the model before passes pruned or trained it; None if
            none did. Classes and accuracy are compared with it, errors with the model as it was
            exported.
        state: what forward() writes, if an answer of eager depends on the calls before.
        feedback: each input of an explicit state, with the output that becomes it in the next call.
        steps: indices of the probes that are such calls in a row.
        loose: per probe, which elements of outputs of whole numbers rounding decides; empty if none
            is known.
        rounding: by precision, the error of each output of eager with its numbers rounded to that
            precision (see `outputs/honest.py`); empty if it was not measured.
    """

    probes: list[Probe]
    eager: list[Arrays]
    truth: list[Arrays]
    truth_dtype: str = "float64"
    repeat_error: float = 0.0
    notes: list[str] = field(default_factory=list)
    original: list[Arrays] | None = None
    state: tuple[str, ...] = ()
    loose: list[Arrays] = field(default_factory=list)
    feedback: dict[str, str] = field(default_factory=dict)
    steps: tuple[int, ...] = ()
    rounding: Rounding = field(default_factory=dict)

    @property
    def decisions(self) -> list[Arrays]:
        """Outputs with which the artifact's classes are compared: those of the user's own model."""
        return self.original or self.eager

    @property
    def synthetic(self) -> bool:
        """Whether no probe is real data."""
        return not any(probe.kind == "data" for probe in self.probes)

    def constant_outputs(self) -> list[str]:
        """Return the names of outputs that do not depend on the input: agreement proves nothing.

        A whole number beside others that vary may be one (a count of detections, a size): weights
        that are missing would show in the others.
        """
        judged = []
        for probe, truth in zip(self.probes, self.truth, strict=True):
            if probe.ordinary:
                judged.append(truth)
        names = [name for name in self.truth[0] if _constant([outputs[name] for outputs in judged])]
        if len(names) == len(self.truth[0]):
            return names
        return [name for name in names if self.truth[0][name].dtype.kind == "f"]

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
                ("loose", self.loose[index] if self.loose else {}),
            ):
                for name, array in arrays.items():
                    # Not ascontiguousarray, which makes a vector of a scalar.
                    tensors[f"{index}/{group}/{name}"] = np.asarray(array, order="C")
        save_file(tensors, path, {"burnish": json.dumps(self._facts())})
        path.chmod(0o644)  # safetensors lets only the owner read it; the file is to travel

    def _facts(self) -> dict[str, Any]:
        """Return everything but the arrays, as `_Facts` reads it."""
        probes = []
        for probe in self.probes:
            probes.append([probe.name, probe.kind, probe.sizes, probe.rows, probe.labels])
        return {
            "probes": probes,
            "outputs": list(self.truth[0]),
            "inputs": list(self.probes[0].inputs),
            "truth_dtype": self.truth_dtype,
            "repeat_error": self.repeat_error if math.isfinite(self.repeat_error) else None,
            "notes": self.notes,
            "changed": self.original is not None,
            "state": self.state,
            "feedback": self.feedback,
            "steps": self.steps,
            "loose": sorted(self.loose[0]) if self.loose else [],
            "rounding": _documents(self.rounding),
        }

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read a reference. Raises UsageError if there is none, ArtifactError if it is damaged."""
        reference = cls._read(path)
        others = [reference.original or [], reference.loose]
        outputs, feedback = reference.truth[0], reference.feedback
        problem = incoherence(
            reference.probes, reference.eager, reference.truth, list(filter(None, others))
        ) or sequence_problem(reference.probes, outputs, feedback, reference.steps)
        if problem:
            raise ArtifactError(
                f"cannot read the reference {path} ({problem}); `burnish convert` writes a new one"
            )
        return reference

    @classmethod
    def _read(cls, path: Path) -> Reference:
        from safetensors import safe_open

        check_there(path)
        try:
            with safe_open(path, framework="numpy") as file:
                facts = _Facts.model_validate(parse_json(file.metadata()["burnish"].encode()))

                def arrays(index: int, group: str, names: list[str]) -> Arrays:
                    prefix = f"{index}/{group}"
                    return {name: _plain(file.get_tensor(f"{prefix}/{name}")) for name in names}

                probes = []
                for index, (name, kind, sizes, rows, labels) in enumerate(facts.probes):
                    inputs = arrays(index, "input", facts.inputs)
                    probes.append(Probe(name, inputs, kind, sizes, tuple(rows), tuple(labels)))

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
                    facts.state,
                    [arrays(index, "loose", facts.loose) for index in range(len(probes))],
                    facts.feedback,
                    facts.steps,
                    facts.rounding,
                )
        except (
            Exception
        ) as error:  # safetensors raises its own, OSError, and KeyError for foreign files
            raise ArtifactError(
                f"cannot read the reference {path} ({error}); `burnish convert` writes a new one"
            ) from error


def unanswered(probe: Probe, eager: Arrays) -> bool:
    """Return whether an input with a NaN made eager's answer NaN: then there is none to compare."""
    return probe.kind == "nan" and not all(np.isfinite(values).all() for values in eager.values())


def check_there(path: Path) -> None:
    """Raise UsageError if there is no reference."""
    if not path.is_file():  # also a pipe: nobody may be writing into it
        raise UsageError(
            f"there is no {path}: copy {REFERENCE_FILE} of the build next to the artifact's folder"
        )


class _Facts(BaseModel):
    """The file's metadata: of each probe its name, kind, sizes, rows and labels."""

    model_config = ConfigDict(extra="ignore")

    probes: list[tuple[str, ProbeKind, dict[str, int], list[int], list[int]]] = Field(min_length=1)
    outputs: list[str] = Field(min_length=1)
    inputs: list[str]
    truth_dtype: str
    repeat_error: float | None = Field(..., description="None for infinity, which JSON lacks.")
    notes: list[str]
    changed: bool = False
    state: tuple[str, ...] = ()
    loose: list[str] = Field(default_factory=list)
    feedback: dict[str, str] = Field(default_factory=dict)
    steps: tuple[int, ...] = ()
    rounding: Rounding = Field(default_factory=dict)


def _documents(rounding: Rounding) -> dict[str, dict[str, Any]]:
    documents = {}
    for precision, errors in rounding.items():
        documents[precision] = {name: measured.rounded() for name, measured in errors.items()}
    return documents


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array. Raises ValueError if it is not numeric, such as float8 as bytes."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of {array.dtype}")
    return array


def _constant(outputs: list[np.ndarray[Any, Any]]) -> bool:
    """Return whether all samples of all probes have the same values.

    Outputs whose size differs from the first one's cannot be compared.
    """
    rows: list[np.ndarray[Any, Any]] = []
    for output in outputs:
        if output.ndim:
            rows += list(output)
    rows = [row for row in rows if row.shape == rows[0].shape]
    if len(rows) < 2:
        return False
    if rows[0].dtype.kind != "f":
        return all(np.array_equal(row, rows[0]) for row in rows)
    stack = np.stack(rows).astype(np.float64)
    stack = np.where(np.isfinite(stack), stack, 0.0)  # only finite values are compared
    rms = math.sqrt(float(np.mean(np.square(stack))))
    return bool(np.ptp(stack, axis=0).max(initial=0.0) <= CONSTANT_SPREAD * rms)
