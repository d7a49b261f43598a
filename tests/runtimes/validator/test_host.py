"""The child's side of a measured session, here without a child."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.errors import BurnishError
from runtimes.session import SessionOptions, load
from runtimes.spec import Arrays
from runtimes.validator.defaults import DEADLINE_REQUESTS, FEWEST_ANSWERS, WATCHED_ANSWERS
from runtimes.validator.host import ArtifactOpener, SessionHost
from runtimes.validator.reference import Reference
from runtimes.validator.speed.watch import Ticket


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


def test_requests_go_on_until_a_deadline_is_decided(
    small_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))

    def sent(milliseconds: float) -> int:
        monkeypatch.setattr(host, "_timed", lambda runs, watched: [milliseconds / 1e3] * runs)
        return host.meet(0.001).requests

    assert sent(0.1) == sent(9.0) == DEADLINE_REQUESTS, "far within the deadline, or beyond it"
    assert 381 <= sent(0.99) < 2 * DEADLINE_REQUESTS, "none is late, but the slowest nearly"


def test_warming_up_ends_and_tells_the_best_run(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    assert 0 < host.warm_up() < float("inf")


def test_what_is_timed_has_the_best_size_and_is_never_the_same_twice(
    small_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    images: list[np.ndarray[Any, Any]] = []
    real = host._session.answer

    def answer(inputs: Mapping[str, Any]) -> Arrays:
        images.append(inputs["image"].copy())
        return real(inputs)

    monkeypatch.setattr(host._session, "answer", answer)
    host.warm_up()
    for _ in range(3):
        host.burst(20)
    assert {array.shape for array in images} == {(1, 3, 32, 32)}
    assert len({array.tobytes() for array in images}) == len(images) > 60
    before = len(images)
    host.throughput()
    sizes = {array.shape[0] for array in images[before:]}
    assert {1, 2} <= sizes
    assert len({array.tobytes() for array in images}) == len(images)


def test_watched_answers_are_those_to_inputs_that_can_be_made_again(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    for _ in range(30):
        host.burst(5)
    host.throughput()
    watched = host.watched_answers()
    batches = {answer.outputs["logits"].shape[0] for answer in watched}
    assert WATCHED_ANSWERS < len(watched) < 2 * WATCHED_ANSWERS
    assert {1, 2} <= batches
    other = SessionHost(partial(load, small_build / "onnx"))
    tickets = [answer.ticket for answer in watched]
    again = other.answer_again(tickets, pause=0.0, seconds=60.0)
    assert len(again) == len(watched)
    for first, second in zip(watched, again, strict=True):
        expected = second["logits"].values
        np.testing.assert_allclose(first.outputs["logits"].values, expected, rtol=1e-4, atol=1e-5)
        assert first.overwritten == ()


def test_a_slow_model_answers_as_often_as_the_time_allows(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    tickets = [Ticket(number, (("batch", 1),)) for number in range(50)]
    assert len(host.answer_again(tickets, pause=0.001, seconds=0.0)) == FEWEST_ANSWERS


def test_real_samples_are_what_is_timed_at_the_best_sizes(small_build: Path) -> None:
    host = SessionHost(partial(load, small_build / "onnx"))
    host.use_samples([{"image": np.full((1, 3, 32, 32), 3, np.float32)}])
    best, other = (host._stream((("batch", size),)).make(1)["image"] for size in (1, 2))
    assert best.min() == best.max() > 2
    assert other.std() > 0.5
