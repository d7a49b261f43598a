"""Inputs that are timed: never the same twice, and each can be made again from its number.

Equal inputs would let an engine return what it has seen before. Fresh noise for each call costs
more than many networks, so an input is one of a few samples, moved along its last axis and scaled:
ranges, ids and masks stay legal, and a picture stays a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from runtimes.spec import Arrays, Specs, TensorSpec
from runtimes.validator.defaults import TIMED_SAMPLES
from runtimes.validator.inputs.draws import draw, draw_all, kind_of

Values = np.ndarray[Any, Any]

_SEED = 1  # the probes that judge numbers have another
_SCALED = 0.1  # largest share by which an input of floats is made smaller
# Integers that are taken from elsewhere: this share, and of short inputs at least so many. Fewer
# would leave some inputs as they were.
_REPLACED, _FEWEST_REPLACED = 1 / 16, 64
_BASE_BYTES = 64 << 20  # of noise that is kept
_MASK = (1 << 64) - 1


class InputStream:
    """Inputs of one set of sizes, by number."""

    def __init__(
        self, inputs: Specs, sizes: Mapping[str, int], samples: Sequence[Arrays] = ()
    ) -> None:
        """`samples`: real inputs at these sizes; without any, seeded noise is used."""
        self._inputs, self._sizes, self._real = inputs, dict(sizes), bool(samples)
        self._bases = list(samples) or list(_noise(inputs, sizes))
        self.bytes = _size(self._bases[0])
        """Size of one set of inputs."""

    def make(self, number: int) -> Arrays:
        """Return the inputs of a number, in new arrays."""
        base, shift = self._bases[number % len(self._bases)], _mix(number, 0)
        scale = 1 - _SCALED * _mix(number, 1) / _MASK
        arrays: Arrays = {}
        for name, spec in self._inputs.items():
            if spec.dtype == "float16":  # has too few values for one scale
                rng = np.random.default_rng((_SEED, number))
                scales = np.asarray(rng.uniform(1 - _SCALED, 1, base[name].shape), np.float16)
                arrays[name] = _scaled(_rolled(base[name], shift), spec, scales)
            elif np.issubdtype(spec.dtype, np.floating):
                arrays[name] = _scaled(_rolled(base[name], shift), spec, scale)
            else:
                arrays[name] = self._integers(name, _rolled(base[name], shift), number)
        return arrays

    def _integers(self, name: str, values: Values, number: int) -> Values:
        """Return integers or booleans, of which some are those of another place or sample."""
        rng = np.random.default_rng((_SEED, number))
        spec = self._inputs[name]
        if not self._real or kind_of(name, spec) in ("mask", "length"):
            return draw(name, spec, self._sizes, rng)
        other = self._bases[int(rng.integers(len(self._bases)))][name]
        elsewhere = rng.permutation(other.reshape(-1)).reshape(values.shape)
        share = max(_REPLACED, _FEWEST_REPLACED / max(1, values.size))
        replaced = rng.random(values.shape) < share
        return np.asarray(np.where(replaced, elsewhere, values))


def _noise(inputs: Specs, sizes: Mapping[str, int]) -> Iterator[Arrays]:
    """Yield some sets of noise, fewer if they are large."""
    rng, left = np.random.default_rng(_SEED), _BASE_BYTES
    for count in range(TIMED_SAMPLES):
        if count and left <= 0:
            return
        arrays = draw_all(inputs, sizes, rng)
        left -= _size(arrays)
        yield arrays


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def _rolled(values: Values, shift: int) -> Values:
    """Return a copy, moved along the last axis."""
    if not values.ndim or not values.size:
        return values.copy()
    place = shift % values.shape[-1]
    return np.concatenate((values[..., place:], values[..., :place]), axis=-1)


def _scaled(values: Values, spec: TensorSpec, scale: float | Values) -> Values:
    """Scale in place: towards zero, or towards the middle of the input's range."""
    if spec.range is None:
        return np.multiply(values, scale, out=values)
    low, high = spec.range
    middle = low / 2 + high / 2
    values -= middle
    values *= scale
    values += middle
    return np.clip(values, low, high, out=values)


def _mix(number: int, salt: int) -> int:
    """Return 64 bits that look random (the finalizer of splitmix64; Steele, Lea, Flood 2014)."""
    bits = (number * 2 + salt + 1) * 0x9E3779B97F4A7C15 & _MASK
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _MASK
    return bits ^ bits >> 31
