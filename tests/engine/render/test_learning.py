"""The curve of a training: drawn where something was taught, on a scale that shows its end as well as its beginning."""

from engine.render.html import render_html
from engine.render.learning import HEIGHT, learning
from engine.report import LearningPoint, Report, Training
from tests.engine.render.reports import improved
from tests.engine.render.test_html import Reader

HELD_OUT = [8.0, 0.5, 0.02, 0.03]


def taught() -> Report:
    """The first trial of a report was taught in 300 steps."""
    points = [
        LearningPoint(step=100 * index, loss=None if index == 0 else loss * 0.9, held_out=loss)
        for index, loss in enumerate(HELD_OUT)
    ]
    training = Training(
        taught_by="the original",
        steps=300,
        batch_size=64,
        learning_rate=0.003,
        samples=4500,
        held_out_samples=500,
        best_step=200,
        curve=points,
        seconds=12,
        notes=["It was interrupted, and went on from step <b>120</b>."],
    )
    first, *others = improved().trials
    return improved().model_copy(update={"trials": [first.model_copy(update={"training": training}), *others]})


def test_the_kept_weights_are_marked_at_the_lowest_point() -> None:
    drawn = learning(taught())
    assert drawn is not None
    assert drawn.best == drawn.held_out[2] == (66.67, max(y for _, y in drawn.held_out))
    heights = [y for _, y in drawn.held_out]
    assert heights[0] < heights[1] < heights[3] < heights[2] <= HEIGHT


def test_where_nothing_was_taught_there_is_no_curve() -> None:
    assert learning(improved()) is None
    assert "How it learned" not in render_html(improved())


def test_the_page_says_who_taught_how_long_and_what_went_wrong() -> None:
    page = render_html(taught())
    assert Reader(page).open == []
    assert "learned from the original: 300 steps of 64 of 4500 samples in 12.0 s" in page
    assert "went on from step &lt;b&gt;120" in page
