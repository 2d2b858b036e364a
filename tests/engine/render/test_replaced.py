"""What could take the place of layers, as the page shows it."""

from engine.recipe import Move
from engine.render.html import render_html
from engine.render.replaced import replaced
from engine.report import LayerReplacement, Replacements, Report
from tests.engine.render.reports import improved
from tests.engine.render.test_html import Reader


def report() -> Report:
    """The first trial of a report replaced one of two layers."""
    layers = [
        LayerReplacement(
            layer="<a>", operator="Conv", move=Move.DEPTHWISE, saved_ms=0.4, noise_share=0.01, chosen=True
        ),
        LayerReplacement(layer="b", operator="block", move=Move.SKIP, saved_ms=0.2, noise_share=0.1, chosen=False),
    ]
    found = Replacements(whole_ms=2, predicted_ms=1.6, measured_ms=1.5, layers=layers)
    first, *others = improved().trials
    return improved().model_copy(update={"trials": [first.model_copy(update={"replacements": found}), *others]})


def test_bars_are_shares_of_the_largest() -> None:
    drawn = replaced(report())
    assert drawn is not None
    assert [(row.noise_percent, row.saved_percent) for row in drawn.rows] == [(10, 100), (100, 50)]


def test_the_page_tells_what_was_chosen_and_how_well_the_sum_predicted() -> None:
    page = render_html(report())
    assert Reader(page).open == []
    assert "depthwise, chosen" in page
    assert "skip, chosen" not in page
    assert "would take 1.60 ms after; it was measured to take 1.50 ms" in page
    assert "<a>" not in page


def test_where_nothing_was_replaced_the_page_says_nothing_of_it() -> None:
    assert replaced(improved()) is None
    assert "What took whose place" not in render_html(improved())
