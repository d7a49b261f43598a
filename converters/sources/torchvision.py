"""`torchvision:NAME`: the classification models that torchvision registers."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# What a registered builder looks like in torchvision's own source.
_BUILDER = re.compile(r'^@register_model\((?:name="(\w+)")?\)\n(?:@.*\n(?:\s.*\n|\)\n)*)*def (\w+)\(', re.MULTILINE)


@cache
def torchvision_names() -> tuple[str, ...]:
    """Names of all classification models that the installed torchvision registers; empty without it.

    Read from its source, since importing it (and torch) takes seconds and a recipe's typo should not.
    """
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return ()
    files = sorted((Path(spec.submodule_search_locations[0]) / "models").glob("*.py"))
    found = [_BUILDER.findall(file.read_text(encoding="utf-8")) for file in files]
    return tuple(sorted(name or function for matches in found for name, function in matches))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k, in the order of torchvision's weights."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def build(name: str, args: dict[str, Any]) -> torch.nn.Module:
    """The model with freshly initialised weights."""
    import torchvision

    module: torch.nn.Module = torchvision.models.get_model(name, weights=None, **args)
    return module


def default_weights_url(name: str) -> str:
    """Where torchvision publishes the model's default weights."""
    import torchvision

    return str(torchvision.models.get_model_weights(name).DEFAULT.url)
