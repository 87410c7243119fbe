"""What goes wrong at an upstream, in our own terms: exceptions of the HTTP libraries, statuses, error bodies.

The one place where a foreign failure becomes one of `graph.errors`. An upstream's message is passed on without the
secrets that were sent to it, and not at all when it refuses a key: some servers repeat the key there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import httpx
import orjson

from graph.errors import (
    ContentRefused,
    ContextTooLong,
    ModelyardError,
    NodeFailed,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)

FOREIGN: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError)
"""What the HTTP libraries and sockets raise; `TimeoutError` is an `OSError`."""

TABLE: Final[Mapping[type[Exception], tuple[type[NodeFailed], str]]] = {
    # Before an answer began. Once it has, every one of them means that the answer was cut.
    httpx.ConnectTimeout: (NodeUnreachable, "took too long to accept the connection"),
    httpx.PoolTimeout: (NodeUnreachable, "has no free connection"),
    httpx.WriteTimeout: (NodeUnreachable, "took too long to take the request"),
    httpx.ReadTimeout: (NodeUnreachable, "took too long to answer"),
    httpx.TimeoutException: (NodeUnreachable, "took too long"),
    httpx.ConnectError: (NodeUnreachable, "cannot be connected to"),
    httpx.ReadError: (NodeUnreachable, "dropped the connection"),
    httpx.WriteError: (NodeUnreachable, "dropped the connection"),
    httpx.CloseError: (NodeUnreachable, "dropped the connection"),
    httpx.NetworkError: (NodeUnreachable, "dropped the connection"),
    httpx.RemoteProtocolError: (NodeUnavailable, "did not answer in HTTP"),
    httpx.LocalProtocolError: (NodeRejected, "cannot be sent this request"),
    httpx.ProtocolError: (NodeUnavailable, "did not answer in HTTP"),
    httpx.ProxyError: (NodeUnreachable, "cannot be reached through the proxy"),
    httpx.UnsupportedProtocol: (NodeRejected, "has an address that is not http or https"),
    httpx.TransportError: (NodeUnreachable, "cannot be reached"),
    httpx.DecodingError: (NodeUnavailable, "answered with a body that cannot be decompressed"),
    httpx.TooManyRedirects: (NodeRejected, "answered with a redirect; redirects are not followed"),
    httpx.RequestError: (NodeUnreachable, "cannot be reached"),
    httpx.HTTPError: (NodeUnreachable, "cannot be reached"),
    httpx.InvalidURL: (NodeRejected, "has an address that is not valid"),
    httpx.StreamError: (NodeUnavailable, "had its answer closed"),
    aiohttp.ClientConnectorDNSError: (NodeUnreachable, "has a host name that cannot be resolved"),
    aiohttp.ClientConnectorCertificateError: (NodeUnreachable, "showed a certificate that is not trusted"),
    aiohttp.ClientSSLError: (NodeUnreachable, "failed the TLS handshake"),
    aiohttp.ClientConnectorError: (NodeUnreachable, "cannot be connected to"),
    aiohttp.ServerTimeoutError: (NodeUnreachable, "took too long to accept the connection"),
    aiohttp.ServerDisconnectedError: (NodeUnreachable, "dropped the connection"),
    aiohttp.ClientConnectionError: (NodeUnreachable, "dropped the connection"),
    aiohttp.ClientPayloadError: (NodeUnavailable, "cut its answer"),
    aiohttp.ClientResponseError: (NodeUnavailable, "did not answer in HTTP"),
    aiohttp.InvalidURL: (NodeRejected, "has an address that is not valid"),
    aiohttp.ClientError: (NodeUnreachable, "cannot be reached"),
    TimeoutError: (NodeUnreachable, "took too long to accept the connection"),
    OSError: (NodeUnreachable, "cannot be connected to"),
}

_CONTEXT = re.compile(
    r"context[_ ](length|window|size|limit)|maximum context|too many (input )?tokens|(prompt|input|request) (is )?too l"
    r"|reduce (the length of the messages|your message size)|max(imum)?[_ ]model[_ ]len|maximum prompt length"
    r"|exceeds the maximum number of (input )?tokens|tokens?[_ ]limit[_ ](reached|exceeded)|exceeded model token limit"
    r"|range of input length|max_(seq_len|num_tokens|input_length)\b|input tokens \d+ cannot exceed"
    r"|`inputs` (tokens|must have less than \d+ tokens)",
    re.IGNORECASE,
)
"""How servers and vendors say that a request is longer than their model's context."""
_POLICY = re.compile(
    r"content[_ ](policy|filter|management|moderation)|usage (polic|guideline)|responsible ?ai"
    r"|safety (system|filter|setting)|prohibited[_ ]content|data_inspection_failed|inappropriate content"
    r"|content exists risk|guardrail|flagged (by (our )?moderation|as potentially|for )|requires moderation"
    r"|blocked (by|due to|for) (our )?(safety|policy|moderation)",
    re.IGNORECASE,
)
_BUSY = frozenset({408, 429})
_SHOWN = 300


def exception_error(error: Exception, node: str, *, began: bool = False) -> NodeFailed:
    """Translate an exception of an HTTP library or a socket.

    `began` says that the answer had begun: then it was cut, whatever the reason.
    """
    found = next((TABLE[cls] for cls in type(error).__mro__ if cls in TABLE), TABLE[OSError])
    kind, words = found
    if began:
        return StreamBroken(f"node {node!r}: the upstream cut its answer", node=node)
    return kind(f"node {node!r}: the upstream {words}", node=node)


def status_error(
    status: int, headers: Mapping[str, str], body: bytes, node: str, hidden: Sequence[str] = ()
) -> ModelyardError:
    """Translate an answer whose status is not 2xx. `hidden` are the secrets that its text may repeat."""
    if 300 <= status < 400:
        return NodeRejected(
            f"node {node!r}: the upstream answered with a redirect ({status}); redirects are not followed, "
            "so the endpoint must be the final address",
            status=status,
            node=node,
        )
    return body_error(status, parse_error(body), node, hidden, retry_after(headers))


def body_error(
    status: int, error: Mapping[str, Any], node: str, hidden: Sequence[str] = (), after: float | None = None
) -> ModelyardError:
    """Translate a status and an OpenAI error object (`message`, `type`, `param`, `code`)."""
    if status == 401:
        return NodeRejected(f"node {node!r}: the upstream refused the key (401)", status=status, node=node)
    reason = _reason(status, error, hidden)
    if status < 500 and status not in _BUSY:
        words = f"{error.get('code')} {error.get('type')} {error.get('message')}"
        if _POLICY.search(words):
            return ContentRefused(f"node {node!r}: refused by the content policy: {reason}", node=node)
        if _CONTEXT.search(words):
            return ContextTooLong(f"node {node!r}: {reason}", param="messages", node=node)
    if status == 403:
        return NodeRejected(f"node {node!r}: the upstream denied access (403)", status=status, node=node)
    if status in _BUSY or status >= 500:
        return NodeUnavailable(
            f"node {node!r}: the upstream answered {reason}", status=status, retry_after=after, node=node
        )
    rejected = NodeRejected(f"node {node!r}: the upstream refused the request: {reason}", status=status, node=node)
    param = error.get("param")
    rejected.param = param if isinstance(param, str) else None
    return rejected


def parse_error(body: bytes) -> Mapping[str, Any]:
    """Find the error object in a body: OpenAI's `{"error": {…}}`, and the forms that other servers use."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": body.decode("utf-8", "replace")} if not body.lstrip().startswith(b"<") else {}
    if not isinstance(data, dict):
        return {"message": str(data)}
    for key in ("error", "errors", "detail", "message"):
        found = data.get(key)
        if key == "errors" and isinstance(found, list):
            found = next(iter(found), None)
        if isinstance(found, dict):
            return found
        if found:
            return {**data, "message": str(found)}
    return data


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms` and `Retry-After` (seconds or a date); None if absent or unreadable."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d*)?", value):
            return float(value) * unit
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())


def hide(text: str, hidden: Sequence[str]) -> str:
    """Blank out secrets in a text."""
    for secret in hidden:
        if secret:
            text = text.replace(secret, "***")
    return text


def _reason(status: int, error: Mapping[str, Any], hidden: Sequence[str]) -> str:
    message = error.get("message")
    text = hide(" ".join(message.split()), hidden) if isinstance(message, str) else ""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return f"{status}: {shown}" if shown else str(status)
