"""The training of `recover`: one student, one teacher, no labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.data.shelf import Shelf
from converters.models.batch_norm import learn_statistics, norms
from converters.models.call import call
from converters.models.parts import failing_module
from converters.passes.recover.augment import augment
from converters.passes.recover.checkpoint import Best, copy_state, resume, save
from converters.passes.recover.course import Course
from converters.passes.recover.distillation import Answers, Distillation, comparable_layers
from converters.passes.recover.optimizer import make_optimizer, share_of_rate
from converters.passes.recover.pulse import Pulse
from converters.passes.recover.rounding import rounding
from converters.passes.recover.teacher import Teacher, Tensors, autocast_bfloat16
from converters.recipe.recover import RecoverOptions
from runtimes.engines.torch.inputs import to_tensors
from runtimes.errors import BurnishError, UsageError
from runtimes.progress import counted

Tell = Callable[[str], object]

_STATISTICS = 32  # batches that BatchNorm statistics are estimated on
_ASTRAY = 1.2  # times the best loss: a learning rate that leads there is too high for this model
_LOWERED = 0.25  # the reduced learning rate, as a share
_RANGES = 8  # batches that find a rounded student's activation ranges before the training
_NORM = 1.0  # limit of a gradient's norm: the first batches after pruning have very large ones


class Training:
    """A student in training."""

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
        """Move both models to the device and split the samples.

        `indices`: of the shelf's samples; some are held out. `checkpoint`: where an interrupted
        training continues.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.student, self.shelf, self.options = student.to(self.device), shelf, options
        for parameter in student.parameters():  # a factory for inference may have frozen them
            parameter.requires_grad_(parameter.is_floating_point())
        self.checkpoint, self.tell, self.pulse = checkpoint, tell, Pulse(tell)
        self.training_set, self.held_out = _split(indices, options)
        self.rng = np.random.default_rng(options.seed)
        features = self._features(teacher.to(self.device))
        outputs = options.distill != "features" or not features
        self.distillation = Distillation(classification, features, outputs)
        remember = not options.augment and not features
        self.teacher = Teacher(teacher, self.distillation, remember)
        self.course = Course(
            samples=len(self.training_set), held_back=len(self.held_out), features=list(features)
        )
        self.masks = _zero_masks(student)

    def _features(self, teacher: nn.Module) -> list[str]:
        if self.options.distill not in ("features", "both"):
            return []
        tensors = self._tensors(next(self.shelf.batches(self.held_out, 2)))
        layers = comparable_layers(
            self.student.eval(), teacher.eval(), lambda module: call(module, tensors)
        )
        if not layers:
            self.tell("no inner layer kept its shape: only the outputs are distilled")
        return layers

    def run(self) -> Course:
        """Estimate BatchNorm statistics, then train.

        Afterwards the student has its best state, on the CPU. Raises UsageError if the model does
        not run on a batch.
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
        """Run the teacher on one batch: a model may not take as many samples at once."""
        part = next(self.shelf.batches(self.training_set, self.options.batch))
        tensors = self._tensors(part)
        try:
            self.teacher.answers(part, tensors)
        except BurnishError:
            raise
        except Exception as error:  # whatever the forward pass raises
            raise UsageError(
                f"recover: the model does not run on {len(part)} samples at once: "
                f"{type(error).__name__}: {error}{failing_module(error, self.teacher.module)}; "
                "lower `batch`"
            ) from error

    def _statistics(self) -> None:
        """Re-estimate BatchNorm statistics; keep the old ones if that does not lower the loss."""
        course, old = self.course, copy_state(self.student)
        course.before = course.after = self._held_out_loss()
        rng = np.random.default_rng(0)
        parts = list(self.shelf.batches(self.training_set, self.options.batch, rng))[:_STATISTICS]
        if not learn_statistics(self.student, [partial(self._answers, part) for part in parts]):
            return
        course.batch_norm = self._held_out_loss()
        self.tell(
            f"loss {course.before:.4g}, with re-estimated BatchNorm statistics "
            f"{course.batch_norm:.4g}"
        )
        # Negated, since a loss that is not finite is never the better one.
        if not course.before <= course.batch_norm:
            course.after = course.batch_norm
        else:
            self.student.load_state_dict(old)

    def _train(self) -> None:
        course, options = self.course, self.options
        optimizer = make_optimizer(self.student, options.rate)
        best = Best(
            self._rounded_loss() if options.aware else course.after, copy_state(self.student)
        )
        if interrupted := resume(self.checkpoint, self.student, optimizer, best, self.device):
            self.course = course = Course(**{**interrupted, "resumed": True})
            self.rng = np.random.default_rng((options.seed, course.epochs))
            self.tell(f"resuming after epoch {course.epochs}")
        course.stopped = "all epochs done"
        started = time.monotonic() - course.seconds
        epochs = range(course.epochs, options.epochs)
        for epoch in counted(epochs, "epochs", options.epochs, course.epochs, limit=True):
            finite = self._epoch(optimizer, epoch, started)
            loss = self._held_out_loss() if finite else math.nan
            course.epochs, course.seconds = epoch + 1, time.monotonic() - started
            course.curve.append(loss)
            if not math.isfinite(loss):
                course.stopped = (
                    f"loss became {loss} in epoch {epoch + 1}; the best state before it was kept"
                )
                break
            best.offer(loss, self.student, epoch)
            self.tell(
                f"epoch {epoch + 1} of at most {options.epochs}: loss {loss:.4g}, best "
                f"{best.loss:.4g}"
            )
            if self._finished(epoch, best):
                break
            if loss > _ASTRAY * best.loss:
                self._return_to_best(optimizer, best, epoch)
            save(self.checkpoint, self.student, optimizer, best, asdict(course))
        self.student.load_state_dict(best.state)
        course.after = best.loss
        self.checkpoint.unlink(missing_ok=True)

    def _return_to_best(self, optimizer: torch.optim.Optimizer, best: Best, epoch: int) -> None:
        """Restore the best state and lower the learning rate: few long steps undo a training."""
        self.student.load_state_dict(best.state)
        optimizer.state.clear()
        self.course.lowered.append(epoch)
        self.tell(
            f"back to the best state, with a learning rate of at most {self._highest_rate:.2g}"
        )

    @property
    def _highest_rate(self) -> float:
        return float(self.options.rate * _LOWERED ** len(self.course.lowered))

    def _rounded_loss(self) -> float:
        """Return the loss of the untrained student with rounding."""
        for part in list(self.shelf.batches(self.training_set, self.options.batch))[:_RANGES]:
            with torch.enable_grad():  # ranges are only observed in runs with gradients
                self._answers(part)
        return self._held_out_loss()

    def _finished(self, epoch: int, best: Best) -> bool:
        if epoch + 1 == self.options.epochs:
            return True
        if self.course.seconds >= 60 * self.options.minutes:
            self.course.stopped = f"time limit of {self.options.minutes:g} minutes reached"
            return True
        if epoch - max([best.epoch, *self.course.lowered]) >= self.options.patience:
            self.course.stopped = f"no improvement for {self.options.patience} epochs"
            return True
        return False

    def _epoch(self, optimizer: torch.optim.Optimizer, epoch: int, started: float) -> bool:
        """Go through the samples once, or until the time limit.

        Returns whether all losses were finite.
        """
        for norm in norms(self.student.eval()):
            norm.train(self.options.batch > 1)  # dropout stays off: the teacher has none
        parts = list(self.shelf.batches(self.training_set, self.options.batch, self.rng))
        for number, part in enumerate(counted(parts, "batches")):
            spent = (time.monotonic() - started) / (60 * self.options.minutes)
            if spent >= 1:
                break
            done = (epoch + number / len(parts)) / self.options.epochs
            for group in optimizer.param_groups:
                group["lr"] = self._highest_rate * share_of_rate(max(done, spent))
            if not self._step(optimizer, part):
                return False
            self.pulse(
                f"epoch {epoch + 1} of at most {self.options.epochs}: batch {number + 1} of "
                f"{len(parts)}"
            )
        return True

    def _step(self, optimizer: torch.optim.Optimizer, part: Sequence[int]) -> bool:
        """Train on one batch. Returns whether its loss was finite."""
        tensors = augment(self._tensors(part), self.options.augment, self.rng)
        targets = self.teacher.answers(part, tensors)
        with autocast_bfloat16(self.device, not self.options.aware):
            answers = self.distillation.answers(self.student, lambda module: call(module, tensors))
        loss = self.distillation.loss(answers, targets)
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
        """Return a parameter by the name that it had before weights were rounded."""
        path, _, leaf = name.rpartition(".")
        layer: Any = self.student.get_submodule(path)
        rounded = leaf == "weight" and hasattr(layer, "parametrizations")
        weight: torch.Tensor = (
            layer.parametrizations.weight.original if rounded else layer.get_parameter(leaf)
        )
        return weight

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Return the mean loss over the held-out samples."""
        self.student.eval()
        total = count = 0.0
        for part in self.shelf.batches(self.held_out, self.options.batch):
            targets = self.teacher.answers(part, self._tensors(part))
            total += float(self.distillation.loss(self._answers(part), targets)) * len(part)
            count += len(part)
        return total / count

    def _answers(self, part: Sequence[int]) -> Answers:
        tensors = self._tensors(part)
        return self.distillation.answers(self.student, lambda module: call(module, tensors))

    def _tensors(self, part: Sequence[int]) -> Tensors:
        return to_tensors(self.shelf.batch(part), self.device)


def _split(indices: Sequence[int], options: RecoverOptions) -> tuple[list[int], list[int]]:
    """Split the samples into the training set and the held-out set, which decides when to stop."""
    order = np.random.default_rng(options.seed).permutation(len(indices))
    count = max(2, round(options.holdout * len(indices)))
    shuffled = [indices[int(position)] for position in order]
    return shuffled[count:], shuffled[:count]


def _zero_masks(student: nn.Module) -> dict[str, torch.Tensor]:
    """Return the non-zero positions of pruned weights: zeros stay zero."""
    masks = {}
    for name, parameter in student.named_parameters():
        if parameter.dim() > 1 and int(torch.count_nonzero(parameter)) < parameter.numel():
            masks[name] = parameter.detach() != 0
    return masks
