"""Sessions of what the script by_hand.py builds; a module of its own, so that other processes can import it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.plan.load import load_recipe
from converters.plan.plan import source_of
from runtimes.session import Session
from runtimes.spec import Arrays, DimRange, TensorSpec


def _module(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location("by_hand", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class HandOpener:
    """Opens a file that by_hand.py built, the way it does."""

    script: Path
    kind: str
    file: Path

    def __call__(self) -> Session:
        """A session around its `run`."""
        return HandSession(_module(self.script).session(self.kind, str(self.file)))


class HandSession(Session):
    """An expert's own code for one picture."""

    def __init__(self, run: Callable[[Any], Any]) -> None:
        """`run` takes and gives one array."""
        image, logits = TensorSpec(shape=("batch", 3, 224, 224)), TensorSpec(shape=("batch", 1000))
        super().__init__({"image": image}, {"logits": logits}, {"batch": DimRange(max=1)})
        self._answer = run

    def _run(self, inputs: Arrays) -> Arrays:
        return {"logits": self._answer(inputs["image"])}


def build_by_hand(script: Path, recipe: Path, pictures: np.ndarray[Any, Any], folder: Path) -> None:
    """In a process of its own: by_hand.py's artifacts of the recipe's model."""
    import torch

    from converters.sources.load import load_model

    module = _module(script)
    # A trace is checked by tracing again, which fails where attention takes another path the second time (ViT).
    torch.jit.trace = partial(torch.jit.trace, check_trace=False)
    module.eager_model = lambda: load_model(source_of(load_recipe(recipe))).module
    rows = module.build(str(folder), pictures)
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
