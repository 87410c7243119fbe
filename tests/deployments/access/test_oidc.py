"""Bearer tokens of an issuer with a real JWKS server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import deployments.access.issuer_keys
from deployments.access.oidc import OidcOptions, OidcVerifier, parse_grants
from deployments.access.security import make_security
from deployments.settings import Settings
from graph.errors import InvalidRequest, Overloaded, RateLimited, Unauthorized
from graph.stores.memory import MemoryStore


class Issuer:
    """Signs tokens, and serves the discovery document and the public keys."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.extra: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.away = False
        self.raw: Callable[[BaseHTTPRequestHandler], None] | None = None
        """Answers a look for the keys otherwise."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.raw is not None and self.path == "/keys":
                    return issuer.raw(self)
                body = json.dumps(issuer.answer(self.path)).encode()
                self.send_response(503 if issuer.away else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.rotate("k1")

    def answer(self, path: str) -> dict[str, Any]:
        if path.endswith("openid-configuration"):
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        about = {"use": "sig", "alg": "ES256"}
        public = {kid: jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()) for kid, key in self.keys.items()}
        made = [json.loads(key) | about | {"kid": kid} for kid, key in public.items()]
        return {"keys": made + self.extra}

    def rotate(self, kid: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def claims(self, **changes: Any) -> dict[str, Any]:
        found = {"iss": self.url, "aud": "yard", "sub": "ann", "exp": int(time.time()) + 60, "scope": "openid call"}
        return {name: value for name, value in (found | changes).items() if value is not None}

    def token(self, **changes: Any) -> str:
        ((kid, key),) = self.keys.items()
        return jwt.encode(self.claims(**changes), key, "ES256", headers={"kid": kid})

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """Sign as no library would: with a public key as if it were a shared secret."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.close()


def verifier(issuer: Issuer, **options: Any) -> OidcVerifier:
    return OidcVerifier(OidcOptions(issuer.url, "yard", **options))


async def test_a_token_says_who_and_what(issuer: Issuer) -> None:
    principal = await verifier(issuer)(issuer.token(scope="openid modelyard:call read unknown"))
    assert (principal.id, principal.scopes, principal.nodes) == ("oidc:ann", frozenset({"call", "read"}), None)
    assert principal.expires_at == pytest.approx(time.time() + 60, abs=3)


@pytest.mark.parametrize(
    ("options", "claims", "scopes", "nodes"),
    [
        ({"claim": "groups"}, {"groups": ["call", 7]}, {"call"}, None),
        ({"claim": "realm_access.roles"}, {"realm_access": {"roles": ["read"]}}, {"read"}, None),
        ({"claim": "https://a.b/roles"}, {"https://a.b/roles": ["route"]}, {"route"}, None),
        ({"grants": {"staff": frozenset({"call", "route"})}, "claim": "groups"}, {"groups": ["staff", "admin"]},
         {"call", "route"}, None),
        ({"nodes_claim": "nodes"}, {"nodes": ["law", "code"]}, {"call"}, {"law", "code"}),
        ({"nodes_claim": "nodes"}, {}, {"call"}, set()),
        ({"claim": "groups"}, {"groups": {"admin": 1}}, set(), None),
    ],
)  # fmt: skip
async def test_claims_become_scopes_and_nodes(
    issuer: Issuer, options: dict[str, Any], claims: dict[str, Any], scopes: set[str], nodes: set[str] | None
) -> None:
    principal = await verifier(issuer, **options)(issuer.token(**claims))
    assert (principal.scopes, principal.nodes) == (scopes, nodes)


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://elsewhere"}, {"aud": "other"}, {"exp": 1}, {"exp": None}, {"sub": None}, {"aud": None},
     {"nbf": 2**33}],
)  # fmt: skip
async def test_a_token_for_others_or_of_another_time_is_refused(issuer: Issuer, changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        await verifier(issuer)(issuer.token(**changes))


async def test_no_two_subjects_become_one(issuer: Issuer) -> None:
    subjects = ["ann", "ann\n", "a\u202enn", "ann#", "x" * 200, "x" * 9999 + "a", "x" * 9999 + "b", "\0"]
    verify = verifier(issuer)
    principals = [await verify(issuer.token(sub=subject)) for subject in subjects]
    assert len({principal.id for principal in principals}) == len(subjects)
    assert all(principal.id.isprintable() and len(principal.id) < 250 for principal in principals)
    assert (principals[0].id, principals[4].name) == ("oidc:ann", "x" * 200)
    with pytest.raises(Unauthorized):
        await verify(issuer.token(sub=""))


async def test_no_algorithm_is_taken_for_another(issuer: Issuer) -> None:
    public = issuer.keys["k1"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shared = base64.urlsafe_b64encode(b"secret" * 6).decode()
    issuer.extra = [{"kty": "oct", "kid": "shared", "k": shared, "alg": "HS256"}]
    forged = [
        jwt.encode(issuer.claims(), None, "none", headers={"kid": "k1"}),
        hs256(issuer.claims(), public, "k1"),
        hs256(issuer.claims(), b"secret" * 6, "shared"),
        jwt.encode(issuer.claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "k1"}),
        jwt.encode(issuer.claims(), ec.generate_private_key(ec.SECP384R1()), "ES384", headers={"kid": "k1"}),
        issuer.token()[:-4] + "AAAA",
        "a.b.c",
        "nothing",
    ]
    verify = verifier(issuer)
    for token in forged:
        with pytest.raises(Unauthorized):
            await verify(token)
    assert (await verify(issuer.token())).name == "ann"


async def test_keys_are_kept_and_rotated_and_invented_ones_cost_one_look(issuer: Issuer) -> None:
    verify = verifier(issuer)
    for _ in range(3):
        await verify(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    issuer.rotate("k2")
    await verify(issuer.token())
    assert len(issuer.asked) == 3
    issuer.rotate("k3")
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await verify(issuer.token())
    assert len(issuer.asked) == 3
    verify._keys._not_before = 0.0
    assert (await verify(issuer.token())).name == "ann"


async def test_each_subject_has_the_operators_limits_over_all_gateways(issuer: Issuer) -> None:
    limits = {"oidc_requests": 2, "oidc_tokens": 100, "oidc_runs": 1, "oidc_budget": 5.0}
    settings = Settings(oidc_issuer=issuer.url, oidc_audience="yard", **limits)
    store = MemoryStore()
    gateways = [make_security(settings, store) for _ in range(2)]
    ann, bob = f"Bearer {issuer.token()}", f"Bearer {issuer.token(sub='bob')}"
    for gateway in gateways:
        await gateway.quotas.admit(await gateway.access.identify(ann), {})
    for token in (ann, f"Bearer {issuer.token(iat=1)}"):  # another token of hers gives her no more
        with pytest.raises(RateLimited, match="2 requests a minute"):
            await gateways[0].quotas.admit(await gateways[0].access.identify(token), {})
    principal = await gateways[1].access.identify(bob)
    headers: dict[str, str] = {}
    await gateways[1].quotas.admit(principal, headers)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-tokens"]) == ("2", "100")
    assert principal.caller is not None
    assert (principal.caller.max_runs, principal.caller.metered) == (1, True)
    gateways[0].quotas.charge(principal.id, 10, 5.0)
    await gateways[0].quotas.aclose()
    gateways[1].quotas._cost._sums.clear()  # known a second ago
    with pytest.raises(RateLimited, match="budget of 5"):
        await gateways[1].quotas.admit(principal, {})


async def test_while_the_issuer_is_away_nobody_is_let_in_or_turned_away(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments.access.issuer_keys, "AWAY_S", 0.0)
    settings = Settings(oidc_issuer=issuer.url, oidc_audience="yard", oidc_grants="openid=call")
    access = make_security(settings, MemoryStore()).access
    token = f"Bearer {issuer.token()}"
    issuer.away = True
    with pytest.raises(Overloaded):
        await access.identify(token)
    issuer.away = False
    with pytest.raises(Overloaded):  # nobody waits for an issuer that was away, but it is looked at
        await access.identify(token)
    await access._verify._keys._look  # type: ignore[union-attr]
    assert not access.is_open and (await access.identify(token)).scopes == {"call"}
    with pytest.raises(Unauthorized):
        await access.identify("")


@pytest.mark.parametrize("text", ["staff", "staff=", "=call", "staff=root", "staff=call+"])
def test_grants_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no grant"):
        parse_grants(text)
    assert parse_grants(" a=call , b=c=read+route ") == {"a": {"call"}, "b=c": {"read", "route"}}
    settings = Settings(oidc_issuer="https://a.example", oidc_audience="yard", oidc_grants=text)
    with pytest.raises(InvalidRequest):
        make_security(settings, MemoryStore())


@pytest.mark.parametrize(
    "wrong",
    [{"oidc_issuer": "https://a.example"}, {"oidc_issuer": "http://a.example", "oidc_audience": "x"},
     {"oidc_jwks_url": "ftp://a.example"}, {"oidc_requests": 0}, {"oidc_budget": -1.0}, {"oidc_tokens": "many"}],
)  # fmt: skip
def test_settings_that_would_take_anyones_tokens_or_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"oidc|https"):
        Settings.from_env({}, **wrong)
