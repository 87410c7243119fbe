"""What may be an endpoint."""

from __future__ import annotations

import pytest

from deployments.nodes.remote import endpoint_problems
from graph.spec import NodeSpec


def spec(endpoint: str) -> NodeSpec:
    return NodeSpec(name="a", kind="openai", description="d", model="m", endpoint=endpoint)


@pytest.mark.parametrize("host", ["[", "?", "${HOME}.example", "a|b", "a..b", "ab..cd", "xn--", ".a", "a" * 64])
def test_a_host_that_cannot_be_is_found_before_the_node_loads(host: str) -> None:
    assert [key for key, _ in endpoint_problems(spec(f"http://{host}"))] == ["endpoint"]


@pytest.mark.parametrize("host", ["api.x-y_z.example", "bücher.example", "127.0.0.1:8", "[::1]:9"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert endpoint_problems(spec(f"http://{host}/v1")) == []
