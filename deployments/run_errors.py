"""The way back from what the journal and the events keep of an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from graph import errors
from graph.expressions.syntax import InvalidExpression
from graph.run import RunResult
from graph.types import Json

Described: TypeAlias = dict[str, Json]
"""`{"message", "code", "param"}`, as an error's `to_json` writes it."""

_BY_CODE: Mapping[str, type[errors.ModelyardError]] = {
    kind.code: kind
    for kind in (
        errors.ModelyardError, errors.InvalidRequest, errors.UnsupportedParameter, errors.ContextTooLong,
        errors.PayloadTooLarge, errors.NodeNotFound, errors.NoNodeFits, errors.ContentRefused, errors.Overloaded,
        errors.NodeFailed, errors.NodeUnreachable, errors.NodeUnavailable, errors.NodeRejected, errors.StreamBroken,
        InvalidExpression,
    )
}  # fmt: skip


def first_error(result: RunResult) -> Described | None:
    """Return why a run failed as a whole: the first task's error, or why nothing was tried."""
    bad = [outcome for outcome in result.outcomes if outcome.error and not outcome.unneeded]
    errors = (outcome.error for outcome in sorted(bad, key=lambda outcome: outcome.status != "failed"))
    first = next(errors, None) if result.status == "failed" else None
    return dict(first) if first else None


def recall(described: Mapping[str, Json]) -> errors.ModelyardError:
    """Return an error of the class that was described, so that it becomes the same HTTP status."""
    message, code = str(described.get("message") or "the run failed"), described.get("code")
    if code == errors.DeadlineExceeded.code:
        error: errors.ModelyardError = errors.DeadlineExceeded("run", 0)
        error.message = message
    elif code == errors.InvalidPlan.code:
        error = errors.InvalidPlan([errors.Problem("plan", "", message)])
    else:
        error = _BY_CODE.get(str(code), errors.NodeFailed)(message)
    error.param = described.get("param")
    return error
