"""Mutants of one subject: each is made from a kind of defect, a draw and the seed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mutation.subject import Subject

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
        self._format, self._seed = subject.format, seed

    def mutants(self, kinds: Sequence[str], count: int) -> Iterator[Mutant]:
        """Yield different mutants, of each kind in turn, `count` in all if there are so many.

        Kinds that the format lacks, or that have no place in the model, are left out.
        """
        draws, stale = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        seen = {hashlib.sha256(self._format.read().serialize()).digest()}
        left = [kind for kind in kinds if kind in self._format.kinds and self._places(kind)]
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
        graph = self._format.read()
        places = list(self._format.kinds[kind](graph))
        rng = np.random.default_rng([self._seed, zlib.crc32(kind.encode()), draw])
        order = np.random.default_rng([self._seed, 0]).permutation(len(places))
        place = places[order[draw % len(places)]]
        try:
            words = f"{place.where}: {place.change(rng)}"
            return Mutant(kind, draw, words, graph.serialize())
        except Exception as error:  # a graph that cannot be built is no mutant
            return Mutant(kind, draw, f"{place.where}: {type(error).__name__}: {error}", None)

    def _places(self, kind: str) -> int:
        return sum(1 for _ in self._format.kinds[kind](self._format.read()))
