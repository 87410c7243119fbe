"""Keeps calls to upstreams away from addresses that nobody meant to expose.

A name is resolved once, every address it stands for is checked, and one of the checked addresses is connected to: a
second look-up that could answer differently never happens. The socket's own address is checked again at the last
moment, so that no spelling of a literal address slips past. The name itself stays in `Host` and in TLS.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from graph.errors import NodeRejected

Address: TypeAlias = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = IPv6Network("::/96")
_SHARED = ip_network("100.64.0.0/10")
_LOOPBACK = IPv4Address("127.0.0.1")
_METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
"""Where clouds hand out credentials to whoever asks from inside."""


class AddressGuard:
    """Says which addresses an upstream may have.

    Private, shared and loopback addresses are refused unless the operator allows them. Link-local, metadata, multicast,
    unspecified and reserved addresses are refused always: no upstream lives there.
    """

    def __init__(self, *, allow_private: bool = False) -> None:
        self.allow_private = allow_private

    def check_host(self, host: str) -> None:
        """Check the host of a URL, if it is a literal address or `localhost`. Raises `NodeRejected`."""
        try:
            address: Address = ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            self._check_spelling(host)
            if host.rstrip(".").lower().split(".")[-1] == "localhost":  # loopback, whoever is asked (RFC 6761)
                self.check(_LOOPBACK, host)
            return
        self.check(address, host)

    def check_given(self, url: str) -> None:
        """Check an address that a caller has an upstream fetch. A name is the upstream's to resolve.

        Raises `NodeRejected`, also for what some would read as another host than others.
        """
        try:
            parts = httpx.URL(url)
            host = parts.host
        except (httpx.InvalidURL, UnicodeError):
            host = ""
        if not host or parts.userinfo or "\\" in url or not url.isprintable() or " " in url:
            raise NodeRejected(f"{url[:80]!r} is no plain address of a host")
        self.check_host(host)

    def check(self, address: Address, host: str) -> None:
        """Raise `NodeRejected` unless an address, and every address embedded in it, may be connected to."""
        for inner in _embedded(address):
            word = self._fault(inner)
            if word:
                shown = str(address) if inner == address else f"{address} ({inner})"
                hint = "; allow private upstreams (allow_private) if that is meant" if word in _ALLOWABLE else ""
                raise NodeRejected(f"upstream {host!r} has the {word} address {shown}, which is refused{hint}")

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for an address, having checked it: the last gate, passed by every connection."""
        family, kind, protocol, _, target = info
        self.check(ip_address(str(target[0]).partition("%")[0]), str(target[0]))
        return socket.socket(family, kind, protocol)

    def _fault(self, address: Address) -> str:
        if address in _METADATA:
            return "metadata"
        for word in ("multicast", "unspecified", "link_local"):
            if getattr(address, f"is_{word}"):
                return word.replace("_", "-")
        if address.is_loopback:
            return "" if self.allow_private else "loopback"
        if address.is_private and not _is_reserved(address):
            return "" if self.allow_private else "private"
        if address in _SHARED:
            return "" if self.allow_private else "shared"
        return "reserved" if _is_reserved(address) or not address.is_global else ""

    @staticmethod
    def _check_spelling(host: str) -> None:
        """Refuse what only the C library takes for an address: 127.1, 0x7f000001, 017700000001."""
        try:
            packed = socket.inet_aton(host.rstrip("."))
        except (OSError, ValueError):  # no address, or nothing that the C library takes for a text
            return
        raise NodeRejected(f"upstream host {host!r} is an unusual spelling of {IPv4Address(packed)}; write that")


_ALLOWABLE = frozenset({"loopback", "private", "shared"})


def _is_reserved(address: Address) -> bool:
    """Whether nothing can live there: class E, documentation, benchmarking, discard and the like."""
    if isinstance(address, IPv6Address):
        public = address in _UNICAST and address.is_global and address not in _DOCUMENTATION
        return not (public or address in _UNIQUE_LOCAL or address.is_loopback)
    return address.is_reserved or (address.is_private and not any(address in net for net in _PRIVATE_V4))


_UNIQUE_LOCAL = IPv6Network("fc00::/7")
_UNICAST = IPv6Network("2000::/3")
"""All that is handed out; beside it are site-local addresses and ways to write IPv4 ones, which some routers undo."""
_DOCUMENTATION = IPv6Network("3fff::/20")
"""Newer than what `ipaddress` knows."""
_PRIVATE_V4 = tuple(ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"))


def _embedded(address: Address) -> Iterator[Address]:
    """Yield the address and each IPv4 address it carries: mapped, compatible, NAT64, 6to4, Teredo."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
        return
    carried = [address.sixtofour, *(address.teredo or ())]
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    nat64 = address in _NAT64
    if nat64 or address in _NAT64_LOCAL or (address in _IPV4_COMPATIBLE and int(address) > 1):
        carried.append(low)
    if not nat64:  # the well-known prefix is only a way to write the IPv4 address
        yield address
    yield from (inner for inner in carried if inner is not None)


class GuardedResolver(AbstractResolver):
    """Resolves a name and passes on its addresses only if every one of them is allowed."""

    def __init__(self, guard: AddressGuard, inner: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the checked addresses of a name. One bad address condemns the name: a mixed answer is an attack."""
        found = await self._inner.resolve(host, port, family)
        for result in found:
            self._guard.check(ip_address(result["host"].partition("%")[0]), host)
        return found

    async def close(self) -> None:
        """Free the inner resolver."""
        await self._inner.close()
