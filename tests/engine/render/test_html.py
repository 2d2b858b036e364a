"""The page opens with the network off, tells the verdict first, and never lets a name become markup."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from engine.render.html import render_html
from engine.report import Comparison, Interval, LatencySeries, Report, TrialState
from tests.engine.render.reports import analyzed, bare, compared, improved, profile, screened, trial, unimproved

REPORTS = [improved(), unimproved(), bare(), compared(), analyzed()]
VOID = {"meta", "br", "line", "rect", "circle"}


class Reader(HTMLParser):
    """Tags that are opened and closed in order, with all their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def policy_of(page: str) -> str:
    return next(str(found["content"]) for tag, found in Reader(page).tags if "http-equiv" in found and tag == "meta")


@pytest.mark.parametrize("report", REPORTS)
def test_every_tag_is_closed(report: Report) -> None:
    assert Reader(render_html(report)).open == []


@pytest.mark.parametrize("report", REPORTS)
def test_nothing_is_loaded_and_nothing_runs(report: Report) -> None:
    tags = Reader(render_html(report)).tags
    assert not {"script", "link", "iframe", "object", "img", "form"} & {tag for tag, _ in tags}
    assert [found for _, found in tags if {"src", "style", "onload"} & set(found)] == []
    assert all(str(found["href"]).startswith("#") for _, found in tags if "href" in found)


def test_the_policy_allows_one_style_and_nothing_else() -> None:
    page = render_html(improved())
    style = page.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy_of(page) == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_verdict_comes_first() -> None:
    page = render_html(improved())
    places = [
        page.index(text)
        for text in ("Improved", "1.74</span> times as fast", "Before and after", "Candidates", "How it was measured")
    ]
    assert places == sorted(places)


def test_without_an_improvement_only_the_original_is_shown() -> None:
    page = render_html(unimproved())
    assert "No improvement" in page and "is returned" in page
    assert ">Optimized</th>" not in page.split("Candidates")[0]


def test_a_name_is_data() -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \u202e\x1b[31m {{ 7*7 }}"
    named = trial(1, hostile, improved().trials[0].state, speedup=1.1, drop=0.0).model_copy(update={"reason": hostile})
    layers = profile(2.0, quantized=False, layers=3)
    operators = [one.model_copy(update={"name": hostile, "operator": hostile}) for one in layers.operators]
    update = {
        "trials": [named],
        "warnings": [hostile],
        "profile_before": layers.model_copy(update={"operators": operators}),
    }
    page = render_html(improved().model_copy(update=update))
    assert not {"script", "img"} & {tag for tag, _ in Reader(page).tags}
    assert "\u202e" not in page and "\x1b" not in page and "{{ 7*7 }}" in page


def test_an_endless_name_is_cut_in_its_middle() -> None:
    layers = profile(2.0, quantized=False, layers=3)
    operators = [
        one.model_copy(update={"name": f"begin{'x' * 5000}end{index}"}) for index, one in enumerate(layers.operators)
    ]
    page = render_html(
        improved().model_copy(update={"profile_before": layers.model_copy(update={"operators": operators})})
    )
    assert re.search(r">beginx+…x+end0<", page)


def test_five_hundred_operators_are_listed_and_the_rest_is_counted() -> None:
    page = render_html(improved().model_copy(update={"profile_before": profile(2.0, quantized=False, layers=500)}))
    assert "488 others" in page and "300 faster ones are in" in page
    assert len(page) < 400_000


def test_figures_that_are_not_finite_are_drawn_inside_the_chart() -> None:
    endless = Interval(value=float("inf"), low=0, high=float("inf"))
    odd = improved().trials[0].model_copy(update={"comparison": Comparison(speedup=endless, accuracy_drop=endless)})
    page = render_html(improved().model_copy(update={"trials": [odd, *improved().trials[1:]]}))
    assert "∞" in page and "nan" not in page and "inf%" not in page


def test_one_slow_run_does_not_squeeze_the_others() -> None:
    steady = [1.0 + 0.001 * (index % 7) for index in range(100)]
    series = [LatencySeries(baseline_ms=[*steady, 900.0], candidate_ms=steady)]
    page = render_html(improved().model_copy(update={"series": series}))
    assert "101 runs, 1 beyond" in page


def test_equal_samples_can_be_drawn() -> None:
    series = [LatencySeries(baseline_ms=[1.0] * 5, candidate_ms=[1.0] * 5)]
    assert "5 runs" in render_html(improved().model_copy(update={"series": series}))


def test_the_recipe_to_reproduce_holds_the_steps_that_were_used() -> None:
    page = render_html(improved())
    recipe = page.split("job.json")[1]
    assert "quantize_static" in recipe and "&#34;weight_range&#34;: &#34;reduced&#34;" in recipe
    assert "&#34;goal&#34;" not in recipe


def test_of_many_candidates_only_those_that_matter_are_labelled() -> None:
    many = [
        trial(number, f"variant {number}", TrialState.DOMINATED, speedup=1 + number / 100, drop=0.001 * number)
        for number in range(4, 44)
    ]
    page = render_html(improved().model_copy(update={"trials": [*improved().trials[:3], *many]}))
    labels = set(re.findall(r"<text [^>]*>(t\d\d|original)", page))
    assert {"t03", "original"} <= labels <= {"t01", "t03", "original"}


def test_models_side_by_side_are_both_taken_apart_under_their_names() -> None:
    page = render_html(compared())
    section = page.split('id="layers"')[1].split("</section>")[0]
    assert "<caption>a.onnx" in section and "<caption>b.onnx" in section
    assert ">a.onnx</th>" in section and ">b.onnx</th>" in section
    assert "operators of a.onnx" in section and "operators of b.onnx" in section
    roofs = page.split('id="roofline"')[1].split("</section>")[0]
    assert '"before">a.onnx<' in roofs and '"after">b.onnx<' in roofs


def test_a_model_by_itself_ran_in_turn_with_none_and_its_time_stays_with_its_unit() -> None:
    page = render_html(analyzed())
    assert "1240 in 4 fresh processes<" in page
    assert "takes 183\u00a0µs; 4\u00a0× Conv take 93.1\u00a0% of it." in page
    assert "both files in turn" in render_html(improved()) and "all files in turn" in render_html(compared())


def test_formats_that_a_quick_look_left_behind_are_folded_away() -> None:
    report = improved()
    page = render_html(report.model_copy(update={"trials": [*report.trials, *map(screened, range(6, 18))]}))
    folded = page.split("12 formats that a quick look left behind")[1].split("</details>")[0]
    assert all(f"t{number:02d}" in folded for number in range(6, 18)) and "t03" not in folded
