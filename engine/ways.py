"""Ways to leave a share of a network: another one belongs here.

Each is a function of the share that shall be left, of the run time of the original or of its weights, and of the share
that the network has left already.
"""

import math
from collections.abc import Callable, Sequence

from engine.recipe import Minimize, PruneChannels, Recipe, ReplaceLayers, Step

Plan = Sequence[Step]
Way = Callable[[float, float], Plan]

REPLACING_MINUTES = 15.0  #: of a budget in which layers can be taught one by one before the network is


def ways(recipe: Recipe, minimize: Minimize) -> list[Way]:
    if minimize is not Minimize.LATENCY:
        return [_fewer_weights]
    return [_narrower, _cheaper, _both] if recipe.budget.minutes >= REPLACING_MINUTES else [_narrower]


def _fewer_weights(share: float, left: float) -> Plan:
    return [PruneChannels(ratio=round(1 - math.sqrt(share / left), 3))]


def _narrower(share: float, _left: float) -> Plan:
    return [PruneChannels(time_share=share)]  # of the original's time


def _cheaper(share: float, left: float) -> Plan:
    return [ReplaceLayers(time_share=round(share / left, 3))]


def _both(share: float, left: float) -> Plan:
    half_way = round(math.sqrt(share / left), 3)
    return [ReplaceLayers(time_share=half_way), PruneChannels(time_share=share)]
