"""Which scope each route needs. What is not listed here is the admin's alone, so nothing is open by being forgotten."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deployments.access.principal import SCOPES, Principal
from graph.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Rule:
    """What a caller must have for one route."""

    scopes: frozenset[str] = frozenset(SCOPES)
    """One of these is enough; `admin` always is."""
    is_open: bool = False
    """Answered without a key."""
    whole: bool = False
    """Tells of every node, so not for a key that is limited to some."""
    counted: bool = False
    """Takes from the limits of a key."""

    def refusal(self, principal: Principal) -> Forbidden | None:
        """Return why somebody may not do this, or None."""
        if principal.is_admin:
            return None
        if self.scopes.isdisjoint(principal.scopes):
            needed, given = " or ".join(sorted(self.scopes)), ", ".join(sorted(principal.scopes)) or "none"
            return Forbidden(f"this needs a key with the scope {needed}; this one has {given}")
        if self.whole and principal.nodes is not None:
            return Forbidden("this tells of every node, and the key is limited to some")
        return None


def _rule(*scopes: str, whole: bool = False, counted: bool = False) -> Rule:
    return Rule(frozenset(scopes), whole=whole, counted=counted)


OPEN, ANY, ADMIN = Rule(is_open=True), Rule(), _rule("admin")
_CALL, _DECIDE, _READ = _rule("call", counted=True), _rule("route", counted=True), _rule("read")
_OWN = _rule("call", "read")
_WHOLE = _rule("read", whole=True)
ROUTES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): _WHOLE,
    ("GET", "/docs"): ANY,
    ("GET", "/docs/oauth2-redirect"): ANY,
    ("GET", "/openapi.json"): ANY,
    ("GET", "/v1/models"): ANY,
    ("GET", "/v1/models/{name}"): ANY,
    ("POST", "/v1/chat/completions"): _CALL,
    ("POST", "/v1/embeddings"): _CALL,
    ("POST", "/v1/audio/transcriptions"): _CALL,
    ("GET", "/mcp"): _CALL,
    ("POST", "/mcp"): _CALL,
    ("DELETE", "/mcp"): _CALL,
    ("POST", "/v1/route"): _DECIDE,
    ("POST", "/v1/plan"): _DECIDE,
    ("POST", "/v1/runs"): _CALL,
    ("GET", "/v1/runs"): _OWN,
    ("GET", "/v1/runs/{id}"): _OWN,
    ("GET", "/v1/runs/{id}/events"): _OWN,
    ("POST", "/v1/feedback"): _CALL,
    ("GET", "/v1/traces/{trace_id}"): _OWN,
    ("GET", "/v1/nodes"): _READ,
    ("GET", "/v1/nodes/{name}"): _READ,
    ("GET", "/v1/nodes/{name}/history"): _READ,
    ("PUT", "/v1/nodes/{name}"): ADMIN,
    ("DELETE", "/v1/nodes/{name}"): ADMIN,
    ("POST", "/v1/nodes/{name}/rollback"): ADMIN,
    ("POST", "/v1/nodes/{name}/promote"): ADMIN,
    ("GET", "/v1/graph"): _READ,
    ("GET", "/v1/router"): _WHOLE,
    ("GET", "/v1/router/versions"): _WHOLE,
    ("GET", "/v1/router/suggestions"): ADMIN,
    ("POST", "/v1/router/learn"): ADMIN,
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("DELETE", "/v1/keys/{id}"): ADMIN,
    ("GET", "/v1/audit"): ADMIN,
}
"""By method and path template."""


@dataclass(frozen=True)
class Rules:
    """Finds the rule of a request."""

    routes: Mapping[tuple[str, str], Rule] = field(default_factory=lambda: ROUTES)
    _templates: Sequence[tuple[str, re.Pattern[str], Rule]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        templates = [(method, _pattern(path), rule) for (method, path), rule in self.routes.items() if "{" in path]
        object.__setattr__(self, "_templates", templates)

    def find(self, method: str, path: str) -> Rule:
        """Return the rule of a request: of its path as it is, of the template it fits, or the admin's."""
        method = "GET" if method == "HEAD" else method
        rule = self.routes.get((method, path))
        if rule is not None:
            return rule
        for wanted, pattern, rule in self._templates:
            if wanted == method and pattern.fullmatch(path):
                return rule
        return ADMIN


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", template)))
