"""Weights in files that are programs: TorchScript modules and torch.export's .pt2.

Their code is not run.

torch's loaders run some of it: `torch.jit.load` a module's `__setstate__`, `torch.export.load`
pickled objects. Here only the parts that hold tensors are read.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from converters.sources.archive import ArchiveError
from runtimes.files.documents import parse_json

State = dict[str, Any]

_MOST_PICKLE = 1 << 26  # bytes of a module's structure; a tensor takes some 200


def torchscript_state(path: Path) -> State:
    """Return parameters, buffers and plain tensor attributes of a saved TorchScript module.

    Raises ArchiveError if a module stores its state in a custom form, as quantized ones do.
    """
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    if reader.get_record_size("data.pkl") > _MOST_PICKLE:
        raise ArchiveError(f"its data.pkl has more than {_MOST_PICKLE} bytes")
    module = _Unpickler(reader).load()
    if not isinstance(module, _Module):
        raise ArchiveError("its data.pkl holds no module")
    return dict(_tensors(module, ""))


class _Module:
    """Stands for an object of a class whose code is in the file."""

    def __init__(self, *state: Any) -> None:
        if state:
            raise ArchiveError("one of its modules can only be built by running code from the file")

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ArchiveError(
                "one of its modules keeps its state in a custom form (is it quantized?)"
            )
        self.state = state


# The pure Python unpickler: the one in C reserves memory for any number that a memo entry has.
class _Unpickler(pickle._Unpickler):
    """Reads a TorchScript module's data.pkl: classes as `_Module`, tensors, nothing else."""

    def __init__(self, reader: Any) -> None:
        super().__init__(io.BytesIO(reader.get_record("data.pkl")))
        self._reader = reader
        self._storages: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name in the file. Raises ArchiveError unless it is of a tensor or a module."""
        import torch

        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name.endswith("Storage"):
            return name
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            **{
                ("torch.jit._pickle", f"build_{kind}list"): list
                for kind in ("int", "double", "bool", "tensor")
            },
        }
        if (module, name) not in allowed:
            raise ArchiveError(
                f"its data.pkl refers to {module}.{name}, which is neither a module nor a tensor"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Read the storage of a tensor: ("storage", type, key, device, number of elements)."""
        import torch

        _, kind, key, _, count = pid
        if key not in self._storages:
            dtype = torch.storage._get_dtype_from_pickle_storage_type(kind)
            size = count * torch.empty(0, dtype=dtype).element_size()
            flat = self._reader.get_storage_from_record(f"data/{key}", size, torch.UntypedStorage)
            raw = flat._typed_storage()._untyped_storage
            self._storages[key] = SimpleNamespace(_untyped_storage=raw, dtype=dtype)
        return self._storages[key]


def _tensors(module: _Module, path: str) -> Iterator[tuple[str, Any]]:
    import torch

    for name, value in getattr(module, "state", {}).items():
        if isinstance(value, torch.Tensor):
            yield f"{path}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{path}{name}.")


def exported_state(path: Path) -> State:
    """Return names to tensors of a program that torch.export saved: parameters and buffers.

    Raises ArchiveError for the layout of another torch, and for weights that only unpickling can
    read.
    """
    from torch.export.pt2_archive import _package, constants

    reader = _package.PT2ArchiveReader(str(path))
    listing = constants.WEIGHTS_CONFIG_FILENAME_FORMAT.format("model")
    if listing not in reader.get_file_names():
        raise ArchiveError(f"it has no {listing}: another version of torch saved it")
    for name, entry in parse_json(reader.read_bytes(listing))["config"].items():
        if entry["use_pickle"] is not False:
            raise ArchiveError(f"{name!r} is pickled, as tensors of unusual kinds are")
    state = _package._load_state_dict(reader, "model")
    if not isinstance(state, dict):
        raise ArchiveError(
            "its weights are a checkpoint inside it: another version of torch saved it"
        )
    return {name: value.detach() for name, value in state.items()}
