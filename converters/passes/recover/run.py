"""The pass `recover`: gather what is learned from, train, and say how it went."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from converters.data.shelf import Shelf
from converters.data.uses import training_pool
from converters.digest import Key
from converters.passes.bench import Bench
from converters.passes.recover.pulse import Pulse
from converters.passes.recover.train import Course, Teaching
from converters.recipe.recover import RecoverOptions
from runtimes.process.child import tell
from runtimes.progress import counted


@dataclass(frozen=True)
class Recovery:
    """A training that is ready to be done; `digest` is that of the teacher and of all samples."""

    bench: Bench
    options: RecoverOptions
    teacher: nn.Module
    shelf: Shelf
    indices: list[int]
    digest: str

    def apply(self, module: nn.Module, checkpoint: Path) -> tuple[nn.Module, dict[str, Any], list[str]]:
        """The trained module, what the manifest tells, and notes. An interrupted training goes on."""
        teaching = Teaching(
            module,
            self.teacher,
            self.shelf,
            self.indices,
            self.options,
            self.bench.classification,
            checkpoint,
            tell,
        )
        course = teaching.run()
        report = {name: _plain(value) for name, value in asdict(course).items()}
        return module, report, [_words(course, self.options)]


def prepare(bench: Bench, options: RecoverOptions, teacher: nn.Module, notes: list[str]) -> Recovery:
    """Open the samples to learn from. Raises UsageError where the recipe has none."""
    from converters.models.structure import state_digest

    pool, indices = training_pool(bench.recipe, bench.source.folder)
    shelf, key = Shelf(pool, bench.recipe.inputs, notes.append), Key()
    key.add("teacher", state_digest(teacher))
    source = bench.recipe.data.training or bench.recipe.data.calibration
    if source is not None and source.random is not None:
        notes.append("recovered on noise, which real inputs are not: name samples in `data: {training: ...}`")
    pulse = Pulse(tell)
    # The shelf keeps what is read here for the training.
    for number, index in enumerate(counted(indices, "samples"), 1):
        pulse(f"reading sample {number} of {len(indices)}")
        for name, array in (shelf.sample(index) or {}).items():
            key.add(name, array.tobytes())
    readable = [index for index in indices if index not in shelf.broken]
    return Recovery(bench, options, teacher, shelf, readable, key.hex())


def _plain(value: Any) -> Any:
    """Numbers as JSON has them."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _words(course: Course, options: RecoverOptions) -> str:
    told = f"recovered on {course.samples} samples: loss {course.before:.3g}"
    if math.isfinite(course.batch_norm):
        told += f", {course.batch_norm:.3g} with BatchNorm's statistics found anew"
    if course.epochs:
        told += f", {course.after:.3g} after {course.epochs} epochs ({course.stopped})"
    if course.lowered:
        behind = ", ".join(str(one + 1) for one in course.lowered)
        told += f"; the rate was too high, and was lowered behind epoch {behind}"
    if options.distill in ("features", "both") and not course.features:
        told += "; no inner layer has the shape that it had, so the outputs alone were taught"
    return told
