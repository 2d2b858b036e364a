"""The contract as a document: FastAPI's own, with our problems in place of its validation errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.http.problems import MEDIA_TYPE, FaultBody, ProblemBody

REFERENCE = "#/components/schemas/{model}"


def document(app: FastAPI) -> dict[str, Any]:
    """Built once, at the first request for it."""
    if app.openapi_schema is None:
        contract = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        _describe_problems(contract)
        app.openapi_schema = contract
    return app.openapi_schema


def _describe_problems(contract: dict[str, Any]) -> None:
    schemas = contract["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["FaultBody"] = FaultBody.model_json_schema()
    body = ProblemBody.model_json_schema(ref_template=REFERENCE)
    body.pop("$defs", None)
    schemas["ProblemBody"] = body
    for doors in contract["paths"].values():
        for door in doors.values():
            for answer in door["responses"].values():
                _keep_one_form(answer)


def _keep_one_form(answer: dict[str, Any]) -> None:
    """A problem has one form: drop the JSON that the framework documents beside it, or in its place."""
    content = answer.get("content", {})
    if "HTTPValidationError" in str(content.get("application/json", "")):
        content.pop("application/json")
        content[MEDIA_TYPE] = {"schema": {"$ref": REFERENCE.format(model="ProblemBody")}}
