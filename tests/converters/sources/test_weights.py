"""Weights: the first available ones; damaged and malicious files are refused with a reason."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from converters.sources import torchvision
from converters.sources.checkpoint import SUFFIXES, WeightsError, read_state
from converters.sources.load import Source, load_model
from converters.sources.weights import LoadedState, find_weights, load_into
from runtimes.spec import TensorSpec


class Model(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return Model().state_dict()


State = dict[str, torch.Tensor]


def same(state: State, expected: State) -> bool:
    if list(state) != list(expected):
        return False
    return all(torch.equal(state[name], expected[name]) for name in expected)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(WeightsError) as caught:
        call()
    assert caught.value.exit_code == 2
    return str(caught.value)


# What can be read


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_bare_state_dict(tmp_path: Path, state: State, suffix: str, legacy: bool) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert same(read_state(path), state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_inside_a_training_checkpoint(tmp_path: Path, state: State, key: str) -> None:
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "net.pth")
    assert same(read_state(tmp_path / "net.pth"), state)


def test_the_prefix_of_data_parallel_training(tmp_path: Path, state: State) -> None:
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        tmp_path / "net.pth",
    )
    assert same(read_state(tmp_path / "net.pth"), state)


def test_a_prefix_that_not_every_key_has_stays(tmp_path: Path, state: State) -> None:
    torch.save({"module.a": state["0.weight"], "b": state["0.bias"]}, tmp_path / "net.pth")
    assert list(read_state(tmp_path / "net.pth")) == ["module.a", "b"]


def test_safetensors(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "net.safetensors")
    state_read = read_state(tmp_path / "net.safetensors")
    assert same({name: state_read[name] for name in state}, state)


def test_half_precision_weights_fill_a_float32_model(tmp_path: Path, state: State) -> None:
    halves = {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }
    torch.save(halves, tmp_path / "net.pth")
    module = Model()
    load_into(module, LoadedState("net.pth", read_state(tmp_path / "net.pth")))
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, state["0.weight"].half().float())


# What is refused


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    assert "weights are .pth, .pt, .th, .pt2, .safetensors files" in refusal(
        lambda: read_state(tmp_path / "net.onnx")
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file(tmp_path: Path, state: State, suffix: str, share: float) -> None:
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(lambda: read_state(path))
    assert message.startswith(f"{path}: damaged, or not a ")


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", b"hello world\n", b"\x80\x02", bytes(range(256)), b"."]
)
def test_a_file_that_is_something_else_is_damaged_not_malicious(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert refusal(lambda: read_state(path)).startswith(f"{path}: damaged, or not a checkpoint")


@given(st.binary(max_size=200), st.sampled_from([".pth", ".pt", ".safetensors"]))
def test_any_bytes_are_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"net{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(lambda: read_state(path))


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {}, {"model": {"lr": 0.1}}, torch.zeros(2)]
)
def test_a_checkpoint_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    message = refusal(lambda: read_state(tmp_path / "net.pth"))
    assert f"holds a {type(content).__name__}" in message
    assert "no state_dict" in message


def test_the_digest_in_a_files_name_is_checked(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "plain.pth")
    content = (tmp_path / "plain.pth").read_bytes()
    good, bad = (
        tmp_path / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth",
        tmp_path / "net-0badcafe.pth",
    )
    good.write_bytes(content)
    bad.write_bytes(content)
    assert same(read_state(good), state)
    assert "does not start with 0badcafe, as its name says" in refusal(lambda: read_state(bad))


class Payload:
    """A pickle that writes a marker file when it is loaded without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


class HiddenPayload(Payload):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.marker)!r}, 'w')",)


@pytest.fixture(params=[Payload, HiddenPayload])
def malicious(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    marker = tmp_path / "the_code_ran"
    return request.param(marker), marker


def refused(path: Path, marker: Path) -> None:
    message = refusal(lambda: read_state(path))
    assert not marker.exists()
    assert f"{path}: refused. Loading it would run code that the file carries" in message
    assert "save_file" in message
    assert ".safetensors" in message or "safetensors.torch" in message


def test_the_payload_does_run_where_nobody_takes_care(malicious: tuple[Any, Path]) -> None:
    payload, marker = malicious
    pickle.loads(pickle.dumps(payload))  # noqa: S301 - or the tests below would prove nothing
    assert marker.exists()


def test_a_pickle_that_would_run_code_does_not(
    tmp_path: Path, malicious: tuple[Any, Path], state: State
) -> None:
    payload, marker = malicious
    torch.save({**state, "extra": payload}, tmp_path / "net.pth")
    refused(tmp_path / "net.pth", marker)


def test_nor_in_the_legacy_format(
    tmp_path: Path, malicious: tuple[Any, Path], state: State
) -> None:
    payload, marker = malicious
    torch.save(
        {**state, "extra": payload}, tmp_path / "net.pth", _use_new_zipfile_serialization=False
    )
    refused(tmp_path / "net.pth", marker)


def test_nor_as_a_bare_pickle(tmp_path: Path, malicious: tuple[Any, Path]) -> None:
    payload, marker = malicious
    (tmp_path / "net.pth").write_bytes(pickle.dumps(payload, protocol=2))
    refused(tmp_path / "net.pth", marker)


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(Model(), tmp_path / "net.pth")
    message = refusal(lambda: read_state(tmp_path / "net.pth"))
    assert "would run code" in message
    assert "state_dict()" in message


def test_a_torchscript_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "net.pt")
    assert str(tmp_path / "net.pt") in refusal(lambda: read_state(tmp_path / "net.pt"))


def test_a_zip_bomb_named_as_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
        archive.writestr("archive/version", "3")
    assert str(tmp_path / "net.pth") in refusal(lambda: read_state(tmp_path / "net.pth"))


# What does not fit


def test_every_key_that_does_not_fit_is_listed(state: State) -> None:
    other = {name.replace("0.", "conv."): value for name, value in state.items()}
    other["1.running_mean"] = torch.zeros(9)
    message = refusal(lambda: load_into(Model(), LoadedState("net.pth", other)))
    assert message.splitlines() == [
        "net.pth does not fit the model, 5 keys differ:",
        "  missing in the file: 0.weight [4, 3]",
        "  missing in the file: 0.bias [4]",
        "  unknown to the model: conv.weight [4, 3]",
        "  unknown to the model: conv.bias [4]",
        "  shape differs: 1.running_mean is [9], the model's is [4]",
    ]


def test_weights_of_another_architecture_name_every_key() -> None:
    theirs, mine = (
        torchvision.build("squeezenet1_1", {}),
        torchvision.build("squeezenet1_0", {"num_classes": 10}),
    )
    message = refusal(lambda: load_into(mine, LoadedState("net.pth", theirs.state_dict())))
    model, file = mine.state_dict(), theirs.state_dict()
    differing = [
        name for name in model if name not in file or model[name].shape != file[name].shape
    ]
    assert differing
    assert all(f" {name} " in message for name in differing)


# Where they come from


def find(
    tmp_path: Path, *sources: str, model: str = "python:net:build"
) -> tuple[LoadedState, list[dict[str, str]]]:
    return find_weights(sources, model, tmp_path)


def test_the_first_that_is_available_is_used_and_the_others_say_why_not(
    tmp_path: Path, state: State
) -> None:
    torch.save(state, tmp_path / "net.pth")
    loaded, tried = find(
        tmp_path, "gone.pth", "package:no_such_package/w.pth", "net.pth", "random:0"
    )
    assert loaded.source == "net.pth"
    assert loaded.sha256 == hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    assert tried == [
        {"source": "gone.pth", "why": f"there is no file {tmp_path / 'gone.pth'}"},
        {
            "source": "package:no_such_package/w.pth",
            "why": "the package no_such_package is not installed",
        },
    ]


def test_a_file_that_is_there_but_damaged_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"")
    assert "damaged" in refusal(lambda: find(tmp_path, "net.pth", "random:0"))


def test_none_is_available(tmp_path: Path) -> None:
    message = refusal(lambda: find(tmp_path, "a.pth", "b.pth"))
    assert message.startswith("no weights found for python:net:build:\n  a.pth: there is no file ")
    assert "  b.pth: there is no file " in message
    assert message.endswith("or `random:0` to build with random weights knowingly.")


def test_a_file_that_an_installed_package_ships(tmp_path: Path, state: State, monkeypatch) -> None:
    package = tmp_path / "site" / "user_weights_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save(state, package / "data" / "net.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    loaded, _ = find(tmp_path, "package:user_weights_package/data/net.pth")
    assert same(loaded.state or {}, state)
    assert "user_weights_package" not in sys.modules, (
        "finding a file must not run the package's code"
    )


def test_a_package_without_that_file_is_passed_over(tmp_path: Path) -> None:
    loaded, tried = find(tmp_path, "package:torch/no/such.pth", "random:3")
    assert (loaded.random_seed, tried[0]["source"]) == (3, "package:torch/no/such.pth")


@pytest.mark.parametrize(
    "source", ["package:torch", "package:torch/", "package:torch/../../etc/w.pth"]
)
def test_a_package_source_must_stay_in_its_package(tmp_path: Path, source: str) -> None:
    assert "must look like package:NAME/path" in refusal(lambda: find(tmp_path, source))


@pytest.mark.parametrize("seed", ["", "-1", "x", "1.5", "²"])
def test_a_seed_must_be_a_whole_number(tmp_path: Path, seed: str) -> None:
    assert "must be a whole number" in refusal(lambda: find(tmp_path, f"random:{seed}"))


def test_default_of_a_python_model_is_what_its_factory_made(tmp_path: Path) -> None:
    inputs = {"x": TensorSpec(shape=(1, 4))}
    record = load_model(
        Source("python:torch.nn:Identity", {}, (), tmp_path, "recipe.yaml:1", inputs)
    ).weights
    assert (record.source, record.random) == ("as the factory made them", False)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Pretend that torchvision publishes a file of the test, with an empty cache of torch.hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def publish(name: str) -> Path:
        monkeypatch.setattr(
            torchvision, "default_weights_url", lambda model: (tmp_path / name).as_uri()
        )
        return tmp_path / "hub" / "checkpoints" / name

    return publish


def test_default_is_downloaded_once_into_the_cache(tmp_path: Path, state: State, published) -> None:
    torch.save(state, tmp_path / "plain.pth")
    name = f"net-{hashlib.sha256((tmp_path / 'plain.pth').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "plain.pth").rename(tmp_path / name)
    cached = published(name)
    loaded, _ = find(tmp_path, "DEFAULT", model="torchvision:resnet18")
    assert loaded.source == f"DEFAULT ({name})"
    assert same(loaded.state or {}, state)
    (tmp_path / name).unlink()
    assert cached.is_file()
    assert same(find(tmp_path, "DEFAULT", model="torchvision:resnet18")[0].state or {}, state)


def test_a_download_that_fails_gives_way_to_the_next_source(tmp_path: Path, published) -> None:
    cached = published("net-0badcafe.pth")
    loaded, tried = find(tmp_path, "DEFAULT", "random:0", model="torchvision:resnet18")
    assert loaded.random_seed == 0
    assert tried[0]["why"].startswith(
        f"not in the local cache ({cached}), and the download failed: "
    )
    assert not cached.exists()


def test_a_download_with_a_wrong_digest_does_not_stay(
    tmp_path: Path, state: State, published
) -> None:
    cached = published("net-0badcafe.pth")
    torch.save(state, tmp_path / "net-0badcafe.pth")
    loaded, tried = find(tmp_path, "DEFAULT", "random:0", model="torchvision:resnet18")
    assert loaded.random_seed == 0
    assert "the download failed: invalid hash" in tried[0]["why"]
    assert not cached.exists()


def test_every_source_kind_is_tried_before_any_model_is_built() -> None:
    """Sources that end in an error report it without the cost of a model."""
    source = Source("python:no_such_module:build", {}, ("gone.pth",), Path(), "recipe.yaml:1", {})
    assert "no weights" in refusal(lambda: load_model(source))


def test_suffixes_and_prefixes_are_what_the_readme_says() -> None:
    assert SUFFIXES == (".pth", ".pt", ".th", ".pt2", ".safetensors")
