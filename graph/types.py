"""Values that cross every boundary: payloads, messages, calls, and what a node streams back.

All are frozen. A `Call` and its `Delta`s are what travels between the gateway and a node, in one process or over a
Ray handle, so nothing here may hold a socket, a lock or a web framework's object.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from graph.caller import Caller
from graph.context import CallContext as CallContext
from graph.usage import Usage as Usage

NodeName: TypeAlias = str
Json: TypeAlias = Any
Operation: TypeAlias = Literal["chat", "embeddings", "transcribe", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Modality(StrEnum):
    """What a payload is, and what a node accepts and produces."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Payload:
    """One piece of content: text, a JSON value, or bytes (or an address) of an image or a recording."""

    modality: Modality
    value: Any
    """`str` for text, any JSON value for json, `bytes` or a URL `str` for image and audio."""
    media_type: str | None = None

    @property
    def text(self) -> str:
        """The payload as text: itself, or its JSON; a binary payload is named, never dumped."""
        if self.modality is Modality.TEXT:
            return str(self.value)
        if self.modality is Modality.JSON:
            return json.dumps(self.value, ensure_ascii=False)
        return f"[{self.modality.value}]"

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that `from_json` reads back; bytes travel as base64."""
        binary = isinstance(self.value, bytes)
        value = base64.b64encode(self.value).decode() if binary else self.value
        return {"modality": self.modality.value, "value": value, "media_type": self.media_type, "base64": binary}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Payload:
        """Read what `to_json` wrote."""
        value = base64.b64decode(data["value"]) if data.get("base64") else data["value"]
        return cls(Modality(data["modality"]), value, data.get("media_type"))


def text_payload(value: str) -> Payload:
    """Wrap a string."""
    return Payload(Modality.TEXT, value)


def json_payload(value: Json) -> Payload:
    """Wrap a JSON value."""
    return Payload(Modality.JSON, value)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, in the terms of the OpenAI chat API."""

    role: str
    content: str | tuple[Payload, ...] | None
    extra: Mapping[str, Json] = field(default_factory=dict)
    """`name`, `tool_calls`, `tool_call_id`: passed to the model as they came."""

    @property
    def text(self) -> str:
        """The text of the message, without its attachments."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.modality is Modality.TEXT)

    @property
    def attachments(self) -> tuple[Payload, ...]:
        """The parts that are not text."""
        if self.content is None or isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if part.modality is not Modality.TEXT)

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that `from_json` reads back."""
        content: Json = self.content
        if isinstance(content, tuple):
            content = [part.to_json() for part in content]
        return {"role": self.role, "content": content, "extra": dict(self.extra)}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Message:
        """Read what `to_json` wrote."""
        content = data["content"]
        if isinstance(content, list):
            content = tuple(Payload.from_json(part) for part in content)
        return cls(data["role"], content, data.get("extra", {}))


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one node."""

    messages: tuple[Message, ...] = ()
    inputs: Mapping[str, Payload] = field(default_factory=dict)
    """Named arguments: typed ones of a tool, `audio` and `image` attachments, `input` for embeddings."""
    params: Mapping[str, Json] = field(default_factory=dict)
    """Sampling and format settings in OpenAI's names: temperature, max_tokens, tools, …"""
    operation: Operation = "chat"
    stream: bool = False
    """Whether the caller wants tokens as they come; a node may stream anyway."""
    resets: bool = False
    """Whether the caller can throw away what it got when a delta with `reset` comes (after a retry or a fallback)."""
    context: CallContext = field(default_factory=CallContext)

    @property
    def text(self) -> str:
        """The text that says what is wanted: the last user message."""
        asked = next((message for message in reversed(self.messages) if message.role == "user"), None)
        last = asked or (self.messages[-1] if self.messages else None)
        return last.text if last else ""

    @property
    def attachments(self) -> tuple[Payload, ...]:
        """Every attachment, of the messages and of the named inputs."""
        parts = [part for message in self.messages for part in message.attachments]
        parts += [p for p in self.inputs.values() if p.modality in (Modality.AUDIO, Modality.IMAGE)]
        return tuple(parts)

    @property
    def modalities(self) -> frozenset[Modality]:
        """What a node must accept to take this call."""
        found = {part.modality for part in self.attachments}
        if any(message.text for message in self.messages):
            found.add(Modality.TEXT)
        return frozenset(found or {Modality.TEXT})

    def with_context(self, **changes: Any) -> Call:
        """Return the same call in a changed context."""
        context = replace(self.context, **changes)
        return Call(self.messages, self.inputs, self.params, self.operation, self.stream, self.resets, context)

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that `from_json` reads back: what is asked, not how this caller takes the answer."""
        return {
            "messages": [message.to_json() for message in self.messages],
            "inputs": {name: payload.to_json() for name, payload in self.inputs.items()},
            "params": dict(self.params),
            "operation": self.operation,
            "request_id": self.context.request_id,
            "caller": self.context.caller.to_json() if self.context.caller else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Call:
        """Read what `to_json` wrote."""
        return cls(
            tuple(Message.from_json(item) for item in data["messages"]),
            {name: Payload.from_json(item) for name, item in data["inputs"].items()},
            data["params"],
            data["operation"],
            context=CallContext(request_id=data["request_id"], caller=Caller.from_json(data.get("caller"))),
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a node's answer. A stream of them ends with one that has a `finish_reason`.

    A stream that ends without a finish reason was cut: whoever collects it must treat it as an error.
    """

    text: str = ""
    payload: Payload | None = None
    tool_calls: tuple[Mapping[str, Json], ...] = ()
    """OpenAI's streamed form: index, id, type, function{name, arguments}; fragments join by index."""
    refusal: str = ""
    logprobs: Json = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    model: str | None = None
    node: NodeName | None = None
    reset: bool = False
    """Everything before this delta is void: another attempt begins. Only sent to calls that allow `resets`."""
    attempt: int = 0
    """How many attempts the answer took in all; set on the last delta by whoever retries. 0 says nothing: one."""
    escalated: tuple[NodeName, ...] = ()
    """Nodes that were asked before, whose answers were not good enough; on the first delta."""
    cached: bool = False
    """Nothing was asked: the node had answered the same call before."""

    def named(self, node: NodeName) -> Delta:
        """Return the same step, said to come from a node."""
        return Delta(
            self.text,
            self.payload,
            self.tool_calls,
            self.refusal,
            self.logprobs,
            self.usage,
            self.finish_reason,
            self.model,
            node,
            self.reset,
            self.attempt,
            self.escalated,
            self.cached,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A collected stream."""

    payload: Payload
    usage: Usage | None
    finish_reason: FinishReason
    node: NodeName
    model: str
    tool_calls: tuple[Mapping[str, Json], ...] = ()
    refusal: str = ""
    logprobs: Json = None
    escalated: tuple[NodeName, ...] = ()
    """Nodes that were asked before, whose answers were not good enough."""

    @property
    def text(self) -> str:
        """The answer as text."""
        return self.payload.text

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that `from_json` reads back."""
        return {
            "payload": self.payload.to_json(),
            "usage": self.usage.to_record() if self.usage else None,
            "finish_reason": self.finish_reason,
            "node": self.node,
            "model": self.model,
            "tool_calls": list(self.tool_calls),
            "refusal": self.refusal,
            "logprobs": self.logprobs,
            "escalated": list(self.escalated),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Reply:
        """Read what `to_json` wrote."""
        usage = data["usage"]
        return cls(
            Payload.from_json(data["payload"]),
            Usage.from_record(usage) if usage else None,
            data["finish_reason"],
            data["node"],
            data["model"],
            tuple(data["tool_calls"]),
            data["refusal"],
            data.get("logprobs"),
            tuple(data.get("escalated", ())),
        )
