"""Every error has one status."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from deployments import http_errors
from deployments.http_errors import STATUS, bug_response, error_body, error_response, status_of
from graph import errors


def tree(kind: type[errors.ModelyardError]) -> list[type[errors.ModelyardError]]:
    """A class and everything below it."""
    return [kind, *(found for below in kind.__subclasses__() if below.__module__ == kind.__module__
                    for found in tree(below))]  # fmt: skip


def made(kind: type[errors.ModelyardError]) -> errors.ModelyardError:
    if issubclass(kind, errors.InvalidPlan | errors.InvalidSpec):
        return kind([errors.Problem("file.yaml", "name", "is wrong")])
    if issubclass(kind, errors.DeadlineExceeded):
        return kind("idle", 3)
    if issubclass(kind, errors.RateLimited):
        return kind("it went wrong", retry_after=3)
    return kind("it went wrong")


EXPECTED = {
    "ModelyardError": 500, "InvalidRequest": 400, "UnsupportedParameter": 400, "ContextTooLong": 400,
    "PayloadTooLarge": 413, "InvalidPlan": 400, "InvalidSpec": 400, "NodeRefused": 409,
    "Unauthorized": 401, "Forbidden": 403, "RateLimited": 429, "IdempotencyConflict": 422, "NodeNotFound": 404,
    "NoNodeFits": 422, "ContentRefused": 400, "Overloaded": 503, "DeadlineExceeded": 504, "RunNotFound": 404,
    "NodeFailed": 502, "NodeUnreachable": 503, "NodeUnavailable": 503, "NodeRejected": 502, "StreamBroken": 502,
}  # fmt: skip


def test_the_expectation_is_complete_over_the_tree() -> None:
    assert {kind.__name__ for kind in tree(errors.ModelyardError)} == set(EXPECTED)


def test_every_family_is_in_the_table() -> None:
    families = set(errors.ModelyardError.__subclasses__()) & set(tree(errors.ModelyardError))
    assert families <= set(STATUS)


@pytest.mark.parametrize("kind", tree(errors.ModelyardError), ids=lambda kind: kind.__name__)
def test_an_error_becomes_its_status_and_the_four_keys(kind: type[errors.ModelyardError]) -> None:
    error = made(kind)
    answer = error_response(error)
    assert answer.status_code == EXPECTED[kind.__name__] == status_of(error)[0]
    body = json.loads(bytes(answer.body))["error"]
    assert {"message", "type", "param", "code"} <= set(body)
    assert (body["message"], body["code"]) == (error.message, kind.code)
    assert ("problems" in body) == isinstance(error, errors.InvalidPlan | errors.InvalidSpec)
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))


def test_a_callers_own_deadline_is_a_request_timeout() -> None:
    assert status_of(errors.DeadlineExceeded("deadline", 1)) == (408, "timeout_error")


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (2.0, "2"), (2.1, "3"), (None, "1")])
def test_retry_after_is_rounded_up(seconds: float | None, header: str) -> None:
    assert error_response(errors.NodeUnavailable("x", retry_after=seconds)).headers["retry-after"] == header


def test_a_bug_tells_nothing_but_its_class() -> None:
    answer = bug_response(ValueError("the password is hunter2"))
    assert (answer.status_code, b"hunter2" in bytes(answer.body), b"ValueError" in bytes(answer.body)) == (
        500, False, True,
    )  # fmt: skip


def test_the_body_of_an_event_is_the_body_of_an_answer() -> None:
    error = errors.StreamBroken("cut", node="a")
    assert json.loads(bytes(error_response(error).body)) == error_body(error)


async def test_a_bug_is_an_answer_in_the_same_form() -> None:
    app = FastAPI()
    http_errors.install(app)

    @app.get("/")
    async def broken() -> None:
        raise OSError("/secret/place")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://modelyard") as client:
        answer = await client.get("/")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "internal error: OSError"


class Budget(BaseModel):
    model_config = ConfigDict(extra="forbid")
    calls: int = Field(1, ge=1)


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = ""
    mood: Literal["good", "bad"] = "good"
    budget: Budget | None = None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"txt": "x"}, "txt: unknown field; valid fields: text, mood, budget"),
        ({"budget": {"call": 1}}, "budget.call: unknown field; valid fields: calls"),
        ({"budget": {"calls": 0}}, "budget.calls: Input should be greater than or equal to 1; got 0"),
        ({"mood": "fine"}, "mood: Input should be 'good' or 'bad'; got 'fine'"),
        ({"text": ["a secret"]}, "text: Input should be a valid string"),
    ],
)
async def test_a_wrong_field_is_told_with_what_would_be_right(body: dict[str, Any], told: str) -> None:
    app = FastAPI()
    http_errors.install(app)

    @app.post("/")
    async def take(form: Form) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://modelyard") as client:
        answer = await client.post("/", json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, told)


async def test_a_route_that_is_not_there_is_named() -> None:
    app = FastAPI()
    http_errors.install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://modelyard") as client:
        answer = await client.post("/chat/completions")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("there is no POST /chat/completions; routes begin with /v1")
