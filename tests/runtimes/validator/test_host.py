"""The child's side of a measured session, here without a child."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runtimes.errors import BurnishError
from runtimes.session import SessionOptions, load
from runtimes.validator.host import ArtifactOpener, SessionHost
from runtimes.validator.reference import Reference


def test_answers_come_in_the_order_of_the_probes(
    small_build: Path, small_reference: Reference
) -> None:
    host = SessionHost(ArtifactOpener(small_build / "onnx", "cpu", SessionOptions(threads=1)))
    answers = host.answer([(probe.name, probe.inputs) for probe in small_reference.probes])
    for outputs, eager in zip(answers, small_reference.eager, strict=True):
        np.testing.assert_allclose(outputs["logits"], eager["logits"], rtol=1e-4, atol=1e-5)


def test_an_error_names_the_probe_that_it_came_with(
    small_build: Path, small_reference: Reference
) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    good = small_reference.probes[0].inputs
    with pytest.raises(BurnishError, match=r"^at size batch=9: .*outside 1\.\.8"):
        host.answer(
            [("noise 0", good), ("size batch=9", {"image": np.repeat(good["image"], 9, axis=0)})]
        )


def test_a_burst_tells_the_seconds_of_each_run(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    times = host.burst(5)
    assert len(times) == 5
    assert min(times) > 0


def test_warming_up_ends_and_tells_the_best_run(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    assert 0 < host.warm_up() < float("inf")


def test_what_is_timed_has_the_best_size_and_is_not_one_input_over_and_over(
    small_build: Path,
) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    images = [next(host._inputs)["image"] for _ in range(4)]
    assert {array.shape for array in images} == {(1, 3, 32, 32)}
    assert len({array.tobytes() for array in images}) == 4
