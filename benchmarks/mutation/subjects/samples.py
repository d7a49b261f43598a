"""Seeded samples, as a user's data set would give them: without a batch axis, smooth and varied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sample = NDArray[np.float32]


def pictures(count: int, channels: int, side: int, seed: int, scale: float = 1.0) -> list[Sample]:
    """Return smooth pictures [channels, side, side] with some noise, of mean 0 and rms `scale`."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        coarse = rng.standard_normal((channels, side // 4, side // 4))
        smooth = coarse.repeat(4, 1).repeat(4, 2)
        noisy = 0.9 * smooth + 0.4 * rng.standard_normal(smooth.shape)
        samples.append(np.asarray(scale * rng.uniform(0.5, 1.5) * noisy, np.float32))
    return samples


def rows(count: int, width: int, seed: int) -> list[Sample]:
    """Return rows [width] whose numbers depend on each other."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((width, width)) / width**0.5
    return [
        np.asarray(
            rng.standard_normal(width) @ mixing + 0.3 * rng.standard_normal(width), np.float32
        )
        for _ in range(count)
    ]


def waves(count: int, length: int, seed: int) -> list[Sample]:
    """Return waveforms [1, length]: a few tones and noise."""
    rng, times = np.random.default_rng(seed), np.arange(length)
    samples = []
    for _ in range(count):
        tones = [np.sin(times * rng.uniform(0.02, 1.5) + rng.uniform(0, 6)) for _ in range(3)]
        wave = rng.uniform(0.1, 1) * sum(tones) + 0.05 * rng.standard_normal(length)
        samples.append(np.asarray(wave[None], np.float32))
    return samples
