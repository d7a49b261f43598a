"""`python:module:factory`: the user's own code, and what a message says when it goes wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from converters import user_code as python
from converters.user_code import FactoryError, build
from runtimes.errors import BurnishError, UsageError

pytestmark = pytest.mark.usefixtures("own_imports")
Write = Callable[..., Path]
WHERE = "recipe.yaml:1"


def message(kind: type[BurnishError], target: str, folder: Path) -> str:
    with pytest.raises(kind) as caught:
        build(target, {}, folder, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: ")
    return str(caught.value)


def test_a_factory_beside_the_recipe_gets_its_arguments(write: Write) -> None:
    folder = write(
        "from torch import nn\ndef make(size, bias=True): return nn.Linear(size, 2, bias)",
        "user_a.py",
    )
    module = build("user_a:make", {"size": 5, "bias": False}, folder.parent, WHERE)
    assert (module.in_features, module.bias) == (5, None)


def test_a_factory_in_a_package(write: Write, tmp_path: Path) -> None:
    write("from torch import nn\nfrom .sizes import SIZE\nclass Net(nn.Linear):\n  def __init__(self):\n"
          "    super().__init__(SIZE, 2)", "user_package/deep/net.py")  # fmt: skip
    write("SIZE = 3", "user_package/deep/sizes.py")
    assert build("user_package.deep.net:Net", {}, tmp_path, WHERE).in_features == 3


def test_a_factory_from_the_python_path(tmp_path: Path) -> None:
    assert build("torch.nn:Identity", {}, tmp_path, WHERE) is not None


def test_the_recipes_folder_comes_first_on_the_path(
    write: Write, tmp_path: Path, monkeypatch
) -> None:
    write("from torch import nn\ndef make(): return nn.Linear(1, 1)", "far/user_twice.py")
    write("from torch import nn\ndef make(): return nn.Linear(2, 2)", "near/user_twice.py")
    monkeypatch.syspath_prepend(tmp_path / "far")
    assert build("user_twice:make", {}, tmp_path / "near", WHERE).in_features == 2


def test_a_factory_that_raises_gives_its_traceback_and_no_frame_of_burnish(write: Write) -> None:
    path = write(
        """\
        def helper(size):
            return 1 // size

        def make():
            return helper(0)
        """,
        "user_raises.py",
    )
    told = message(FactoryError, "user_raises:make", path.parent)
    assert told.splitlines()[0] == f"{WHERE}: user_raises:make raised"
    assert f'File "{path}", line 5, in make' in told
    assert f'File "{path}", line 2, in helper' in told
    assert told.endswith("ZeroDivisionError: integer division or modulo by zero")
    assert inspect.getsourcefile(python) not in told


def test_arguments_that_the_factory_does_not_take(write: Write) -> None:
    folder = write("def make(size): ...", "user_args.py").parent
    assert message(FactoryError, "user_args:make", folder).endswith(
        "TypeError: make() missing 1 required positional argument: 'size'"
    )


@pytest.mark.parametrize(
    ("name", "text", "ends"),
    [
        ("user_broken", "value = 1\nraise RuntimeError('at import')\n", "RuntimeError: at import"),
        ("user_syntax", "def make(:\n", "SyntaxError: invalid syntax"),
        ("user_needs", "import user_not_there\n", "No module named 'user_not_there'"),
    ],
)
def test_a_module_that_cannot_be_imported(write: Write, name: str, text: str, ends: str) -> None:
    path = write(text, f"{name}.py")
    told = message(FactoryError, f"{name}:make", path.parent)
    assert told.splitlines()[0] == f"{WHERE}: importing {name} failed"
    assert str(path) in told
    assert "importlib" not in told
    assert told.endswith(ends)


@pytest.mark.parametrize("module", ["user_nowhere", "user_nowhere.deep.net"])
def test_there_is_no_such_module(tmp_path: Path, module: str) -> None:
    assert f"no module '{module}' in {tmp_path}" in message(UsageError, f"{module}:make", tmp_path)


def test_there_is_no_such_factory(write: Write) -> None:
    folder = write("def make_model(): ...", "user_names.py").parent
    told = message(UsageError, "user_names:make_mode", folder)
    assert told.endswith("user_names has no 'make_mode'; did you mean 'make_model'?")


@pytest.mark.parametrize(
    ("result", "kind"), [("None", "NoneType"), ("{}", "dict"), ("nn.Linear", "type")]
)
def test_a_factory_that_returns_no_module(write: Write, result: str, kind: str) -> None:
    name = f"user_returns_{kind}"
    folder = write(f"from torch import nn\ndef make(): return {result}", f"{name}.py").parent
    assert message(UsageError, f"{name}:make", folder).endswith(
        f"returned a {kind}, not a torch.nn.Module"
    )
