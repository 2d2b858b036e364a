"""The report in a terminal fits its width and passes no escape sequence on."""

import pytest

from engine.render.text import WIDTH, render_text
from engine.report import Report
from tests.engine.render.reports import bare, improved, screened, unimproved


@pytest.mark.parametrize("report", [improved(), unimproved(), bare()])
def test_no_line_is_wider_than_the_terminal(report: Report) -> None:
    assert max(map(len, render_text(report).splitlines())) <= WIDTH


def test_the_verdict_is_the_first_line() -> None:
    assert render_text(improved()).startswith("IMPROVED\n1.74 times as fast")
    assert render_text(unimproved()).startswith("NO IMPROVEMENT\n")


def test_every_trial_has_a_line_and_the_chosen_one_an_arrow() -> None:
    text = render_text(improved())
    assert [line[:5].strip(" →") for line in text.splitlines() if line[:5].strip(" →").startswith("t0")] == [
        "t01",
        "t02",
        "t03",
        "t04",
        "t05",
    ]
    assert [line for line in text.splitlines() if line.startswith("→ t03")]


def test_a_long_label_goes_on_below_itself_and_loses_nothing() -> None:
    first, *others = improved().trials
    label = "simplified, then int8 with unsigned activations, full range, one scale per channel, ranges by entropy"
    text = render_text(improved().model_copy(update={"trials": [first.model_copy(update={"label": label}), *others]}))
    begun = next(line for line in text.splitlines() if line.lstrip().startswith(first.id))
    column = begun.index("simplified")
    below = text.splitlines()[text.splitlines().index(begun) + 1]
    assert below[:column].isspace()
    assert f"{begun[column:]} {below[column:]}" == label


def test_an_escape_sequence_in_a_name_is_replaced() -> None:
    warned = improved().model_copy(update={"warnings": ["\x1b[2J gone\r\n"]})
    assert "\x1b" not in render_text(warned)


def test_formats_that_a_quick_look_left_behind_are_counted_not_listed() -> None:
    report = improved()
    text = render_text(report.model_copy(update={"trials": [*report.trials, *map(screened, range(6, 18))]}))
    assert "12 more formats left behind after a quick look" in text
    assert "t06" not in text
