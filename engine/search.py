"""From a goal to plans: which steps to try, in which order, cheap ones first.

    1  simplify the graph: costs nothing and often opens the way for what follows
    2  8-bit activations and weights on top of it, every format that the step can vary
    3  8-bit weights and activations that are quantized as the model runs, for models of matrix products
    4  the format that won, on the original graph: now and then folding gets in the way of the runtime's own fusions
    5  weights alone in 8 bits; where the file or the memory shall become small, in 4 bits and 16-bit floats too
    6  a smaller network that learns, then the format that won: as long as the budget lasts (`engine.deeper`)

A plan is a list of steps; plans that begin alike share their beginning (`pipeline.plan`). What a later plan holds may
depend on what the earlier ones showed, so this is a generator that looks at the table before each plan.
"""

from collections.abc import Iterator, Sequence

from engine import deeper
from engine.pipeline.plan import Pipeline
from engine.pipeline.trials import Candidate, Trials
from engine.recipe import (
    ConvertFloat16,
    Distill,
    Minimize,
    PruneChannels,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    Recipe,
    SimplifyGraph,
    Step,
    UseModel,
)

Plan = Sequence[Step]

QUANTIZED = (QuantizeStatic, QuantizeDynamic)
SMALLER: list[Step] = [QuantizeWeights(bits=8), QuantizeWeights(bits=4), ConvertFloat16()]


def plans(recipe: Recipe, trials: Trials, pipeline: Pipeline | None = None) -> Iterator[Plan]:
    """Explicit steps are one plan; each model to compare with is one; an analysis has none."""
    if recipe.steps is not None:
        yield recipe.steps
        return
    if recipe.goal is None:
        yield from ([UseModel(model=model)] for model in recipe.compare or [])
        return
    yield [SimplifyGraph()]
    yield [SimplifyGraph(), QuantizeStatic()]
    yield [SimplifyGraph(), QuantizeDynamic()]
    best = _best_quantized(trials)
    if best and isinstance(best.steps[0], SimplifyGraph):
        yield best.steps[1:]
    for step in _smaller(trials.minimize):
        yield [SimplifyGraph(), step]
    if pipeline is not None and not pipeline.out_of_time:
        yield from deeper.plans(recipe, trials, pipeline)


def outline(recipe: Recipe, pipeline: Pipeline | None = None) -> list[Step]:
    """The steps that are likely to be taken, to tell how long the job will be."""
    if recipe.steps is not None:
        return list(recipe.steps)
    if recipe.goal is None:
        return [UseModel(model=model) for model in recipe.compare or []]
    smaller = _smaller(recipe.goal.minimize)
    cheap = [SimplifyGraph(), QuantizeStatic(), QuantizeDynamic(), QuantizeStatic(mixed=False), *smaller]
    learning = pipeline is not None and deeper.reason_against(recipe, pipeline) is None
    trainings = deeper.minutes_to_teach(recipe.budget.minutes) if learning else []
    learned = [(PruneChannels(), Distill(minutes=minutes), QuantizeStatic()) for minutes in trainings]
    return [*cheap, *(step for plan in learned for step in plan)]


def _smaller(minimize: Minimize) -> list[Step]:
    return SMALLER[:1] if minimize is Minimize.LATENCY else SMALLER


def _best_quantized(trials: Trials) -> Candidate | None:
    whole = (one for one in trials.ranked() if not deeper.is_smaller(one))
    quantized = (one for one in whole if any(isinstance(step, QUANTIZED) for step in one.steps))
    return next(quantized, None)
