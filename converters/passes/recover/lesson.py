"""What the student is told: how far its outputs, and those of inner layers, are from the teacher's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from converters.models.parts import LAYERS
from runtimes.engines.torch.session import flatten
from runtimes.errors import UsageError

# Of both softmaxes: what the teacher thinks of the classes that are not the best weighs more (Hinton et al., 2015).
_TEMPERATURE = 2.0
_FEATURES = 12  # inner layers at most, spread over the depth: each costs memory and a pass over its values
_FLOOR = 1e-6  # outputs that hardly vary are not divided by nothing

TeacherAnswers = tuple[list[torch.Tensor], list[torch.Tensor]]
"""The outputs of a run, and those of the inner layers that are compared."""


@dataclass(frozen=True)
class Lesson:
    """The loss of a student.

    Attributes:
        classification: the first output is logits, judged by the divergence of the softmaxes; other outputs by
            their squared error as a share of the teacher's variance.
        features: module paths whose outputs are compared.
        outputs: whether the model's own outputs are compared; without features they always are.
    """

    classification: bool
    features: Sequence[str] = ()
    outputs: bool = True

    def answers(self, module: nn.Module, run: Callable[[nn.Module], Any]) -> TeacherAnswers:
        """The outputs of a run, and of the inner layers that are compared.

        Raises UsageError where no output is floating point.
        """
        with _listening(module, self.features) as heard:
            outputs = [one for one in flatten(run(module)) if one.is_floating_point()]
        if not outputs:
            raise UsageError("recover: the model's outputs are integers, which teach nothing: return logits")
        return outputs, [heard[name] for name in self.features]

    def loss(self, mine: TeacherAnswers, theirs: TeacherAnswers) -> torch.Tensor:
        """A scalar; 0 where the student answers as the teacher does."""
        terms = []
        for index, (one, other) in enumerate(zip(mine[0], theirs[0], strict=True) if self.outputs else ()):
            logits = self.classification and index == 0
            terms.append(divergence(one, other, _TEMPERATURE) if logits else _relative(one, other))
        inner = [_relative(one, other) for one, other in zip(mine[1], theirs[1], strict=True)]
        if inner:
            terms.append(torch.stack(inner).mean())
        return torch.stack(terms).sum()


def divergence(mine: torch.Tensor, theirs: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Kullback-Leibler divergence of the student's softmax from the teacher's, mean over samples, in nats."""
    one, other = (logits.float().flatten(0, -2) / temperature for logits in (mine, theirs))
    found = functional.kl_div(one.log_softmax(-1), other.log_softmax(-1), reduction="batchmean", log_target=True)
    return found * temperature**2


def _relative(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the variance of what is right."""
    right = theirs.float()
    return (mine.float() - right).square().mean() / right.var().clamp_min(_FLOOR)


@contextlib.contextmanager
def _listening(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    heard: dict[str, torch.Tensor] = {}

    def hear(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, given: Any, made: torch.Tensor) -> None:
            heard[name] = made

        return note

    hooks = [module.get_submodule(name).register_forward_hook(hear(name)) for name in names]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def comparable(
    student: nn.Module, teacher: nn.Module, run: Callable[[nn.Module], Any], most: int = _FEATURES
) -> list[str]:
    """Module paths of layers whose outputs have the same shape in both, spread over the depth."""
    shapes: list[dict[str, torch.Size]] = []
    for module in (student, teacher):
        names = [name for name, one in module.named_modules() if isinstance(one, (*LAYERS, nn.LayerNorm))]
        with torch.no_grad(), _listening(module, names) as heard:
            run(module)
        shapes.append({name: one.shape for name, one in heard.items()})
    same = [name for name, shape in shapes[0].items() if shapes[1].get(name) == shape]
    same = same[:-1]  # the last is the output
    count = min(most, len(same))
    return [same[(index + 1) * len(same) // count - 1] for index in range(count)]
