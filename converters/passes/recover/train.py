"""The training: one student, one teacher, no labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.data.shelf import Shelf, batches
from converters.models.batch_norm import learn_statistics, norms
from converters.models.call import call
from converters.models.parts import where
from converters.passes.recover.augment import augmented
from converters.passes.recover.checkpoint import Best, resume, save, state_of
from converters.passes.recover.lesson import Lesson, TeacherAnswers, comparable
from converters.passes.recover.pulse import Pulse
from converters.passes.recover.rounding import rounding
from converters.passes.recover.teacher import Teacher, Tensors, faster
from converters.recipe.recover import RecoverOptions
from runtimes.errors import BurnishError, UsageError
from runtimes.progress import counted

Tell = Callable[[str], object]

_STATISTICS = 32  # batches that BatchNorm's statistics are found on
_WARM_UP = 0.05  # share of the training in which the rate rises
_DECAY = 1e-4  # of weights, not of biases and norms
_ASTRAY = 1.2  # times the best loss: a rate that leads there is too high for this model
_LOWERED = 0.25  # the rate that it then goes on with, as a share
_RANGES = 8  # batches that show a rounded student the ranges of its activations before it learns
_NORM = 1.0  # the longest step that a gradient may take: the first batches after pruning have wild ones


@dataclass
class Course:
    """How a training went; what a manifest tells of it.

    Attributes:
        before, batch_norm, after: loss on the held-back samples: as pruned, with BatchNorm's statistics found anew,
            at the end.
        curve: the same after each epoch.
        epochs, seconds: how many, how long; over all runs where it was resumed.
        stopped: why it ended.
        resumed: whether it was interrupted.
        lowered: epochs behind which it went back to its best state, with a lower rate.
        samples, held_back: how many it learned from, and how many told when to stop.
        features: inner layers that were compared.
    """

    before: float = math.nan
    batch_norm: float = math.nan
    after: float = math.nan
    curve: list[float] = field(default_factory=list)
    epochs: int = 0
    seconds: float = 0.0
    stopped: str = "no training was asked"
    resumed: bool = False
    lowered: list[int] = field(default_factory=list)
    samples: int = 0
    held_back: int = 0
    features: list[str] = field(default_factory=list)


class Teaching:
    """A student on its way."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        shelf: Shelf,
        indices: Sequence[int],
        options: RecoverOptions,
        classification: bool,
        checkpoint: Path,
        tell: Tell = lambda message: None,
    ) -> None:
        """`indices`: of the shelf's samples; some are held back. `checkpoint`: where an interrupted one goes on."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.student, self.shelf, self.options = student.to(self.device), shelf, options
        for parameter in student.parameters():  # a factory for inference may have frozen them
            parameter.requires_grad_(parameter.is_floating_point())
        self.checkpoint, self.tell, self.pulse = checkpoint, tell, Pulse(tell)
        self.learned, self.held = _split(indices, options)
        self.rng = np.random.default_rng(options.seed)
        features = self._features(teacher.to(self.device))
        self.lesson = Lesson(classification, features, options.distill != "features" or not features)
        remember = not options.augment and not self.lesson.features
        self.teacher = Teacher(teacher, self.lesson, remember)
        self.course = Course(samples=len(self.learned), held_back=len(self.held))
        self.course.features = list(self.lesson.features)
        # What pruning set to zero stays zero.
        self.masks = {
            name: one.detach() != 0
            for name, one in student.named_parameters()
            if one.dim() > 1 and int(torch.count_nonzero(one)) < one.numel()
        }

    def _features(self, teacher: nn.Module) -> list[str]:
        if self.options.distill not in ("features", "both"):
            return []
        tensors = self._tensors(self.held[:2])
        found = comparable(self.student.eval(), teacher.eval(), lambda module: call(module, tensors))
        if not found:
            self.tell("no inner layer has the shape that it had: only the outputs are taught")
        return found

    def run(self) -> Course:
        """Find BatchNorm's statistics, then train; the student has its best state afterwards, on the CPU.

        Raises UsageError where the model does not run on a batch.
        """
        torch.manual_seed(self.options.seed)
        self._try()
        self._statistics()
        if self.options.distill != "batchnorm":
            with rounding(self.student, self.options.aware):
                self._train()
        self.student.to("cpu").eval()
        self.teacher.module.to("cpu")
        return self.course

    def _try(self) -> None:
        """Ask the teacher for one batch: a model may take fewer samples at once than training wants."""
        part = next(batches(self.learned, self.options.batch))
        tensors = self._tensors(part)
        try:
            self.teacher.answers(part, tensors)
        except BurnishError:
            raise
        except Exception as error:  # whatever the forward pass raises
            raise UsageError(
                f"recover: the model does not run on {len(part)} samples at once: {type(error).__name__}: {error}"
                f"{where(error, self.teacher.module)}; lower `batch`"
            ) from error

    def _statistics(self) -> None:
        """Find BatchNorm's statistics anew; they stay as they were where that is no better."""
        course, old = self.course, state_of(self.student)
        course.before = course.after = self._held_loss()
        some = list(batches(self.learned, self.options.batch, np.random.default_rng(0)))[:_STATISTICS]
        if not learn_statistics(self.student, [partial(self._answers, part) for part in some]):
            return
        course.batch_norm = self._held_loss()
        self.tell(f"loss {course.before:.4g}, with BatchNorm's statistics found anew {course.batch_norm:.4g}")
        if not course.before <= course.batch_norm:  # what is not finite is never the better one
            course.after = course.batch_norm
        else:
            self.student.load_state_dict(old)

    def _train(self) -> None:
        course, options = self.course, self.options
        optimizer = torch.optim.AdamW(self._parameters(), lr=options.rate)
        best = Best(self._rounded_loss() if options.aware else course.after, state_of(self.student))
        if found := resume(self.checkpoint, self.student, optimizer, best, self.device):
            self.course = course = Course(**{**found, "resumed": True})
            self.rng = np.random.default_rng((options.seed, course.epochs))
            self.tell(f"going on behind epoch {course.epochs}")
        course.stopped = "all epochs done"
        started = time.monotonic() - course.seconds
        epochs = range(course.epochs, options.epochs)
        for epoch in counted(epochs, "epochs", options.epochs, course.epochs, limit=True):
            finite = self._epoch(optimizer, epoch, started)
            loss = self._held_loss() if finite else math.nan
            course.epochs, course.seconds = epoch + 1, time.monotonic() - started
            course.curve.append(loss)
            if not math.isfinite(loss):
                course.stopped = f"the loss became {loss} in epoch {epoch + 1}: the best state before it was kept"
                break
            best.offer(loss, self.student, epoch)
            self.tell(f"epoch {epoch + 1} of at most {options.epochs}: loss {loss:.4g}, best {best.loss:.4g}")
            if self._over(epoch, best):
                break
            if loss > _ASTRAY * best.loss:
                self._go_back(optimizer, best, epoch)
            save(self.checkpoint, self.student, optimizer, best, asdict(course))
        self.student.load_state_dict(best.state)
        course.after = best.loss
        self.checkpoint.unlink(missing_ok=True)

    def _go_back(self, optimizer: torch.optim.Optimizer, best: Best, epoch: int) -> None:
        """To the best state, with a lower rate: what was trained well forgets in a few steps that are too long."""
        self.student.load_state_dict(best.state)
        optimizer.state.clear()
        self.course.lowered.append(epoch)
        self.tell(f"back to the best state, with a rate of at most {self._highest_rate:.2g}")

    @property
    def _highest_rate(self) -> float:
        return float(self.options.rate * _LOWERED ** len(self.course.lowered))

    def _rounded_loss(self) -> float:
        """The loss of the student as it is, but rounded: it is another one than it was."""
        for part in list(batches(self.learned, self.options.batch))[:_RANGES]:
            with torch.enable_grad():  # what runs without gradients shows no ranges
                self._answers(part)
        return self._held_loss()

    def _over(self, epoch: int, best: Best) -> bool:
        if epoch + 1 == self.options.epochs:
            return True
        if self.course.seconds >= 60 * self.options.minutes:
            self.course.stopped = f"{self.options.minutes:g} minutes are over"
            return True
        if epoch - max([best.epoch, *self.course.lowered]) >= self.options.patience:
            self.course.stopped = f"no better for {self.options.patience} epochs"
            return True
        return False

    def _epoch(self, optimizer: torch.optim.Optimizer, epoch: int, started: float) -> bool:
        """One time through the samples, or as far as the time goes; whether all losses were finite."""
        for norm in norms(self.student.eval()):
            norm.train(self.options.batch > 1)  # dropout stays off: the teacher has none
        parts = list(batches(self.learned, self.options.batch, self.rng))
        for number, part in enumerate(counted(parts, "batches")):
            spent = (time.monotonic() - started) / (60 * self.options.minutes)
            if spent >= 1:
                break
            done = (epoch + number / len(parts)) / self.options.epochs
            for group in optimizer.param_groups:
                group["lr"] = self._highest_rate * _rate(max(done, spent))
            if not self._step(optimizer, part):
                return False
            self.pulse(f"epoch {epoch + 1} of at most {self.options.epochs}: batch {number + 1} of {len(parts)}")
        return True

    def _step(self, optimizer: torch.optim.Optimizer, part: Sequence[int]) -> bool:
        """One batch; whether its loss was finite."""
        tensors = augmented(self._tensors(part), self.options.augment, self.rng)
        theirs = self.teacher.answers(part, tensors)
        with faster(self.device, not self.options.aware):
            mine = self.lesson.answers(self.student, lambda module: call(module, tensors))
        loss = self.lesson.loss(mine, theirs)
        if not torch.isfinite(loss):
            return False
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), _NORM)
        optimizer.step()
        with torch.no_grad():
            for name, mask in self.masks.items():
                self._weight(name).mul_(mask)
        return True

    def _weight(self, name: str) -> torch.Tensor:
        """A parameter by the name that it had before weights were rounded."""
        path, _, own = name.rpartition(".")
        layer: Any = self.student.get_submodule(path)
        rounded = own == "weight" and hasattr(layer, "parametrizations")
        found: torch.Tensor = layer.parametrizations.weight.original if rounded else layer.get_parameter(own)
        return found

    def _parameters(self) -> list[dict[str, Any]]:
        matrices = [one for one in self.student.parameters() if one.dim() > 1]
        vectors = [one for one in self.student.parameters() if one.dim() <= 1]
        return [{"params": matrices, "weight_decay": _DECAY}, {"params": vectors, "weight_decay": 0.0}]

    @torch.no_grad()
    def _held_loss(self) -> float:
        """Mean loss over the samples that were held back."""
        self.student.eval()
        total = count = 0.0
        for part in batches(self.held, self.options.batch):
            theirs = self.teacher.answers(part, self._tensors(part))
            total += float(self.lesson.loss(self._answers(part), theirs)) * len(part)
            count += len(part)
        return total / count

    def _answers(self, part: Sequence[int]) -> TeacherAnswers:
        tensors = self._tensors(part)
        return self.lesson.answers(self.student, lambda one: call(one, tensors))

    def _tensors(self, part: Sequence[int]) -> Tensors:
        arrays = self.shelf.batch(part)
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}


def _split(indices: Sequence[int], options: RecoverOptions) -> tuple[list[int], list[int]]:
    """Samples to learn from, and those that tell when to stop."""
    order = np.random.default_rng(options.seed).permutation(len(indices))
    count = max(2, round(options.holdout * len(indices)))
    return [indices[int(k)] for k in order[count:]], [indices[int(k)] for k in order[:count]]


def _rate(done: float) -> float:
    """Share of the highest rate: a short rise, then half a cosine to nought."""
    if done < _WARM_UP:
        return max(0.01, done / _WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
