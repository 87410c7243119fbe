"""Kind `http`: one operation of an HTTP service as a tool, with typed arguments. One call is one request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import httpx
import orjson
from pydantic import Field, field_validator

from deployments.nodes.arguments import read_arguments
from deployments.nodes.http_template import (
    ABSENT,
    PART,
    as_text,
    fill,
    fill_headers,
    fill_path,
    fill_query,
    form,
    placeholders,
)
from deployments.nodes.remote import Headers, UpstreamNode, endpoint_problems, open_upstream, probe, secret_problems
from deployments.upstream import MAX_BODY_BYTES, Answer
from graph.errors import InvalidRequest, NodeFailed
from graph.node import NodeEnvironment, NodeParams
from graph.spec import SECRET, NodeSpec
from graph.types import Call, Delta, Json, Operation, Payload, json_payload, text_payload

FORM: Final = "application/x-www-form-urlencoded"
_WRITABLE: Final = re.compile(
    rf"({re.escape(FORM)}|application/json|application/[\w.-]+\+json|text/[\w.+-]+)(; ?charset=[\w-]+)?", re.ASCII
)


class HttpParams(NodeParams):
    """Settings of kind `http`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str = ""
    """Put after the endpoint; `{name}` stands for an argument, percent-encoded."""
    query: dict[str, str | int | float | bool] = Field(default_factory=dict)
    joined: dict[str, Literal[",", " ", "|"]] = Field(default_factory=dict)
    """Keys of the query whose lists are sent as one value, and what stands between; others are repeated."""
    headers: Headers = Field(default_factory=dict)
    """Headers to send; one whose `{name}` was not given is left out."""
    body: Any = None
    """What to send; a string that is only `{name}` becomes the typed value."""
    content_type: str = "application/json"
    """How the body is written: JSON, `application/x-www-form-urlencoded`, or text for `text/...`."""
    result: str | None = None
    """Dotted path of the field of the answer that is the result; all of it if absent."""
    max_response_bytes: int = Field(2**20, ge=1, le=MAX_BODY_BYTES)

    @field_validator("content_type")
    @classmethod
    def _writable(cls, content_type: str) -> str:
        if not _WRITABLE.fullmatch(content_type):
            raise ValueError("must be application/json, a type that ends in +json, a text/... type, or " + FORM)
        return content_type

    @field_validator("path")
    @classmethod
    def _plain_path(cls, path: str) -> str:
        if "?" in path or "#" in path:
            raise ValueError("must hold no '?' or '#'; write the query under params.query")
        if path and not path.startswith("/"):
            raise ValueError("must begin with '/'")
        if any(step in (".", "..") for step in path.split("/")):
            raise ValueError("must hold no '.' or '..'")
        return path


class HttpNode(UpstreamNode):
    """One operation of an HTTP service."""

    Params = HttpParams
    placement: ClassVar[Literal["gateway", "replica"]] = "gateway"
    operations: ClassVar[frozenset[Operation]] = frozenset({"tool", "chat"})
    honours: ClassVar[frozenset[str]] = frozenset({"user", "metadata"})

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        super().__init__(spec, environment)
        self._params = HttpParams.model_validate(spec.params)
        self._given_headers = {n: value for n, value in self._params.headers.items() if any(placeholders(value))}

    async def load(self) -> None:
        """Open the client, and resolve every secret once, so that a missing one is found now."""
        given, params = self._given_headers, self._params
        templates = orjson.dumps([params.path, params.query, params.body, given]).decode()
        secrets = [match[0] for match in SECRET.finditer(templates)]
        headers = {name: value for name, value in params.headers.items() if name not in given}
        self._upstream, self._base = open_upstream(self._spec, self._environment, headers, also=secrets)

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        """Send the operation's request with the call's arguments; the answer is one delta with a payload.

        A JSON answer gives a JSON payload, or text where the result is a string; any other answer gives text. A chat
        call gets the text as well.
        """
        # An operation without arguments does the one thing it does, whatever words it is asked in.
        values = read_arguments(call, self._spec.arguments, self._spec.name) if self._spec.arguments else {}
        answer = await self._opened().send(
            self._params.method,
            self._url(values),
            b"" if self._params.body is None else self._content(values),
            content_type=self._params.content_type,
            headers=fill_headers(self._given_headers, values, self._environment.secret, self._spec.name),
            context=call.context,
        )
        payload = self._payload(answer, await answer.read(self._params.max_response_bytes))
        yield Delta(
            text=payload.text if call.operation == "chat" else "",
            payload=payload,
            finish_reason="stop",
            model=self._spec.name,
        )

    async def check(self) -> None:
        """Ask the service for the headers of its base URL: any answer but 401, 403 and 5xx will do."""
        await probe(self._opened(), "HEAD", self._base, self._spec.name)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing endpoint, secrets in plain text, and placeholders and arguments that do not match."""
        params = HttpParams.model_validate(spec.params)
        found = endpoint_problems(spec)
        used: set[str] = set()
        declared = ", ".join(sorted(spec.arguments)) or "none"
        for key in ("path", "query", "headers", "body"):
            template = getattr(params, key)
            names = set(placeholders(template))
            if key != "headers":  # which were looked at by themselves
                found += secret_problems(template, f"params.{key}", stands=PART.search)
            used |= names
            found += [
                (f"params.{key}", f"{{{name}}} names no argument; arguments: {declared}")
                for name in sorted(names - set(spec.arguments))
            ]
            if key == "path":
                found += [
                    (f"arguments.{name}", "is part of the path, so it must be required or have a default")
                    for name in sorted(names & set(spec.arguments))
                    if not spec.arguments[name].required and spec.arguments[name].default is None
                ]
        found += [
            (f"params.joined.{key}", "is no key of params.query")
            for key in sorted(set(params.joined) - set(params.query))
        ]
        found += [
            (f"arguments.{name}", "is used nowhere in params.path, query, headers or body")
            for name in sorted(set(spec.arguments) - used)
        ]
        return found

    def _url(self, values: Mapping[str, Any]) -> httpx.URL:
        secret = self._environment.secret
        try:
            path = fill_path(self._params.path, values, secret, self._spec.name)
            query = fill_query(self._params.query, values, secret, self._params.joined)
            return httpx.URL(f"{self._base}{path}{'?' if query else ''}{query}")
        except (httpx.InvalidURL, UnicodeEncodeError):  # far too long, or half of a surrogate pair
            raise InvalidRequest("the arguments make no valid address", node=self._spec.name) from None

    def _content(self, values: Mapping[str, Any]) -> bytes:
        filled = fill(self._params.body, values, self._environment.secret)
        try:
            if filled is ABSENT:
                return b""
            if self._params.content_type.startswith(FORM):
                return form(filled).encode()
            if self._params.content_type.startswith("text/"):
                return as_text(filled).encode()
            return orjson.dumps(filled)
        except (TypeError, UnicodeEncodeError) as error:  # an integer past 64 bits, or half of a surrogate pair
            form_ = "a form" if self._params.content_type.startswith(FORM) else "JSON"
            written = f"the arguments cannot be written as {form_}: {error}"
            raise InvalidRequest(written, node=self._spec.name) from None

    def _payload(self, answer: Answer, body: bytes) -> Payload:
        if "json" not in answer.media_type and self._params.result is None:
            try:
                return text_payload(body.decode(answer.charset, "replace"))
            except LookupError:  # a charset that Python does not know
                return text_payload(body.decode("utf-8", "replace"))
        if not body.strip() and self._params.result is None:
            return text_payload("")
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            words = f"node {self._spec.name!r}: the upstream's answer is not JSON"
            raise NodeFailed(words, node=self._spec.name) from None
        value = data if self._params.result is None else self._selected(data, self._params.result.split("."))
        return text_payload(value) if isinstance(value, str) else json_payload(value)

    def _selected(self, data: Json, steps: Sequence[str]) -> Json:
        value = data
        for step in steps:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                has = ", ".join(list(value)[:20]) if isinstance(value, dict) else type(value).__name__
                raise NodeFailed(
                    f"node {self._spec.name!r}: the upstream's answer has no {self._params.result!r}: "
                    f"no {step!r} among {has or 'nothing'}",
                    node=self._spec.name,
                )
        return value
