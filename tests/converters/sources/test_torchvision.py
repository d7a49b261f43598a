"""`torchvision:NAME`: the names are read without importing torchvision, and are all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from converters.sources import torchvision as source
from converters.sources.load import Source, build_module
from runtimes.errors import UsageError
from runtimes.spec import TensorSpec


def test_the_names_are_those_that_torchvision_registers() -> None:
    import torchvision

    registered = torchvision.models.list_models(module=torchvision.models)
    assert list(source.torchvision_names()) == sorted(registered)
    assert len(registered) == 80


def test_imagenet_has_its_thousand_classes() -> None:
    classes = source.imagenet_classes()
    assert len(classes) == 1000
    assert (classes[0], classes[999]) == ("tench", "toilet tissue")


def test_a_model_is_built_with_the_recipes_arguments() -> None:
    assert source.build("squeezenet1_1", {"num_classes": 7}).classifier[1].out_channels == 7


def test_default_weights_carry_their_digest_in_the_name() -> None:
    assert re.search(r"/resnet18-[0-9a-f]{8}\.pth$", source.default_weights_url("resnet18"))


def test_arguments_that_the_model_does_not_take_name_the_recipes_line() -> None:
    inputs = {"image": TensorSpec(shape=(1, 3, 8, 8))}
    wrong = Source("torchvision:resnet18", {"clases": 3}, (), Path(), "recipe.yaml:4", inputs)
    with pytest.raises(
        UsageError, match=r"recipe\.yaml:4: torchvision cannot build resnet18 .*'clases'"
    ):
        build_module(wrong)
