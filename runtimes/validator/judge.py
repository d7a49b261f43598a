"""Collect a session's answers to the probes, and judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtimes.artifact.artifact import Manifest
from runtimes.artifact.gates import Gates
from runtimes.process.process import Child
from runtimes.progress import Advance, task
from runtimes.results import GateResult, Parity
from runtimes.spec import Arrays
from runtimes.validator.conduct import repeated
from runtimes.validator.defaults import FIRST_PROBES, PROBES_PER_CALL, REQUEST_SECONDS
from runtimes.validator.evidence import Evidence, Repeat
from runtimes.validator.gates import gates
from runtimes.validator.gates.outputs import judged_outputs, without
from runtimes.validator.inputs.account import account
from runtimes.validator.inputs.sizes import sizes_tried
from runtimes.validator.outputs.metric import UserMetric, measured
from runtimes.validator.outputs.order import reconcile, with_ordered_truth
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference


@dataclass(frozen=True)
class Answers:
    """Everything that a session was asked: see `Evidence`."""

    first: Sequence[Arrays]
    repeats: Sequence[Repeat] = ()
    layers: dict[str, int] | None = None
    problems: Sequence[str] = ()
    sequence: Sequence[Arrays] = ()


def collect(child: Child, reference: Reference) -> Answers:
    """Run all probes, then some of them again: see `_repeats`."""
    probes = reference.probes
    indices = repeated(probes)
    with task("probes", len(probes) + 3 * len(indices)) as advance:
        first = _answers(child, probes, advance)
        repeats = _repeats(child, probes, indices, advance)
    steps: list[Arrays] = []
    if reference.steps:
        inputs = [(probes[index].name, probes[index].inputs) for index in reference.steps]
        steps = child.call("follow", inputs, reference.feedback, timeout=REQUEST_SECONDS)
    return Answers(first, repeats, child.call("compute_layers"), child.call("problems"), steps)


def _repeats(
    child: Child, probes: Sequence[Probe], indices: Sequence[int], advance: Advance
) -> list[Repeat]:
    """Run probes again: twice in another order, from several threads, and as callers handle arrays."""
    again = [*indices, *reversed(indices)]
    later = _answers(child, [probes[index] for index in again], advance)
    repeats = [Repeat(index, outputs) for index, outputs in zip(again, later, strict=True)]
    inputs = [(probes[index].name, probes[index].inputs) for index in indices]
    at_once = child.call("answer_at_once", inputs, timeout=REQUEST_SECONDS)
    for index, outputs in zip(indices, at_once, strict=True):
        repeats.append(Repeat(index, outputs, "beside calls from other threads"))
    advance(len(indices))
    samples = [probe.inputs for probe in probes[:FIRST_PROBES]]
    for handled in child.call("answer_handled", samples, timeout=REQUEST_SECONDS):
        repeats.append(Repeat(handled.place, handled.outputs, handled.how))
    return repeats


def _answers(child: Child, probes: Sequence[Probe], advance: Advance) -> list[Arrays]:
    """Return a session's outputs for each probe.

    Probes are sent some at a time: a process keeps the memory that it once held.
    """
    answers: list[Arrays] = []
    while len(answers) < len(probes):
        sent = probes[len(answers) : len(answers) + PROBES_PER_CALL]
        inputs = [(probe.name, probe.inputs) for probe in sent]
        answers += child.call("answer", inputs, timeout=REQUEST_SECONDS)
        advance(len(sent))
    return answers


def judge(
    manifest: Manifest,
    limits: Gates,
    reference: Reference,
    answers: Answers,
    metric: UserMetric | None = None,
) -> tuple[Parity, list[GateResult]]:
    """Summarize a session's numbers, and apply all gates before speed."""
    lossless = manifest.precision == "fp32"
    reference = with_ordered_truth(reference)
    first = reconcile(answers.first, reference, lossless)
    repeats = _in_order(answers.repeats, reference, lossless)
    ignored = [name for name, gates_of in limits.outputs.items() if gates_of.ignore]
    if ignored:
        reference, first = judged_outputs(reference, ignored), without(first, ignored)
        repeats = [replace(each, outputs=without([each.outputs], ignored)[0]) for each in repeats]
    parity = Parity()
    if _comparable(first, reference):
        parity = _parity(manifest, limits, reference, first)
        tried = sizes_tried([probe.sizes for probe in reference.probes], manifest.dims)
        rests_on = account(reference, manifest.inputs, [each.how for each in repeats])
        parity = parity.model_copy(update={"sizes": tried, "rests_on": rests_on})
        if metric is not None:
            result = measured(metric, first, reference)
            parity = parity.model_copy(update={"metric": result})
    evidence = Evidence(
        manifest,
        reference,
        first,
        repeats,
        parity,
        limits,
        answers.layers,
        answers.problems,
        answers.sequence,
    )
    loads = GateResult(gate="loads", ok=True, detail="loaded and run")
    return parity, [loads, *gates.judge(evidence)]


def _comparable(answers: Sequence[Arrays], reference: Reference) -> bool:
    return all(
        _shapes(outputs) == _shapes(truth)
        for outputs, truth in zip(answers, reference.truth, strict=True)
    )


def _parity(
    manifest: Manifest, limits: Gates, reference: Reference, answers: Sequence[Arrays]
) -> Parity:
    """Summarize the distances. Noise has no classes to agree on, unless the recipe says so."""
    classifies = not reference.synthetic or limits.top1_agreement is not None
    logits = next(iter(manifest.outputs), None)
    classification = (
        manifest.task == "classification" and classifies and logits in reference.eager[0]
    )
    return summarize(answers, reference, classification, manifest.precision == "fp32")


def _in_order(repeats: Sequence[Repeat], reference: Reference, lossless: bool) -> list[Repeat]:
    """Return further runs with their outputs in eager's order."""
    outputs = [repeat.outputs for repeat in repeats]
    indices = [repeat.index for repeat in repeats]
    ordered = reconcile(outputs, reference, lossless, indices)
    pairs = zip(repeats, ordered, strict=True)
    return [replace(repeat, outputs=arrays) for repeat, arrays in pairs]


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}
