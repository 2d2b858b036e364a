"""All moves at all sites of one model: what each saves, teaches and costs.

Moves are timed first, each alone in the whole network, and those that save nothing are never taught. What was taught
and what it costs is kept, since neither depends on the target: another plan, and another attempt, go on from there.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from engine import beside
from engine.data import Samples
from engine.graph import TensorType, copied, save, tensor_types, weights_of
from engine.measure.complexity import infer_shapes
from engine.measure.layers import LayerTimes
from engine.measure.macs import macs_of
from engine.quantize.calibrate import Calibrator
from engine.quantize.sensitivity import noise_over_signal, run_all
from engine.recipe import Move
from engine.replace.kept import Taught, read_taught, write_taught
from engine.replace.lessons import Lesson, affordable_steps
from engine.replace.moves import declared_types, parts
from engine.replace.parts import Part, grafted
from engine.replace.seen import seen
from engine.replace.sites import Site, sites
from engine.surroundings import Tell

LEAST_SAVED = 0.01  #: of the time of the whole, for a move to be worth teaching
MOST_SITES = 64  #: those with most work


@dataclass
class Work:
    model: onnx.ModelProto
    calibrator: Calibrator  #: runs what is learned from
    held_out: Samples  #: what costs are measured on
    times: LayerTimes
    kept: Path | None
    seed: int
    tell: Tell
    types: dict[str, TensorType] = field(init=False)

    def __post_init__(self) -> None:
        self._feeds = next(self.held_out.batches(self.times.target.batch_size))
        sizes = {name: array.shape for name, array in self._feeds.items()}
        self._weights = weights_of(self.model)
        self.types = tensor_types(infer_shapes(self.model, sizes=sizes).graph)

    # ── what could be done ───────────────────────────────────────────────────────────────────────────────────────────

    def parts(self, allowed: frozenset[Move]) -> list[Part]:
        """All moves at the sites with most work."""
        found = [site for site in sites(self.model) if self._has_rows(site)]
        most = sorted(found, key=self._effort, reverse=True)[:MOST_SITES]
        declared = declared_types(self.model)
        chosen = (site for site in found if site in most)
        return [part for site in chosen for part in parts(self.model, site, allowed, self.types, declared)]

    def _has_rows(self, site: Site) -> bool:
        """Whether it takes and gives floats in rows, as far as is known."""
        ends = [self.types.get(name) for name in (site.input, site.output)]
        return all(
            one is None or (one.element == onnx.TensorProto.FLOAT and (one.shape is None or len(one.shape) > 1))
            for one in ends
        )

    def _effort(self, site: Site) -> int:
        """Multiply-accumulates of what would go."""
        shapes = {name: tuple(size for size in known.shape or () if isinstance(size, int))
                  for name, known in self.types.items()}  # fmt: skip
        nodes = (node for node in self.model.graph.node if site.covered.intersection(node.output))
        return sum(macs_of(node, shapes) or 0 for node in nodes)

    def whole_ms(self, chosen: Sequence[Part] = ()) -> float:
        """Time of one run with these parts in place."""
        joined = self._sized(grafted(self.model, list(chosen)))
        return self.times.milliseconds([joined], self._sized(self.model))[0]

    def saved_ms(self, found: Sequence[Part]) -> list[float]:
        """What each part saves alone in the whole network."""
        models = [self.model, *(grafted(self.model, [part]) for part in found)]
        sized = [self._sized(model) for model in models]
        whole, *others = self.times.milliseconds(sized, sized[0])
        return [whole - other for other in others]

    def worthwhile(self, found: Sequence[Part]) -> dict[int, float]:
        """Milliseconds that parts save alone, by their position; those that save next to nothing are left out."""
        least = LEAST_SAVED * self.whole_ms()
        return {index: saved for index, saved in enumerate(self.saved_ms(found)) if saved > least}

    def _sized(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """With inputs of the size of the samples, so that made-up ones are alike."""
        sized = copied(model)
        for value in sized.graph.input:
            shape = self._feeds[value.name].shape if value.name in self._feeds else ()
            for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=False):
                dimension.dim_value = size
        return sized

    # ── teaching ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def taught(self, found: Sequence[Part], steps: int | None, seconds: float) -> tuple[list[Taught], int]:
        """All parts with better weights, and how many training steps each had: as many as the time allows, if None."""
        key = self._key(steps)
        known = read_taught(found, key, self.kept) if self.kept else None
        if known is None:
            learned, steps = self._teach(found, steps, seconds)
            known = [Taught(*pair) for pair in zip(learned, self._costs(learned), strict=True)], steps
            if self.kept:
                write_taught(*known, key, self.kept)
        return known

    def _key(self, steps: int | None) -> str:
        digest = hashlib.sha256(self.model.SerializeToString(deterministic=True))
        for samples in (self.calibrator.samples, self.held_out):
            digest.update(samples.rows.tobytes())
        digest.update(f"{steps} {self.seed}".encode())
        return digest.hexdigest()

    def _teach(self, found: Sequence[Part], steps: int | None, seconds: float) -> tuple[list[Part], int]:
        by_site: dict[str, list[int]] = {}
        for index, part in enumerate(found):
            by_site.setdefault(part.site.output, []).append(index)
        learned, done, began = dict(enumerate(found)), 0, time.monotonic()
        for site, around in seen(self.calibrator, [found[places[0]].site for places in by_site.values()]):
            unit = self.calibrator.samples.rows_per_run
            lessons = {index: Lesson(found[index], around, self._weights, unit) for index in by_site[site.output]}
            if steps is None:
                steps = affordable_steps(list(lessons.values()), seconds * len(lessons) / len(found))
            for index, lesson in lessons.items():
                learned[index] = lesson.taught(steps, self.seed, self.calibrator.pause)
                done += 1
                left = (time.monotonic() - began) / done * (len(found) - done)
                self.tell(left, f"teaching replacement {done} of {len(found)}")
        return [learned[index] for index in range(len(found))], steps or 0

    # ── cost ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _costs(self, found: Sequence[Part]) -> Iterator[float]:
        """Noise over signal of the outputs with each part alone in place, on samples that none of them learned from."""
        folder, threads = self.calibrator.folder, self.calibrator.threads
        whole = save(self.model, folder / "whole.onnx")
        reference = run_all(whole, self.held_out, threads)
        beside.remove(whole)
        for part in found:
            self.calibrator.pause()
            path = save(grafted(self.model, [part]), folder / "alone.onnx")
            yield noise_over_signal(reference, run_all(path, self.held_out, threads))
            beside.remove(path)
