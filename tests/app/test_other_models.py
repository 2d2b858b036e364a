"""Jobs that name more models than one, or have another aim than a better file."""

import pytest

from tests.app.service import SUMMARY, Service
from tests.app.test_jobs import post

OTHER_SIZE = SUMMARY.model_copy(update={"inputs": [SUMMARY.inputs[0].model_copy(update={"shape": ["N", 3, 8, 8]})]})


def test_models_named_beside_the_first_must_be_known_and_able_to_stand_in(service: Service) -> None:
    model, twin, other = (service.upload_model(summary=summary) for summary in (SUMMARY, SUMMARY, OTHER_SIZE))
    for aim, pointer in (
        ({"compare": [twin, "mdl_nobody"]}, "/compare/1"),
        ({"steps": [{"kind": "simplify_graph"}, {"kind": "use_model", "model": "mdl_nobody"}]}, "/steps/1/model"),
    ):
        answer = post(service, model=model, **aim)
        assert (answer.status_code, answer.json()["code"]) == (422, "model_not_found")
        assert answer.json()["errors"][0]["pointer"] == pointer
    differs = post(service, model=model, compare=[twin, other])
    assert (differs.status_code, differs.json()["code"]) == (422, "interface_differs")
    assert "input “image” is float32[N, 3, 8, 8], not float32[batch, 1, 8, 8]" in differs.json()["detail"]
    assert post(service, model=model, compare=[twin]).status_code == 202
    assert post(service, model=model, steps=[{"kind": "use_model", "model": twin}]).status_code == 202


def test_a_model_that_an_unfinished_job_compares_with_cannot_be_deleted(service: Service) -> None:
    model, twin = service.upload_model(), service.upload_model()
    job = post(service, model=model, compare=[twin]).json()["id"]
    refused = service.http.delete(f"/v1/models/{twin}")
    assert (refused.status_code, refused.json()["code"]) == (409, "file_in_use")
    service.http.post(f"/v1/jobs/{job}/cancel")
    assert service.http.delete(f"/v1/models/{twin}").status_code == 204


@pytest.mark.parametrize(
    "aim", [{"goal": {}, "compare": ["mdl_1"]}, {"analyze": True, "goal": {}}, {}, {"compare": []}]
)
def test_a_job_has_one_aim(service: Service, aim: dict[str, object]) -> None:
    answer = post(service, model=service.upload_model(), **aim)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
