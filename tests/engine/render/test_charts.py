"""Candidates as the page draws them: what was gained against what was lost."""

import pytest

from engine.render.charts import Pareto, pareto
from engine.render.html import render_html
from engine.report import Comparison
from tests.engine.render.reports import improved, interval


def candidates_at(*places: tuple[float, float, float]) -> Pareto:
    """The chart of candidates with these speed-ups, drops and halves of the drop's interval."""
    report = improved()
    trials = [
        one.model_copy(update={"comparison": Comparison(speedup=interval(speedup, 0.01), accuracy_drop=drop)})
        for one, (speedup, drop) in zip(
            report.trials, ((speedup, interval(drop, half)) for speedup, drop, half in places), strict=False
        )
    ]
    chart = pareto(report.model_copy(update={"trials": trials}))
    assert chart is not None
    return chart


def test_the_original_lies_on_top_of_a_candidate_that_changes_nothing() -> None:
    assert candidates_at((1.0, 0.0, 0.001), (1.5, 0.0, 0.001)).points[-1].name == "original"


def test_intervals_of_candidates_inside_the_chart_are_not_cut() -> None:
    first, broken, _ = candidates_at((1.2, 0.0, 0.006), (1.5, 0.5, 0.001)).points
    assert first.x_range[0] > 0 and first.x_range[1] < 100
    assert first.x - first.x_range[0] == pytest.approx(first.x_range[1] - first.x, abs=0.02)
    assert broken.outside


def test_the_limit_is_named_below_the_chart_where_no_candidate_covers_it() -> None:
    drawn, legend = render_html(improved()).split('id="candidates"')[1].split("</figure>")[0].split("</svg>")
    assert '<line class="limit"' in drawn and "limit 1 point" not in drawn
    assert '<span class="line limit">limit 1 point</span>' in legend
