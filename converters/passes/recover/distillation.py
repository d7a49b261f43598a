"""Distillation loss: distance of a student's outputs and inner layers from the teacher's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from converters.models.parts import LAYERS
from runtimes.engines.torch.outputs import flatten
from runtimes.errors import UsageError

# Of both softmaxes: the teacher's opinion of the classes that are not the best weighs more (Hinton
# et al., 2015).
_TEMPERATURE = 2.0
# Inner layers at most, spread over the depth: each costs memory and a pass over its values.
_FEATURES = 12
_FLOOR = 1e-6  # outputs that hardly vary are not divided by nothing

Answers = tuple[list[torch.Tensor], list[torch.Tensor]]
"""The outputs of a run, and those of the inner layers that are compared."""


@dataclass(frozen=True)
class Distillation:
    """The loss of a student.

    Attributes:
        classification: the first output is logits, judged by the divergence of the softmaxes; other
            outputs by their squared error as a share of the teacher's variance.
        features: module paths whose outputs are compared.
        outputs: whether the model's own outputs are compared; without features they always are.
    """

    classification: bool
    features: Sequence[str] = ()
    outputs: bool = True

    def answers(self, module: nn.Module, run: Callable[[nn.Module], Any]) -> Answers:
        """Return the outputs of a run, and of the inner layers that are compared.

        Raises UsageError if no output is floating point.
        """
        with _recording(module, self.features) as recorded:
            outputs = [output for output in flatten(run(module)) if output.is_floating_point()]
        if not outputs:
            raise UsageError(
                "recover: the model's outputs are integers, which cannot be distilled: return "
                "logits"
            )
        return outputs, [recorded[name] for name in self.features]

    def loss(self, student: Answers, teacher: Answers) -> torch.Tensor:
        """Return a scalar; 0 if the student answers as the teacher does."""
        terms = []
        if self.outputs:
            for index, (output, target) in enumerate(zip(student[0], teacher[0], strict=True)):
                if self.classification and index == 0:
                    terms.append(divergence(output, target, _TEMPERATURE))
                else:
                    terms.append(_relative_error(output, target))
        inner = list(starmap(_relative_error, zip(student[1], teacher[1], strict=True)))
        if inner:
            terms.append(torch.stack(inner).mean())
        return torch.stack(terms).sum()


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of the student's softmax from the teacher's.

    Mean over samples, in nats.
    """
    logits = student.float().flatten(0, -2) / temperature
    targets = teacher.float().flatten(0, -2) / temperature
    mean = functional.kl_div(
        logits.log_softmax(-1), targets.log_softmax(-1), reduction="batchmean", log_target=True
    )
    return mean * temperature**2


def _relative_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error over the variance of the target."""
    exact = target.float()
    return (output.float() - exact).square().mean() / exact.var().clamp_min(_FLOOR)


@contextlib.contextmanager
def _recording(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Record the outputs of layers, by module path."""
    recorded: dict[str, torch.Tensor] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            recorded[name] = output

        return record

    hooks = [module.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def comparable_layers(
    student: nn.Module, teacher: nn.Module, run: Callable[[nn.Module], Any], most: int = _FEATURES
) -> list[str]:
    """Return paths of layers whose outputs have the same shape in both, spread over the depth."""
    student_shapes = _output_shapes(student, run)
    teacher_shapes = _output_shapes(teacher, run)
    same = [name for name, shape in student_shapes.items() if teacher_shapes.get(name) == shape]
    same = same[:-1]  # the last is the output
    count = min(most, len(same))
    return [same[(index + 1) * len(same) // count - 1] for index in range(count)]


def _output_shapes(module: nn.Module, run: Callable[[nn.Module], Any]) -> dict[str, torch.Size]:
    """Return output shapes of the layers that may be compared, in their order of execution."""
    names = [
        name for name, part in module.named_modules() if isinstance(part, (*LAYERS, nn.LayerNorm))
    ]
    with torch.no_grad(), _recording(module, names) as recorded:
        run(module)
    return {name: output.shape for name, output in recorded.items()}
