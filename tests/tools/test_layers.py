"""The graph of imports between rooms: every import counts, and none may run up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tools import layers
from tools.sources import Module, read_modules

FLOORS = (
    ("runtimes",),
    ("converters.steps", "converters.models"),
    ("converters.build",),
    ("burnish",),
)

Modules = Callable[..., list[Module]]


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    """Writes files by path, and reads them as the modules of a repository."""

    def write(**texts: str) -> list[Module]:
        for name, text in {"converters/__init__": "", **texts}.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return read_modules(tmp_path)

    return write


def upward(modules: list[Module]) -> list[str]:
    return [
        str(statement) for statement in layers.upward_imports(layers.read_imports(modules), FLOORS)
    ]


def test_an_import_that_points_down_is_right(modules: Modules) -> None:
    files = modules(
        **{"burnish/api": "from converters.build import run", "converters/build": "import runtimes.spec",
           "runtimes/spec": ""}
    )  # fmt: skip
    assert upward(files) == []
    assert [str(statement) for statement in layers.read_imports(files)] == [
        "burnish.api:1 imports converters.build",
        "converters.build:1 imports runtimes.spec",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "from converters import build",
        "import converters.build as build",
        "def later():\n    from converters.build import run\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from converters.build import Run\n",
        "from ..build import run",
    ],
)
def test_an_import_that_points_up_is_wrong_wherever_it_is_written(
    modules: Modules, statement: str
) -> None:
    files = modules(
        **{
            "converters/steps/__init__": "",
            "converters/steps/key": statement,
            "converters/build": "",
        }
    )
    [message] = upward(files)
    assert message.startswith("converters.steps.key:")
    assert message.endswith(" imports converters.build")


def test_rooms_of_one_floor_do_not_import_each_other(modules: Modules) -> None:
    files = modules(
        **{"converters/steps/key": "import converters.models.call", "converters/models/call": ""}
    )
    assert upward(files) == ["converters.steps.key:1 imports converters.models.call"]


def test_a_room_may_import_itself(modules: Modules) -> None:
    files = modules(
        **{"converters/steps/key": "from converters.steps import trace", "converters/steps/trace": "",
           "converters/steps/__init__": ""}
    )  # fmt: skip
    assert upward(files) == []


def test_a_room_is_not_another_whose_name_begins_alike() -> None:
    assert layers.room_of("converters.build", FLOORS) == "converters.build"
    assert layers.room_of("converters.builder", FLOORS) is None
    assert layers.room_of("converters.build.run", FLOORS) == "converters.build"


def test_the_narrowest_room_holds_a_module() -> None:
    assert (
        layers.room_of("runtimes.files.atomic", [["runtimes"], ["runtimes.files"]])
        == "runtimes.files"
    )


def test_a_module_outside_of_all_rooms_is_listed(modules: Modules) -> None:
    files = modules(**{"converters/stray": "", "converters/steps/key": ""})
    assert layers.homeless(files, FLOORS) == ["converters.stray"]
    assert layers.unused_rooms(files, FLOORS) == [
        "runtimes",
        "converters.models",
        "converters.build",
        "burnish",
    ]


def test_circles_and_levels(modules: Modules) -> None:
    files = modules(
        **{"runtimes/a": "import runtimes.b", "runtimes/b": "def f():\n    import runtimes.a\n", "runtimes/c": "",
           "burnish/top": "import runtimes.a, runtimes.c", "runtimes/d": "import runtimes.c"}
    )  # fmt: skip
    graph = layers.module_graph(files, layers.read_imports(files))
    assert layers.circles(graph) == [["runtimes.a", "runtimes.b"]]
    levels = layers.levels(graph)
    assert (
        levels["runtimes.c"],
        levels["runtimes.d"],
        levels["runtimes.a"],
        levels["burnish.top"],
    ) == (1, 2, 1, 2)
    rooms = layers.room_graph(graph, FLOORS)
    assert rooms["burnish"] == {"runtimes"}
    assert layers.circles(rooms) == []


def test_every_room_is_on_one_floor() -> None:
    rooms = [room for floor in layers.FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
