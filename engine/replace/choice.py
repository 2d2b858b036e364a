"""Which moves to make: an integer program.

    minimize   Σ cost_i x_i          x_i ∈ {0, 1}: whether move i is made
    so that    Σ saved_i x_i ≥ what must be saved
               Σ x_i ≤ 1 over the moves that touch the same node: one for each site, and no site inside of another

Costs of moves, each made alone, add up as long as they are small; savings do so but for what layers share. The joined
network is timed, and where it saved less than the sum said, the program is solved again for as much more.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

ROUNDS = 4
TOLERANCE = 0.02  #: by which the time may miss the target, as a share of it
SECONDS = 20.0  #: for one program; the best that was found by then counts


@dataclass(frozen=True)
class Option:
    """One move at one site."""

    covered: frozenset[str]
    saved_ms: float  #: where it is the only one
    cost: float  #: noise over signal of the outputs, where it is the only one


@dataclass(frozen=True)
class Choice:
    chosen: tuple[int, ...]
    predicted_ms: float  #: of the joined network, by the sum
    measured_ms: float


def choose(
    options: Sequence[Option], whole_ms: float, target_ms: float, measure: Callable[[Sequence[int]], float]
) -> Choice:
    """The cheapest moves whose joined network keeps the target; the fastest ones where none does."""
    wanted = whole_ms - target_ms
    tried: list[Choice] = []
    for _ in range(ROUNDS):
        picked = solved(options, wanted)
        if any(picked == one.chosen for one in tried):
            break
        predicted = whole_ms - sum(options[index].saved_ms for index in picked)
        tried.append(Choice(picked, predicted, measure(picked)))
        off = tried[-1].measured_ms - target_ms
        if abs(off) <= TOLERANCE * target_ms:
            break
        wanted += off
    inside = [one for one in tried if one.measured_ms <= target_ms * (1 + TOLERANCE)]
    if not inside:
        return min(tried, key=lambda one: one.measured_ms)
    return min(inside, key=lambda one: sum(options[index].cost for index in one.chosen))


def solved(options: Sequence[Option], wanted_ms: float) -> tuple[int, ...]:
    """The program's answer; what saves most where so much cannot be saved."""
    costs, saved = (np.array([getattr(one, name) for one in options]) for name in ("cost", "saved_ms"))
    found = _program(costs, options, LinearConstraint(saved[None], lb=wanted_ms))
    if found is None:
        found = _program(-saved, options, None)
    assert found is not None, "to make no move at all is always allowed"
    return found


def _program(
    objective: np.ndarray, options: Sequence[Option], saving: LinearConstraint | None
) -> tuple[int, ...] | None:
    constraints = [_exclusive(options), *([saving] if saving is not None else [])]
    scale = np.abs(objective).max() or 1.0
    answer = milp(
        objective / scale,
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": SECONDS},
    )
    return None if answer.x is None else tuple(np.flatnonzero(answer.x > 0.5).tolist())


def _exclusive(options: Sequence[Option]) -> LinearConstraint:
    """Each node is touched once at most."""
    touched = defaultdict(list)
    for index, option in enumerate(options):
        for name in option.covered:
            touched[name].append(index)
    groups = list(dict.fromkeys(map(tuple, touched.values())))
    rows = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    columns = np.concatenate([np.array(group) for group in groups])
    matrix = csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(groups), len(options)))
    return LinearConstraint(matrix, ub=1)
