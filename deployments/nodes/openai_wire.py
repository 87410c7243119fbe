"""OpenAI's JSON: what a call looks like on the way out, and what an answer means on the way in."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from deployments.nodes.chat import check_role, refuse_attachments
from deployments.sse import EventTooLarge, ServerSentEvent, SseParser
from deployments.upstream_errors import body_error, hide
from graph.errors import ContentRefused, ContextTooLong, InvalidRequest, ModelyardError, StreamBroken
from graph.spec import NodeSpec
from graph.types import Call, Delta, FinishReason, Message, Modality, Payload, Usage

_ATTACHED: Final = (Modality.AUDIO, Modality.IMAGE)
_REASONS: Final[Mapping[str, FinishReason]] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Finish reasons of OpenAI and of servers that name them otherwise; any other is a stop."""
_CUT: Final = "the upstream cut its answer"
AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/webm": "webm",
}
"""Media type of a recording to the name that OpenAI gives its format."""


def chat_messages(spec: NodeSpec, call: Call) -> list[dict[str, Any]]:
    """Return the messages to send: the node's system prompt first, its template around the last user message.

    Raises `InvalidRequest` for no messages, an unknown role, or an attachment that the node does not accept.
    """
    refuse_attachments(spec, call, spec.accepts)
    loose = [part for part in call.inputs.values() if part.modality in _ATTACHED]
    messages = call.messages or ((Message("user", None),) if loose else ())
    if not messages:
        raise InvalidRequest("messages is empty; send at least one message", param="messages", node=spec.name)
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    sent = [{"role": "system", "content": spec.system_prompt}] if spec.system_prompt else []
    for index, message in enumerate(messages):
        check_role(spec, index, message)
        if index == last and (spec.template or loose):
            message = _dressed(spec, message, loose)
        sent.append(_message(message))
    return sent


def _dressed(spec: NodeSpec, message: Message, loose: Sequence[Payload]) -> Message:
    """Put the node's template around a message's text, and the call's loose attachments after it."""
    text = spec.template.replace("{input}", message.text) if spec.template else message.text
    parts = [*message.attachments, *loose]
    if not parts:
        return Message(message.role, text, message.extra)
    first = (Payload(Modality.TEXT, text),) if text else ()
    return Message(message.role, (*first, *parts), message.extra)


def _message(message: Message) -> dict[str, Any]:
    content = message.content
    sent = content if content is None or isinstance(content, str) else [_part(part) for part in content]
    return {**message.extra, "role": message.role, "content": sent}


def _part(part: Payload) -> dict[str, Any]:
    if part.modality is Modality.IMAGE:
        return {"type": "image_url", "image_url": {"url": _address(part, "image/png")}}
    if part.modality is Modality.AUDIO:
        if isinstance(part.value, str) and not part.value.startswith("data:"):
            return {"type": "audio_url", "audio_url": {"url": part.value}}
        return {"type": "input_audio", "input_audio": _audio(part)}
    return {"type": "text", "text": part.text}


def _audio(part: Payload) -> dict[str, str]:
    if isinstance(part.value, bytes):
        data, media_type = base64.b64encode(part.value).decode(), part.media_type or "audio/wav"
    else:
        head, _, data = part.value.partition(",")
        media_type = head.removeprefix("data:").partition(";")[0]
    return {"data": data, "format": audio_format(media_type)}


def audio_format(media_type: str | None) -> str:
    """Return OpenAI's name for a recording's format."""
    bare = (media_type or "audio/wav").partition(";")[0].strip().lower()
    return AUDIO_FORMATS.get(bare, bare.rpartition("/")[2])


def _address(part: Payload, default: str) -> str:
    if isinstance(part.value, str):
        return part.value
    return f"data:{part.media_type or default};base64,{base64.b64encode(part.value).decode()}"


def read_json(body: bytes, node: str, hidden: Sequence[str] = ()) -> dict[str, Any]:
    """Read a whole answer. Raises `StreamBroken` if it is not a JSON object; an error inside it becomes ours."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise StreamBroken(f"node {node!r}: the upstream's answer is not JSON", node=node) from None
    if not isinstance(data, dict):
        raise StreamBroken(f"node {node!r}: the upstream's answer is not a JSON object", node=node)
    if data.get("error"):
        raise _reported(data["error"], node, hidden, began=False)
    return data


def whole_delta(data: Mapping[str, Any], node: str) -> Delta:
    """Turn a `chat.completion` into one delta. Raises `StreamBroken` if it is not one."""
    try:
        choice = data["choices"][0]
        message = choice["message"]
        calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls") or ())]
        if not all(_is_call(call) and call["function"]["name"] for call in calls):
            raise TypeError("tool_calls")
        return Delta(
            text=_text(message.get("content") if calls or message.get("refusal") else message["content"]),
            tool_calls=tuple(calls),
            refusal=_text(message.get("refusal")),
            logprobs=_logprobs(choice.get("logprobs")),
            usage=usage(data.get("usage")),
            finish_reason=_finish(choice.get("finish_reason"), bool(calls)),
            model=_name(data.get("model")),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise StreamBroken(f"node {node!r}: the upstream's answer is not a chat completion", node=node) from None


def usage(data: Any) -> Usage | None:
    """Read OpenAI's usage object; None for anything else."""
    if not isinstance(data, dict):
        return None
    prompt, completion = data.get("prompt_tokens") or 0, data.get("completion_tokens") or 0
    return Usage(prompt, completion) if all(isinstance(n, int) and n >= 0 for n in (prompt, completion)) else None


def _finish(reason: Any, called: bool) -> FinishReason:
    return _REASONS.get(str(reason), "tool_calls" if called and reason is None else "stop")


def _is_call(call: Mapping[str, Any]) -> bool:
    """Say whether this is a tool call, or a piece of one."""
    function = call.get("function") or {}
    texts = (call.get("id"), function.get("name"), function.get("arguments"))
    return isinstance(call.get("index", 0), int) and all(text is None or isinstance(text, str) for text in texts)


def _logprobs(data: Any) -> dict[str, Any] | None:
    return data if isinstance(data, dict) and isinstance(data.get("content") or [], list) else None


def _name(model: Any) -> str | None:
    return model if isinstance(model, str) else None


def _text(content: Any) -> str:
    """Return a message's content as text: some servers send it in parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


class ChatStream:
    """Reads one streamed chat completion: bytes in, deltas out, nothing held back but the end.

    The end waits for the usage, which comes after the finish reason; `last` gives both together.
    """

    def __init__(self, node: str, hidden: Sequence[str] = ()) -> None:
        self.done = False
        """Whether the stream said that it is over (`[DONE]`)."""
        self._node = node
        self._hidden = hidden
        self._parser = SseParser()
        self._began = False
        self._called = False
        self._reason: Any = None
        self._usage: Usage | None = None
        self._model: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete; only its usage may be missing."""
        return self._reason is not None

    @property
    def counted(self) -> bool:
        """Whether its usage is there, too."""
        return self._usage is not None

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes. Raises `StreamBroken` for what is not a chunk, or what an error event means."""
        try:
            return self._deltas(self._parser.feed(data))
        except EventTooLarge as error:
            raise self._broken(str(error)) from None

    def end(self) -> list[Delta]:
        """Take what was left when the upstream closed the connection."""
        return [] if self.done else self._deltas(self._parser.end())

    def last(self) -> Delta:
        """Return the delta that ends the answer. Raises `StreamBroken` if the stream was cut before."""
        if not self.finished:  # `[DONE]` alone proves nothing: proxies say it after an answer that was cut for them
            raise self._broken("the upstream ended its answer without a finish_reason" if self.done else _CUT)
        return Delta(usage=self._usage, finish_reason=_finish(self._reason, self._called), model=self._model)

    def _deltas(self, events: Sequence[ServerSentEvent]) -> list[Delta]:
        deltas = []
        for event in events:
            if event.data == b"[DONE]":
                self.done = True
                break
            try:
                delta = self._delta(event.data)
            except ModelyardError:
                if not self.finished:
                    raise
                self.done = True  # the answer is complete; what is wrong with its tail no longer matters
                break
            if delta is not None:
                self._began = True
                deltas.append(delta)
        return deltas

    def _delta(self, data: bytes) -> Delta | None:
        try:
            chunk = orjson.loads(data)
            if chunk.get("error"):
                raise _reported(chunk["error"], self._node, self._hidden, began=self._began)
            self._usage = usage(chunk.get("usage")) or self._usage
            self._model = _name(chunk.get("model")) or self._model
            choices = chunk["choices"]
            if not choices or choices[0].get("index"):
                return None
            choice = choices[0]
            # Checked before it is believed: a chunk that is garbled must not end the answer.
            delta = self._step(choice.get("delta") or {}, _logprobs(choice.get("logprobs")))
            reason = choice.get("finish_reason")
            if reason is not None and not isinstance(reason, str):
                raise TypeError("finish_reason")
            self._reason = reason or self._reason
            return delta
        except (orjson.JSONDecodeError, AttributeError, KeyError, IndexError, TypeError):
            raise self._broken("the upstream sent a chunk that is not one of a chat completion") from None

    def _step(self, step: Mapping[str, Any], logprobs: Any) -> Delta | None:
        text, refusal, calls = step.get("content"), step.get("refusal"), step.get("tool_calls")
        if not (text or refusal or calls or logprobs):
            return None  # the role, an empty text, or the end: nothing to pass on
        self._called = self._called or bool(calls)
        if not all(_is_call(call) for call in calls or ()):
            raise TypeError("tool_calls")
        return Delta(
            text=_text(text),
            tool_calls=tuple(calls or ()),
            refusal=_text(refusal),
            logprobs=logprobs,
            model=self._model,
        )

    def _broken(self, words: str) -> StreamBroken:
        return StreamBroken(f"node {self._node!r}: {words}", node=self._node)


def _reported(error: Any, node: str, hidden: Sequence[str], *, began: bool) -> ModelyardError:
    """Translate an error object that came with a 200. Once an answer began, it is a broken stream."""
    found = error if isinstance(error, dict) else {"message": str(error)}
    code = found.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    ours = body_error(status or 400, found, node, hidden)
    if isinstance(ours, (ContextTooLong, ContentRefused)):
        return ours
    if began:
        message = hide(str(found.get("message") or "no reason given"), hidden)[:300]
        return StreamBroken(f"node {node!r}: the upstream broke off: {message}", node=node)
    return ours if status else body_error(500, found, node, hidden)
