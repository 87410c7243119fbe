"""Errors become HTTP answers here and nowhere else, in the form of the OpenAI API."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from deployments.json_response import JSONResponse
from graph import errors

STATUS: dict[type[errors.ModelyardError], tuple[int, str]] = {
    errors.Unauthorized: (401, "authentication_error"),
    errors.Forbidden: (403, "permission_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.IdempotencyConflict: (422, "idempotency_error"),
    errors.PayloadTooLarge: (413, "invalid_request_error"),
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.InvalidSpec: (400, "invalid_request_error"),
    errors.NodeRefused: (409, "conflict_error"),
    errors.NodeNotFound: (404, "not_found_error"),
    errors.RunNotFound: (404, "not_found_error"),
    errors.NoNodeFits: (422, "invalid_request_error"),
    errors.ContentRefused: (400, "invalid_request_error"),
    errors.Overloaded: (503, "overloaded_error"),
    errors.DeadlineExceeded: (504, "timeout_error"),
    errors.NodeUnavailable: (503, "upstream_error"),
    errors.NodeUnreachable: (503, "upstream_error"),
    errors.NodeRejected: (502, "upstream_error"),
    errors.StreamBroken: (502, "upstream_error"),
    errors.NodeFailed: (502, "upstream_error"),
    errors.ModelyardError: (500, "internal_error"),
}
"""HTTP status and error type by class; the nearest base class counts."""


_PLAIN = ("literal_error", "greater_", "less_", "int_parsing", "float_parsing", "bool_parsing")
"""What is wrong with a plain value, which may be shown to whoever sent it; a text may be long, or a secret."""
_UNION_SIDE = re.compile(r"^(str|list|dict|int|float|bool)(\[|$)")


def status_of(error: errors.ModelyardError) -> tuple[int, str]:
    """Return the HTTP status and the error type of an error."""
    if isinstance(error, errors.DeadlineExceeded) and error.limit in ("deadline", "body"):
        return 408, "timeout_error"
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def error_body(error: errors.ModelyardError) -> dict[str, Any]:
    """Return the `{"error": …}` object, for an answer or an event of a stream."""
    body: dict[str, Any] = {
        "message": error.message,
        "type": status_of(error)[1],
        "param": error.param,
        "code": error.code,
    }
    if isinstance(error, errors.InvalidSpec | errors.InvalidPlan):
        body["problems"] = [{"where": p.where, "key": p.key, "message": p.message} for p in error.problems]
    if isinstance(error, errors.NodeRefused) and error.report:
        body["gate"] = error.report
    return {"error": body}


def error_response(error: errors.ModelyardError) -> Response:
    """Return the answer to a request that ended with this error."""
    headers = {}
    retry_after = getattr(error, "retry_after", None)
    if status_of(error)[0] in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(retry_after or 1)))
    if isinstance(error, errors.Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_of(error)[0], headers)


def bug_response(error: Exception) -> Response:
    """Return the answer to a request that met a bug, or a store that is away; its details are in the log alone."""
    if isinstance(error, ConnectionError):  # the store's own; those of upstreams are translated where they happen
        return error_response(errors.Overloaded("the store does not answer now", retry_after=2))
    return error_response(errors.ModelyardError(f"internal error: {type(error).__name__}"))


def invalid(
    error: ValidationError | RequestValidationError, prefix: tuple[str, ...] = (), form: Any = None
) -> errors.InvalidRequest:
    """Translate a failed validation: the first field at fault is `param`, the message names all.

    `form` is the model that was not met: of an unknown field it says which there are.
    """
    items = error.errors()
    if items[0]["type"] == "json_invalid":
        return errors.InvalidRequest(f"the body is not JSON: {items[0]['ctx']['error']}")
    lines = []
    for item in items[:10]:
        key = ".".join(str(part) for part in (*prefix, *_location(item["loc"])))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            fields = _fields(form, _location(item["loc"])[:-1])
            message = f"unknown field; valid fields: {', '.join(fields)}" if fields else "unknown field"
        elif item["type"].startswith(_PLAIN):
            message += f"; got {item['input']!r:.80}"
        lines.append(f"{key}: {message}" if key else message)
    param = ".".join(str(part) for part in (*prefix, *_location(items[0]["loc"]))) or None
    return errors.InvalidRequest("; ".join(lines), param=param)


def _fields(form: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Return the fields of the model at a place within a form; none where that is not sure."""
    for part in ("", *loc):
        if part and (not _is_model(form) or (field := form.model_fields.get(str(part))) is None):
            return []
        form = field.annotation if part else form
        models = [side for side in get_args(form) if _is_model(side)]
        form = models[0] if len(models) == 1 else form
    return list(form.model_fields) if _is_model(form) else []


def _is_model(form: Any) -> bool:
    return isinstance(form, type) and issubclass(form, BaseModel)


def _location(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where in the request the fault is, without the names that pydantic gives to the sides of a union."""
    loc = loc[1:] if loc and loc[0] in ("body", "query", "path") else loc
    return tuple(part for part in loc if not (isinstance(part, str) and _UNION_SIDE.match(part)))


def install(app: FastAPI) -> None:
    """Register one handler for each family of errors."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.ModelyardError)  # noqa: S101  # registered for that class
        return error_response(error)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101  # registered for those
        body = getattr(request.scope.get("route"), "body_field", None)
        return error_response(invalid(error, form=body and body.field_info.annotation))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for that class
        if isinstance(error.__cause__, errors.ModelyardError):  # FastAPI wraps what goes wrong while it reads a body
            return error_response(error.__cause__)
        kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
        message = str(error.detail)
        if error.status_code in (404, 405) and message in ("Not Found", "Method Not Allowed"):  # the framework's own
            message = (
                f"there is no {request.method} {request.url.path:.200}; routes begin with /v1, and /docs lists them"
            )
        body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
        return JSONResponse(body, error.status_code, dict(error.headers or {}))

    async def bug(_: Request, error: Exception) -> Response:
        return bug_response(error)  # the framework raises the error again, and the middleware logs it

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(ConnectionError, bug)
    app.add_exception_handler(errors.ModelyardError, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(ValidationError, validation)
    app.add_exception_handler(HTTPException, http)
