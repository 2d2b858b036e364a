"""What sites read and give in the model, on calibration samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from engine.graph import copied, drop_unused, give_out
from engine.quantize.calibrate import Calibrator
from engine.replace.sites import Site

BYTES_OF_SITE, BYTES_AT_ONCE = 48 << 20, 384 << 20


@dataclass(frozen=True)
class Seen:
    """Activations around one site, the samples along axis 0."""

    inputs: np.ndarray
    outputs: np.ndarray
    activated: np.ndarray  #: behind the activation; the outputs where there is none
    power: float  #: variance of what is activated


def seen(calibrator: Calibrator, sites: Sequence[Site]) -> Iterator[tuple[Site, Seen]]:
    """Site after site; samples run through the model once for as many sites as fit into memory."""
    for portion in _portions(calibrator, sites):
        names = list(dict.fromkeys(name for site in portion for name in _names(site)))
        columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
        sizes = dict.fromkeys(names, 0)
        for values in _run(calibrator, names):
            for name, value in zip(names, values, strict=True):
                alike = not columns[name] or columns[name][0].shape == value.shape
                columns[name].append(value if alike else columns[name][0])
                sizes[name] += value.nbytes
            if max(sizes.values()) > BYTES_OF_SITE:
                break
        for site in portion:
            yield site, _seen(*(np.concatenate(columns[name]) for name in _names(site)))


def _names(site: Site) -> tuple[str, str, str]:
    return site.input, site.output, site.activated


def _seen(inputs: np.ndarray, outputs: np.ndarray, activated: np.ndarray) -> Seen:
    return Seen(inputs, outputs, activated, float(np.var(activated)) or 1.0)


def _run(calibrator: Calibrator, names: Sequence[str]) -> Iterator[list[np.ndarray]]:
    graph = copied(calibrator.model)
    given = [name for name in names if name not in {value.name for value in graph.graph.input}]
    give_out(graph, given)
    drop_unused(graph)
    inputs = [name for name in names if name not in given]
    feeds = calibrator.samples.batches(1)
    for values in calibrator.run(graph, given):
        known = dict(zip(given, values, strict=True)) | (next(feeds) if inputs else {})
        yield [np.asarray(known[name]) for name in names]


def _portions(calibrator: Calibrator, sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sites whose activations fit into memory together."""
    names = list(dict.fromkeys(name for site in sites for name in _names(site)))
    first = next(_run(calibrator, names), [])
    count = len(calibrator.samples)
    sizes = {name: min(4 * prod(value.shape) * count, BYTES_OF_SITE) for name, value in zip(names, first, strict=True)}
    portion: list[Site] = []
    total = 0
    for site in sites:
        size = sum(sizes[name] for name in set(_names(site)))
        if portion and total + size > BYTES_AT_ONCE:
            yield portion
            portion, total = [], 0
        portion.append(site)
        total += size
    if portion:
        yield portion
