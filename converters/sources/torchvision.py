"""`torchvision:NAME`: the classification models that torchvision registers."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# A registered builder in torchvision's source.
_BUILDER = re.compile(
    r'^@register_model\((?:name="(\w+)")?\)\n(?:@.*\n(?:\s.*\n|\)\n)*)*def (\w+)\(', re.MULTILINE
)


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's registered classification models; empty without it.

    They are read from its source: importing it (and torch) takes seconds, and the error for a
    recipe's typo should not.
    """
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return ()
    files = sorted((Path(spec.submodule_search_locations[0]) / "models").glob("*.py"))
    names = []
    for file in files:
        for name, function in _BUILDER.findall(file.read_text(encoding="utf-8")):
            names.append(name or function)
    return tuple(sorted(names))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 class names of ImageNet-1k, in the order of torchvision's weights."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def build(name: str, args: dict[str, Any]) -> torch.nn.Module:
    """Build the model with freshly initialised weights."""
    import torchvision

    module: torch.nn.Module = torchvision.models.get_model(name, weights=None, **args)
    return module


def default_weights_url(name: str) -> str:
    """Return the URL of the model's default weights."""
    import torchvision

    return str(torchvision.models.get_model_weights(name).DEFAULT.url)
