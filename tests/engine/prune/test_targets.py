"""Widths for a target: what narrower networks cost is known beforehand, and what matters least gets narrow."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.measure.complexity import count
from engine.prune.budget import Allotment
from engine.prune.groups import followed, groups
from engine.prune.harm import Harm
from engine.prune.pace import Pace, believable, paced, samples_of_pace
from engine.prune.surgery import without
from engine.prune.work import Kept, Work, changed
from tests.engine.prune.networks import BLOCKS, both_ways, heads, stacked
from tests.models import Net, depthwise_cnn, mlp, residual_cnn


def work_of(net: Net, **sizes: tuple[int, ...]) -> Work:
    walk = followed(net.model())
    return Work(walk, groups(walk), sizes=sizes)


def all_blocks() -> Net:
    return stacked(BLOCKS)


@pytest.mark.parametrize("net", [residual_cnn, depthwise_cnn, mlp, heads, both_ways, all_blocks])
def test_the_work_of_a_narrower_network_is_known_before_it_is_made(net: Callable[[], Net]) -> None:
    sizes = {"x": (2, 5, 32)} if net is heads else {}
    work = work_of(net(), **sizes)
    random = np.random.default_rng(0)
    kept = tuple(int(random.integers(1, len(group) + 1)) for group in work.found)
    removed = np.concatenate([group.channels[left:] for group, left in zip(work.found, kept, strict=True)])
    assert work.at(kept) == count(without(work.walk, removed), sizes=sizes).macs
    assert work.at(kept) < work.at(work.whole)


def test_what_a_narrowing_saves_is_the_difference_of_the_wholes() -> None:
    work = work_of(all_blocks())
    for group, width in enumerate(work.whole):
        narrower = changed(work.whole, group, width // 2)
        assert work.saved(work.whole, group, width // 2) == work.at(work.whole) - work.at(narrower)


def harmless_but(work: Work, precious: int) -> list[Harm]:
    """Each group can go down to nothing at little harm, but for one."""
    return [
        Harm([1, width - 1, width], [0.9, 0.5, 0.0] if index == precious else [2e-3, 1e-3, 0.0])
        for index, width in enumerate(work.whole)
    ]


def test_what_harms_most_stays_wide_and_the_budget_is_kept_and_used() -> None:
    work = work_of(mlp())
    allowed = 0.5 * work.at(work.whole)
    kept = Allotment(work.found, harmless_but(work, precious=0), work, allowed, multiple=8).widths()
    assert kept[0] == work.whole[0]
    assert 0.8 * allowed < work.at(kept) <= allowed
    other = Allotment(work.found, harmless_but(work, precious=1), work, allowed, multiple=8).widths()
    assert other[1] == work.whole[1]


def test_a_budget_that_nothing_keeps_gives_the_narrowest() -> None:
    work = work_of(mlp())
    assert Allotment(work.found, harmless_but(work, 0), work, 0, multiple=8).widths() == (8, 8)


def slow_second_layer(work: Work) -> Callable[[Kept], float]:
    """Most of the time goes into the layer that counts least."""
    shares = [0.8 if index == 1 else 0.1 for index in range(sum(node.multiplies for node in work.nodes))]
    multiplying = [node for node in work.nodes if node.multiplies]

    def time(kept: Kept) -> float:
        parts = zip(shares, multiplying, strict=True)
        return sum(share * node.at(kept) / node.at(work.whole) for share, node in parts)

    return time


def test_where_time_goes_is_learned_from_whole_networks() -> None:
    work = work_of(mlp())
    time = slow_second_layer(work)
    pace = Pace.learned(work, [(kept, time(kept)) for kept in samples_of_pace(work, work.found, 8)])
    for kept in ((64, 64), (24, 48), (8, 64), (40, 8)):
        assert pace.at(kept) == pytest.approx(time(kept), abs=0.02)
        assert pace.saved(kept, 0, 4) == pytest.approx(pace.at(kept) - pace.at((4, kept[1])))


def test_a_wrong_guess_is_corrected_by_what_is_measured() -> None:
    work = work_of(mlp())
    time = slow_second_layer(work)

    def choose(pace: Pace, allowed: float) -> Kept:
        return Allotment(work.found, harmless_but(work, precious=1), pace, allowed, multiple=4).widths()

    assert abs(time(choose(Pace.learned(work, []), 0.4)) - 0.4) > 0.05
    assert time(paced(choose, [], work, time, 0.4)) == pytest.approx(0.4, rel=0.1)


def test_times_of_a_busy_machine_are_not_believed() -> None:
    networks = [(64, 64), (32, 32)]
    assert believable(networks, [1.02, 0.4]) == [((64, 64), 1.02), ((32, 32), 0.4)]
    assert believable(networks, [0.03, 0.4]) == []
    assert believable(networks, [0.98, float("inf")]) == [((64, 64), 0.98)]
