"""Names of an artifact's files lead to files inside it, and to one each."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtimes.files.filenames import collision, outside, unfit

names = st.text(max_size=12) | st.lists(
    st.sampled_from(["a", "..", ".", "", "\\", "C:", "b.c", "\0"])
).map("/".join)


@given(names)
@example("a/../../b")
@example("C:b")
@example("//host/share")
def test_what_passes_lies_inside_on_every_system(name: str) -> None:
    if outside(name) or unfit(name):
        return
    folder = Path("/folder")
    assert folder in (folder / name).parents
    assert (folder / name).relative_to(folder).as_posix() == name
    assert not PureWindowsPath(name).is_absolute()
    assert not PureWindowsPath(name).drive


@pytest.mark.parametrize(
    "name", ["model.onnx", "a/b/c.bin", "model.onnx.data", ".data/version", "übung.pt", "a b"]
)
def test_usual_names_pass(name: str) -> None:
    assert not outside(name)
    assert unfit(name) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], None),
        (["a", "A"], ("a", "A")),
        (["x/ö", "x/o\u0308"], ("x/ö", "x/o\u0308")),
        (["straße", "STRASSE"], ("straße", "STRASSE")),
        ([], None),
    ],
)
def test_names_that_are_one_file_elsewhere(
    names: list[str], expected: tuple[str, str] | None
) -> None:
    assert collision(names) == expected
