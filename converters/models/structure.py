"""What passes changed of a module's structure, as data: sizes that its layers note, and shapes of their tensors.

A pruned module is no longer what its factory makes. Pickling it would make every reader run its code; so the
differences are written down, and the factory's module is given them again. Forward passes read the sizes (a
convolution its `groups`, a view its `heads`), and the weights come from a state_dict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from converters.digest import Key
from runtimes.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    import torch


if TYPE_CHECKING:
    import torch

STRUCTURE_FILE = "structure.json"

Note = int | float | bool | list[int]


@dataclass(frozen=True)
class Structure:
    """Differences to what a factory makes; empty where there are none.

    Attributes:
        notes: per module path, attributes and their values (numbers, tuples of numbers).
        shapes: per parameter and buffer, its shape.
        attentions: module paths of nn.MultiheadAttention that became `prune.attention.HeadAttention`.
        dropped: module paths of parts that are None.
    """

    notes: dict[str, dict[str, Note]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    attentions: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / STRUCTURE_FILE).write_text(
            json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> Structure:
        """Read it from a folder; empty where that has none. Raises ArtifactError where it is damaged."""
        path = folder / STRUCTURE_FILE
        if not path.exists():
            return cls()
        try:
            # By json itself: a module may have an attribute that is infinite.
            return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged: {error}") from error


def difference(factory: torch.nn.Module, changed: torch.nn.Module) -> Structure:
    """What differs in `changed` from the module that the factory makes (of which attentions are replaced).

    Raises UsageError where modules, parameters or buffers were added, or removed but for whole parts: that cannot
    be told as sizes.
    """
    from converters.models.attention import HeadAttention, replace
    from converters.models.parts import drop

    attentions = [path for path, module in changed.named_modules() if isinstance(module, HeadAttention)]
    replace(factory, attentions)
    places, parts = _places(changed), _places(factory)
    dropped = [path for path, part in parts.items() if part is not None and places.get(path, part) is None]
    drop(factory, dropped)
    before, after = dict(factory.named_modules()), dict(changed.named_modules())
    known, own = _tensors(factory), _tensors(changed)
    if strange := sorted(before.keys() ^ after.keys() | known.keys() ^ own.keys()):
        raise UsageError(f"the structure changed beyond sizes: {', '.join(strange[:5])} were added or removed")
    notes = {path: found for path in before if (found := _changed_notes(before[path], after[path]))}
    shapes = {name: list(one.shape) for name, one in own.items() if one.shape != known[name].shape}
    return Structure(notes, shapes, attentions, dropped)


def apply(structure: Structure, module: torch.nn.Module) -> None:
    """Give the factory's module a structure, in place; its weights are then to be loaded."""
    import torch

    from converters.models.attention import replace
    from converters.models.parts import drop

    replace(module, structure.attentions)
    drop(module, structure.dropped)
    modules = dict(module.named_modules())
    for path, notes in structure.notes.items():
        for name, value in notes.items():
            setattr(modules[path], name, tuple(value) if isinstance(value, list) else value)
    for name, shape in structure.shapes.items():
        path, _, own = name.rpartition(".")
        holder = modules[path]
        old = getattr(holder, own)
        new = torch.zeros(shape, dtype=old.dtype)
        if isinstance(old, torch.nn.Parameter):
            setattr(holder, own, torch.nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            holder.register_buffer(own, new, persistent=own not in holder._non_persistent_buffers_set)


def _places(root: torch.nn.Module) -> dict[str, torch.nn.Module | None]:
    """Modules by path, and None where there is a place for one."""
    return {
        f"{path}.{name}" if path else name: part
        for path, module in root.named_modules()
        for name, part in module._modules.items()
    }


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _changed_notes(before: torch.nn.Module, after: torch.nn.Module) -> dict[str, Note]:
    mine, theirs = _notes(after), _notes(before)
    return {name: _plain(value) for name, value in mine.items() if theirs.get(name, value) != value}


def _notes(module: torch.nn.Module) -> Mapping[str, Any]:
    """The numbers that a module keeps beside its parameters."""
    return {name: value for name, value in vars(module).items() if name != "training" and _is_note(value)}


def _is_note(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return bool(value) and all(isinstance(one, int) for one in value)
    return isinstance(value, (int, float))


def _plain(value: Any) -> Note:
    return [int(one) for one in value] if isinstance(value, (tuple, list)) else value


def state_digest(module: torch.nn.Module) -> str:
    """sha256 over the names, shapes and values of a module's state."""
    key = Key()
    for name, tensor in module.state_dict().items():
        key.add(f"{name} {tuple(tensor.shape)} {tensor.dtype}", tensor.contiguous().cpu().numpy().tobytes())
    return key.hex()
