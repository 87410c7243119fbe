"""What every chat model needs of a call: messages in OpenAI's form, with the node's own instructions around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graph.errors import InvalidRequest
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def chat_messages(spec: NodeSpec, call: Call) -> list[dict[str, Any]]:
    """Return the call's messages as text messages, the node's system prompt and template applied.

    Raises `InvalidRequest` for no messages, an unknown role, or an attachment: a text model would not see it.
    """
    if not call.messages:
        raise InvalidRequest("messages is empty; send at least one message", param="messages", node=spec.name)
    refuse_attachments(spec, call, frozenset())
    messages = [_message(spec, index, message) for index, message in enumerate(call.messages)]
    _apply_template(spec, messages)
    return _with_system_prompt(spec, messages)


def refuse_attachments(spec: NodeSpec, call: Call, taken: frozenset[Modality]) -> None:
    """Raise `InvalidRequest` if the call carries an image or a recording that the node does not take."""
    for part in call.attachments:
        if part.modality not in taken and part.modality is not Modality.JSON:
            wanted = ", ".join(sorted({Modality.TEXT, *taken}))
            raise InvalidRequest(
                f"node {spec.name!r} does not take {part.modality.value}; it takes {wanted}",
                param="messages",
                node=spec.name,
            )


def prompt_text(spec: NodeSpec, call: Call) -> str:
    """Return the text that the call asks about, the node's template applied. Raises `InvalidRequest` if empty."""
    text = call.text
    if not text.strip():
        raise InvalidRequest("the last user message has no text", param="messages", node=spec.name)
    return spec.template.replace("{input}", text) if spec.template else text


def stop_strings(spec: NodeSpec, params: Any) -> Sequence[str]:
    """Return the call's `stop` as a list. Raises `InvalidRequest` if it is neither text nor a list of texts."""
    stop = params.get("stop")
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(item, str) and item for item in stops):
        raise InvalidRequest("stop must be a text or a list of texts", param="stop", node=spec.name)
    return stops


def max_tokens(spec: NodeSpec, params: Any, default: int | None) -> int | None:
    """Return how many tokens the answer may have. Raises `InvalidRequest` for anything but a count from 1."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = params.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidRequest(f"{name} must be a whole number from 1; got {value!r}", param=name, node=spec.name)
        return value
    return default


def number(spec: NodeSpec, params: Any, name: str, low: float, high: float) -> float | None:
    """Return a numeric field of the call, or None if it has none. Raises `InvalidRequest` if it is out of range."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(
            f"{name} must be a number from {low:g} to {high:g}; got {value!r}", param=name, node=spec.name
        )
    return float(value)


def check_role(spec: NodeSpec, index: int, message: Message) -> None:
    """Raise `InvalidRequest` if the message at this index has a role that no chat model knows."""
    if message.role not in ROLES:
        raise InvalidRequest(
            f"messages[{index}].role {message.role!r} is unknown; use one of {', '.join(sorted(ROLES))}",
            param="messages",
            node=spec.name,
        )


def _message(spec: NodeSpec, index: int, message: Message) -> dict[str, Any]:
    check_role(spec, index, message)
    role = "system" if message.role == "developer" else message.role
    content = message.content
    text = content if content is None or isinstance(content, str) else "\n".join(part.text for part in content)
    return {**message.extra, "role": role, "content": text}


def _apply_template(spec: NodeSpec, messages: list[dict[str, Any]]) -> None:
    if spec.template is None:
        return
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] = spec.template.replace("{input}", message["content"] or "")
            return


def _with_system_prompt(spec: NodeSpec, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # One system message at the front: many chat templates take no second one.
    leading = [message for message in messages if message["role"] == "system"]
    texts = [text for text in [spec.system_prompt, *(m["content"] for m in leading)] if text]
    rest = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(texts)}, *rest] if texts else rest
