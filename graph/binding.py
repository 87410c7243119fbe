"""Turns a task of a plan into a call: references become the values that other tasks produced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graph.errors import InvalidRequest
from graph.plan import REQUEST, Ref, Task, Value
from graph.spec import NodeSpec
from graph.types import Call, Json, Message, Modality, Payload, Reply, json_payload, text_payload

ATTACHMENTS = (Modality.AUDIO, Modality.IMAGE)
LENGTH = frozenset({"max_tokens", "max_completion_tokens"})
SAMPLING = LENGTH | {"temperature", "top_p", "seed"}
"""Settings of the request that every task of its plan inherits."""


def bind(task: Task, spec: NodeSpec, replies: Mapping[str, Reply], request: Call, *, last: bool = True) -> Call:
    """Return the call that a task makes, once the tasks it needs have replied.

    A limit on the length of the answer holds for the `last` tasks only: cut short, an input would mislead. A node that
    reads text also gets the conversation before the request's last user message, for which the task's prompt stands.

    Raises `InvalidRequest` naming the argument when a reference points at nothing.
    """
    values = {name: resolve(value, replies, request) for name, value in task.arguments.items()}
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


def resolve(value: Value, replies: Mapping[str, Reply], request: Call) -> Any:
    """Replace every reference inside a value; what comes back may contain payloads."""
    if isinstance(value, Ref):
        return _request_value(value, request) if value.task == REQUEST else _reply_value(value, replies[value.task])
    if isinstance(value, Mapping):
        return {key: resolve(item, replies, request) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, replies, request) for item in value]
    return value


def _request_value(ref: Ref, request: Call) -> Any:
    match ref.path:
        case ("text",) | ():
            return request.text
        case ("audio" | "image" as kind, *rest):
            found = [part for part in request.attachments if part.modality == kind]
            index = int(rest[0]) if rest and rest[0].isdigit() else 0
            if index < len(found):
                return found[index]
            raise InvalidRequest(f"{ref}: the request has {len(found)} {kind} attachment(s)", param=kind)
        case ("inputs", name, *rest) if name in request.inputs:
            return _walk(request.inputs[name].value, rest, ref)
    raise InvalidRequest(f"{ref}: the request has text, audio.N, image.N and inputs.NAME", param="plan")


def _reply_value(ref: Ref, reply: Reply) -> Any:
    payload = reply.payload
    if not ref.path or (ref.path == ("text",) and payload.modality is Modality.TEXT):
        return payload.value if payload.modality is Modality.JSON else payload
    value = payload.value
    if payload.modality is Modality.TEXT:
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidRequest(f"{ref}: the output is text and has no fields", param="plan") from None
    return _walk(value, ref.path, ref)


def _walk(value: Json, path: Sequence[str], ref: Ref) -> Json:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.lstrip("-").isdigit() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            has = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise InvalidRequest(f"{ref}: no field {step!r}; there is {has}", param="plan")
    return value


def as_text(value: Any) -> str:
    """Return a resolved value as the text that a model reads."""
    if isinstance(value, Payload):
        return value.text
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def plain(value: Any) -> Json:
    """Return a resolved value with payloads replaced by their content, as JSON."""
    if isinstance(value, Payload):
        return value.text if value.modality is Modality.TEXT else value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
