"""Mean squared errors of an output: of the whole, of its parts, of each sample."""

from __future__ import annotations

from typing import Any

from runtimes.spec import Strict


class Errors(Strict):
    """Mean squared error of one output over the samples.

    Attributes:
        whole: of all values.
        axes: of each index of each axis after the first; empty for an axis of more than PART_AXIS
            indices, or of less than HONEST_VALUES values for each.
    """

    whole: float
    axes: tuple[tuple[float, ...], ...] = ()

    def rounded(self) -> dict[str, Any]:
        """Return the errors for a document, with few digits."""
        axes = [[float(f"{error:.3g}") for error in axis] for axis in self.axes]
        return {"whole": float(f"{self.whole:.3g}"), "axes": axes}

    def scaled(self, factor: float) -> Errors:
        """Return the errors times a factor."""
        axes = tuple(tuple(factor * error for error in axis) for axis in self.axes)
        return Errors(whole=factor * self.whole, axes=axes)

    def leveled(self, share: float) -> Errors:
        """Return the errors with each index at this share of its axis' mean, or above."""
        axes = []
        for axis in self.axes:
            least = share * sum(axis) / max(1, len(axis))
            axes.append(tuple(max(error, least) for error in axis))
        return Errors(whole=self.whole, axes=tuple(axes))
