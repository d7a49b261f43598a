"""Wrong and right artifacts as functions around a right model, judged as a build judges them."""

from __future__ import annotations

import copy
import pickle
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.models.call import call
from converters.models.facts import ModelFacts, estimate_work, study
from runtimes.artifact.artifact import Manifest
from runtimes.artifact.gates import Gates
from runtimes.engines.torch.session import flatten
from runtimes.errors import BurnishError
from runtimes.results import GateResult, Outcome
from runtimes.session import Session
from runtimes.spec import Arrays, Dims, Specs
from runtimes.validator.host import SessionHost
from runtimes.validator.judge import collect, judge
from runtimes.validator.probes import Probe, synthetic_samples, with_limits
from runtimes.validator.reference import Reference
from tests.adversary.rounding import int8_like, reduced
from tests.runtimes.validator.gates.manifests import manifest_of

Run = Callable[[Arrays], Arrays]
"""From named inputs to named outputs."""
Artifact = Callable[[Run], Run]
"""Makes an artifact of a right one; called once for each session, so that it can keep a state."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A right model, with all that a recipe says of it.

    Attributes:
        name: of the subject.
        build: returns the module; what it draws is seeded.
        inputs, dims, outputs, task: as in a recipe.
        samples: returns real samples; None: seeded noise.
        before: returns the module before passes pruned it, if they did.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Specs
    dims: Dims = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None
    task: str | None = None
    samples: Callable[[], list[Probe]] | None = None
    before: Callable[[], nn.Module] | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Case:
    """One artifact and the verdict that it deserves.

    Attributes:
        id: what it does.
        subject: what it is made of.
        artifact: makes it.
        gate: that fails; None: it passes.
        precision: that it claims.
        gates: of the recipe.
        layers: computing layers by their precision, if its engine reports them.
        limit: why the verdict is still another one, if it is.
    """

    id: str
    subject: Subject
    artifact: Artifact
    gate: str | None
    precision: str = "fp32"
    gates: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, int] | None = None
    limit: str | None = None


@dataclass(frozen=True)
class Studied:
    """A subject as the validator knows it."""

    facts: ModelFacts
    reference: Reference


@cache
def module_of(subject: Subject) -> nn.Module:
    """Return a subject's model: not to be changed."""
    return _module(subject.build)


@cache
def studied(subject: Subject) -> Studied:
    """Run the subject's model as a build does, once for each session of tests."""
    inputs, dims, probes = subject.inputs, subject.dims, _probes(subject)
    copied = copy.deepcopy(module_of(subject))
    facts, reference = study(copied, inputs, dims, probes, subject.outputs, subject.task)
    if subject.before is not None:
        original, accepted = _module(subject.before), reference.probes
        before = study(original, inputs, dims, accepted, subject.outputs, subject.task)[1]
        reference = replace(reference, original=before.eager)
    return Studied(facts, reference)


@cache
def right_run(subject: Subject, precision: str) -> Run:
    """Return the right answers of a subject in a precision."""
    module, names = module_of(subject), list(studied(subject).facts.outputs)
    if precision == "int8":
        samples = [probe.inputs for probe in studied(subject).reference.probes if probe.sample]
        return _run_of(int8_like(module, [_tensors(arrays) for arrays in samples]), names)
    if precision in _REDUCED:
        return _run_of(reduced(module, _REDUCED[precision]), names)
    return _run_of(copy.deepcopy(module), names)


_REDUCED = {"fp16": torch.float16, "bf16": torch.bfloat16}


def _module(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


def _probes(subject: Subject) -> list[Probe]:
    samples = synthetic_samples(subject.inputs, subject.dims)
    if subject.samples is not None:
        samples = subject.samples()
    work = estimate_work(module_of(subject), subject.inputs, subject.dims)
    return with_limits(samples, subject.inputs, subject.dims, work=work)


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _run_of(module: nn.Module, names: Sequence[str]) -> Run:
    """Return a module as a function that remembers its answers, of which it gives copies."""
    answers: dict[object, Arrays] = {}

    def run(inputs: Arrays) -> Arrays:
        key = tuple((array.shape, array.tobytes()) for array in inputs.values())
        if key not in answers:
            with torch.inference_mode():
                tensors = flatten(call(module, _tensors(inputs)))
            answers[key] = dict(zip(names, [tensor.numpy() for tensor in tensors], strict=True))
        return {name: array.copy() for name, array in answers[key].items()}

    return run


class _Session(Session):
    """An artifact of this suite as a session."""

    def __init__(self, run: Run, facts: ModelFacts, layers: dict[str, int] | None) -> None:
        super().__init__(facts.inputs, facts.outputs, facts.dims)
        self._answer, self._layers = run, layers

    def _run(self, inputs: Arrays) -> Arrays:
        return self._answer(inputs)

    def compute_layers(self) -> dict[str, int] | None:
        return self._layers


class InProcess:
    """Stands for the process of a session: calls its host here, with copies as a pipe makes them."""

    def __init__(self, session: Session) -> None:
        self._host = SessionHost(lambda: session)

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Call a method of the host."""
        result = getattr(self._host, method)(*pickle.loads(pickle.dumps(arguments)))  # noqa: S301
        return pickle.loads(pickle.dumps(result))  # noqa: S301 - dumped here


def failures(case: Case) -> list[GateResult]:
    """Return the gates of a case that fail."""
    subject = studied(case.subject)
    run = case.artifact(right_run(case.subject, case.precision))
    manifest = manifest_of(
        subject.facts.inputs,
        subject.facts.outputs,
        dims=subject.facts.dims,
        precision=case.precision,
        task=case.subject.task,
    )
    session = _Session(run, subject.facts, case.layers)
    return verdict(manifest, session, subject.reference, Gates.model_validate(case.gates))


def verdict(
    manifest: Manifest, session: Session, reference: Reference, gates: Gates | None = None
) -> list[GateResult]:
    """Ask a session all that a build asks, and return the gates that fail."""
    try:
        answers = collect(InProcess(session), reference)  # type: ignore[arg-type]
    except BurnishError as error:
        return [GateResult(gate="runs", ok=False, detail=str(error))]
    results = judge(manifest, gates or Gates(), reference, answers)[1]
    return [result for result in results if result.outcome in _NOT_PASSED]


# All limits here are a recipe's own or decided: what is unproven does not pass either.
_NOT_PASSED = (Outcome.FAILS, Outcome.UNDECIDED)


def real(arrays: Sequence[Arrays], labels: Sequence[int] | None = None) -> list[Probe]:
    """Real samples of a recipe, with their classes if these are known."""
    probes = []
    for index, inputs in enumerate(arrays):
        label = () if labels is None else (int(labels[index]),)
        probes.append(Probe(f"samples from {index}", inputs, "data", labels=label))
    return probes


def real_batches(
    name: str, rows: np.ndarray[Any, Any], labels: Sequence[int], size: int
) -> list[Probe]:
    """Real samples of one input in batches of a size, with their classes."""
    probes = []
    for start in range(0, len(rows), size):
        classes = tuple(labels[start : start + size])
        inputs = {name: rows[start : start + size]}
        probes.append(Probe(f"samples from {start}", inputs, "data", {"batch": size}, (), classes))
    return probes


Change = Callable[[Arrays, Arrays], Arrays]
"""From the inputs and the right outputs to wrong ones, in place or not."""


def changed(change: Change) -> Artifact:
    """An artifact that changes the right outputs."""
    return lambda right: lambda inputs: change(inputs, right(inputs))


Condition = Callable[[Arrays], bool]


def wrong_where(condition: Condition, factor: float = 1.2) -> Artifact:
    """An artifact whose floating-point answers are off by a factor on some inputs."""

    def change(inputs: Arrays, outputs: Arrays) -> Arrays:
        return scaled(outputs, factor) if condition(inputs) else outputs

    return changed(change)


def scaled(outputs: Arrays, factor: float) -> Arrays:
    """Outputs with all floats multiplied."""
    return {
        name: array * array.dtype.type(factor) if array.dtype.kind == "f" else array
        for name, array in outputs.items()
    }


def seeded(inputs: Arrays) -> np.random.Generator:
    """Draw the same for the same inputs: an artifact repeats its answers."""
    values = b"".join(array.tobytes() for array in inputs.values())
    return np.random.default_rng(zlib.crc32(values))


def the_only(arrays: Arrays) -> np.ndarray[Any, Any]:
    """The first of some arrays."""
    return next(iter(arrays.values()))
