"""Which channels can leave with least harm when the others take over: from all, the least one, again and again.

    cost_c = Σ over readers  |W_c|² / [S⁻¹]_cc / tr(WᵀSW)         S = Cov[x] + λ

is the share of the readers' outputs that nobody else can replace. When a channel has left, W and S⁻¹ follow in closed
form: W ← W - a W_c, with a = S⁻¹_c / [S⁻¹]_cc what the others hold of it. So of two channels that say the same one goes
and one stays, which a score for each by itself cannot tell. Only the products W Wᵀ are kept, (channels, channels).
The optimal brain surgeon (Hassibi & Stork 1993), for channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from engine.prune.channels import Ids
from engine.prune.groups import Group
from engine.prune.importance import Scores, contributions, met
from engine.prune.moments import Moments
from engine.prune.reconstruct import RIDGE, SCARCE
from engine.prune.walk import Key, Reader, Walk

MOST_ROUNDS = 32  #: in which a group's channels leave; in large groups several at once

Array = NDArray[np.float64]


@dataclass
class Reading:
    """A layer that reads channels of a group, and perhaps others that stay for now."""

    inverse: Array  #: S⁻¹, (positions, positions)
    products: Array  #: W Wᵀ, (positions, positions)
    channels: Ids  #: of each position
    total: float  #: tr(W Wᵀ S), the power of all that is read

    @classmethod
    def of(cls, walk: Walk, reader: Reader, seen: Moments, channels: Ids) -> "Reading":
        weight = numpy_helper.to_array(walk.weights[reader.weight]).astype(np.float64)
        rows = np.moveaxis(weight, reader.weight_axis, 0).reshape(len(channels), -1)
        spread = seen.second - np.outer(seen.mean, seen.mean)
        ridge = (RIDGE + SCARCE * len(spread) / seen.rows) * np.trace(spread) / len(spread)
        spread = spread + (ridge + np.finfo(np.float32).tiny) * np.eye(len(spread))
        products = rows @ rows.T
        return cls(np.linalg.inv(spread), products, channels, float((products * spread).sum()) or 1.0)

    def costs(self) -> Array:
        """What each position brings that the others cannot."""
        return np.maximum(np.diagonal(self.products), 0) / np.diagonal(self.inverse) / self.total

    def leave(self, channels: Sequence[int]) -> None:
        """These are gone, and the others have taken over."""
        gone = np.isin(self.channels, channels)
        if not gone.any():
            return
        stays = ~gone
        held = np.linalg.solve(self.inverse[np.ix_(gone, gone)], self.inverse[np.ix_(gone, stays)]).T
        within, across = self.products[np.ix_(gone, gone)], self.products[np.ix_(stays, gone)]
        moved = across @ held.T
        self.products = self.products[np.ix_(stays, stays)] - moved - moved.T + held @ within @ held.T
        self.inverse = self.inverse[np.ix_(stays, stays)] - held @ self.inverse[np.ix_(gone, stays)]
        self.channels = self.channels[stays]


def eliminated(walk: Walk, groups: Sequence[Group], seen: Mapping[Key, Moments], kept: Sequence[int]) -> Scores:
    """Scores of channels: the sooner one leaves, the lower. `kept` says how many of each group stay."""
    scores, fixed = contributions(walk, seen, centred=True), met(walk)
    for group, count in zip(groups, kept, strict=True):
        readings = list(_readings(walk, group, seen))
        if readings and count < len(group):
            order = _order(group, readings, fixed, len(group) - count)
            scores[group.channels] += len(group)
            scores[order] = np.arange(len(order))
    return scores


def _readings(walk: Walk, group: Group, seen: Mapping[Key, Moments]) -> Iterator[Reading]:
    roots = walk.channels.all_roots()
    for reader in walk.readers:
        found, ids = seen.get(reader.key), walk.read_by(reader)
        if found is None or ids is None or reader.groups > 1 or not found.has_pairs:
            continue
        if np.isin(roots[ids], group.channels).any() and np.isfinite(found.second).all():
            yield Reading.of(walk, reader, found, roots[ids])


def _order(group: Group, readings: Sequence[Reading], fixed: Scores, count: int) -> list[int]:
    """The first channels to leave; `fixed` is what nobody takes over."""
    order: list[int] = []
    at_once = -(-count // MOST_ROUNDS)
    while len(order) < count:
        gone = set(order)
        costs = {int(channel): float(fixed[channel]) for channel in group.channels if int(channel) not in gone}
        for reading in readings:
            for channel, cost in zip(reading.channels.tolist(), reading.costs().tolist(), strict=True):
                if channel in costs:
                    costs[channel] += cost
        leaving = sorted(costs, key=lambda channel: costs[channel])[: min(at_once, count - len(order))]
        for reading in readings:
            reading.leave(leaving)
        order += leaving
    return order
