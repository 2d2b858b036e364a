"""Each way to get a request wrong is answered with the fault and the remedy, in words of this grammar alone."""

import json
import time

import pytest

from app.http.faults import MOST_TOLD
from tests.app.service import Service


def detail_of(service: Service, recipe: str | dict | list) -> str:
    content = recipe if isinstance(recipe, str) else json.dumps(recipe)
    headers = {"Content-Type": "application/json"}
    answer = service.http.post("/v1/recipes/check", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    return answer.json()["detail"]


def step(kind: str, **options: object) -> dict:
    return {"steps": [{"kind": kind, **options}]}


@pytest.mark.parametrize(
    ("recipe", "detail"),
    [
        (
            step("quantize_static", calibratoin="mse"),
            "/steps/0/calibratoin: there is no `calibratoin` here; did you mean `calibration`? Known are: activations,",
        ),
        (step("simplify_graph", x=1), "/steps/0/x: there is no `x` here. Known are: kind."),
        (
            step("quantise_static"),
            "/steps/0: there is no step `quantise_static`; did you mean `quantize_static`? The steps are: simplify_g",
        ),
        (
            {"steps": [{"knd": "x"}]},
            "/steps/0: a step needs a `kind`, not a `knd`. The steps are: simplify_graph, quan",
        ),
        ({"steps": []}, "/steps: is empty; name at least one, or leave it out."),
        ({"steps": ["distill"]}, '/steps/0: must be an object such as {"kind": "distill"}, not "distill".'),
        ({"goal": "size"}, '/goal: must be an object such as {"minimize": "size"}, not "size".'),
        ({"goal": "fast"}, '/goal: must be an object such as {"minimize": "latency"}, not "fast".'),
        (
            {"goal": {"minimize": "sise"}},
            '/goal/minimize: must be `latency`, `size` or `memory`, not "sise"; did you m',
        ),
        ({"goal": {}, "limits": 0.01}, '/limits: must be an object such as {"accuracy_drop": 0.01}, not 0.01.'),
        ({}, "give either steps or a goal, or compare, or analyze: one of them."),
        ([], 'the body must be an object such as {"steps": [{"kind": "simplify_graph"}]}, not a list.'),
        ('{"goal": {}, "budget": {"minutes": NaN}}', "/budget/minutes: must be a finite number, not NaN."),
        ('{"goal": {}, "budget": {"minutes": 1e999}}', "/budget/minutes: must be a finite number, not Infinity."),
        ({"goal": {}, "budget": {"minutes": -3}}, "/budget/minutes: must be more than 0, not -3."),
        ({"goal": {}, "target": {"threads": 1.5}}, "/target/threads: must be a whole number, not 1.5."),
        (step("distill", steps="many"), '/steps/0/steps: must be a whole number or `auto`, not "many".'),
        (step("quantize_weights", bits=5), "/steps/0/bits: must be 4 or 8, not 5."),
        (step("use_model"), '/steps/0/model: is missing: an uploaded model, such as "mdl_0123456789abcdef".'),
        (step("prune_weights", pattern="half"), '/steps/0/pattern: must look like 2:4, not "half".'),
        (step("replace_layers", moves=["skip", 1]), "/steps/0/moves/1: must be `depthwise`,"),
        ({"analyze": False}, "/analyze: must be true, not false."),
    ],
)
def test_a_fault_is_told_with_its_remedy(service: Service, recipe: str | dict | list, detail: str) -> None:
    said = detail_of(service, recipe)
    assert said.startswith(detail)
    assert "Input" not in said and "Value error" not in said


def test_a_parameter_is_told_in_the_same_words(service: Service) -> None:
    assert service.http.get("/v1/models?limit=0").json()["detail"] == 'limit: must be at least 1, not "0".'


def test_the_first_faults_are_named_and_the_others_counted(service: Service) -> None:
    detail = detail_of(service, {"goal": {}, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1})
    assert [word in detail for word in ("/a: ", "/b: ", "/c: ", "/d: ", "; and 2 more.")] == [True] * 3 + [False, True]


def test_a_body_of_nothing_but_faults_is_answered_at_once(service: Service) -> None:
    recipe = {"goal": {}} | {f"x{number}": number for number in range(10_000)}
    began = time.monotonic()
    answer = service.http.post("/v1/recipes/check", json=recipe)
    assert (answer.status_code, len(answer.json()["errors"])) == (422, MOST_TOLD)
    assert time.monotonic() - began < 20


def test_what_is_no_text_does_not_break_the_answer(service: Service) -> None:
    assert "\\ud800" in detail_of(service, '{"goal": {}, "\\ud800": 1}')
