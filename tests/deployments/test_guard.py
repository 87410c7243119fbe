from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from raw_upstream import Seen, Wire, raw_upstream

from deployments.guard import AddressGuard, GuardedResolver
from deployments.upstream import AiohttpTransport
from graph.errors import NodeRejected

NEVER = [
    "169.254.169.254", "169.254.1.1", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "0.1.2.3", "::", "fe80::1", "ff02::1", "fd00:ec2::254",
    "2001:db8::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe", "100::1",
    "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "fec0::1", "5f00::1", "3fff::1", "1::7f00:1", "4000::1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.8.8.8", "100.64.0.1", "::1", "fd12::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
]  # fmt: skip
EMBEDDED = ["2002:7f00:1::", "64:ff9b:1::a00:1", "::7f00:1", "2001:0:a00:1::5601:a8fe"]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"]


@pytest.mark.parametrize("text", [*NEVER, *PRIVATE, *EMBEDDED])
def test_refused_by_default(text: str) -> None:
    with pytest.raises(NodeRejected, match="refused"):
        AddressGuard().check(ip_address(text), text)


@pytest.mark.parametrize("text", NEVER)
def test_refused_even_where_private_ones_are_allowed(text: str) -> None:
    with pytest.raises(NodeRejected, match="refused"):
        AddressGuard(allow_private=True).check(ip_address(text), text)


@pytest.mark.parametrize("text", PRIVATE)
def test_private_ones_can_be_allowed(text: str) -> None:
    AddressGuard(allow_private=True).check(ip_address(text), text)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_ones_pass(text: str) -> None:
    AddressGuard().check(ip_address(text), text)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.0.0.1", "0x7f000001", "0177.0.0.1", "017700000001", "127.1."]
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_odd_spellings_of_an_address_are_refused(host: str, allow_private: bool) -> None:
    with pytest.raises(NodeRejected, match=r"127\.0\.0\.1"):
        AddressGuard(allow_private=allow_private).check_host(host)


SPECIAL = [
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
"""IANA's registry of special-purpose addresses, written out here: the guard asks Python's."""
IN_SPECIAL = st.sampled_from(SPECIAL).flatmap(lambda network: st.ip_addresses(network=network))


def spellings(address: IPv4Address) -> list[str]:
    """Return ways to write an address that one library or another understands."""
    number, (a, b, c, d) = int(address), address.packed
    rest, last = number & 0xFFFFFF, number & 0xFFFF
    six = f"{number >> 16:x}:{number & 0xFFFF:x}"
    plain = [
        str(address),
        f"{number}",
        f"{number:#x}",
        f"0{number:o}",
        f"{a}.{rest}",
        f"{a}.{b}.{last}",
        f"{a:#x}.{b}.{c}.{d}",
    ]
    mapped = [
        f"::ffff:{address}",
        f"::ffff:{six}",
        f"64:ff9b::{six}",
        f"2002:{six}::",
        f"64:ff9b:1::{six}",
        f"::ffff:0:{six}",
    ]
    return plain + [f"{text}." for text in plain] + mapped + [f"[{text}]" for text in mapped]


@given(IN_SPECIAL)
def test_no_spelling_of_a_special_address_passes(address: IPv4Address) -> None:
    for host in spellings(address):
        with pytest.raises(NodeRejected):
            AddressGuard().check_host(host)
            pytest.fail(f"{host} passed")


@given(st.ip_addresses())
def test_any_address_passes_only_if_it_is_public(address: IPv4Address | IPv6Address) -> None:
    special = any(address in network for network in SPECIAL)
    try:
        AddressGuard().check(address, str(address))
    except NodeRejected:
        odd = address in ip_network("192.0.0.0/24") or address == ip_address("168.63.129.16")
        assert address.version == 6 or special or odd
    else:
        assert address.is_global and not special


@given(st.text(max_size=40))
def test_any_text_is_checked_or_refused(host: str) -> None:
    """Nothing but a refusal comes out of it, and what passes is no address in any notation."""
    try:
        AddressGuard().check_host(host)
        AddressGuard().check_given(f"http://{host}/")
    except NodeRejected:
        return
    with pytest.raises(OSError, match="illegal IP"):
        socket.inet_aton(host)


@pytest.mark.parametrize("host", ["[::1]", "::1", "127.0.0.1", "fe80::1%eth0"])
def test_a_literal_host_is_checked(host: str) -> None:
    with pytest.raises(NodeRejected, match="refused"):
        AddressGuard().check_host(host)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/a.png", "https://[::1]/a", "http://0x7f.1/", "http://localhost:9/", "http://169.254.169.254/meta",
     "http://user@example.com/", "http://example.com\\@127.0.0.1/", "http://example.com/\n", "http:///a", "http://xn--/a",
     "http://[::ffff:10.0.0.1]/", "https://10.1.2.3/a.png"],
)  # fmt: skip
def test_what_callers_have_upstreams_fetch_is_checked(url: str) -> None:
    with pytest.raises(NodeRejected):
        AddressGuard().check_given(url)
    AddressGuard().check_given("https://images.example.com:8443/a%20b.png?x=1#y")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "models.localhost"])
def test_localhost_needs_no_resolver(host: str) -> None:
    AddressGuard(allow_private=True).check_host(host)
    with pytest.raises(NodeRejected, match=r"loopback address 127\.0\.0\.1, which is refused; allow private upstreams"):
        AddressGuard().check_host(host)


@pytest.mark.parametrize("host", ["example.com", "localhost.example", "münchen.de", "1.1.1.1"])
def test_a_name_is_left_to_the_resolver(host: str) -> None:
    AddressGuard().check_host(host)


def test_the_socket_is_the_last_gate() -> None:
    with pytest.raises(NodeRejected, match="loopback"):
        AddressGuard().socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))


class Answers(AbstractResolver):
    """A name server that gives one list of addresses after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None:
        pass


async def test_one_bad_address_condemns_the_name() -> None:
    resolver = GuardedResolver(AddressGuard(), Answers(["8.8.8.8", "10.0.0.1"]))
    with pytest.raises(NodeRejected, match=r"'mixed\.example' has the private address 10\.0\.0\.1"):
        await resolver.resolve("mixed.example", 443)


async def test_every_new_resolution_is_checked_again() -> None:
    resolver = GuardedResolver(AddressGuard(), Answers(["8.8.8.8"], ["127.0.0.1"]))
    assert [found["host"] for found in await resolver.resolve("rebinding.example", 443)] == ["8.8.8.8"]
    with pytest.raises(NodeRejected, match="loopback"):
        await resolver.resolve("rebinding.example", 443)


async def hello(_: Seen, wire: Wire) -> None:
    await wire.reply({"hello": "there"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_no_connection_is_made_to_what_is_refused(host: str) -> None:
    async with raw_upstream(hello) as upstream:
        transport = AiohttpTransport(AddressGuard(), connect_s=2, tls=False)
        with pytest.raises(NodeRejected, match="refused"):
            await transport.handle_async_request(httpx.Request("GET", f"http://{host}:{upstream.port}/"))
        await transport.aclose()
        assert upstream.connections == 0


async def test_the_checked_address_is_connected_to_and_the_name_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves to loopback once; a second look-up would fail."""
    monkeypatch.setattr("deployments.guard.ThreadedResolver", lambda: Answers(["127.0.0.1"]))
    async with raw_upstream(hello) as upstream:
        transport = AiohttpTransport(AddressGuard(allow_private=True), connect_s=2, tls=False)
        url = f"http://models.example:{upstream.port}/"
        for _ in range(2):
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert await response.aread() == b'{"hello": "there"}'
        await transport.aclose()
        assert {seen.headers["host"] for seen in upstream.seen} == {f"models.example:{upstream.port}"}
        assert upstream.connections == 1


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with raw_upstream(hello) as upstream:
        transport = AiohttpTransport(AddressGuard(allow_private=True), connect_s=2, tls=False)
        response = await transport.handle_async_request(httpx.Request("GET", upstream.url))
        assert response.status_code == 200
        await response.aread()
        await transport.aclose()
