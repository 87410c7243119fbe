"""Kind `openai`: any server that speaks OpenAI's API, remote or local. One call is one request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Final, Literal

import httpx
import orjson
from pydantic import Field

from deployments.guard import AddressGuard
from deployments.nodes.audio import find_audio
from deployments.nodes.openai_wire import ChatStream, audio_format, chat_messages, read_json, usage, whole_delta
from deployments.nodes.remote import (
    Headers,
    UpstreamNode,
    endpoint_problems,
    open_upstream,
    probe,
    secret_problems,
    with_secrets,
)
from deployments.upstream import Answer
from graph.errors import InvalidRequest, NodeRejected, StreamBroken
from graph.node import NodeEnvironment, NodeParams
from graph.spec import SECRET, NodeSpec
from graph.types import Call, Delta, Modality, Operation, Payload, json_payload

_OWN: Final = frozenset({"model", "messages", "input", "stream", "stream_options"})
"""Fields that this kind writes itself."""
_TAIL_S: Final = 1.0
"""How long an answer that is complete waits for its usage, at most."""


class OpenAIParams(NodeParams):
    """Settings of kind `openai`."""

    headers: Headers = Field(default_factory=dict)
    """Headers sent with every request; values may hold `${NAME}`."""
    organization: str | None = None
    project: str | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Fields added to every request; the caller's field of the same name wins. Texts may hold `${NAME}`."""
    stream_usage: bool = True
    """Whether to ask for token counts of a stream; off for a server that refuses `stream_options`."""


class OpenAINode(UpstreamNode):
    """A model behind an OpenAI-compatible API."""

    Params = OpenAIParams
    placement: ClassVar[Literal["gateway", "replica"]] = "gateway"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "embeddings", "transcribe"})
    honours: ClassVar[frozenset[str]] = frozenset(
        "temperature top_p max_tokens max_completion_tokens stop seed presence_penalty frequency_penalty logit_bias "
        "tools tool_choice parallel_tool_calls response_format logprobs top_logprobs user metadata "
        "reasoning_effort".split()
    )

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        super().__init__(spec, environment)
        self._params = OpenAIParams.model_validate(spec.params)
        self._extra: dict[str, Any] = {}
        self._chat_url = httpx.URL()
        self._guard = AddressGuard(allow_private=environment.allow_private)

    async def load(self) -> None:
        """Open the client. The upstream itself is first asked when a call comes."""
        headers = {"accept-encoding": "identity", **self._params.headers}
        if self._params.organization:
            headers["openai-organization"] = self._params.organization
        if self._params.project:
            headers["openai-project"] = self._params.project
        extra = self._params.extra_body
        secrets = [match[0] for match in SECRET.finditer(orjson.dumps(extra).decode())]
        self._extra = with_secrets(extra, self._environment.secret)
        self._upstream, self._base = open_upstream(self._spec, self._environment, headers, also=secrets)
        self._chat_url = self._url("/chat/completions")

    def run(self, call: Call) -> AsyncIterator[Delta]:
        """Answer a chat, embeddings or transcription call with exactly one request to the upstream.

        Embeddings come as a JSON payload, one list of numbers for each input; a transcription as text, or as the
        whole JSON object for `response_format: verbose_json`.
        """
        if call.operation == "embeddings":
            return self._embeddings(call)
        if call.operation == "transcribe":
            return self._transcribe(call)
        if call.operation == "chat":
            self._check_addresses(call)
            return self._stream(call) if call.stream else self._chat(call)
        raise InvalidRequest(
            f"node {self._spec.name!r} takes {', '.join(sorted(self.operations))}; got {call.operation!r}",
            param="model",
            node=self._spec.name,
        )

    async def check(self) -> None:
        """Ask the upstream for its models."""
        await probe(self._opened(), "GET", self._url("/models"), self._spec.name)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing or odd endpoint, a missing model, and what `extra_body` must not hold."""
        found = endpoint_problems(spec)
        if spec.model is None:
            found.append(("model", "is required by kind 'openai': the upstream's own name of the model"))
        found += [
            (f"params.extra_body.{name}", "is written by the kind itself; remove it")
            for name in sorted(_OWN & set(spec.params.get("extra_body") or ()))
        ]
        return found + secret_problems(spec.params.get("extra_body"), "params.extra_body")

    def _check_addresses(self, call: Call) -> None:
        """Raise `InvalidRequest` for an attachment that the upstream would fetch from where callers may not look."""
        for part in call.attachments:
            if isinstance(part.value, str) and not part.value.startswith("data:"):
                try:
                    self._guard.check_given(part.value)
                except NodeRejected as error:
                    what = f"{part.modality.value}_url"
                    raise InvalidRequest(f"{what}: {error.message}", param=what, node=self._spec.name) from None

    async def _chat(self, call: Call) -> AsyncIterator[Delta]:
        answer = await self._ask(call, self._chat_url, self._body(call, messages=chat_messages(self._spec, call)))
        yield whole_delta(read_json(await answer.read(), self._spec.name, self._opened().hidden), self._spec.name)

    async def _stream(self, call: Call) -> AsyncIterator[Delta]:
        body = self._body(call, messages=chat_messages(self._spec, call), stream=True)
        if self._params.stream_usage:
            body["stream_options"] = {"include_usage": True}
        answer = await self._ask(call, self._chat_url, body)
        try:
            if answer.media_type == "application/json":  # a server that cannot stream, or an error with a 200
                data = read_json(await answer.read(), self._spec.name, self._opened().hidden)
                yield whole_delta(data, self._spec.name)
                return
            stream = ChatStream(self._spec.name, self._opened().hidden)
            tail = _Tail(min(_TAIL_S, self._spec.limits.idle_s / 2))
            while not stream.done and (piece := await tail.piece(answer, stream)):
                for delta in stream.feed(piece):
                    yield delta
            for delta in stream.end():
                yield delta
            if stream.done:
                await _drain(answer)
            yield stream.last()
        finally:
            await answer.aclose()

    async def _embeddings(self, call: Call) -> AsyncIterator[Delta]:
        given = call.inputs.get("input")
        value = given.value if given is not None and given.modality is Modality.JSON else given and given.text
        if not (value or call.text):
            raise InvalidRequest("input is empty; send a text or a list of texts", param="input", node=self._spec.name)
        body = self._body(call, input=value or call.text)
        body.pop("encoding_format", None)  # numbers; whoever wants base64 encodes them
        answer = await self._ask(call, self._url("/embeddings"), body)
        data = read_json(await answer.read(), self._spec.name, self._opened().hidden)
        try:
            rows = sorted(data["data"], key=lambda row: row.get("index", 0))
            vectors = [list(row["embedding"]) for row in rows]
        except (KeyError, TypeError, AttributeError):
            words = f"node {self._spec.name!r}: the upstream's answer holds no embeddings"
            raise StreamBroken(words, node=self._spec.name) from None
        yield Delta(
            payload=json_payload(vectors),
            usage=usage(data.get("usage")),
            finish_reason="stop",
            model=data.get("model"),
        )

    async def _transcribe(self, call: Call) -> AsyncIterator[Delta]:
        verbose = call.params.get("response_format") == "verbose_json"
        fields = {k: v for k, v in {**self._extra, **call.params}.items() if k not in _OWN}
        fields |= {"model": self._spec.model, "response_format": "verbose_json" if verbose else "json"}
        recording = find_audio(call, node=self._spec.name)
        url = self._url("/audio/transcriptions")
        form = httpx.Request("POST", url, data=_form_fields(fields), files={"file": _form_file(call, recording)})
        answer = await self._opened().send(
            "POST", url, form.read(), content_type=form.headers["content-type"], context=call.context
        )
        data = read_json(await answer.read(), self._spec.name, self._opened().hidden)
        text = data.get("text")
        if not isinstance(text, str):
            words = f"node {self._spec.name!r}: the upstream's answer holds no transcript"
            raise StreamBroken(words, node=self._spec.name)
        yield Delta(
            text=text,
            payload=json_payload(data) if verbose else None,
            usage=usage(data.get("usage")),
            finish_reason="stop",
        )

    def _body(self, call: Call, **own: Any) -> dict[str, Any]:
        given = {name: value for name, value in call.params.items() if name not in _OWN}
        return {**self._extra, **given, "model": self._spec.model, **own}

    async def _ask(self, call: Call, url: httpx.URL, body: dict[str, Any]) -> Answer:
        try:
            content = orjson.dumps(body)
        except TypeError as error:  # an integer past 64 bits, or half of a surrogate pair
            raise InvalidRequest(f"the request cannot be written as JSON: {error}", node=self._spec.name) from None
        return await self._opened().send("POST", url, content, context=call.context)

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self._base}{path}")


class _Tail:
    """Reads a stream; an answer that is complete waits little for its usage, and hardly for the end after that.

    All in all it waits for less than the idle limit, which would make a failure of it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: float | None = None

    async def piece(self, answer: Answer, stream: ChatStream) -> bytes:
        """Return the next piece; nothing at the end."""
        if not stream.finished:
            return await answer.piece()
        now = time.monotonic()
        self._ends = self._ends or now + self._seconds
        try:
            async with asyncio.timeout(min(self._ends - now, self._seconds / 10 if stream.counted else self._seconds)):
                return await answer.piece()
        except (TimeoutError, StreamBroken):
            return b""


async def _drain(answer: Answer) -> None:
    """Read what follows `[DONE]`, normally nothing, so that the connection can serve the next call."""
    try:
        async with asyncio.timeout(_TAIL_S / 10):
            while await answer.piece():
                pass
    except (TimeoutError, StreamBroken):
        return


def _form_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return form fields as text; a list becomes a repeated field `name[]`, as OpenAI writes it."""
    named = {(k if not isinstance(v, list) or k.endswith("[]") else f"{k}[]"): v for k, v in fields.items()}
    return {
        name: value if isinstance(value, (str, list)) else orjson.dumps(value).decode()
        for name, value in named.items()
        if value is not None
    }


def _form_file(call: Call, recording: bytes) -> tuple[str, bytes, str]:
    part: Payload = next(part for part in call.attachments if part.modality is Modality.AUDIO)
    media_type = (part.media_type or "audio/wav").partition(";")[0]
    return f"audio.{audio_format(media_type)}", recording, media_type
