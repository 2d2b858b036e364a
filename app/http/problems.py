"""Every error as application/problem+json (RFC 9457), the framework's own included."""

import errno
import logging
from functools import cache
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors
from app.errors import Kind, Problem
from app.http import faults
from app.storage import StorageUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
log = logging.getLogger(__name__)

#: What the framework itself raises, by status.
FRAMEWORK_KINDS = {
    400: errors.MALFORMED_BODY,
    401: errors.UNAUTHORIZED,
    404: errors.NOT_FOUND,
    405: errors.METHOD_NOT_ALLOWED,
    413: errors.BODY_TOO_LARGE,
    415: errors.UNSUPPORTED_MEDIA,
}


#: What the framework says in two words that its status says already.
FRAMEWORK_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
}


class FaultBody(BaseModel):
    pointer: str | None = Field(None, description="JSON pointer into the body (RFC 6901); empty for all of it.")
    parameter: str | None = Field(None, description="Name of the parameter in query, path or header, if it is one.")
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457, with a stable `code` and what the sender can do."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    instance: str | None = None
    errors: list[FaultBody] | None = None


def body(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """A problem as a plain object."""
    kind = problem.kind
    listed = [FaultBody(**vars(fault)) for fault in problem.errors] or None
    return ProblemBody(
        type=f"/v1/problems#{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        code=kind.code,
        remedy=kind.remedy,
        instance=f"urn:request:{request_id}" if request_id else None,
        errors=listed,
    ).model_dump(exclude_none=True)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses, for a door's `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def render(request: Request, problem: Problem) -> Response:
    request_id = _request_id(request)
    headers = dict(problem.headers)
    if request_id:
        headers["X-Request-ID"] = request_id
    if problem.kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return JSONResponse(body(problem, request_id), problem.kind.status, headers, MEDIA_TYPE)


def _request_id(request: Request) -> str | None:
    """What the client was told to report; the log names it beside the cause."""
    return getattr(request.state, "request_id", None)


def install(app: FastAPI) -> None:
    """Make this the only way in which the app answers with an error."""
    app.add_exception_handler(Problem, lambda request, error: render(request, cast("Problem", error)))
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeoutError, _database)
    app.add_exception_handler(OSError, _operating_system)
    app.add_exception_handler(ClientDisconnect, lambda _request, _error: Response(status_code=400))
    app.add_exception_handler(Exception, _unexpected)


def _framework(request: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    kind = FRAMEWORK_KINDS.get(raised.status_code)
    if kind is None:
        phrase = HTTPStatus(raised.status_code).phrase
        kind = Kind(raised.status_code, f"http_{raised.status_code}", phrase, "See the meaning of this status.")
    detail = FRAMEWORK_DETAILS.get(raised.status_code, f"{raised.detail}.")
    return render(request, Problem(kind, detail, headers=raised.headers or {}))


def _validation(request: Request, error: Exception) -> Response:
    refused = cast("RequestValidationError", error)
    found = refused.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return render(request, Problem(errors.MALFORMED_BODY, f"JSON: {found[0].get('ctx', {}).get('error', '')}."))
    if _is_not_json(request, found):
        sent = request.headers.get("content-type", "no content type")
        return render(request, Problem(errors.UNSUPPORTED_MEDIA, f"The body came as {sent[:100]}."))
    wrong = faults.faults(found, refused.body, _schema_of_body(request))
    return render(request, Problem(errors.INVALID_REQUEST, f"{faults.listed(wrong)}.", errors=wrong))


def _schema_of_body(request: Request) -> dict[str, Any]:
    """Of what the door takes, which is where its faults are; empty for a door that takes none."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return {} if field is None else _schema(field.field_info.annotation)


@cache
def _schema(annotation: Any) -> dict[str, Any]:
    return TypeAdapter(annotation).json_schema()


def _is_not_json(request: Request, found: Any) -> bool:
    """Whether the body stayed bytes because of its content type."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = sent == "application/json" or (sent.startswith("application/") and sent.endswith("+json"))
    return not is_json and any(item["loc"] == ("body",) and item["type"] != "missing" for item in found)


def _database(request: Request, error: Exception) -> Response:
    log.error("request %s: the database refused", _request_id(request), exc_info=error)
    if "full" in str(getattr(error, "orig", "")).lower():
        return render(request, Problem(errors.STORAGE_FULL, "The database cannot write."))
    if isinstance(error, DBAPIError) and not isinstance(error, OperationalError) and not error.connection_invalidated:
        return _unexpected(request, error)
    return render(request, Problem(errors.DATABASE_UNAVAILABLE, "The database did not answer in time."))


def _operating_system(request: Request, error: Exception) -> Response:
    if cast("OSError", error).errno in {errno.ENOSPC, errno.EDQUOT}:
        return render(request, Problem(errors.STORAGE_FULL, "The disk filled up while it was written to."))
    log.error("request %s met an error of the operating system", _request_id(request), exc_info=error)
    if isinstance(error, StorageUnavailable):
        return render(request, Problem(errors.STORAGE_UNAVAILABLE, "The storage of files did not answer in time."))
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request %s failed: %r", _request_id(request), error)
    return render(request, Problem(errors.INTERNAL_ERROR, "The request could not be completed."))
