"""A small client of the native surface: what the command line speaks with a running service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import httpx
import orjson

from deployments.addresses import is_loopback
from deployments.service_error import ServiceError as ServiceError
from deployments.sse import EventTooLarge, SseParser
from graph.types import Json

GraphFormat: TypeAlias = Literal["json", "mermaid", "dot"]
GRAPH_TYPES: Mapping[GraphFormat, str] = {
    "json": "application/json",
    "mermaid": "text/vnd.mermaid",
    "dot": "text/vnd.graphviz",
}
RECONNECTS = 5
"""Attempts to reach the events of a run again without a single new event in between."""
MAX_EVENT_BYTES = 256 * 2**20
"""Largest event that is read: the last one holds the whole answer."""
BAD_URLS = (httpx.InvalidURL, httpx.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event."""

    id: str
    type: str
    data: Json


class Client:
    """Calls a service at `url`. The key is sent as a bearer token and appears nowhere else.

    Every method raises `ServiceError`. Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 300.0,
        connect_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._sleep = sleep
        headers = {"authorization": f"Bearer {_checked(key)}"} if key else {}
        timeout = httpx.Timeout(timeout_s, connect=connect_s)
        try:
            # A proxy from the environment cannot reach this machine's own loopback address.
            trust_env = not is_loopback(httpx.URL(url).host)
            self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trust_env)
        except BAD_URLS as error:
            raise ServiceError(f"{url!r} is no http:// or https:// address: {error}", code="bad_url") from error

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def nodes(self) -> list[dict[str, Json]]:
        """Return every node: name, kind, version, serving_version, state, error, description, edges."""
        return _items(self._json("GET", "/v1/nodes"))

    def node(self, name: str) -> dict[str, Json]:
        """Return one node, its spec included."""
        return _object(self._json("GET", _node(name)))

    def put_node(self, name: str, yaml: str, *, dry_run: bool = False, force: bool = False) -> dict[str, Json]:
        """Register a node or a new version of it; `dry_run` only reports, `force` overrides the gate."""
        headers = {"content-type": "application/yaml"}
        return _object(
            self._json("PUT", _node(name), content=yaml.encode(), headers=headers, params=_flags(dry_run, force))
        )

    def delete_node(self, name: str) -> dict[str, Json]:
        """Remove a node."""
        return _object(self._json("DELETE", _node(name)) or {"name": name})

    def history(self, name: str) -> list[dict[str, Json]]:
        """Return every version of a node, newest first."""
        return _items(self._json("GET", f"{_node(name)}/history"))

    def promote(self, name: str) -> dict[str, Json]:
        """Let a node's newest version, which takes a share of the calls, take all."""
        return _object(self._json("POST", f"{_node(name)}/promote"))

    def rollback(self, name: str, to: int | None = None) -> dict[str, Json]:
        """Register an earlier version again: `to`, or the one before the present."""
        params = None if to is None else {"to": to}
        return _object(self._json("POST", f"{_node(name)}/rollback", params=params))

    def router(self) -> dict[str, Json]:
        """Return the card of the router's newest version."""
        return _object(self._json("GET", "/v1/router"))

    def router_versions(self) -> list[dict[str, Json]]:
        """Return the cards of the router's versions, newest first."""
        return _items(self._json("GET", "/v1/router/versions"))

    def suggestions(self, budget: int | None = None) -> dict[str, Json]:
        """Return the requests worth labelling, and proposals for missing experts."""
        return _object(self._json("GET", "/v1/router/suggestions", params=budget and {"budget": budget}))

    def learn(self, *, dry_run: bool = False, force: bool = False) -> dict[str, Json]:
        """Make labelled feedback examples of its nodes."""
        return _object(self._json("POST", "/v1/router/learn", params=_flags(dry_run, force)))

    def create_key(self, wanted: Mapping[str, Json]) -> dict[str, Json]:
        """Make an API key; `key` of the answer is the key itself, told this once."""
        return _object(self._json("POST", "/v1/keys", json=wanted))

    def keys(self) -> list[dict[str, Json]]:
        """Return what is known of every key."""
        return _items(self._json("GET", "/v1/keys"))

    def revoke_key(self, id: str) -> dict[str, Json]:
        """Make a key worthless."""
        return _object(self._json("DELETE", f"/v1/keys/{quote(id, safe='')}"))

    def audit(self, *, limit: int, after: int = 0) -> list[dict[str, Json]]:
        """Return who changed what, oldest first."""
        return _items(self._json("GET", "/v1/audit", params={"limit": limit, "after": after}))

    def route(self, request: Mapping[str, Json]) -> dict[str, Json]:
        """Decide which node takes a request (`{"input"}` or `{"messages"}`) without running it."""
        return _object(self._json("POST", "/v1/route", json=request))

    def plan(self, request: Mapping[str, Json]) -> dict[str, Json]:
        """Split a request into tasks without running them."""
        return _object(self._json("POST", "/v1/plan", json=request))

    def start_run(self, request: Mapping[str, Json]) -> str:
        """Start a run of a request or of a given plan; return its id."""
        return str(_object(self._json("POST", "/v1/runs", json=request)).get("id", ""))

    def run(self, id: str) -> dict[str, Json]:
        """Return a run with its plan, outcomes and output."""
        return _object(self._json("GET", f"/v1/runs/{quote(id, safe='')}"))

    def trace(self, id: str) -> dict[str, Json]:
        """Return the spans of a trace, depth first."""
        return _object(self._json("GET", f"/v1/traces/{quote(id, safe='')}"))

    def graph(self, format: GraphFormat = "json") -> Json:
        """Return the graph: as JSON, or as a string of Mermaid or DOT."""
        response = self._send("GET", "/v1/graph", headers={"accept": GRAPH_TYPES[format]})
        return _parse(response) if format == "json" else response.text

    def events(self, id: str) -> Iterator[ServerEvent]:
        """Follow a run to its end; a broken stream is taken up again after the last event seen."""
        path = f"/v1/runs/{quote(id, safe='')}/events"
        last, failures = "", 0
        while True:
            try:
                for event in self._stream(path, last):
                    if _seen(event.id, last):
                        continue
                    last, failures = event.id or last, 0
                    yield event
                    if event.type == "run.finished":
                        return
                error = ServiceError("the stream of events ended before the run did", code="stream_broken")
            except ServiceError as raised:
                if raised.status is not None and raised.status < 500:
                    raise
                error = raised
            failures += 1
            if failures > RECONNECTS:
                raise error
            self._sleep(min(0.2 * 2**failures, 5.0))

    def _stream(self, path: str, last: str) -> Iterator[ServerEvent]:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _refusal(response)
                yield from parse_events(response.iter_bytes())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _json(self, method: str, path: str, **options: Any) -> Json:
        return _parse(self._send(method, path, **options))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except BAD_URLS as error:
            raise ServiceError(f"{self._url!r} is no http:// or https:// address: {error}", code="bad_url") from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def _unreachable(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.TimeoutException):
            return ServiceError(f"no answer from {self._url} in time", code="timeout")
        reason = str(error) or type(error).__name__
        return ServiceError(f"cannot reach a service at {self._url}: {reason}", code="unreachable")


def parse_events(pieces: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Read the server-sent events of a body; one that was cut is not delivered.

    Raises `ServiceError` for an event past all measure.
    """
    parser = SseParser(MAX_EVENT_BYTES)
    for piece in pieces:
        try:
            found = parser.feed(piece)
        except EventTooLarge as error:
            raise ServiceError(str(error), status=200, code="bad_answer") from error
        for event in found:
            yield ServerEvent(event.id or "", event.event, _data(event.data))


def _data(data: bytes) -> Json:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "replace")


def _seen(id: str, last: str) -> bool:
    return id.isdecimal() and last.isdecimal() and int(id) <= int(last)


def _node(name: str) -> str:
    return f"/v1/nodes/{quote(name, safe='')}"


def _flags(dry_run: bool, force: bool) -> dict[str, str]:
    return {name: "true" for name, wanted in (("dry_run", dry_run), ("force", force)) if wanted}


def _checked(key: str) -> str:
    """Refuse a key that no header can carry here, because the transport's error would show it."""
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ServiceError("the API key holds characters that a header cannot carry", code="bad_key")
    return key


def _parse(response: httpx.Response) -> Json:
    if not response.content:
        return None
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        message = f"{response.url} answered with something that is not JSON; is it a Modelyard service?"
        raise ServiceError(message, status=response.status_code, code="bad_answer") from None


def _object(data: Json) -> dict[str, Json]:
    if isinstance(data, dict):
        return data
    raise ServiceError("the service answered with something other than an object", status=200, code="bad_answer")


def _items(data: Json) -> list[dict[str, Json]]:
    """Return a list that stands under `data`, as OpenAI's lists do."""
    found = data.get("data") if isinstance(data, Mapping) else None
    if isinstance(found, list):
        return [_object(item) for item in found]
    raise ServiceError("the service answered without a list", status=200, code="bad_answer")


def _refusal(response: httpx.Response) -> ServiceError:
    """Read an OpenAI-style error; anything else is reported by its status."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    error = body.get("error") if isinstance(body, Mapping) else None
    status = response.status_code
    if not isinstance(error, Mapping):
        return ServiceError(f"{response.url} answered {status} {response.reason_phrase}", status=status)
    message = str(error.get("message") or response.reason_phrase)
    refused = ServiceError(message, status=status, code=str(error.get("code") or "error"), param=error.get("param"))
    refused.gate = error.get("gate")
    return refused
