"""Nodes as tools of the Model Context Protocol: what they are called with, and what their answers look like.

Imported only where the package `mcp` is known to be installed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import AudioContent, CallToolResult, ImageContent, TextContent, Tool, ToolAnnotations

from deployments.api.chat_request import ChatRequest
from graph.errors import InvalidRequest, ModelyardError
from graph.spec import Argument, NodeSpec
from graph.types import Call, CallContext, Modality, Payload, Reply, json_payload

PROMPT: Final = {"type": "string", "description": "What is asked, in words"}
_ATTACHMENTS: Final[Mapping[Modality, dict[str, Any]]] = {
    Modality.AUDIO: {
        "type": "object",
        "description": "A recording",
        "properties": {
            "data": {"type": "string", "description": "The recording in base64"},
            "format": {"type": "string", "enum": ["wav", "mp3", "m4a", "ogg", "flac", "webm"]},
        },
        "required": ["data", "format"],
    },
    Modality.IMAGE: {"type": "string", "description": "An image: its address, or data:image/…;base64,…"},
}


def own_tools() -> list[Tool]:
    """Return the tools that are the service itself."""
    schema = {"type": "object", "properties": {"prompt": PROMPT}, "required": ["prompt"], "additionalProperties": False}
    return [
        Tool(name="auto", title="Ask the best expert", input_schema=schema,
             description="Sends a request to the expert that answers it best, and returns its answer."),
        Tool(name="plan", title="Plan and run", input_schema=schema,
             description="Splits a compound request into sub-tasks, runs them on the experts that fit, and returns the "
                         "answer."),
    ]  # fmt: skip


def node_tool(spec: NodeSpec) -> Tool:
    """Return a node as a tool."""
    return Tool(
        name=spec.name,
        description=spec.description,
        input_schema=_schema(spec),
        annotations=ToolAnnotations(open_world_hint=spec.endpoint is not None),
    )


def _schema(spec: NodeSpec) -> dict[str, Any]:
    if spec.is_tool:
        properties = {name: _argument(argument) for name, argument in spec.arguments.items()}
        required = [name for name, item in spec.arguments.items() if item.required and item.default is None]
    else:
        takes_text = Modality.TEXT in spec.accepts
        attachments = {m.value: schema for m, schema in _ATTACHMENTS.items() if m in spec.accepts}
        properties = ({"prompt": PROMPT} if takes_text else {}) | attachments
        required = ["prompt"] if takes_text else sorted(attachments)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _argument(argument: Argument) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": argument.type}
    if argument.description:
        schema["description"] = argument.description
    if argument.enum:
        schema["enum"] = list(argument.enum)
    if argument.default is not None:
        schema["default"] = argument.default
    if argument.type == "array":
        schema["items"] = {}
    return schema


def tool_call(spec: NodeSpec | None, arguments: Mapping[str, Any], context: CallContext) -> Call:
    """Return the call that a tool's arguments stand for; without a spec, to the service itself."""
    if spec is not None and spec.is_tool:
        inputs = {name: json_payload(value) for name, value in arguments.items()}
        return Call(inputs=inputs, operation="tool", context=context)
    known = {"prompt"} | ({m.value for m in _ATTACHMENTS if m in spec.accepts} if spec is not None else set())
    for name in arguments:
        if name not in known:
            raise InvalidRequest(f"unknown argument {name!r}; the tool takes {', '.join(sorted(known))}", param=name)
    parts: list[dict[str, Any]] = []
    if "prompt" in arguments:
        parts.append({"type": "text", "text": arguments["prompt"]})
    if "audio" in arguments:
        parts.append({"type": "input_audio", "input_audio": arguments["audio"]})
    if "image" in arguments:
        parts.append({"type": "image_url", "image_url": {"url": arguments["image"]}})
    content = parts[0]["text"] if len(parts) == 1 and "prompt" in arguments else parts
    request = ChatRequest.parse({"messages": [{"role": "user", "content": content}]}, max_messages=1)
    return request.to_call(context)


def tool_result(reply: Reply, node: str) -> CallToolResult:
    """Return an answer as a tool's result, with the node that gave it."""
    value = reply.payload.value
    structured = value if reply.payload.modality is Modality.JSON and isinstance(value, dict) else None
    content = [_content(reply.payload if reply.payload.value or not reply.refusal else _refusal(reply))]
    return CallToolResult(content=content, structured_content=structured, meta={"modelyard/node": node})


def failed_result(error: ModelyardError) -> CallToolResult:
    """Return an error as a tool's result, which the calling model may read."""
    return CallToolResult(
        content=[TextContent(type="text", text=error.message)], is_error=True, meta={"modelyard/code": error.code}
    )


def _refusal(reply: Reply) -> Payload:
    return Payload(Modality.TEXT, reply.refusal)


def _content(payload: Payload) -> TextContent | ImageContent | AudioContent:
    if payload.modality in (Modality.IMAGE, Modality.AUDIO) and isinstance(payload.value, bytes):
        data = base64.b64encode(payload.value).decode()
        if payload.modality is Modality.IMAGE:
            return ImageContent(type="image", data=data, mime_type=payload.media_type or "image/*")
        return AudioContent(type="audio", data=data, mime_type=payload.media_type or "audio/*")
    text = str(payload.value) if payload.modality in (Modality.IMAGE, Modality.AUDIO) else payload.text
    return TextContent(type="text", text=text)
