"""A real HTTP server on loopback that plays the native surface, and what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NODES = {
    "legal": {
        "name": "legal",
        "kind": "openai",
        "version": 2,
        "state": "ready",
        "description": "Contracts and case law.",
        "edges": {"fallback": ["general"]},
    },
    "general": {
        "name": "general",
        "kind": "llama_cpp",
        "version": 1,
        "state": "loading",
        "description": "Anything else.",
        "edges": {},
    },
}
PLAN = {
    "tasks": [
        {"id": "t1", "node": "speech", "arguments": {"audio": {"$ref": "request.audio"}}},
        {"id": "t2", "node": "legal", "arguments": {"prompt": "explain the risk", "context": [{"$ref": "t1"}]}},
    ],
    "links": [["t1", "t2"]],
    "output": "t2",
    "planner": "learned",
    "missing": ["which country's law?"],
    "elapsed_ms": 3.2,
}
OUTCOMES = [
    {"task": "t1", "node": "speech", "status": "ok", "output": "said", "error": None, "attempts": 1}
    | {"started_at": 10.0, "ended_at": 11.5},
    {"task": "t2", "node": "legal", "status": "ok", "output": "There is risk.", "error": None, "attempts": 1}
    | {"started_at": 11.5, "ended_at": 12.0},
]
EVENTS = [
    ("planned", {"plan": PLAN}),
    ("task.started", {"task": "t1", "node": "speech", "started_at": 10.0}),
    ("task.finished", OUTCOMES[0]),
    ("task.started", {"task": "t2", "node": "legal", "started_at": 11.5}),
    ("output.delta", {"text": "There is "}),
    ("output.delta", {"text": "risk."}),
    ("task.finished", OUTCOMES[1]),
    ("run.finished", {"status": "ok", "output": "There is risk."}),
]
RUN = {"id": "r1", "status": "ok", "plan": PLAN, "outcomes": OUTCOMES, "output": "There is risk.", "trace_id": "abc"}
TRACE = {
    "trace_id": "abc",
    "jaeger": "http://jaeger.test:16686/trace/abc",
    "started_at": 100.0,
    "duration_ms": 1000.0,
    "spans": 3,
    "errors": 1,
    "roots": [
        {"span_id": "a", "parent_id": None, "name": "POST /v1/chat", "offset_ms": 0.0, "duration_ms": 1000.0}
        | {"status": "UNSET", "attributes": {}, "critical": True}
        | {
            "children": [
                {"span_id": "b", "parent_id": "a", "name": "route", "offset_ms": 0.0, "duration_ms": 250.0}
                | {"status": "UNSET", "attributes": {"modelyard.node": "legal"}, "critical": False, "children": []},
                {"span_id": "c", "parent_id": "a", "name": "chat legal", "offset_ms": 250.0, "duration_ms": 750.0}
                | {"status": "ERROR", "attributes": {"error.type": "timeout"}, "critical": True, "children": []},
            ]
        }
    ],
}
GRAPH = {
    "nodes": [{"name": "legal", "kind": "openai", "accepts": ["text"], "produces": ["text"], "state": "ready"}],
    "edges": [
        {"source": "legal", "target": "general", "kind": "fallback", "declared": True},
        {"source": "legal", "target": "other", "kind": "feeds", "declared": False},
    ],
}
DECISION = {
    "node": "legal",
    "probability": 0.8,
    "out_of_scope": False,
    "candidates": [{"node": "legal", "probability": 0.8}, {"node": "general", "probability": 0.2}],
    "excluded": [{"node": "speech", "reason": "does not accept text"}],
    "query": "is this enforceable?",
    "strategy": "embedding",
    "elapsed_ms": 1.5,
}


@dataclass
class Service:
    """What the server knows and has seen; a test changes it before it runs a command."""

    url: str = ""
    nodes: dict[str, dict[str, Any]] = field(default_factory=lambda: json.loads(json.dumps(NODES)))
    run: dict[str, Any] = field(default_factory=lambda: dict(RUN))
    decision: dict[str, Any] = field(default_factory=lambda: dict(DECISION))
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=lambda: list(EVENTS))
    cut_after: list[int] = field(default_factory=list)
    """How many events each of the first connections delivers before it is cut."""
    router: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Answers to requests about the router."""
    gate: tuple[int, dict[str, Any]] | None = None
    """Status and report with which the gate answers a put."""
    refuse: tuple[int, Any] | None = None
    """Status and body that answer everything."""
    loads: dict[str, str] = field(default_factory=dict)
    """State that a node reaches after it was put, if not ready."""
    seen: list[tuple[str, str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    service: Service

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(None)

    def do_DELETE(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self._body() or b"{}"))

    def do_PUT(self) -> None:
        self._answer(yaml.safe_load(self._body()))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _answer(self, body: Any) -> None:
        parts = urlsplit(self.path)
        self.service.seen.append((self.command, self.path, body))
        self.service.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.service.refuse is not None:
            self._send(*self.service.refuse)
        elif parts.path.endswith("/events"):
            self._events()
        elif parts.path == "/v1/graph" and self.headers["accept"] != "application/json":
            self._send(200, f"as {self.headers['accept']}")
        else:
            self._send(*self._find(parts.path, parse_qs(parts.query), body))

    def _find(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        service = self.service
        fixed = {
            ("GET", "/v1/nodes"): {"data": list(service.nodes.values())},
            ("POST", "/v1/route"): service.decision,
            ("POST", "/v1/plan"): PLAN,
            ("GET", "/v1/runs/r1"): service.run,
            ("GET", "/v1/traces/abc"): TRACE,
            ("GET", "/v1/graph"): GRAPH,
            **service.router,
        }
        if (self.command, path) in fixed:
            return 200, fixed[self.command, path]
        if (self.command, path) == ("POST", "/v1/runs"):
            return 202, {"id": "r1", "status": "running"}
        if path.startswith("/v1/nodes/"):
            return self._node(path.split("/")[3], path.split("/")[4:], query, body)
        return 404, _error(f"nothing at {path}", "not_found")

    def _node(self, name: str, rest: list[str], query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        nodes = self.service.nodes
        if self.command == "PUT":
            version = nodes.get(name, {}).get("version", 0) + 1
            if self.service.gate is not None:
                status, report = self.service.gate
                refusal = _error("refused; force=true applies it", "node_refused")
                refusal["error"]["gate"] = report
                return status, refusal if status == 409 else {"name": name, "dry_run": True, "gate": report}
            if "dry_run" in query:
                return 200, {"name": name, "valid": True, "dry_run": True, "changes": [f"+name: {name}"]}
            state = self.service.loads.get(name, "ready")
            error = {"message": "no such file", "code": "load_failed"} if state == "failed" else None
            nodes[name] = {"name": name, "kind": body["kind"], "version": version, "state": state, "error": error}
            nodes[name]["serving_version"] = version if state == "ready" else None
            return 202, {"name": name, "version": version, "state": "loading"}
        if name not in nodes:
            return 404, _error(f"no node is called {name!r}", "model_not_found")
        if self.command == "DELETE":
            return 200, nodes.pop(name)
        if rest == ["history"]:
            return 200, {
                "data": [{"version": 2, "spec": None, "created_at": 0}, {"version": 1, "spec": {}, "author": "ann"}]
            }
        if rest == ["promote"]:
            return 200, {"name": name, "version": 2, "state": "loading"}
        if rest == ["rollback"]:
            nodes[name] |= {"version": 3, "serving_version": 3}
            return 200, {"name": name, "version": 3, "state": "loading"}
        return 200, nodes[name]

    def _events(self) -> None:
        after = int(self.headers.get("last-event-id", 0))
        limit = self.service.cut_after.pop(0) if self.service.cut_after else len(self.service.events)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for id, (type, data) in list(enumerate(self.service.events, 1))[after : after + limit]:
            self.wfile.write(f"id: {id}\nevent: {type}\ndata: {json.dumps(data)}\n\n".encode())
        if after + limit < len(self.service.events):
            self.wfile.write(b"id: 99\nevent: task.start")  # an event that is cut in the middle

    def _send(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
