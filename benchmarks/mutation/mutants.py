"""Mutants of one subject: each is made from a kind of defect, a draw and the seed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from mutation.changes.kinds import KINDS
from mutation.graphs import Array, Graph, Sizes
from mutation.subject import Subject
from runtimes.validator.inputs.draws import draw_all

_STALE = 6  # equal mutants in a row after which a kind has no more


@dataclass(frozen=True)
class Mutant:
    """A changed model.

    Attributes:
        kind, draw: its defect, and how many draws of the kind were before it.
        words: the place and the change.
        content: the model; None if it could not be made.
    """

    kind: str
    draw: int
    words: str
    content: bytes | None


class Factory:
    """Makes the mutants of one subject."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self._subject, self._seed = subject, seed
        self._observed: dict[tuple[str, tuple[int, ...]], Array | None] = {}

    def mutants(self, kinds: Sequence[str], count: int) -> Iterator[Mutant]:
        """Yield different mutants, of each kind in turn, `count` in all if there are so many."""
        draws, stale = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        seen = {hashlib.sha256(self._graph().serialize()).digest()}
        left = [kind for kind in kinds if self._places(kind)]
        while left:
            for kind in list(left):
                mutant = self.make(kind, draws[kind])
                draws[kind] += 1
                digest = hashlib.sha256(mutant.content or mutant.words.encode()).digest()
                stale[kind] = stale[kind] + 1 if digest in seen else 0
                if stale[kind] > _STALE:
                    left.remove(kind)
                if digest in seen:
                    continue
                seen.add(digest)
                yield mutant
                count -= 1
                if not count:
                    return

    def make(self, kind: str, draw: int) -> Mutant:
        """Make one mutant; the same arguments make the same one."""
        graph = self._graph()
        places = list(KINDS[kind](graph))
        rng = np.random.default_rng([self._seed, zlib.crc32(kind.encode()), draw])
        order = np.random.default_rng([self._seed, 0]).permutation(len(places))
        place = places[order[draw % len(places)]]
        try:
            words = f"{place.where}: {place.change(rng)}"
            return Mutant(kind, draw, words, graph.serialize())
        except Exception as error:  # a graph that cannot be built is no mutant
            return Mutant(kind, draw, f"{place.where}: {type(error).__name__}: {error}", None)

    def _places(self, kind: str) -> int:
        return sum(1 for _ in KINDS[kind](self._graph()))

    def _graph(self) -> Graph:
        manifest = self._subject.artifact.manifest
        return Graph.read(
            self._subject.content, manifest.inputs, manifest.outputs, manifest.dims, self._observe
        )

    def _observe(self, name: str, sizes: Sizes) -> Array | None:
        """Return an inner value of the right graph at these sizes, for noise."""
        key = name, tuple(sizes.values())
        if key not in self._observed:
            self._observed[key] = self._run(name, sizes)
        return self._observed[key]

    def _run(self, name: str, sizes: Sizes) -> Array | None:
        proto = onnx.load_from_string(self._subject.content)
        proto.graph.output.append(onnx.ValueInfoProto(name=name))
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        rng = np.random.default_rng(0)
        specs = self._subject.artifact.manifest.inputs
        inputs = draw_all(specs, sizes, rng)
        return np.asarray(session.run([name], inputs)[0])
