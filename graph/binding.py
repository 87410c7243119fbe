"""Turns a task of a plan into a call: references become the values that other tasks produced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from graph.composition import composition_prompt
from graph.errors import InvalidRequest
from graph.scope import NOTHING, Scope
from graph.scope import plain as plain
from graph.spec import NodeSpec
from graph.task import Task
from graph.types import Call, Message, Modality, Payload, json_payload, text_payload

ATTACHMENTS = (Modality.AUDIO, Modality.IMAGE)
LENGTH = frozenset({"max_tokens", "max_completion_tokens"})
SAMPLING = LENGTH | {"temperature", "top_p", "seed"}
"""Settings of the request that every task of its plan inherits."""


def bind(task: Task, spec: NodeSpec, scope: Scope, *, last: bool = True) -> Call:
    """Return the call that a task makes, once the tasks it needs have replied.

    A limit on the length of the answer holds for the `last` tasks only: cut short, an input would mislead. A node that
    reads text also gets the conversation before the request's last user message, for which the task's prompt stands.

    What refers to `previous` is left out while there is none.

    Raises `InvalidRequest` naming the argument when a reference points at nothing.
    """
    request = scope.request
    resolved = {name: scope.resolve(value) for name, value in task.arguments.items()}
    values = {name: value for name, value in resolved.items() if value is not NOTHING}
    if task.composes:
        values["prompt"] = composition_prompt(task, scope)
    inherited = SAMPLING if last else SAMPLING - LENGTH
    params = {name: value for name, value in request.params.items() if name in inherited}
    if spec.is_tool:
        defaults = {name: a.default for name, a in spec.arguments.items() if a.default is not None}
        inputs = {name: json_payload(plain(value)) for name, value in (defaults | values).items()}
        return Call(inputs=inputs, params=params, operation="tool", context=request.context)
    parts = [_attachment(values[kind.value], kind, task) for kind in ATTACHMENTS if kind.value in values]
    prompt = _prompt(values)
    content = (*((text_payload(prompt),) if prompt else ()), *parts) if parts else prompt
    return Call((*_before(request, spec), Message("user", content)), {}, params, context=request.context)


def _before(request: Call, spec: NodeSpec) -> Iterator[Message]:
    """Yield the messages before the request's text; their attachments, which tasks get by reference, are only named."""
    if Modality.TEXT not in spec.accepts:
        return
    asked = max((i for i, m in enumerate(request.messages) if m.role == "user"), default=len(request.messages) - 1)
    for message in request.messages[: max(asked, 0)]:
        parts = message.content if isinstance(message.content, tuple) else ()
        yield replace(message, content="\n".join(part.text for part in parts)) if parts else message


def _prompt(values: Mapping[str, Any]) -> str:
    context = values.get("context") or ()
    texts = [as_text(item) for item in (context if isinstance(context, (list, tuple)) else [context])]
    prompt = as_text(values.get("prompt", ""))
    return "\n\n".join([*(text for text in texts if text.strip()), prompt]).strip()


def _attachment(value: Any, kind: Modality, task: Task) -> Payload:
    if isinstance(value, Payload) and value.modality is kind:
        return value
    found = value.modality.value if isinstance(value, Payload) else type(value).__name__
    raise InvalidRequest(f"task {task.id!r}: argument {kind.value!r} needs {kind.value}, got {found}", param=kind.value)


def as_text(value: Any) -> str:
    """Return a resolved value as the text that a model reads."""
    if isinstance(value, Payload):
        return value.text
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
