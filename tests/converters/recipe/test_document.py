"""Recipes as documents: every value knows its line; `extends:` and `--set` merge."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from converters.recipe.document import Document, Mark, RecipeError, dotted, find, override, read
from runtimes.errors import UsageError

Write = Callable[..., Path]

keys = st.text("abcxyz", min_size=1, max_size=3)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc ", max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(keys, values, max_size=4)


def merged(base: Any, over: Any) -> Any:
    """What `extends:` promises: mappings merge key by key, null removes a mapping or null, all else replaces."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    result = dict(base)
    for key, value in over.items():
        if value is None and key in base and (base[key] is None or isinstance(base[key], dict)):
            del result[key]
        else:
            result[key] = merged(result.get(key), value)
    return result


def read_text(text: str) -> Document:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        return read(path)


def problems_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_every_value_knows_its_line(write: Write) -> None:
    document = read(write("model: m\ninputs:\n  image:\n    shape: [1,\n      2]\n"))
    assert document.data == {"model": "m", "inputs": {"image": {"shape": [1, 2]}}}
    lines = {key: document.mark(key).line for key in document.marks if key}
    assert lines == {
        ("model",): 1,
        ("inputs",): 2,
        ("inputs", "image"): 3,
        ("inputs", "image", "shape"): 4,
        ("inputs", "image", "shape", 0): 4,
        ("inputs", "image", "shape", 1): 5,
    }


def test_a_value_that_is_not_there_has_the_line_of_what_is_around_it(write: Write) -> None:
    path = write("a: 1\nb:\n  c: 2\n")
    assert str(read(path).mark(("b", "missing", "deeper"))) == f"{path}:2"


def test_extends_adds_to_the_parent_and_marks_say_which_file(write: Write) -> None:
    parent = write("model: m\nartifacts:\n  onnx: {opset: 18}\n  torchscript: {}\n", "base.yaml")
    child = write("extends: base\nartifacts:\n  onnx: {exporter: dynamo}\n")
    document = read(child)
    assert document.data == {
        "model": "m",
        "artifacts": {"onnx": {"opset": 18, "exporter": "dynamo"}, "torchscript": {}},
    }
    assert document.mark(("artifacts", "onnx", "opset")) == Mark(str(parent), 3)
    assert document.mark(("artifacts", "onnx", "exporter")) == Mark(str(child), 3)


def test_extends_over_several_files(write: Write) -> None:
    write("a: 1\nb: 1\nc: 1\n", "one.yaml")
    write("extends: one.yaml\nb: 2\nc: 2\n", "two.yaml")
    assert read(write("extends: two\nc: 3\n")).data == {"a": 1, "b": 2, "c": 3}


def test_null_removes_a_mapping_of_the_parent(write: Write) -> None:
    write("artifacts:\n  onnx: {}\n  torchscript: {}\n", "base.yaml")
    assert read(write("extends: base\nartifacts:\n  onnx: null\n")).data == {
        "artifacts": {"torchscript": {}}
    }


def test_recipes_in_a_circle(write: Write) -> None:
    write("extends: b\n", "a.yaml")
    path = write("extends: a\n", "b.yaml")
    assert problems_of(lambda: read(path)) == [
        f"{path}: extends: recipes extend each other in a circle"
    ]


def test_a_recipe_that_extends_itself(write: Write) -> None:
    path = write("extends: recipe\n")
    assert "in a circle" in problems_of(lambda: read(path))[0]


def test_a_missing_parent(write: Write) -> None:
    path = write("model: m\nextends: nowhere\n")
    parent = path.parent / "nowhere.yaml"
    assert problems_of(lambda: read(path)) == [f"{path}:2: extends: there is no recipe {parent}"]


@pytest.mark.parametrize("value", ["[a, b]", "3", "{a: b}"])
def test_extends_must_be_a_name(write: Write, value: str) -> None:
    path = write(f"extends: {value}\n")
    assert problems_of(lambda: read(path)) == [
        f"{path}:1: extends: must be the name of a recipe file"
    ]


@pytest.mark.parametrize("value", ['""', "/", '"."', "..", "a" * 300, '"\\0"'])
def test_extends_of_no_file_at_all(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(write(f"extends: {value}\n").parent)
    assert "there is no recipe" in problems_of(lambda: read(Path("recipe.yaml")))[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\na: 2\n", 2, "a: is given twice"),
        ("a:\n  b: 1\n  b: 2\n", 3, "a.b: is given twice"),
        ("a: 1\n7: b\n", 2, "the key 7 is not text: put it in quotes"),
        ("a: !!python/name:os.system x\n", 1, "could not determine a constructor"),
        ("a: &x {}\n<<: *x\n", 2, "not"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("- a\n- b\n", None, "a recipe is a mapping"),
        ("just text\n", None, "a recipe is a mapping"),
        ("", None, "a recipe is a mapping"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a:\n  b: 2026-99-99\n", 2, "a.b: '2026-99-99' is no timestamp"),
    ],
)
def test_a_file_that_is_no_recipe(write: Write, text: str, line: int | None, words: str) -> None:
    path = write(text)
    (problem,) = problems_of(lambda: read(path))
    assert problem.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert words in problem


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"model: \xff\xfe\n")
    assert "is not UTF-8 text" in problems_of(lambda: read(path))[0]


def test_a_file_too_large_to_be_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("# " + "x" * (1 << 20), encoding="utf-8")
    assert "not a recipe" in problems_of(lambda: read(path))[0]


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in problems_of(lambda: read(tmp_path))[0]


def test_an_alias_bomb_stops(write: Write) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12))
    assert "too large or too deeply nested" in problems_of(lambda: read(write(bomb)))[0]


def test_a_value_that_contains_itself_stops(write: Write) -> None:
    assert "too deeply nested" in problems_of(lambda: read(write("a: &a [*a]\n")))[0]


def test_thousands_of_brackets_stop(write: Write) -> None:
    assert len(problems_of(lambda: read(write("a: " + "[" * 5000)))) == 1


def test_override_reads_its_value_as_yaml(write: Write) -> None:
    document = read(write("artifacts:\n  onnx: {opset: 20}\n"))
    assert override(document, "artifacts.onnx.opset=18").data == {
        "artifacts": {"onnx": {"opset": 18}}
    }
    assert override(document, "devices=[cpu, cuda]").data["devices"] == ["cpu", "cuda"]
    assert override(document, "model=python:a:b=c").data["model"] == "python:a:b=c"


def test_override_with_null_removes_a_mapping(write: Write) -> None:
    document = read(write("artifacts:\n  onnx: {}\n  torchscript: {}\n"))
    assert override(document, "artifacts.onnx=null").data == {"artifacts": {"torchscript": {}}}


def test_override_is_named_as_the_place_of_its_values(write: Write) -> None:
    document = override(
        read(write("artifacts:\n  onnx: {}\n")), "artifacts={onnx: {opset: 99}, x: {y: [1]}}"
    )
    place = "--set artifacts={onnx: {opset: 99}, x: {y: [1]}}"
    for key in [
        ("artifacts",),
        ("artifacts", "onnx"),
        ("artifacts", "onnx", "opset"),
        ("artifacts", "x", "y", 0),
    ]:
        assert str(document.mark(key)) == place


@pytest.mark.parametrize("setting", ["opset", "=18", "a..b=1", ".a=1", ""])
def test_override_must_look_like_one(write: Write, setting: str) -> None:
    document = read(write("a: 1\n"))
    assert problems_of(lambda: override(document, setting)) == [
        f"--set {setting}: must look like artifacts.onnx.opset=18"
    ]


@pytest.mark.parametrize(
    "value", ["[1", "{a: ", "!!python/name:os.system x", "2026-99-99", "&a [*a]", "{1: 2}"]
)
def test_override_with_a_value_that_cannot_be_read(write: Write, value: str) -> None:
    document = read(write("a: 1\n"))
    (problem,) = problems_of(lambda: override(document, f"a.b={value}"))
    assert problem.startswith(f"--set a.b={value}: a.b")


def test_dotted_keys_read_like_a_path() -> None:
    assert dotted(("inputs", "image", "shape", 0)) == "inputs.image.shape[0]"


def test_find_takes_a_path_or_a_name(write: Write, tmp_path: Path) -> None:
    path = write("model: m\n", "configs/net.yaml")
    other = write("model: m\n", "configs/other.yml")
    assert find(str(path), []) == path
    assert find("net", [tmp_path / "empty", tmp_path / "configs"]) == path
    assert find("other", [tmp_path / "configs"]) == other


def test_find_names_the_nearest_recipe(write: Write, tmp_path: Path) -> None:
    write("model: m\n", "resnet18.yaml")
    with pytest.raises(UsageError, match="there is no recipe 'resnet81'; did you mean 'resnet18'"):
        find("resnet81", [tmp_path])


def test_find_lists_what_there_is(write: Write, tmp_path: Path) -> None:
    write("model: m\n", "resnet18.yaml")
    write("model: m\n", "_shared.yaml")
    with pytest.raises(UsageError, match=r"no recipe 'qqq'; there are resnet18$"):
        find("qqq", [tmp_path])


@pytest.mark.parametrize("name", ["", ".", "\0", "a" * 5000])
def test_find_of_no_name_at_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        find(name, [tmp_path])


@given(mappings, mappings)
def test_extends_merges_as_promised(base: dict[str, Any], over: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parent, child = Path(folder) / "base.yaml", Path(folder) / "recipe.yaml"
        parent.write_text(yaml.safe_dump(base), encoding="utf-8")
        child.write_text(yaml.safe_dump({"extends": "base", **over}), encoding="utf-8")
        assert read(child).data == merged(base, over)


@given(mappings, st.lists(keys, min_size=1, max_size=3), values)
def test_override_merges_as_promised(data: dict[str, Any], path: list[str], value: Any) -> None:
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n")
    document = override(read_text(yaml.safe_dump(data)), f"{'.'.join(path)}={text}")
    assert document.data == merged(data, nested)


@given(mappings)
def test_values_are_those_of_plain_yaml_and_every_one_has_a_line(data: dict[str, Any]) -> None:
    document = read_text(text := yaml.safe_dump(data))
    assert document.data == yaml.safe_load(text)

    def check(value: Any, at: tuple[str | int, ...]) -> None:
        assert document.marks[at].line
        inner = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        for key, inner_value in inner:
            check(inner_value, (*at, key))

    check(document.data, ())


@given(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.text("ab:-[]{}&*!|>?'\"# \n\t0,%@", max_size=40)
)
@example("? [a]\n: b")
@example("a: !!binary x")
@example("a: !!int x")
@example("a: !!timestamp x")
@example("a: !!float ''")
@example("? !!set {a}\n: b")
@example("a: !!omap [1]")
@example("%YAML 9.9\n---\na: 1")
def test_any_text_is_a_document_or_a_recipe_error(text: str) -> None:
    try:
        assert isinstance(read_text(text).data, dict)
    except RecipeError as error:
        assert error.problems
