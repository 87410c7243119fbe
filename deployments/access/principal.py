"""`Principal`: whoever a request comes from, and what that one may do."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

from graph.caller import Caller

Scope: TypeAlias = Literal["call", "route", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""call: ask nodes, plans included; route: only decide and plan; read: see nodes, graph, traces; admin: everything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None is without limit."""

    requests: int | None = None
    """Requests a minute."""
    tokens: int | None = None
    """Tokens a minute, in and out together."""
    runs: int | None = None
    """Runs in progress at a time."""
    budget: float | None = None
    """Cost units a month (UTC), by the prices in `NodeSpec.cost`."""

    @property
    def metered(self) -> bool:
        """Whether what calls take must be counted."""
        return self.tokens is not None or self.budget is not None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form whose keys are the fields."""
        return {"requests": self.requests, "tokens": self.tokens, "runs": self.runs, "budget": self.budget}


UNLIMITED = Limits()


@dataclass(frozen=True)
class Principal:
    """Whoever a request comes from."""

    id: str
    """`key_…`, `oidc:…` or `operator`: what the audit record and runs remember."""
    name: str
    scopes: frozenset[str]
    nodes: frozenset[str] | None = None
    """The nodes that exist for this one; None: every one."""
    limits: Limits = UNLIMITED
    expires_at: float | None = None
    """Seconds since the epoch."""

    @cached_property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return "admin" in self.scopes

    @cached_property
    def is_limited(self) -> bool:
        """Whether requests of this one are counted."""
        return self.limits.requests is not None or self.limits.metered

    @cached_property
    def mark(self) -> str:
        """What tells this one from others and says nothing else: on the spans of its requests."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:16]

    @cached_property
    def caller(self) -> Caller | None:
        """What travels with this one's calls; None for the operator."""
        if self.id == OPERATOR_ID:
            return None
        return Caller(self.id, self.nodes, self.limits.runs, self.limits.metered)

    def may_see_trace_of(self, marks: Set[str]) -> bool:
        """Whether a trace of the requests of these may be looked at: one's own; all by the scope read, or an admin."""
        sees_all = self.is_admin or ("read" in self.scopes and self.nodes is None)
        return sees_all or marks == {self.mark}

    def may_see_run_of(self, caller: str | None) -> bool:
        """Whether a run that this caller started may be looked at: one's own, and an admin everyone's."""
        return self.is_admin or caller == self.id


OPERATOR_ID = "operator"
OPERATOR = Principal(OPERATOR_ID, "the operator's key", frozenset({"admin"}))
"""Whoever has `MODELYARD_API_KEY`; on a service without any key, everyone who reaches it."""
NOBODY = Principal("nobody", "no key", frozenset(), frozenset())
"""Whoever asks what needs no key."""
