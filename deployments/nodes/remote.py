"""What the kinds that call an upstream share: its headers, its address, its client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import httpx
from pydantic import AfterValidator

from deployments.guard import AddressGuard
from deployments.upstream import AiohttpTransport, Upstream
from graph.errors import InvalidSpec, NodeRejected, NodeUnreachable, Problem
from graph.node import NodeEnvironment
from graph.spec import SECRET, NodeSpec

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_SECRET_NAMES: Final = re.compile(r"authorization|api-?key|token|secret|password|cookie", re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(
    r"(authorization|(api|access|private|secret)key|token|secret|password|passwd|credentials?|cookie)$"
)
_MODEL_TOKEN: Final = re.compile(r"(bos|eos|pad|unk|sep|cls|mask|stop|start|end|special|image|audio)token")
"""Names that end like a secret's and mean a piece of text to a model."""
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|(?=[^%]*:)[0-9A-Fa-f:.]+(%\S+)?")
_PROBE_S: Final = 5.0


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r} has characters that a header name cannot have")
        if name.lower() in _OURS:
            raise ValueError(f"header {name!r} is set by the client itself")
        if not value.isprintable() or not value.isascii():
            raise ValueError(f"the value of header {name!r} has characters that a header cannot have")
        if _SECRET_NAMES.search(name) and not SECRET.search(value):
            raise ValueError(f"header {name!r} holds a secret, which must be written as ${{NAME}}")
    return {name.lower(): value for name, value in headers.items()}


Headers: TypeAlias = Annotated[dict[str, str], AfterValidator(_checked)]
"""Headers of every request. Values may hold `${NAME}`; those that are secrets by their name must."""


def secret_problems(value: Any, key: str, *, stands: Callable[[str], object] = SECRET.search) -> list[tuple[str, str]]:
    """Return the fields that are secrets by their name, at any depth, and hold one instead of a reference to it.

    `stands` says whether a text is, or contains, something that stands for a value.
    """
    if isinstance(value, Mapping):
        return [
            problem for name, item in value.items() for problem in secret_problems(item, f"{key}.{name}", stands=stands)
        ]
    if isinstance(value, list | tuple):
        return [problem for item in value for problem in secret_problems(item, key, stands=stands)]
    name = re.sub(r"[^a-z]", "", key.rpartition(".")[2].lower())
    if isinstance(value, bool) or value in (None, "") or not _SECRET_FIELD.search(name) or _MODEL_TOKEN.fullmatch(name):
        return []
    return [] if stands(str(value)) else [(key, "holds a secret, which must be written as ${NAME}, a variable's name")]


def with_secrets(value: Any, secret: Callable[[str], str]) -> Any:
    """Return a JSON value with every `${NAME}` in its texts replaced."""
    if isinstance(value, str):
        return secret(value)
    if isinstance(value, Mapping):
        return {name: with_secrets(item, secret) for name, item in value.items()}
    return [with_secrets(item, secret) for item in value] if isinstance(value, list | tuple) else value


def endpoint_problems(spec: NodeSpec) -> list[tuple[str, str]]:
    """Return what is wrong with a spec's endpoint."""
    if spec.endpoint is None:
        return [("endpoint", f"is required by kind {spec.kind!r}: the base URL, such as https://host/v1")]
    try:
        url = httpx.URL(spec.endpoint)
        host = url.host
    except (httpx.InvalidURL, UnicodeError) as error:  # which the codec of international names raises
        return [("endpoint", f"is not a valid address: {error}")]
    if url.port is not None and not 0 < url.port < 65536:
        return [("endpoint", f"has the port {url.port}; a port is 1 to 65535")]
    if not _HOST.fullmatch(url.raw_host.decode("ascii", "replace")):
        return [("endpoint", f"has no host name or address that exists: {host!r}")]
    if url.query or url.fragment:
        return [("endpoint", f"must end with its path; {spec.endpoint!r} goes on after it")]
    return []


def open_upstream(
    spec: NodeSpec, environment: NodeEnvironment, headers: dict[str, str], also: Iterable[str] = ()
) -> tuple[Upstream, httpx.URL]:
    """Open the client of a node and return it with its base URL, which has no slash at the end.

    `also` are references to further secrets that requests carry; like those of the headers, no error shows them.
    Must be called inside a running event loop. Raises `InvalidSpec` for a secret that is not set, and `NodeRejected`
    for an address that the guard refuses.
    """
    if spec.endpoint is None:
        raise InvalidSpec([Problem(spec.name, "endpoint", "is required")])
    base = httpx.URL(spec.endpoint.rstrip("/"))
    guard = AddressGuard(allow_private=environment.allow_private)
    try:
        guard.check_host(base.host)
    except NodeRejected as error:
        error.node = spec.name
        raise
    resolved, hidden = resolved_headers(spec, environment, headers, also)
    tls = base.scheme == "https"
    transport = AiohttpTransport(guard, connect_s=spec.limits.connect_s, tls=tls, headers=resolved)
    return Upstream(spec.name, transport, hidden), base


def resolved_headers(
    spec: NodeSpec, environment: NodeEnvironment, headers: Mapping[str, str], also: Iterable[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Return a node's headers with its key and with every secret in place, and the secrets, which no error may show.

    Raises `InvalidSpec` for a secret that is not set or that no header can carry.
    """
    bearer = {"authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}
    given = {**bearer, **headers}
    resolved = {name: environment.secret(value) for name, value in given.items()}
    for name, value in resolved.items():
        if not value.isprintable() or not value.isascii():
            raise InvalidSpec([Problem(spec.name, name, "its secret holds characters that a header cannot have")])
    references = [match[0] for value in given.values() for match in SECRET.finditer(value)]
    return resolved, [environment.secret(reference) for reference in {*references, *also}]


class UpstreamNode:
    """Base of a node that calls an upstream. A kind opens it when it loads, and gets it by `_opened`."""

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self._spec = spec
        self._environment = environment
        self._upstream: Upstream | None = None
        self._base = httpx.URL()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            await upstream.aclose()

    def _opened(self) -> Upstream:
        if self._upstream is None:
            raise NodeUnreachable(f"node {self._spec.name!r} is not open", node=self._spec.name)
        return self._upstream


async def probe(upstream: Upstream, method: str, url: httpx.URL, node: str) -> None:
    """Ask an upstream whether it is there. Raises `NodeFailed` if it is not, refuses the key or answers 5xx."""
    try:
        async with asyncio.timeout(_PROBE_S):
            answer = await upstream.send(method, url)
            await answer.aclose()
    except NodeRejected as error:
        # It is there, and does not know this path or method: that is no fault.
        if error.status in (401, 403) or error.status is None:
            raise
    except TimeoutError:
        raise NodeUnreachable(f"node {node!r}: the upstream did not answer within {_PROBE_S:g} s", node=node) from None
