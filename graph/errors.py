"""Everything that can go wrong, drawn as a tree.

ModelyardError
├── InvalidRequest            the caller's input is wrong (400); names the field
│   ├── UnsupportedParameter  the node cannot honour a field of the request
│   ├── ContextTooLong        the request does not fit the node's context window
│   ├── PayloadTooLarge       the body or an attachment is over its limit (413)
│   └── InvalidPlan           a plan that the graph refuses; carries every problem
├── InvalidSpec               YAML that does not declare a node; carries every problem
├── NodeRefused               a node is not taken, by the registration gate or as it does not load (409)
├── Unauthorized              no key, or a wrong one (401)
├── Forbidden                 a key that may not do this (403)
├── RateLimited               a key has used up what it may use in a while (429); carries `retry_after`
├── IdempotencyConflict       an Idempotency-Key came again with another body (422)
├── NodeNotFound              no such node, or not ready (404)
├── NoNodeFits                out of scope, or every node was filtered out (422)
├── ContentRefused            a node's content policy refused; passed on, never retried
├── Overloaded                try later (429, 503); may carry `retry_after`
├── DeadlineExceeded          a time limit passed; says which one
├── RunNotFound               no such run (404)
└── NodeFailed                a node could not answer
    ├── NodeUnreachable       connection refused, reset, or process gone
    ├── NodeUnavailable       408, 429 or 5xx of an upstream, or a model that raised; may carry `retry_after`
    ├── NodeRejected          another 4xx of an upstream: sending it again cannot help
    └── StreamBroken          a stream was cut, stalled or garbled after it began
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ModelyardError(Exception):
    """Root of every expected failure."""

    code = "internal_error"
    """Machine-readable name, stable across versions."""
    attempts = 1
    """How many times the call was tried before this error was given back."""

    def __init__(self, message: str, *, param: str | None = None, node: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The field of the request that is at fault."""
        self.node = node
        """The node concerned."""

    def to_json(self) -> dict[str, Any]:
        """Return what a run keeps of the error."""
        return {"message": self.message, "code": self.code, "param": self.param}

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries; the default would replay only `args` and lose the typed fields.
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[ModelyardError], state: dict[str, Any]) -> ModelyardError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class InvalidRequest(ModelyardError):
    """The caller's input is wrong."""

    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """The node cannot honour a field of the request."""

    code = "unsupported_parameter"


class ContextTooLong(InvalidRequest):
    """The request does not fit the node's context window."""

    code = "context_length_exceeded"


class PayloadTooLarge(InvalidRequest):
    """The body or an attachment is over its limit."""

    code = "payload_too_large"


class NodeRefused(ModelyardError):
    """A node is not taken: the registration gate says what it would do to the others, or it could not be loaded."""

    code = "node_refused"

    def __init__(self, message: str, report: Mapping[str, Any] | None = None, *, node: str | None = None) -> None:
        super().__init__(message, param="name", node=node)
        self.report = report or {}
        """The gate's figures; empty if it was not the gate."""


class Unauthorized(ModelyardError):
    """No key came with the request, or a wrong one."""

    code = "invalid_api_key"


class Forbidden(ModelyardError):
    """The key is good, and may not do this."""

    code = "insufficient_permissions"


class RateLimited(ModelyardError):
    """The key has used up what it may use in a while."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float, code: str = code) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code


class IdempotencyConflict(ModelyardError):
    """An Idempotency-Key came again with another request."""

    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where, what, and what would be right."""

    where: str
    """File and document, or the plan."""
    key: str
    """Dotted path of the offending key; empty for the whole document."""
    message: str
    """What is wrong and what would be right; contains the offending value unless it may be a secret."""

    def __str__(self) -> str:
        return f"{self.where}: {self.key + ': ' if self.key else ''}{self.message}"


MAX_PROBLEMS = 100
"""Problems that are reported of one plan."""


class InvalidPlan(InvalidRequest):
    """A plan that the graph refuses."""

    code = "invalid_plan"

    def __init__(self, problems: Sequence[Problem]) -> None:
        problems = problems[:MAX_PROBLEMS]
        super().__init__("; ".join(f"{p.key}: {p.message}" if p.key else p.message for p in problems), param="plan")
        self.problems = tuple(problems)


class InvalidSpec(ModelyardError):
    """YAML that does not declare a node."""

    code = "invalid_node_spec"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems), param=problems[0].key or None if problems else None)
        self.problems = tuple(problems)


class NodeNotFound(ModelyardError):
    """No such node, or the node is not ready."""

    code = "model_not_found"


class NoNodeFits(ModelyardError):
    """The request is out of scope, or every node was filtered out."""

    code = "no_node_fits"


class ContentRefused(ModelyardError):
    """A node's content policy refused the request."""

    code = "content_filter"


class Overloaded(ModelyardError):
    """There is no room for the request now."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0, node: str | None = None) -> None:
        super().__init__(message, node=node)
        self.retry_after = retry_after


class DeadlineExceeded(ModelyardError):
    """A time limit passed."""

    code = "deadline_exceeded"

    def __init__(self, limit: str, seconds: float, *, node: str | None = None) -> None:
        super().__init__(f"{limit} limit of {seconds:g} s passed" + (f" at node {node!r}" if node else ""), node=node)
        self.limit = limit


class RunNotFound(ModelyardError):
    """No such run."""

    code = "run_not_found"


class NodeFailed(ModelyardError):
    """A node could not answer."""

    code = "node_failed"
    retryable = False
    """Whether the same call may succeed at the same node."""


class NodeUnreachable(NodeFailed):
    """Connection refused or reset, or the node's process is gone."""

    code = "node_unreachable"
    retryable = True


class NodeUnavailable(NodeFailed):
    """The node answered that it cannot answer now."""

    code = "node_unavailable"
    retryable = True

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, node: str | None = None
    ) -> None:
        super().__init__(message, node=node)
        self.status = status
        self.retry_after = retry_after


class NodeRejected(NodeFailed):
    """The upstream refused the call for good."""

    code = "node_rejected"

    def __init__(self, message: str, *, status: int | None = None, node: str | None = None) -> None:
        super().__init__(message, node=node)
        self.status = status


class StreamBroken(NodeFailed):
    """A stream was cut, stalled or garbled after it began."""

    code = "stream_broken"
