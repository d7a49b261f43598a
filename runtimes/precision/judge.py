"""Hold the layers of an artifact to the table: the share of its multiply-adds in the asked precision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.precision.table import KINDS, WORDS, Kind, Row
from runtimes.validator.defaults import COMPUTE_SHARE

_NAMED = 3  # layers in one sentence


@dataclass(frozen=True)
class ComputingLayer:
    """A layer that multiplies and adds.

    Attributes:
        name: the node's, unique in its graph.
        layer: the module path; the node's name if the graph does not have it.
        kind: see `Kind`.
        precision: that it computes in, such as int8.
        multiply_adds: of one run at the `opt` sizes; None if they are unknown.
    """

    name: str
    layer: str
    kind: Kind
    precision: str
    multiply_adds: int | None = None


@dataclass(frozen=True)
class Work:
    """The multiply-adds of an artifact, for its manifest.

    Attributes:
        precision: the asked one.
        layers: number of layers in it.
        multiply_adds: of these layers; None if those of one are unknown.
        others: the layers in another precision.
    """

    precision: str
    layers: int
    multiply_adds: int | None
    others: tuple[ComputingLayer, ...]

    @classmethod
    def of(cls, layers: Iterable[ComputingLayer], precision: str) -> Work:
        """Summarize the layers of a graph that was asked to compute in `precision`."""
        right: list[ComputingLayer] = []
        others: list[ComputingLayer] = []
        for layer in layers:
            (right if layer.precision == precision else others).append(layer)
        return cls(precision, len(right), _total(right), tuple(others))

    @classmethod
    def from_build(cls, build: Mapping[str, Any]) -> Work | None:
        """Read a manifest's `build`; None if it has no such entry, or not a whole one."""
        entry = build.get("work")
        if not entry:
            return None
        others = tuple(ComputingLayer(**layer) for layer in entry.get("others", ()))
        if any(layer.kind not in KINDS for layer in others):
            return None
        return cls(entry["precision"], entry["layers"], entry.get("multiply_adds"), others)

    def for_build(self) -> dict[str, Any]:
        """Return the entry `work` of a manifest's `build`."""
        return {**asdict(self), "others": [asdict(layer) for layer in self.others]}


@dataclass(frozen=True)
class Judgement:
    """Whether layers keep to the table, with the share that decides it, in words.

    Attributes:
        share: of the work that the mode should do in its precision, from 0 to 1.
        total: of all work, from 0 to 1.
        holds: whether that is enough.
        words: the shares, and the layers that stay float by design.
        missing: the layers that should have had the precision.
        designed: the number of layers that stay float by design.
    """

    share: float
    total: float
    holds: bool
    words: str
    missing: tuple[ComputingLayer, ...]
    designed: int


def judge_work(
    work: Work, row: Row, kept: Collection[str] = (), least: float = COMPUTE_SHARE
) -> Judgement:
    """Hold layers to a row of the table.

    Args:
        work: the layers.
        row: of the format and the mode.
        kept: names or module paths of layers that the recipe, a budget or their range keeps float.
        least: the share that must have the precision.
    """
    by_mode = [layer for layer in work.others if row[layer.kind] != "always"]
    by_name: list[ComputingLayer] = []
    missing: list[ComputingLayer] = []
    for layer in work.others:
        if row[layer.kind] == "always":
            named = layer.name in kept or layer.layer in kept
            (by_name if named else missing).append(layer)
    share = _share(work, missing)
    total = _share(work, work.others)
    count = work.layers + len(work.others)
    unit = "multiply-adds" if _measured(work, work.others) else "layers"
    words = f"{total:.1%} of the {unit} in {work.precision} ({work.layers} of {count} layers)"
    if by_mode or by_name:
        words += f"; float by design: {_in_words(by_mode, by_name)}"
    if missing:
        words += f"; not as asked: {_names(missing)}"
    nothing = not work.layers and bool(work.others)
    return Judgement(
        share=share,
        total=total,
        holds=share >= least and not nothing,
        words=words,
        missing=tuple(missing),
        designed=len(by_mode) + len(by_name),
    )


def _share(work: Work, others: Sequence[ComputingLayer]) -> float:
    """Return the share of the layers in the asked precision of these and `others`."""
    if _measured(work, others):
        right, rest = work.multiply_adds or 0, _total(others) or 0
    else:
        right, rest = work.layers, len(others)
    return right / (right + rest) if right + rest else 1.0


def _measured(work: Work, others: Sequence[ComputingLayer]) -> bool:
    """Return whether the multiply-adds of all these layers are known."""
    return work.multiply_adds is not None and _total(others) is not None


def _total(layers: Iterable[ComputingLayer]) -> int | None:
    total = 0
    for layer in layers:
        if layer.multiply_adds is None:
            return None
        total += layer.multiply_adds
    return total


def _in_words(by_mode: Sequence[ComputingLayer], by_name: Sequence[ComputingLayer]) -> str:
    """Count the layers that stay float by design: those of a kind, and those that were named."""
    parts = []
    for kind in KINDS:
        if number := sum(layer.kind == kind for layer in by_mode):
            parts.append(f"{WORDS[kind]} ({number})")
    if by_name:
        parts.append(f"layers kept by `exclude`, a budget or their range ({len(by_name)})")
    return ", ".join(parts)


def _names(layers: Sequence[ComputingLayer]) -> str:
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    names = [f"{layer.layer} ({layer.precision})" for layer in layers[:_NAMED]]
    return ", ".join(names) + more
