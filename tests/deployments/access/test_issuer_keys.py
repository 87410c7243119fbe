"""An issuer that is slow, away, or answers with anything; and tokens that make the gateway ask it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import jwt
import pytest
from test_oidc import Issuer, verifier
from waiting import until

import deployments.access.issuer_keys as module
from deployments.access.issuer_keys import IssuerKeys
from graph.errors import Unauthorized


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.close()


class Clock:
    """Time that stands still unless it is moved."""

    at = 1000.0

    def __call__(self) -> float:
        return self.at


def unknown(issuer: Issuer, number: int) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["k1"], "ES256", headers={"kid": f"http://10.0.0.1/{number}"})


async def test_a_flood_of_invented_keys_at_a_slow_issuer_holds_nobody_up(issuer: Issuer) -> None:
    verify, go_on = verifier(issuer), threading.Event()
    known = issuer.token()
    await verify(known)
    asked = len(issuer.asked)

    def slow(request: BaseHTTPRequestHandler) -> None:
        go_on.wait(20)
        with suppress(OSError):
            request.send_response(503)
            request.end_headers()

    issuer.raw = slow
    flood = [asyncio.create_task(verify(unknown(issuer, number))) for number in range(200)]
    await until(lambda: len(issuer.asked) > asked)
    assert (await verify(known)).name == "ann"  # neither waits for the issuer,
    await asyncio.wait_for(asyncio.to_thread(int), 5)  # nor has it taken the threads of the others
    go_on.set()
    refused = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(error) for error in refused} == {ConnectionError}
    assert len(issuer.asked) == asked + 1


def _answer(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            request.wfile.write(body)

    return send


def _elsewhere(request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("location", "/keys/of/another")
    request.end_headers()


@pytest.mark.parametrize(
    "answer",
    [
        _elsewhere,
        _answer(b"<html>log in</html>"),
        _answer(b" " * 50 * 2**20),
        _answer(b'{"keys": ["x", {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": 7}]}'),
        _answer(b"[" * 2**18),
    ],
    ids=["elsewhere", "page", "endless", "hollow", "deep"],
)
async def test_what_is_no_set_of_keys_is_as_no_answer(issuer: Issuer, answer: object) -> None:
    issuer.raw = answer  # type: ignore[assignment]
    verify = verifier(issuer)
    with pytest.raises(ConnectionError):
        await verify(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_an_answer_that_drips_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    ended = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            while not ended.wait(0.02):
                request.wfile.write(b" ")

    issuer.raw = drip
    with pytest.raises(ConnectionError):
        await verifier(issuer)(issuer.token())
    ended.set()


async def test_keys_are_held_for_an_hour_while_the_issuer_is_away(issuer: Issuer) -> None:
    clock = Clock()
    keys = IssuerKeys(issuer.url, clock=clock)
    assert await keys.find("k1") is not None
    issuer.away = True
    for passed in (module.KEYS_S + 1, 10, 3000):
        clock.at += passed
        assert await keys.find("k1") is not None
    assert await keys.find("k1") is not None
    clock.at += module.HELD_S
    with pytest.raises(ConnectionError):
        await keys.find("k1")
    issuer.away = False
    clock.at += module.AWAY_S
    with suppress(ConnectionError):
        await keys.find("k1")
    assert keys._look is not None
    await keys._look
    assert await keys.find("k1") is not None


async def test_a_key_that_the_issuer_took_back_is_refused_when_it_is_asked_again(issuer: Issuer) -> None:
    verify, clock = verifier(issuer), Clock()
    verify._keys._clock = clock
    old = issuer.token()
    await verify(old)
    issuer.rotate("k2")
    clock.at += module.KEYS_S + 1
    with pytest.raises(Unauthorized):
        await verify(old)
