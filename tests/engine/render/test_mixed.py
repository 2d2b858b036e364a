"""Layers between 8 bits and float: told of the file that is offered, and of no other."""

from engine.render.html import render_html
from engine.render.mixed import mixed
from engine.report import LayerChoice, Report
from tests.engine.render.reports import improved, unimproved

LAYERS = [
    LayerChoice(layer="stem", operator="Conv", noise_share=0.02, gained_ms=0.1, kept_float=True),
    LayerChoice(layer="head", operator="Gemm", noise_share=0.0002, gained_ms=0.4, kept_float=False),
]


def mixing(report: Report, trial_id: str | None) -> Report:
    trials = [trial.model_copy(update={"layers": LAYERS}) if trial.id == trial_id else trial for trial in report.trials]
    return report.model_copy(update={"trials": trials})


def test_the_layers_of_the_offered_file_are_shown() -> None:
    report = mixing(improved(), improved().verdict.chosen)
    shown = mixed(report)
    assert shown is not None
    assert [(row.layer, row.kept_float) for row in shown.rows] == [("stem", True), ("head", False)]
    assert "Which layers suffer" in render_html(report)


def test_noise_that_was_not_measured_is_not_promised() -> None:
    report = mixing(improved(), improved().verdict.chosen)
    unknown = [layer.model_copy(update={"noise_share": None}) for layer in LAYERS]
    trials = [trial.model_copy(update={"layers": unknown if trial.layers else []}) for trial in report.trials]
    section = render_html(report.model_copy(update={"trials": trials})).split('id="mixed"')[1].split("</section>")[0]
    assert "Which layers gain" in section and "noise" not in section and 'class="macs"' not in section
    assert "100 µs" in section
    assert "noise of this layer alone" in render_html(report)


def test_a_mixture_that_was_not_chosen_is_not_shown() -> None:
    for report in (improved(), unimproved()):
        other = next(trial.id for trial in report.trials if trial.id != report.verdict.chosen)
        assert mixed(mixing(report, other)) is None
        assert "Which layers suffer" not in render_html(mixing(report, other))
