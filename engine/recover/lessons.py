"""The samples as lessons: which rows a step sees, and which are held out to judge by.

Nothing is loaded: a lesson reads its rows from memory-mapped arrays. The order is a function of seed and step alone, so
a training that was interrupted goes on with the very rows that it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from engine.data import Feeds, Samples

HELD_OUT_SHARE = 0.1
MOST_HELD_OUT = 512  #: rows; more would cost steps, and tell no more of weights that are compared on the same ones


@dataclass(frozen=True)
class Lessons:
    """Positions are those of rows in `samples`; rows of one run stay together."""

    samples: Samples
    seed: int

    @property
    def unit(self) -> int:
        """Rows that belong together."""
        return self.samples.rows_per_run or 1

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Runs to learn from and runs held out, (runs, unit) each; of a single run both are that one."""
        runs = np.arange(len(self.samples) // self.unit * self.unit).reshape(-1, self.unit)
        shuffled = np.random.default_rng(self.seed).permutation(runs)
        held = min(max(round(len(runs) * HELD_OUT_SHARE), 1), max(MOST_HELD_OUT // self.unit, 1))
        return (shuffled[held:], shuffled[:held]) if len(runs) > 1 else (shuffled, shuffled)

    @property
    def taught(self) -> int:
        """Rows that are learned from."""
        return self._runs[0].size

    @property
    def held_out(self) -> np.ndarray:
        """Positions of the rows that are not."""
        return self._runs[1].ravel()

    def some_held_out(self, rows: int) -> np.ndarray:
        """Positions of so many of them at most, in whole runs, and of one run at least."""
        return self._runs[1][: max(rows // self.unit, 1)].ravel()

    def positions(self, step: int, rows: int) -> np.ndarray:
        """What this step learns from: passes over all rows, each in another order."""
        runs, wanted = self._runs[0], max(rows // self.unit, 1)
        first = step * wanted
        places = np.arange(first, first + wanted)
        passes = places // len(runs)
        chosen = [
            _order(len(runs), self.seed, int(number))[places[passes == number] % len(runs)]
            for number in np.unique(passes)
        ]
        return runs[np.concatenate(chosen)].ravel()

    def in_runs(self, positions: np.ndarray, rows: int) -> Iterator[np.ndarray]:
        """The positions of one run of the model after another, of about so many rows each."""
        size = self.samples.rows_per_run or rows
        for start in range(0, len(positions), size):
            yield positions[start : start + size]

    def feeds(self, positions: np.ndarray) -> Feeds:
        """Inputs of one run."""
        chosen = replace(self.samples, rows=self.samples.rows[positions])
        return next(chosen.batches(len(positions)))

    def labels(self, positions: np.ndarray) -> Tensor:
        """Labels of these rows."""
        assert self.samples.label_array is not None, "whoever asks for labels has looked whether there are any"
        return torch.from_numpy(np.array(self.samples.label_array[self.samples.rows[positions]]))


@lru_cache(maxsize=2)
def _order(count: int, seed: int, number: int) -> np.ndarray:
    """Of one pass over so many runs."""
    return np.random.default_rng([seed, 1, number]).permutation(count)


def tensors(feeds: Feeds) -> dict[str, Tensor]:
    """The inputs for the graph; memory-mapped rows are copied, since torch must own what it reads."""
    return {name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}
