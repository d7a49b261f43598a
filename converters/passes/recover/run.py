"""The pass `recover`: read the training samples, train, and report how it went."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from converters.data.shelf import Shelf
from converters.data.uses import training_pool
from converters.digest import Key
from converters.passes.bench import Bench, PassResult
from converters.passes.recover.course import Course
from converters.passes.recover.pulse import Pulse
from converters.passes.recover.train import Training
from converters.recipe.recover import RecoverOptions
from runtimes.process.child import tell
from runtimes.progress import counted


@dataclass(frozen=True)
class Recovery:
    """A training that is ready to run.

    Attributes:
        digest: of the teacher and of all samples.
        notes: remarks about the samples.
    """

    bench: Bench
    options: RecoverOptions
    teacher: nn.Module
    shelf: Shelf
    indices: list[int]
    digest: str
    notes: list[str] = field(default_factory=list)

    def apply(self, module: nn.Module, checkpoint: Path) -> PassResult:
        """Train the module. An interrupted training continues from its checkpoint."""
        training = Training(
            module,
            self.teacher,
            self.shelf,
            self.indices,
            self.options,
            self.bench.classification,
            checkpoint,
            tell,
        )
        course = training.run()
        report = {name: _plain(value) for name, value in asdict(course).items()}
        return PassResult(module, report, [_summary(course, self.options), *self.notes])


def prepare_recovery(bench: Bench, options: RecoverOptions, teacher: nn.Module) -> Recovery:
    """Open the training samples. Raises UsageError if the recipe has none."""
    from converters.models.structure import state_digest

    pool, indices = training_pool(bench.recipe, bench.source.folder)
    shelf, key = Shelf(pool, bench.recipe.inputs), Key()
    key.add("teacher", state_digest(teacher))
    notes = []
    source = bench.recipe.data.training or bench.recipe.data.calibration
    if source is not None and source.random is not None:
        notes.append(
            "recovered on noise, which real inputs are not: name samples in `data: {training: ...}`"
        )
    pulse = Pulse(tell)
    # The shelf keeps what is read here for the training.
    for number, index in enumerate(counted(indices, "samples"), 1):
        pulse(f"reading sample {number} of {len(indices)}")
        for name, array in (shelf.sample(index) or {}).items():
            key.add(name, array.tobytes())
    readable = [index for index in indices if index not in shelf.broken]
    return Recovery(bench, options, teacher, shelf, readable, key.hex(), [*notes, *shelf.notes])


def _plain(value: Any) -> Any:
    """Return numbers as JSON has them."""
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _summary(course: Course, options: RecoverOptions) -> str:
    text = f"recovered on {course.samples} samples: loss {course.before:.3g}"
    if math.isfinite(course.batch_norm):
        text += f", {course.batch_norm:.3g} with re-estimated BatchNorm statistics"
    if course.epochs:
        text += f", {course.after:.3g} after {course.epochs} epochs ({course.stopped})"
    if course.lowered:
        epochs = ", ".join(str(epoch + 1) for epoch in course.lowered)
        text += f"; learning rate was too high; reduced after epoch {epochs}"
    if options.distill in ("features", "both") and not course.features:
        text += "; no inner layer kept its shape, so only the outputs were distilled"
    return text
