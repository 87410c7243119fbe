"""Sessions with MCP servers, shared by all nodes of one process that are tools of the same server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import httpx

from deployments.guard import AddressGuard
from deployments.nodes.remote import resolved_headers
from deployments.upstream import AiohttpTransport
from graph.errors import InvalidSpec, NodeRejected, Problem
from graph.node import NodeEnvironment
from graph.spec import NodeSpec

if TYPE_CHECKING:
    from deployments.nodes.mcp_http import Exchange
    from deployments.nodes.mcp_session import McpSession


def pool_of(environment: NodeEnvironment) -> McpPool:
    """Return the pool of the process that an environment belongs to."""
    return cast(McpPool, environment.shared.setdefault("mcp", McpPool(environment)))


class McpPool:
    """The open sessions, each with the number of nodes that use it."""

    def __init__(self, environment: NodeEnvironment) -> None:
        self._environment = environment
        self._sessions: dict[Any, tuple[McpSession, int]] = {}

    def lease(self, spec: NodeSpec, server: str | None, headers: Mapping[str, str]) -> Lease:
        """Give a node its place in the session with its server.

        Raises `InvalidSpec` for a server that the operator did not declare and for a secret that is not set, and
        `NodeRejected` for an address that the guard refuses.
        """
        from deployments.nodes.mcp_session import McpSession, by_command

        if server is not None:
            command = self._command(spec, server)
            key: Any = ("command", command)
            hidden: tuple[str, ...] = ()
            connect = by_command(command)
        else:
            key, hidden, connect = self._address(spec, headers)
        session, users = self._sessions.get(key, (McpSession(connect), 0))
        self._sessions[key] = (session, users + 1)
        return Lease(self, key, session, hidden)

    async def leave(self, key: Any) -> None:
        """Take a place back."""
        session, users = self._sessions[key]
        if users > 1:
            self._sessions[key] = (session, users - 1)
        else:
            del self._sessions[key]
            await session.aclose()

    def _command(self, spec: NodeSpec, server: str) -> tuple[str, ...]:
        commands = self._environment.commands
        if server not in commands:
            declared = f"declared: {', '.join(sorted(commands))}" if commands else "none is declared"
            words = f"{server!r} is no server that the operator declared with --mcp-servers NAME=COMMAND; {declared}"
            raise InvalidSpec([Problem(spec.name, "params.server", words)])
        return tuple(commands[server])

    def _address(self, spec: NodeSpec, headers: Mapping[str, str]) -> tuple[Any, tuple[str, ...], Any]:
        from deployments.nodes.mcp_session import by_address

        url = httpx.URL(spec.endpoint or "")
        guard = AddressGuard(allow_private=self._environment.allow_private)
        try:
            guard.check_host(url.host)
        except NodeRejected as error:
            error.node = spec.name
            raise
        resolved, hidden = resolved_headers(spec, self._environment, headers)
        key = (str(url), tuple(sorted(resolved.items())), spec.limits.connect_s)

        def make() -> AiohttpTransport:
            return AiohttpTransport(guard, connect_s=spec.limits.connect_s, tls=url.scheme == "https", headers=resolved)

        return key, tuple(hidden), by_address(str(url), make, spec.name)


class Lease:
    """A node's place in a session."""

    def __init__(self, pool: McpPool, key: Any, session: McpSession, hidden: tuple[str, ...]) -> None:
        self._pool = pool
        self._key = key
        self._hidden = hidden
        self.session = session

    def exchange(self, node: str, headers: list[tuple[bytes, bytes]] | None = None) -> Exchange:
        """Return what goes with one call."""
        from deployments.nodes.mcp_http import Exchange

        return Exchange(node, tuple(headers or ()), self._hidden)

    async def release(self) -> None:
        """Give the place back."""
        await self._pool.leave(self._key)
