"""Work against time, as the page draws it."""

import re

import pytest

from engine.render.html import render_html
from engine.render.work import roofline, work_against_time
from engine.report import Profile, Report
from tests.engine.render.reports import improved
from tests.engine.render.test_html import Reader


def pruned(*macs: int) -> Report:
    """Trials with a measured time, and so many multiply-adds."""
    report = improved()
    with_times = [trial for trial in report.trials if trial.figures]
    trials = [
        trial.model_copy(update={"figures": trial.figures.model_copy(update={"macs": count})})
        for trial, count in zip(with_times, macs, strict=False)
        if trial.figures
    ]
    return report.model_copy(update={"trials": trials})


def test_a_file_whose_time_fell_less_than_its_operations_lies_above_the_line() -> None:
    whole = improved().baseline.macs
    assert whole is not None
    drawing = work_against_time(pruned(whole, whole // 4, whole // 4, whole // 2))  # 1.06, 0.71, 1.74, 1.69 times
    assert drawing is not None
    (diagonal,) = drawing.lines
    (left, bottom), (right, top) = diagonal.start, diagonal.end
    for dot in drawing.dots[1:]:
        on_line = bottom + (top - bottom) * (dot.x - left) / (right - left)
        assert dot.y < on_line  # down the page is less time
    first = drawing.dots[0]
    assert first.y > bottom + (top - bottom) * (first.x - left) / (right - left)  # as many operations, less time


def test_files_that_do_as_much_as_before_need_no_chart() -> None:
    whole = improved().baseline.macs
    assert whole is not None
    assert work_against_time(pruned(whole, whole, whole, whole // 2)) is None
    assert "Operations are not time" not in render_html(improved())


def test_layers_lie_at_what_they_reach_and_under_the_roofs() -> None:
    drawing = roofline(improved())
    assert drawing is not None
    assert {dot.kind for dot in drawing.dots} == {"before", "after"}
    assert [line.text for line in drawing.lines] == ["float32: 71.2 GOP/s", "int8: 139 GOP/s", "memory: 11.7 GB/s"]
    float32, int8, memory = drawing.lines
    assert int8.end[1] < float32.end[1]  # higher on the page
    assert all(dot.y > float32.end[1] for dot in drawing.dots)
    assert memory.end[1] == pytest.approx(int8.end[1], abs=0.1)  # the slope ends where arithmetic is the limit


def test_roofs_are_named_below_the_chart_where_no_dot_covers_them() -> None:
    chart = render_html(improved()).split('id="roofline"')[1].split("</section>")[0]
    drawn, legend = chart.split("</svg>")
    assert [text for text in re.findall(r"<text[^>]*>([^<]*)", drawn) if "/s" in text] == ["↑ GOP/s"]
    assert all(roof in legend for roof in ("float32: 71.2 GOP/s", "int8: 139 GOP/s", "memory: 11.7 GB/s"))
    assert "GFLOP" not in render_html(improved())


def test_the_chosen_file_lies_on_top_and_the_legend_names_what_is_drawn() -> None:
    whole = improved().baseline.macs
    assert whole is not None
    drawing = work_against_time(pruned(whole, whole // 4, whole // 4, whole // 2))
    assert drawing is not None
    assert drawing.dots[-1].kind == "chosen"
    assert [kind for kind, _ in drawing.legend] == ["chosen", "kept", "dominated", "rejected"]


def test_a_layer_whose_work_is_not_known_is_left_out() -> None:
    report = improved()
    assert report.profile_before and report.profile_after
    first, *others = report.profile_before.operators
    odd = first.model_copy(update={"macs": -16, "gflops": -0.1, "bytes_moved": -8, "time_share": 0.5})
    profile = report.profile_before.model_copy(update={"operators": [odd, *others]})
    drawing = roofline(report.model_copy(update={"profile_before": profile}))
    whole = roofline(report)
    assert drawing is not None and whole is not None
    assert len(drawing.dots) <= len(whole.dots)


def test_without_the_roofs_of_the_machine_there_is_no_roofline() -> None:
    report = improved()
    unknown = report.environment.machine.model_copy(update={"bandwidth_gb_s": None})
    environment = report.environment.model_copy(update={"machine": unknown})
    assert roofline(report.model_copy(update={"environment": environment})) is None
    assert roofline(report.model_copy(update={"profile_before": None, "profile_after": None})) is None
    assert roofline(report.model_copy(update={"profile_before": Profile(operators=[], total_ms=0)})) is not None


def test_the_page_holds_both_and_stays_closed() -> None:
    whole = improved().baseline.macs
    assert whole is not None
    page = render_html(pruned(whole, whole // 4, whole // 4, whole // 2))
    assert Reader(page).open == []
    assert "Operations are not time" in page
    assert "How near the roof" in page
