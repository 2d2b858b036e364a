"""A quick look at the formats of one step: how fast beside the original, and how true to it on a few samples.

Enough to choose by among files that differ only in how numbers are stored; what goes on from there is measured in full.
The samples are calibration samples, so that what a format is judged by in the end had no part in its choice.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine.data import Feeds, Samples
from engine.errors import EngineError
from engine.measure import accuracy, latency
from engine.measure.accuracy import Outputs
from engine.measure.lock import HostLock
from engine.measure.machine import describe
from engine.measure.operators import profile
from engine.recipe import Target
from engine.report import Interval, Machine, Profile
from engine.words import digits, sentence

FEWEST_SAMPLES, MOST_SAMPLES = 8, 128
PASS_SECONDS = 2.0  #: that one pass over the samples may take
ROUNDS = 40
SECONDS = (0.4, 6.0)  #: least and most time in which files are timed side by side
UNKNOWN_DB = -math.inf  #: of a file that does not run


def boundless() -> float:
    """For callers without a budget."""
    return math.inf


@dataclass
class Glimpse:
    original: Path
    samples: Samples
    target: Target
    folder: Path  #: its own
    lock: HostLock = field(default_factory=lambda: HostLock(None))
    run_ms: float = 1.0  #: one run of the original, roughly
    machine: Machine | None = None
    left_seconds: Callable[[], float] = boundless
    failures: dict[Path, EngineError] = field(default_factory=dict)  #: files that broke when they were looked at
    fidelities: dict[Path, float] = field(default_factory=dict)  #: SQNR of all that were looked at, in dB
    speedups: dict[Path, Interval] = field(default_factory=dict)

    def fidelity(self, path: Path) -> float:
        """SQNR of the worst output in dB, through the kernels of the target; infinite where outputs are equal."""
        if path not in self.fidelities:
            self.fidelities[path] = self._fidelity(path)
        return self.fidelities[path]

    def times(self, paths: Sequence[Path]) -> list[float]:
        """How many times as fast as the original each file is, all timed in turns; 0 where one breaks."""
        least, most = SECONDS
        wanted = ROUNDS * (len(paths) + 1) * self.run_ms / 1000
        sound = [path for path in paths if self.fidelity(path) > UNKNOWN_DB]
        seconds = min(max(wanted, least), most)

        def compare(some: Sequence[Path]) -> list[latency.LatencyComparison]:
            share = seconds * len(some) / max(len(sound), 1)
            with self.lock.measuring():
                return latency.compare(self.original, some, self.feeds, self.target, processes=1, seconds=share)

        timed = latency.compare_apart(sound, compare, self.failures.__setitem__)
        self.speedups |= {path: one.speedup for path, one in timed.items()}
        return [timed[path].speedup.value if path in timed else 0.0 for path in paths]

    def sqnr_db(self, path: Path) -> float | None:
        """For a report, which writes equal outputs and unknown ones as null."""
        value = self.fidelities.get(path, UNKNOWN_DB)
        return value if math.isfinite(value) else None

    def words(self, path: Path) -> str:
        """What was seen of a file, as a sentence."""
        speedup, noise_db = self.speedups.get(path), self.fidelities[path]
        speed = f"{speedup.value:.2f} times as fast and " if speedup else ""
        true = "equal outputs" if noise_db == math.inf else f"{digits(noise_db)} dB of signal to noise"
        return sentence(f"{speed}{true} on {len(self.some)} calibration samples; another format went on")

    def profile(self, path: Path) -> Profile:
        """Time of each executed operator."""
        machine = self.machine or describe(self.target.threads)
        with self.lock.measuring():
            return profile(path, self.feeds, self.target, machine)

    @cached_property
    def some(self) -> Samples:
        """As many samples as one pass affords."""
        affordable = int(PASS_SECONDS * 1000 / max(self.run_ms, 1e-3))
        return self.samples.first(min(max(affordable, FEWEST_SAMPLES), MOST_SAMPLES))

    @cached_property
    def feeds(self) -> Feeds:
        return next(self.samples.batches(self.target.batch_size))

    @cached_property
    def _reference(self) -> Outputs:
        return self._outputs(self.original, self.folder / "reference")

    def _outputs(self, path: Path, folder: Path) -> Outputs:
        return accuracy.run_outputs(path, self.some, self.target, folder, lock=self.lock)

    def _fidelity(self, path: Path) -> float:
        folder = self.folder / "outputs"
        try:
            noise_db = accuracy.fidelity(self._reference, self._outputs(path, folder))
        except EngineError as error:
            self.failures[path] = error
            return UNKNOWN_DB
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return math.inf if noise_db is None else noise_db
