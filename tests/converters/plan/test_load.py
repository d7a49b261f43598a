"""Recipes: every default, and every error at once, before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from converters.plan.load import CONFIGS, load_recipe
from converters.plan.plan import Plan
from converters.recipe.document import RecipeError
from converters.recipe.schema import Device, Recipe
from runtimes.errors import UsageError
from runtimes.machine.devices import DEVICES

Write = Callable[..., Path]

VALID = """\
model: torchvision:resnet18
inputs:
  image: {shape: [batch, 3, 8, 8]}
dims:
  batch: {max: 4}
artifacts:
  onnx: {}
"""
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.fixture
def wrong(write: Write) -> Callable[..., list[str]]:
    """What is wrong with a recipe, without the path of its file."""

    def wrong(text: str, *settings: str) -> list[str]:
        path = write(text)
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, settings)
        assert caught.value.exit_code == 2
        return [line.removeprefix(str(path)) for line in str(caught.value).splitlines()]

    return wrong


Wrong = Callable[..., list[str]]


def test_a_short_recipe_gets_its_defaults(write: Write) -> None:
    plan = load_recipe(write(VALID, "net.yaml"))
    assert plan.name == "net"
    assert plan.recipe.devices == ("cpu",)
    assert plan.recipe.dims["batch"].bounds == (1, 1, 4)
    assert [
        (artifact.name, artifact.exporter.format, artifact.options.opset)
        for artifact in plan.artifacts
    ] == [("onnx", "onnx", 20)]


def test_an_artifact_without_options_needs_no_value(write: Write) -> None:
    assert load_recipe(write(VALID.replace("onnx: {}", "onnx:"))).artifacts[0].name == "onnx"


def test_one_weights_source_or_device_needs_no_list(write: Write) -> None:
    recipe = load_recipe(write(VALID + "weights: random:0\ndevices: cuda\n")).recipe
    assert (recipe.weights, recipe.devices) == (("random:0",), ("cuda",))


def test_all_problems_are_reported_at_once(wrong: Wrong) -> None:
    problems = wrong(
        """\
        model: torchvision:resnet81
        inputs:
          image: {shape: [batch, 3, 8, 8]}
        dims:
          bach: {max: 4}
        seeds: 1
        artifacts:
          onnx: {opst: 18}
          tensort: {}
          tensorrt: {precision: fp8}
        """
    )
    assert problems == [
        ":1: model: torchvision has no classification model 'resnet81'; did you mean 'resnet18'?",
        ":2: dims.batch: the dimension 'batch' has no range; add it to `dims:`",
        ":5: dims.bach: no input has this dimension; did you mean 'batch'?",
        ":6: unknown key `seeds`; did you mean 'seed'?",
        ":8: artifacts.onnx: unknown key `opst`; did you mean 'opset'?",
        ":9: artifacts.tensort: unknown format 'tensort'; did you mean 'tensorrt'? "
        "(an artifact whose name is not a format needs `format:`)",
        ":10: artifacts.tensorrt.precision: must be 'fp32', 'fp16' or 'bf16', not 'fp8'",
    ]


def test_problems_between_keys_are_reported_at_once_too(wrong: Wrong) -> None:
    problems = wrong(
        """\
        model: torchvision:resnet81
        inputs:
          image: {shape: [batch, 3, 8, 8]}
        dims:
          bach: {max: 4}
        data: {evaluation: {images: photos}}
        artifacts: {onnx: {}}
        """
    )
    assert problems == [
        ":1: model: torchvision has no classification model 'resnet81'; did you mean 'resnet18'?",
        ":2: dims.batch: the dimension 'batch' has no range; add it to `dims:`",
        ":5: dims.bach: no input has this dimension; did you mean 'batch'?",
        ":6: data.evaluation: images need `preprocess:` to become inputs of the model",
    ]


def test_a_format_that_does_not_exist(wrong: Wrong) -> None:
    (problem,) = wrong(VALID.replace("onnx: {}", "mine: {format: onxx}"))
    assert problem == ":7: artifacts.mine: unknown format 'onxx'; did you mean 'onnx'?"


@pytest.mark.parametrize(
    "model", ["resnet18", "python:net", "python:net:a-b", "python:a..b:c", "hub:x", ""]
)
def test_a_model_of_no_known_kind(wrong: Wrong, model: str) -> None:
    (problem,) = wrong(VALID.replace("torchvision:resnet18", f"'{model}'"))
    assert problem.startswith(":1: model: must ")


@pytest.mark.parametrize(
    "bounds",
    [
        "{min: 8, max: 4}",
        "{min: 1, opt: 9, max: 4}",
        "{min: 4, opt: 2, max: 8}",
        "{min: 9, opt: 5, max: 1}",
    ],
)
def test_sizes_must_rise(wrong: Wrong, bounds: str) -> None:
    (problem,) = wrong(VALID.replace("{max: 4}", bounds))
    assert problem.startswith(":5: dims.batch: sizes must rise: min ")


def test_an_unknown_device(wrong: Wrong) -> None:
    assert wrong(VALID + "devices: gpu\n") == [
        ":8: devices: must be 'cpu', 'cuda', 'intel-gpu' or 'intel-npu', not 'gpu'"
    ]


def test_a_recipe_takes_every_device_that_there_is() -> None:
    assert get_args(Device) == DEVICES


@pytest.mark.parametrize("name", ["..", "a/b", "-x", "a b", "'\\e[31m'", "logs", "build.json"])
def test_an_artifact_name_that_is_no_folder_of_its_own(wrong: Wrong, name: str) -> None:
    (problem,) = wrong(VALID.replace("onnx: {}", f'"{name}": {{format: onnx}}'))
    assert "a name has letters, digits, - _ ." in problem


def test_gates_of_an_artifact_override_those_of_the_recipe_one_by_one(write: Write) -> None:
    text = (
        VALID
        + "  fast: {format: onnx, gates: {speedup: 2.0}}\ngates: {speedup: 1.5, max_abs: 0.1}\n"
    )
    gates = {artifact.name: artifact.gates for artifact in load_recipe(write(text)).artifacts}
    assert (gates["onnx"].speedup, gates["onnx"].max_abs) == (1.5, 0.1)
    assert (gates["fast"].speedup, gates["fast"].max_abs) == (2.0, 0.1)


def test_null_takes_a_gate_away(write: Write) -> None:
    text = VALID.replace("onnx: {}", "onnx: {gates: {speedup: null}}") + "gates: {speedup: 1.5}\n"
    assert load_recipe(write(text)).artifacts[0].gates.speedup is None


def test_settings_override_single_values(write: Write) -> None:
    plan = load_recipe(
        write(VALID), ["artifacts.onnx.opset=18", "dims.batch.max=16", "artifacts.torchscript={}"]
    )
    assert plan.artifacts[0].options.opset == 18
    assert plan.recipe.dims["batch"].max == 16
    assert [artifact.name for artifact in plan.artifacts] == ["onnx", "torchscript"]


def test_an_error_in_a_setting_names_the_setting(wrong: Wrong) -> None:
    (problem,) = wrong(VALID, "artifacts.onnx.opset=99")
    assert problem == (
        "--set artifacts.onnx.opset=99: artifacts.onnx.opset: must be less than or equal to 25, not 99"
    )
    (problem,) = wrong(VALID, "artifacts={onnx: {opst: 18}}")
    assert problem.startswith(
        "--set artifacts={onnx: {opst: 18}}: artifacts.onnx: unknown key `opst`"
    )


def test_errors_of_a_parent_name_the_parents_file(write: Write) -> None:
    parent = write(VALID + "seed: -1\n", "base.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write("extends: base\nseeed: 1\n"))
    assert f"{parent}:8: seed: " in str(caught.value)
    assert "recipe.yaml:2: unknown key `seeed`; did you mean 'seed'?" in str(caught.value)


def test_relative_paths_start_from_the_recipes_folder(write: Write) -> None:
    path = write(VALID, "deep/net.yaml")
    assert load_recipe(path).folder == path.parent


def test_a_recipe_is_found_by_name_in_the_current_configs(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(VALID, "configs/mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("mine").name == "mine"


def test_there_is_no_such_recipe() -> None:
    with pytest.raises(UsageError, match="there is no recipe 'resnet_18'; did you mean 'resnet18'"):
        load_recipe("resnet_18")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_good(name: str) -> None:
    plan = load_recipe(name, folders=[CONFIGS])
    assert {"torchscript", "onnx", "tensorrt"} <= {artifact.name for artifact in plan.artifacts}


def test_the_recipes_that_the_issue_asks_for_are_shipped() -> None:
    assert {"resnet18", "mobilenet_v2", "vit_b_16", "mlp"} <= set(SHIPPED)


def test_an_error_is_reported_before_torch_is_imported(write: Write) -> None:
    path = write(VALID.replace("resnet18", "resnet81") + "devices: gpu\n")
    code = f"""
import sys
from burnish.cli import main
sys.argv = ["burnish", "convert", {str(path)!r}]
try:
    main()
except SystemExit as end:
    heavy = {{"torch", "torchvision", "onnx", "onnxruntime", "tensorrt_rtx"}} & set(sys.modules)
    print(end.code, sorted(heavy))
"""
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert completed.stdout == "2 []\n"
    assert (
        "devices: must be 'cpu', 'cuda', 'intel-gpu' or 'intel-npu', not 'gpu'" in completed.stderr
    )


@pytest.mark.parametrize(
    "value", ["0x1" + "0" * 5000, '"\\ud800"', "1" * 5000, ".nan", "-.inf", "1e999"]
)
@pytest.mark.parametrize("key", ["seed", "model", "gates", '"\\ud800"'])
def test_a_value_that_python_itself_cannot_show(wrong: Wrong, key: str, value: str) -> None:
    assert wrong(VALID.replace("model: torchvision:resnet18", f"{key}: {value}"))


words = st.sampled_from(
    [
        *Recipe.model_fields,
        "extends",
        "shape",
        "dtype",
        "range",
        "min",
        "opt",
        "max",
        "format",
        "opset",
        "gates",
    ]
)
texts = (
    words
    | st.sampled_from(["onnx", "tensorrt", "batch", "random:0", "float32"])
    | st.text(max_size=5)
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | texts
    | st.dates()
    | st.binary(max_size=3)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def loads_or_tells(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        try:
            assert isinstance(load_recipe(path), Plan)
        except RecipeError as error:
            assert error.problems
            assert all(problem.message for problem in error.problems)


@given(st.dictionaries(texts, anything, max_size=8))
def test_any_mapping_is_a_plan_or_a_recipe_error(data: dict[str, Any]) -> None:
    loads_or_tells(data)


@given(st.data())
def test_a_good_recipe_with_one_value_replaced_is_a_plan_or_a_recipe_error(
    data: st.DataObject,
) -> None:
    recipe = yaml.safe_load(
        VALID + "weights: [DEFAULT, random:0]\ngates: {speedup: 1.0}\nclasses: [a, b]\n"
    )
    place: Any = recipe
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
    place[key] = data.draw(anything)
    loads_or_tells(recipe)


def test_a_gate_cannot_be_switched_off_by_infinity(wrong: Wrong) -> None:
    [problem] = wrong(VALID + "gates: {noise: .inf}\n")
    assert "gates.noise: must be a finite number" in problem


def test_an_input_that_no_memory_holds_is_refused_before_it_is_made(wrong: Wrong) -> None:
    text = """\
        model: torchvision:resnet18
        inputs:
          image: {shape: [batch, 3, 224, 224]}
        dims:
          batch: {max: 100000}
        artifacts: {onnx: {}}
        """
    [problem] = wrong(text)
    assert problem.startswith(
        ":3: inputs.image: at its maximum size this input has 1.51e+10 values"
    )


def test_a_recipe_anywhere_may_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: resnet18\nseed: 7\n", encoding="utf-8")
    assert load_recipe(path).recipe.model == "torchvision:resnet18"
    (tmp_path / "resnet18.yaml").write_text(
        (CONFIGS / "mlp.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert load_recipe(path).recipe.model == "python:mlp.digits:build", "one beside it comes first"
