"""A chat request as OpenAI clients send it, and the `Call` that it becomes."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from deployments.http_errors import invalid
from deployments.nodes.schema_bounds import is_deeper
from graph.errors import InvalidRequest, PayloadTooLarge, UnsupportedParameter
from graph.types import Call, CallContext, Message, Modality, Payload, text_payload

HARMLESS = frozenset({"metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier", "verbosity"})
"""Fields that tell a provider about the caller and change no answer: taken, and sent on to no node."""
NEUTRAL: dict[str, Any] = {
    "n": 1, "store": False, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0, "tools": [],
    "logit_bias": {}, "response_format": {"type": "text"}, "modalities": ["text"], "stop": [],
}  # fmt: skip
"""Values that ask for nothing: a node need not support the field to honour them."""

MAX_PARTS = 10_000
"""Parts and tool calls of all messages together."""
MAX_STOPS = 1000
MAX_LEVELS = 100
"""Objects and lists inside each other, in a field that is sent on: what is deeper cannot be sent to a node."""
MAX_ATTACHMENT_BYTES = 25 * 2**20
"""Of one image or recording, decoded."""
MAX_ATTACHMENTS = 64
"""Of all messages together."""

_NO_CONTEXT = CallContext()
_NOT_PARAMS = frozenset({"model", "messages", "stream", "stream_options"}) | HARMLESS


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Model):
    """Text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Model):
    """Where an image is: an address, or the bytes as a data URL."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Model):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(_Model):
    """A recording in base64."""

    data: str
    format: Literal["wav", "mp3", "m4a", "ogg", "flac", "webm"] = "wav"


class AudioPart(_Model):
    """A recording."""

    type: Literal["input_audio"]
    input_audio: InputAudio


Part = Annotated[TextPart | ImagePart | AudioPart, Field(discriminator="type")]


class ChatMessage(_Model):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    def to_message(self, index: int) -> Message:
        """Return the domain's form; decode attachments."""
        if self.content is None and not self.tool_calls:
            raise InvalidRequest("is required, unless the message has tool_calls", param=f"messages.{index}.content")
        given = (("name", self.name), ("tool_calls", self.tool_calls), ("tool_call_id", self.tool_call_id))
        extra = {name: value for name, value in given if value is not None}
        _check_levels(extra, f"messages.{index}.")
        if not isinstance(self.content, list):
            return Message(self.role, self.content, extra)
        parts = tuple(_payload(part, f"messages.{index}.content.{at}") for at, part in enumerate(self.content))
        return Message(self.role, parts, extra)


def _few_parts(messages: Any) -> Any:
    """Count before anything is validated: a body has room for millions of faults, and each would be reported."""
    if isinstance(messages, list):
        lists = (m.get(key) for m in messages if isinstance(m, dict) for key in ("content", "tool_calls"))
        if sum(len(found) for found in lists if isinstance(found, list)) > MAX_PARTS:
            raise ValueError(f"hold more than {MAX_PARTS} parts and tool calls")
    return messages


Messages = Annotated[list[ChatMessage], BeforeValidator(_few_parts), Field(min_length=1)]


class StreamOptions(BaseModel):
    """Settings of a streamed answer."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`. Fields beyond these go to nodes that support them, and are refused by others."""

    model_config = ConfigDict(extra="allow")

    model: str = Field("auto", min_length=1, max_length=200)
    messages: Messages
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = Field(None, max_length=1000)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: dict[str, Any] | None = None
    user: str | None = None

    @classmethod
    def parse(cls, data: Any, *, max_messages: int) -> ChatRequest:
        """Validate decoded JSON; raise `InvalidRequest` naming the field at fault."""
        messages = data.get("messages") if isinstance(data, dict) else None
        if isinstance(messages, list) and len(messages) > max_messages:
            raise InvalidRequest(f"{len(messages)} messages; at most {max_messages} are taken", param="messages")
        try:
            request = cls.model_validate(data)
        except ValidationError as error:
            raise invalid(error, form=cls) from None
        if request.n not in (None, 1):
            raise UnsupportedParameter("n must be 1: one answer is given for a request", param="n")
        return request

    def to_call(self, context: CallContext = _NO_CONTEXT) -> Call:
        """Return the call, its params being only what asks something of a node."""
        messages = tuple(message.to_message(index) for index, message in enumerate(self.messages))
        if sum(len(message.attachments) for message in messages) > MAX_ATTACHMENTS:
            raise PayloadTooLarge(f"more than {MAX_ATTACHMENTS} attachments", param="messages")
        if not any(m.text.strip() or m.attachments or m.extra.get("tool_calls") for m in messages):
            raise InvalidRequest("no message holds any text or attachment", param="messages")
        return Call(messages, params=self._params(), stream=self.stream, context=context)

    def _params(self) -> dict[str, Any]:
        # Read one by one: dumping the model would take longer than all else that is done with it.
        asked = {name: getattr(self, name) for name in sorted(self.model_fields_set - _NOT_PARAMS)}
        given = {
            name: value
            for name, value in asked.items()
            if value is not None and not (name in NEUTRAL and value == NEUTRAL[name])
        }
        if "tools" not in given:
            for name in ("tool_choice", "parallel_tool_calls"):
                given.pop(name, None)
        _check_levels(given)
        return given


def _check_levels(fields: dict[str, Any], where: str = "") -> None:
    for name, value in fields.items():
        if is_deeper(value, MAX_LEVELS):
            message = f"more than {MAX_LEVELS} objects and lists inside each other; at most so many are taken"
            raise InvalidRequest(message, param=f"{where}{name}")


def _payload(part: TextPart | ImagePart | AudioPart, where: str) -> Payload:
    if isinstance(part, TextPart):
        return text_payload(part.text)
    if isinstance(part, AudioPart):
        audio = part.input_audio
        return Payload(Modality.AUDIO, _decoded(audio.data, f"{where}.input_audio.data"), f"audio/{audio.format}")
    return image_payload(part.image_url.url, f"{where}.image_url.url")


def image_payload(url: str, where: str) -> Payload:
    """Return an image given as a data URL or by its address."""
    if url.startswith(("http://", "https://")):
        return Payload(Modality.IMAGE, url)
    head, separator, data = url.partition(",")
    if not separator or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise InvalidRequest("must be an https:// address or data:image/…;base64,…", param=where)
    return Payload(Modality.IMAGE, _decoded(data, where), head.removeprefix("data:").removesuffix(";base64"))


def _decoded(data: str, where: str) -> bytes:
    if len(data) // 4 * 3 > MAX_ATTACHMENT_BYTES + 2:
        raise PayloadTooLarge(f"the attachment has more than {MAX_ATTACHMENT_BYTES} bytes", param=where)
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("is not base64", param=where) from None
    if not decoded:
        raise InvalidRequest("is empty", param=where)
    if len(decoded) > MAX_ATTACHMENT_BYTES:
        raise PayloadTooLarge(f"the attachment has more than {MAX_ATTACHMENT_BYTES} bytes", param=where)
    return decoded
