from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from converters.data.spread import spread


def test_items_are_spread_evenly_from_the_first_on() -> None:
    assert spread("abcdef", 3) == ["a", "c", "e"]
    assert spread("abc", 9) == ["a", "b", "c"]
    assert spread("", 3) == spread("abc", 0) == []


@given(st.integers(0, 300), st.integers(0, 300))
def test_gaps_between_items_differ_by_one_at_most(length: int, count: int) -> None:
    picked = spread(range(length), count)
    gaps = {after - before for before, after in pairwise(picked)}
    assert len(picked) == min(length, count)
    assert len(gaps) < 2 or max(gaps) - min(gaps) == 1
