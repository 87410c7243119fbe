"""`modelyard keys …` and `modelyard audit`."""

from __future__ import annotations

import json

import pytest
from fake_native_service import Service

LIMITS = {"requests": 60, "tokens": None, "runs": None, "budget": 2.5}
KEPT = {
    "id": "key_0a1b", "name": "ann", "prefix": "mdy_abcdef", "scopes": ["call"], "nodes": ["law"], "limits": LIMITS,
    "created_at": 0.0, "created_by": "operator@127.0.0.1", "expires_at": 86400.0, "revoked_at": None,
}  # fmt: skip
ENTRIES = [
    {"id": 1, "act": "node.put", "at": 0.0, "by": "key_1", "node": "law", "before": 1, "version": 2, "source": "api"},
    {"id": 2, "act": "key.create", "at": 0.0, "by": "operator", "key": "key_0a1b", "name": "ann", "scopes": ["call"],
     "nodes": ["law"]},
]  # fmt: skip


@pytest.fixture
def kept(service: Service) -> Service:
    service.router = {
        ("GET", "/v1/keys"): {"data": [KEPT]},
        ("POST", "/v1/keys"): {"key": "mdy_whole", "warnings": ["nobody is asked"]} | KEPT,
        ("DELETE", "/v1/keys/key_0a1b"): KEPT,
        ("GET", "/v1/audit"): {"data": ENTRIES},
    }
    return service


def test_a_key_is_made_and_standard_output_is_the_key_alone(modelyard, kept):
    wanted = ("--scope", "call,read", "--scope", "route", "--node", "a", "--node", "b", "--expires", "90d")
    made = modelyard("keys", "create", "ann", *wanted, "--requests", 60, "--budget", 2.5)
    assert (made.exit_code, made.stdout) == (0, "mdy_whole\n"), made.output
    assert (
        "key_0a1b for ann: call; only law; 60 requests/min, 2.5 cost units/month" in made.stderr
        and "warning: nobody is asked" in made.stderr
    )
    assert kept.seen[-1][2] == {
        "name": "ann", "scopes": ["call", "read", "route"], "nodes": ["a", "b"], "expires": "90d", "requests": 60,
        "budget": 2.5,
    }  # fmt: skip
    assert json.loads(modelyard("keys", "create", "--name", "ann", "--scopes", "call,admin", "--json").stdout)["key"]
    assert kept.seen[-1][2]["scopes"] == ["call", "admin"]
    assert modelyard("keys", "create").exit_code == 2


def test_keys_are_listed_and_revoked_and_the_record_is_shown(modelyard, kept):
    listed = modelyard("keys", "list").stdout.splitlines()[1].split("  ")
    assert [cell.strip() for cell in listed if cell][:5] == ["key_0a1b", "ann", "mdy_abcdef…", "call", "law"]
    assert "1970-01-02 00:00" in " ".join(listed)
    assert modelyard("keys", "revoke", "key_0a1b").stdout == "revoked key_0a1b (ann)\n"
    shown = modelyard("audit").stdout
    assert "law version 1 to 2 (api)" in shown and "key_0a1b ann: call; law" in shown
    assert json.loads(modelyard("audit", "--json").stdout) == {"entries": ENTRIES}
