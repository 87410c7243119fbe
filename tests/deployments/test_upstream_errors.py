from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from aiohttp.client_reqrep import ConnectionKey

from deployments.upstream_errors import FOREIGN, TABLE, exception_error, retry_after, status_error
from graph.errors import (
    ContentRefused,
    ContextTooLong,
    ModelyardError,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)


def subclasses(root: type[Exception]) -> set[type[Exception]]:
    return {root}.union(*(subclasses(cls) for cls in root.__subclasses__()))


REQUEST_ERRORS = sorted(
    (cls for cls in subclasses(httpx.RequestError) if cls.__module__ == "httpx"), key=lambda cls: cls.__name__
)
AIOHTTP_ERRORS = sorted(
    (cls for cls in subclasses(aiohttp.ClientError) if cls.__module__.startswith("aiohttp.")),
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", REQUEST_ERRORS, ids=lambda cls: cls.__name__)
def test_every_exception_of_httpx_has_its_own_row(cls: type[Exception]) -> None:
    assert cls in TABLE
    assert issubclass(cls, FOREIGN)


def test_the_list_of_httpx_is_the_real_one() -> None:
    assert len(REQUEST_ERRORS) >= 17
    assert {httpx.ConnectError, httpx.PoolTimeout, httpx.RemoteProtocolError} <= set(REQUEST_ERRORS)


@pytest.mark.parametrize("cls", AIOHTTP_ERRORS, ids=lambda cls: cls.__name__)
def test_every_exception_of_aiohttp_finds_a_row_before_the_last_resort(cls: type[Exception]) -> None:
    row = next(base for base in cls.__mro__ if base in TABLE)
    assert row is not OSError
    assert issubclass(cls, FOREIGN)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("x"), NodeUnreachable),
        (httpx.ReadError("x"), NodeUnreachable),
        (httpx.UnsupportedProtocol("x"), NodeRejected),
        (httpx.RemoteProtocolError("x"), NodeUnavailable),
        (aiohttp.ServerDisconnectedError(), NodeUnreachable),
        (aiohttp.ConnectionTimeoutError(), NodeUnreachable),
        (
            aiohttp.ClientConnectorError(
                ConnectionKey("secret.internal", 1, False, True, None, None, None, None), OSError("x")
            ),
            NodeUnreachable,
        ),
        (ConnectionResetError("x"), NodeUnreachable),
        (TimeoutError(), NodeUnreachable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exceptions_become_ours(error: Exception, kind: type[ModelyardError]) -> None:
    ours = exception_error(error, "legal")
    assert type(ours) is kind
    assert ours.node == "legal"
    assert "legal" in ours.message
    assert type(exception_error(error, "legal", began=True)) is StreamBroken


def body(**error: Any) -> bytes:
    return orjson.dumps({"error": error})


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, body(message="the maximum context length is 8192", code="context_length_exceeded"), ContextTooLong),
        (400, body(message="exceeds the available context size", type="exceed_context_size_error"), ContextTooLong),
        (413, body(message="prompt is too long: 9000 tokens"), ContextTooLong),
        (400, b'{"object":"error","message":"maximum context length is 4096 tokens"}', ContextTooLong),
        (400, body(message="The input token count (9) exceeds the maximum number of tokens"), ContextTooLong),
        (413, body(message="Body too large. Max size: 8000 tokens.", code="tokens_limit_reached"), ContextTooLong),
        (422, b'{"error":"`inputs` must have less than 1024 tokens. Given: 1500"}', ContextTooLong),
        (422, body(message="`inputs` tokens + `max_new_tokens` must be <= 4097"), ContextTooLong),
        (400, b'{"error":"This model\'s maximum prompt length is 131072"}', ContextTooLong),
        (400, body(message="Range of input length should be [1, 30720]"), ContextTooLong),
        (400, body(message="Your request exceeded model token limit: 8192"), ContextTooLong),
        (400, body(message="Prompt length (9000) exceeds max_seq_len (4096)"), ContextTooLong),
        (400, b'{"errors":[{"message":"input tokens 9000 cannot exceed the total tokens limit"}]}', ContextTooLong),
        (400, body(message="input length and `max_tokens` exceed context limit: 9 > 8"), ContextTooLong),
        (413, body(message="Request too large for model `x`"), ContextTooLong),
        (400, body(message="No.", code="content_policy_violation"), ContentRefused),
        (403, body(message="x requires moderation and your input was flagged for \"violence\""), ContentRefused),
        (403, b'{"error":"Content violates usage guidelines."}', ContentRefused),
        (400, body(message="Content Exists Risk"), ContentRefused),
        (400, body(message="No.", code="data_inspection_failed"), ContentRefused),
        (400, body(message="Blocked due to safety settings"), ContentRefused),
        (400, body(message="Your request was flagged as potentially violating our usage policy"), ContentRefused),
        (400, body(message="The response was filtered", code="content_filter"), ContentRefused),
        (403, body(message="Your request was flagged by moderation"), ContentRefused),
        (400, body(message="temperature is odd", param="temperature"), NodeRejected),
        (401, body(message="Incorrect API key"), NodeRejected),
        (403, body(message="no"), NodeRejected),
        (404, b"<html>not found</html>", NodeRejected),
        (422, b'{"detail":[{"loc":["body"]}]}', NodeRejected),
        (302, b"", NodeRejected),
        (408, b"", NodeUnavailable),
        (429, body(message="slow down; your context window is fine"), NodeUnavailable),
        (500, b"[1]", NodeUnavailable),
        (503, b"\xff\xfe", NodeUnavailable),
        (529, b"null", NodeUnavailable),
    ],
)  # fmt: skip
def test_statuses_become_ours(status: int, text: bytes, kind: type[ModelyardError]) -> None:
    ours = status_error(status, {}, text, "legal")
    assert type(ours) is kind
    assert ours.node == "legal"
    if isinstance(ours, (NodeRejected, NodeUnavailable)):
        assert ours.status == status


def test_a_rejected_field_is_named() -> None:
    ours = status_error(400, {}, body(message="temperature must be at most 2", param="temperature"), "legal")
    assert ours.param == "temperature"
    assert "temperature must be at most 2" in ours.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_no_secret_comes_back(status: int) -> None:
    text = body(message=f"{'x' * 290} key sk-123456 of you is wrong")
    ours = status_error(status, {}, text, "legal", ["sk-123456", ""])
    assert "sk-1" not in ours.message


def test_a_long_message_is_cropped() -> None:
    assert len(status_error(400, {}, b"x" * 10_000, "legal").message) < 500


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date_to_come() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert found is not None
    assert 3000 < found <= 3601
