"""Channels: ids of positions along axes, and which of them can only leave a graph together (a union-find)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]  #: one id for each position of an axis

FROZEN = 0  #: the channel of all positions that have to stay


@dataclass
class Channels:
    _parents: list[int] = field(default_factory=lambda: [FROZEN])

    def __len__(self) -> int:
        return len(self._parents)

    def fresh(self, count: int) -> Ids:
        """So many channels of their own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def unite(self, one: Ids, other: Ids) -> None:
        """Position by position, what is one channel from now on."""
        for first, second in {(int(first), int(second)) for first, second in zip(one, other, strict=True)}:
            low, high = sorted((self._root(first), self._root(second)))
            self._parents[high] = low

    def freeze(self, ids: Ids) -> None:
        """These positions stay, and so does all that could only leave with them."""
        self.unite(ids, np.zeros_like(ids))

    def all_roots(self) -> Ids:
        """The channel of each id."""
        return np.array([self._root(one) for one in range(len(self._parents))], np.int64)

    def roots(self, ids: Ids) -> Ids:
        """The channel of each position, named by its smallest id."""
        unique, places = np.unique(ids, return_inverse=True)
        return np.array([self._root(int(one)) for one in unique], np.int64)[places].reshape(ids.shape)

    def _root(self, one: int) -> int:
        parents = self._parents
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one
