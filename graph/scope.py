"""What references and expressions of a task see: outputs, the request, and names of the task itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graph.errors import InvalidRequest
from graph.expressions.effort import Effort
from graph.expressions.evaluation import evaluate, holds
from graph.expressions.functions import INDEX
from graph.expressions.parser import Expression
from graph.expressions.syntax import Absent
from graph.types import Call, Json, Modality, Payload, Reply
from graph.values import REQUEST, Ref, Value

NOTHING = object()
"""The value of a name that stands for nothing yet."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Values by name, as far as they are known."""

    replies: Mapping[str, Reply]
    """Of the tasks that ended well."""
    request: Call
    states: Mapping[str, str] = field(default_factory=dict)
    """How each task that has ended did."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """`item`, `index`, `previous`, `output`."""
    effort: Effort = field(default_factory=Effort, compare=False, repr=False)

    def naming(self, **names: Any) -> Scope:
        """Return the same scope with more names."""
        return replace(self, names={**self.names, **names}, effort=Effort())

    def resolve(self, value: Value) -> Any:
        """Replace every reference and expression inside a value; what comes back may contain payloads."""
        if isinstance(value, Ref):
            return self.effort.give(self._referred(value))
        if isinstance(value, Expression):
            return self.effort.give(evaluate(value, self._value, self._state, self.effort))
        if isinstance(value, Mapping):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.resolve(item) for item in value]
        return value

    def holds(self, condition: Expression) -> bool:
        """Say whether a condition is true."""
        return holds(condition, self._value, self._state, self.effort)

    def text(self, expression: Expression) -> str:
        """Return the value of an expression as people read it."""
        found = self.effort.give(evaluate(expression, self._value, self._state, self.effort))
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    def _referred(self, ref: Ref) -> Any:
        if ref.task in self.names:
            found = self.names[ref.task]
            return found if found is NOTHING or not ref.path else _walk(self._fields(found), ref.path, ref)
        if ref.task == REQUEST:
            return _request_value(ref, self.request)
        return self._reply_value(ref, self.replies[ref.task])

    def _reply_value(self, ref: Ref, reply: Reply) -> Any:
        payload = reply.payload
        if not ref.path or (ref.path == ("text",) and payload.modality is Modality.TEXT):
            return payload.value if payload.modality is Modality.JSON else payload
        value = payload.value
        if payload.modality is Modality.TEXT:
            value = self._fields(value)
            if isinstance(value, str):
                raise InvalidRequest(f"{ref}: the output is text and has no fields", param="plan")
        return _walk(value, ref.path, ref)

    def _fields(self, value: Any) -> Any:
        """Return what has fields: what a text says that is JSON, and any other value as it is."""
        found = value.value if isinstance(value, Payload) else value
        return self.effort.read(found) if isinstance(found, str) else found

    def _state(self, task: str) -> str:
        return self.states.get(task, "ok" if task in self.replies else "skipped")

    def _value(self, source: str) -> Json:
        """Return a source as an expression sees it."""
        if source in self.names:
            if self.names[source] is NOTHING:
                raise Absent(f"{source}: there is none yet")
            return self.effort.source(source, lambda: _readable(self.names[source], source))
        if source == REQUEST:
            return self.effort.source(source, lambda: _request_fields(self.request))
        if source not in self.replies:
            raise Absent(f"task {source!r} gave no output: it is {self._state(source)}; guard it by has() or default()")
        return _readable(self.replies[source].payload, source)


def _readable(value: Any, source: str) -> Json:
    if isinstance(value, Payload):
        if value.modality not in (Modality.TEXT, Modality.JSON):
            message = f"{source} is {value.modality.value}, which expressions cannot read; pass it by a $ref"
            raise InvalidRequest(message, param="plan")
        return value.value
    return plain(value)


def _request_fields(request: Call) -> Json:
    return {
        "text": request.text,
        "inputs": {name: plain(payload) for name, payload in request.inputs.items()},
        **{
            kind.value: [part.media_type for part in request.attachments if part.modality is kind]
            for kind in (Modality.AUDIO, Modality.IMAGE)
        },
    }


def _request_value(ref: Ref, request: Call) -> Any:
    match ref.path:
        case ("text",) | ():
            return request.text
        case ("audio" | "image" as kind, *rest):
            found = [part for part in request.attachments if part.modality == kind]
            index = int(rest[0]) if rest and INDEX.fullmatch(rest[0]) else 0
            if 0 <= index < len(found):
                return found[index]
            raise InvalidRequest(f"{ref}: the request has {len(found)} {kind} attachment(s)", param=kind)
        case ("inputs", name, *rest) if name in request.inputs:
            return _walk(request.inputs[name].value, rest, ref)
    raise InvalidRequest(f"{ref}: the request has text, audio.N, image.N and inputs.NAME", param="plan")


def parsed(value: Any) -> Any:
    """Return what a text that is JSON says, and any other value as it is."""
    text = value.value if isinstance(value, Payload) else value
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


def _walk(value: Json, path: Sequence[str], ref: Ref) -> Json:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and INDEX.fullmatch(step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            has = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise InvalidRequest(f"{ref}: no field {step!r}; there is {has}", param="plan")
    return value


def plain(value: Any) -> Json:
    """Return a resolved value with payloads replaced by their content, as JSON."""
    if isinstance(value, Payload):
        return value.value if value.modality in (Modality.TEXT, Modality.JSON) else value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
