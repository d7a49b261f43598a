import threading

import pytest

from converters.steps.places import Places

SECONDS = 10.0


def test_steps_run_side_by_side_in_as_many_places() -> None:
    places, inside = Places(2), threading.Barrier(3)

    def work() -> None:
        with places.take():
            inside.wait(SECONDS)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(SECONDS)  # passes only if both are inside at once
    for thread in threads:
        thread.join(SECONDS)


def test_a_step_that_runs_alone_waits_for_the_others_and_then_holds_all_places() -> None:
    places, order, alone = Places(3), list[str](), threading.Event()

    def run_alone() -> None:
        with places.take(alone=True):
            order.append("alone")
            alone.wait(SECONDS)

    thread = threading.Thread(target=run_alone)
    with places.take():
        thread.start()
        order.append("other")
    late = threading.Thread(target=_append, args=(places, order))
    while "alone" not in order:
        thread.join(0.01)
    late.start()
    late.join(0.05)
    assert order == ["other", "alone"]
    alone.set()
    late.join(SECONDS)
    assert order == ["other", "alone", "late"]


def _append(places: Places, order: list[str]) -> None:
    with places.take():
        order.append("late")


def test_places_are_free_again_after_an_error() -> None:
    places, order = Places(1), list[str]()
    with pytest.raises(ValueError, match="of the step"), places.take(alone=True):
        raise ValueError("of the step")
    thread = threading.Thread(target=_append, args=(places, order), daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert order == ["late"]
