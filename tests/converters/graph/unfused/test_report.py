"""The report on operators without an integer kernel stays short."""

from __future__ import annotations

from converters.graph.unfused.report import LISTED, Unfused, listed, notes


def some(count: int) -> list[Unfused]:
    return [
        Unfused(f"layer{number}", "Conv", "its result is not quantized") for number in range(count)
    ]


def test_there_is_no_note_if_every_pair_is_fused() -> None:
    assert notes([]) == []
    assert listed([]) == []


def test_one_sentence_names_the_first_and_counts_all() -> None:
    assert notes(some(1)) == [
        "1 quantized operator computes in float: no kernel fuses it (Conv layer0)"
    ]
    (note,) = notes(some(40))
    assert note == (
        "40 quantized operators compute in float: no kernel fuses them "
        "(Conv layer0, Conv layer1, Conv layer2 and 37 more)"
    )


def test_the_list_in_a_manifest_is_bounded() -> None:
    assert listed(some(1)) == [
        {"layer": "layer0", "operator": "Conv", "why": "its result is not quantized"}
    ]
    assert len(listed(some(10 * LISTED))) == LISTED
