"""Which layers go back to float, round by round, until the limit holds with as few of them as it takes.

Layers that 8 bits make slower go first: they gain nothing. Of the others those with most noise for the time they save.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from engine.quantize.sensitivity import LayerEffect, first_guess

if TYPE_CHECKING:
    from engine.steps.base import Standing  # of the package of all steps, one of which asks here

MOST_MIXTURES = 5  #: that are measured in full


def mixtures(effects: Sequence[LayerEffect], standing: "Standing") -> Generator[list[str], "Standing | None", None]:
    """Names of the layers in float; each answer says whether the limit holds then. Never all of them.

    `effects` stand in the order in which they would go, and `standing` is that of all of them in 8 bits.
    """
    slower = [effect.name for effect in effects if effect.gained_ms is not None and effect.gained_ms < 0]
    if len(slower) == len(effects):
        slower = []  # then time tells none from the others
    if standing.inside:
        if slower:
            yield slower
        return
    order = [effect.name for effect in effects if effect.name not in slower]
    outside, inside = (-1 if slower else 0), len(order)
    number = first_guess(effects, order, standing.loss_over_limit)
    for _ in range(MOST_MIXTURES):
        if not outside < number < inside:
            return
        answer = yield [*slower, *order[:number]]
        outside, inside = (outside, number) if answer is not None and answer.inside else (number, inside)
        number = (outside + inside) // 2
