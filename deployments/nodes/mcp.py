"""Kind `mcp`: one tool of a Model Context Protocol server, reached by streamable HTTP or started by the operator.

YAML can name an address, or a server that the operator declared (`mcp_servers`); it can never say what to start.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import orjson
from pydantic import Field

from deployments.nodes.arguments import read_arguments
from deployments.nodes.mcp_pool import McpPool, pool_of
from deployments.nodes.remote import Headers, endpoint_problems
from deployments.upstream import context_headers
from graph.errors import InvalidSpec, NodeRejected, NodeUnreachable, Problem
from graph.node import NodeEnvironment, NodeParams
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Operation, Payload, json_payload, text_payload

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from deployments.nodes.mcp_pool import Lease

MISSING: Final = "needs the package of the Model Context Protocol: pip install 'modelyard[mcp]'"


class McpParams(NodeParams):
    """Settings of kind `mcp`."""

    tool: str = Field(min_length=1, max_length=200)
    """The tool's name at the server."""
    server: str | None = None
    """Name of a server that the operator declared under `mcp_servers`, instead of an endpoint."""
    headers: Headers = Field(default_factory=dict)


class McpNode:
    """One tool of a Model Context Protocol server."""

    Params = McpParams
    placement: ClassVar[Literal["gateway", "replica"]] = "gateway"
    operations: ClassVar[frozenset[Operation]] = frozenset({"tool", "chat"})
    honours: ClassVar[frozenset[str]] = frozenset({"user", "metadata"})

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self._spec = spec
        self._params = McpParams.model_validate(spec.params)
        self._environment = environment
        self._lease: Lease | None = None

    async def load(self) -> None:
        """Take a place in the session with the server, which is opened by the first call."""
        if find_spec("mcp") is None:
            raise InvalidSpec([Problem(self._spec.name, "kind", MISSING)])
        pool: McpPool = pool_of(self._environment)
        self._lease = pool.lease(self._spec, self._params.server, self._params.headers)

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        """Call the tool with the call's arguments; its result is one delta with a payload.

        A structured result, or a text that is JSON, gives a JSON payload; other text gives text, and without any, the
        first image or recording counts.
        """
        lease = self._opened()
        values = read_arguments(call, self._spec.arguments, self._spec.name) if self._spec.arguments else {}
        exchange = lease.exchange(self._spec.name, context_headers(call.context))
        result = await lease.session.call(self._params.tool, values, exchange)
        payload = result_payload(result)
        if result.is_error:
            words = f"node {self._spec.name!r}: the tool answered with an error: {payload.text[:300]}"
            raise NodeRejected(words, node=self._spec.name)
        yield Delta(
            text=payload.text if call.operation == "chat" else "",
            payload=payload,
            finish_reason="stop",
            model=self._spec.name,
        )

    async def check(self) -> None:
        """Raise unless there is a session, or one can be opened."""
        lease = self._opened()
        await lease.session.open(lease.exchange(self._spec.name))

    async def aclose(self) -> None:
        """Give the place in the session back; the last one to leave ends it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.release()

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a node that names no server, or two."""
        params = McpParams.model_validate(spec.params)
        if params.server is None:
            return endpoint_problems(spec)
        if spec.endpoint is not None:
            return [("params.server", "names a server beside the endpoint; give one of the two")]
        if params.headers or spec.api_key:
            return [("params.server", "is started by the operator, and gets no headers and no key")]
        return []

    def _opened(self) -> Lease:
        if self._lease is None:
            raise NodeUnreachable(f"node {self._spec.name!r} is not open", node=self._spec.name)
        return self._lease


def result_payload(result: CallToolResult) -> Payload:
    """Return a tool's result as one payload."""
    if result.structured_content is not None:
        given: Any = result.structured_content
        # What is no object is wrapped into one by servers, under this name alone.
        return _plain(given["result"] if isinstance(given, dict) and list(given) == ["result"] else given)
    texts, others = [], []
    for block in result.content:
        text = getattr(block, "text", None) or getattr(getattr(block, "resource", None), "text", None)
        if text is not None:
            texts.append(text)
        elif block.type in ("image", "audio"):
            others.append(Payload(Modality(block.type), base64.b64decode(block.data), block.mime_type))
        else:
            texts.append(block.model_dump_json(by_alias=True, exclude_none=True))
    if others and not texts:
        return others[0]
    return _read(texts[0]) if len(texts) == 1 else text_payload("\n".join(texts))


def _read(text: str) -> Payload:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json_payload(orjson.loads(text))
        except orjson.JSONDecodeError:
            pass
    return text_payload(text)


def _plain(value: Any) -> Payload:
    return text_payload(value) if isinstance(value, str) else json_payload(value)
