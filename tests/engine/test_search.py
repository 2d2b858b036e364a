"""Which plans a goal becomes."""

from engine.recipe import QuantizeDynamic, QuantizeStatic, Recipe, SimplifyGraph
from engine.search import outline, plans
from tests.engine.pipeline.candidates import candidate, table


def test_explicit_steps_are_the_only_plan() -> None:
    trials, _ = table()
    recipe = Recipe(steps=[QuantizeDynamic(), SimplifyGraph()])
    assert [list(plan) for plan in plans(recipe, trials)] == [[QuantizeDynamic(), SimplifyGraph()]]
    assert outline(recipe) == [QuantizeDynamic(), SimplifyGraph()]


def test_cheap_plans_come_first() -> None:
    trials, _ = table()
    assert [[step.kind for step in plan] for plan in plans(trials.recipe, trials)] == [
        ["simplify_graph"],
        ["simplify_graph", "quantize_static"],
        ["simplify_graph", "quantize_dynamic"],
        ["simplify_graph", "quantize_weights"],
    ]


def test_the_format_that_won_is_tried_without_simplifying_first() -> None:
    winner = QuantizeStatic(activations="unsigned", weight_range="reduced", calibration="minmax")
    trials, _ = table()
    search = plans(trials.recipe, trials)
    assert list(next(search)) == [SimplifyGraph()]
    assert list(next(search)) == [SimplifyGraph(), QuantizeStatic()]
    trials.add(candidate("t01", 1.7, steps=(SimplifyGraph(), winner)))
    assert list(next(search)) == [SimplifyGraph(), QuantizeDynamic()]
    assert list(next(search)) == [winner]


def test_where_there_was_nothing_to_simplify_no_plan_is_run_twice() -> None:
    trials, _ = table()
    search = plans(trials.recipe, trials)
    next(search), next(search)
    trials.add(candidate("t01", 1.7, steps=(QuantizeStatic(),)))
    assert [step.kind for step in next(search)] == ["simplify_graph", "quantize_dynamic"]
