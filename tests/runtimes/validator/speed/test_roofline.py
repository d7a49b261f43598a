"""The machine's peak: the best product of matrices, at a price that does not depend on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtimes.validator.speed import roofline

Products = Callable[[int, int], list[tuple[str, Callable[[], None]]]]


class Clock:
    """Time that passes while a product runs, and only then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[tuple[str, int]] = []

    def products(self, **rates: float) -> Products:
        """Products in each precision that run at so many operations per second."""

        def make(side: int, threads: int) -> list[tuple[str, Callable[[], None]]]:
            def run(precision: str, rate: float) -> None:
                self.runs.append((precision, side))
                self.now += 2 * side**3 / rate

            return [
                (name, lambda name=name, rate=rate: run(name, rate)) for name, rate in rates.items()
            ]  # type: ignore[misc]

        return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock that the measurement reads."""
    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(roofline.time, "perf_counter", lambda: clock.now)
        yield clock


def test_a_fast_product_is_measured_with_large_matrices(clock: Clock) -> None:
    assert roofline._rates(clock.products(fp32=1e11), 2) == {"fp32": pytest.approx(1e11)}
    assert clock.runs.count(("fp32", 2048)) == 6, "a warm-up and five repeats"


def test_a_slow_product_is_measured_with_small_matrices(clock: Clock) -> None:
    """PyTorch's bfloat16 on an AVX2-only CPU: the largest matrices would take a minute each."""
    assert roofline._rates(clock.products(bf16=3e8, fp32=1e11), 2) == {
        "bf16": pytest.approx(3e8),
        "fp32": pytest.approx(1e11),
    }
    assert clock.now < 10
    assert ("bf16", 2048) not in clock.runs
    assert ("fp32", 2048) in clock.runs, "one slow precision leaves the others alone"


def test_the_peak_is_that_of_the_best_library(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(roofline, "matrix_products", clock.products(fp32=2e11, bf16=4e11))
    monkeypatch.setattr(roofline, "_onnx_products", clock.products(fp32=1e11, int8=8e11))
    expected = {"fp32": 2e11, "bf16": 4e11, "int8": 8e11}
    assert roofline.measure(2) == pytest.approx(expected)
