"""Changes of a module's structure by passes, as data: sizes in its layers and shapes of tensors.

A pruned module differs from the one that its factory makes. Pickling it would make every reader run
its code; so the differences are recorded, and applied to the factory's module again. Forward passes
read the sizes (a convolution its `groups`, a view its `heads`), and the weights come from a
state_dict.
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

STRUCTURE_FILE = "structure.json"

Note = int | float | bool | list[int]


@dataclass(frozen=True)
class Structure:
    """Differences from the factory's module; empty if there are none.

    Attributes:
        notes: per module path, attributes and their values (numbers, tuples of numbers).
        shapes: per parameter and buffer, its shape.
        attentions: module paths of nn.MultiheadAttention that became `HeadAttention`.
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
        """Read it from a folder; empty if that has none. Raises ArtifactError if it is damaged."""
        path = folder / STRUCTURE_FILE
        if not path.exists():
            return cls()
        try:
            # By json itself: a module may have an infinite attribute.
            return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged: {error}") from error


def difference(factory: torch.nn.Module, changed: torch.nn.Module) -> Structure:
    """Return the differences of `changed` from the factory's module, whose attentions are replaced.

    Raises UsageError if modules, parameters or buffers were added or, except for whole parts,
    removed: sizes cannot express that.
    """
    from converters.models.attention import HeadAttention, replace_attentions
    from converters.models.parts import drop

    attentions = [
        path for path, module in changed.named_modules() if isinstance(module, HeadAttention)
    ]
    replace_attentions(factory, attentions)
    places, parts = _places(changed), _places(factory)
    dropped = []
    for path, part in parts.items():
        if part is not None and places.get(path, part) is None:
            dropped.append(path)
    drop(factory, dropped)
    modules, changed_modules = dict(factory.named_modules()), dict(changed.named_modules())
    tensors, changed_tensors = _tensors(factory), _tensors(changed)
    unexpected = modules.keys() ^ changed_modules.keys() | tensors.keys() ^ changed_tensors.keys()
    if unexpected:
        names = ", ".join(sorted(unexpected)[:5])
        raise UsageError(f"the structure changed beyond sizes: {names} were added or removed")
    notes = {}
    for path, module in modules.items():
        changed_notes = _changed_notes(module, changed_modules[path])
        if changed_notes:
            notes[path] = changed_notes
    shapes = {}
    for name, tensor in changed_tensors.items():
        if tensor.shape != tensors[name].shape:
            shapes[name] = list(tensor.shape)
    return Structure(notes, shapes, attentions, dropped)


def apply(structure: Structure, module: torch.nn.Module) -> None:
    """Apply a structure to the factory's module in place; its weights must be loaded afterwards."""
    import torch

    from converters.models.attention import replace_attentions
    from converters.models.parts import drop

    replace_attentions(module, structure.attentions)
    drop(module, structure.dropped)
    modules = dict(module.named_modules())
    for path, notes in structure.notes.items():
        for name, value in notes.items():
            setattr(modules[path], name, tuple(value) if isinstance(value, list) else value)
    for name, shape in structure.shapes.items():
        path, _, attribute = name.rpartition(".")
        holder = modules[path]
        old = getattr(holder, attribute)
        new = torch.zeros(shape, dtype=old.dtype)
        if isinstance(old, torch.nn.Parameter):
            setattr(holder, attribute, torch.nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            persistent = attribute not in holder._non_persistent_buffers_set
            holder.register_buffer(attribute, new, persistent=persistent)


def _places(root: torch.nn.Module) -> dict[str, torch.nn.Module | None]:
    """Return the modules by path, and None for places without one."""
    places = {}
    for path, module in root.named_modules():
        for name, part in module._modules.items():
            places[f"{path}.{name}" if path else name] = part
    return places


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _changed_notes(before: torch.nn.Module, after: torch.nn.Module) -> dict[str, Note]:
    old_notes = _notes(before)
    changed = {}
    for name, value in _notes(after).items():
        if old_notes.get(name, value) != value:
            changed[name] = _plain(value)
    return changed


def _notes(module: torch.nn.Module) -> Mapping[str, Any]:
    """Return the numbers that a module holds beside its parameters."""
    notes = {name: value for name, value in vars(module).items() if _is_note(value)}
    notes.pop("training", None)
    return notes


def _is_note(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return bool(value) and all(isinstance(item, int) for item in value)
    return isinstance(value, (int, float))


def _plain(value: Any) -> Note:
    if isinstance(value, (tuple, list)):
        return [int(item) for item in value]
    number: int | float | bool = value
    return number


def state_digest(module: torch.nn.Module) -> str:
    """Return the sha256 of the names, shapes and values of a module's state."""
    key = Key()
    for name, tensor in module.state_dict().items():
        label = f"{name} {tuple(tensor.shape)} {tensor.dtype}"
        key.add(label, tensor.contiguous().cpu().numpy().tobytes())
    return key.hex()
