"""Which of a step's formats go on to be measured in full: those that lead in a quick look."""

from collections.abc import Sequence
from typing import TypeVar

from engine.recipe import Step
from engine.steps.base import StepContext, Variant

S = TypeVar("S", bound=Step)

NOISE = 0.02  #: files that differ by less in time are equally fast
LEAST_DB = 0.2  #: by which one is truer than another
MOST = 2


def leaders(variants: Sequence[Variant[S]], context: StepContext) -> list[Variant[S]]:
    """The fastest one, and the next fastest one that is truer; the others stay in the table as looked at."""
    if len(variants) == 1:
        return list(variants)
    glimpse = context.glimpse
    assert glimpse is not None, "a choice needs a quick look"
    times = dict(zip(variants, glimpse.times([one.path for one in variants]), strict=True))
    leading: list[Variant[S]] = []
    for one in sorted(variants, key=lambda one: times[one], reverse=True):
        if not leading or glimpse.fidelity(one.path) > glimpse.fidelity(leading[-1].path) + LEAST_DB:
            as_fast = bool(leading) and times[one] >= times[leading[-1]] * (1 - NOISE)
            leading[len(leading) - as_fast :] = [one]
    context.looked_at.extend(one for one in variants if one not in leading[:MOST])
    return leading[:MOST]
