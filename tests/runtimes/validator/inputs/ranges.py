"""Ranges of dynamic dimensions, drawn and written out, for tests of sizes."""

from __future__ import annotations

from hypothesis import strategies as st

from runtimes.spec import DimRange


@st.composite
def ranges(draw: st.DrawFn) -> DimRange:
    step = draw(st.sampled_from([1, 1, 2, 8]))
    low, best, high = sorted(draw(st.lists(st.integers(1, 40), min_size=3, max_size=3)))
    opt = draw(st.sampled_from([None, best * step]))
    return DimRange(min=low * step, opt=opt, max=high * step, multiple_of=step)


PICTURE = {
    "batch": DimRange(max=4),
    "height": DimRange(min=16, opt=32, max=64),
    "width": DimRange(min=16, opt=32, max=64),
}

CACHE = {
    "past": DimRange(min=1, opt=16, max=64),
    "new": DimRange(max=8),
    "total": DimRange(min=2, opt=17, max=72, equals="past + new"),
}
