"""The declaration of a node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from graph.spec import NodeSpec
from graph.types import Modality


def spec(**more: Any) -> NodeSpec:
    return NodeSpec.model_validate({"name": "legal", "kind": "openai", "description": "Law."} | more)


def test_defaults_are_a_text_expert() -> None:
    made = spec()
    assert made.accepts == made.produces == {Modality.TEXT}
    assert (made.default, made.limits.attempts, made.scale.max, made.is_tool) == (False, 3, 1, False)
    assert made.to_yaml_dict() == {"name": "legal", "kind": "openai", "description": "Law."}


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"name": "Legal"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "legal\n"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "auto"}, "name"),
        ({"description": ""}, "description"),
        ({"accepts": []}, "accepts"),
        ({"accepts": ["smell"]}, "accepts.0"),
        ({"api_key": "sk-literal"}, "api_key"),
        ({"api_key": "a${KEY}"}, "api_key"),
        ({"template": "no place"}, "template"),
        ({"endpoint": "ftp://host"}, "endpoint"),
        ({"endpoint": "http://"}, "endpoint"),
        ({"endpoint": "https://user:pw@host/v1"}, "endpoint"),
        ({"limits": {"attempts": 0}}, "limits.attempts"),
        ({"limits": {"idle_s": float("nan")}}, "limits.idle_s"),
        ({"cost": {"input_per_million": float("inf")}}, "cost.input_per_million"),
        ({"scale": {"min": 3, "max": 2}}, "scale"),
        ({"edges": {"fallback": ["legal"]}}, ""),
        ({"edges": {"escalates": ["legal"]}}, ""),
        ({"unknown": 1}, "unknown"),
        ({"arguments": {"q": {"enum": [1], "default": 2}}}, "arguments.q"),
        ({"rollout": {"share": 0.1, "check": {"must_match": "("}}}, "rollout.check.must_match"),
        ({"rollout": {"share": 0.1, "check": {"must_match": "a{99999999999}"}}}, "rollout.check.must_match"),
        (
            {"rollout": {"share": 0.1, "check": {"must_not_match": "(" * 500 + ")" * 500}}},
            "rollout.check.must_not_match",
        ),
    ],
)
def test_what_is_refused_and_where(more: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**more)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [key]


def test_what_a_task_of_a_node_may_have() -> None:
    assert {name: a.required for name, a in spec().signature().items()} == {"prompt": True, "context": False}
    speech = spec(accepts=["audio"]).signature()
    assert {name: a.required for name, a in speech.items()} == {"audio": True}
    both = spec(accepts=["text", "image"]).signature()
    assert {name: a.required for name, a in both.items()} == {"prompt": True, "context": False, "image": False}
    tool = spec(arguments={"city": {"description": "Where"}})
    assert tool.is_tool and set(tool.signature()) == {"city"}


NAMES = st.from_regex(r"[a-z]([a-z0-9._-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda n: n not in ("auto", "plan"))


@given(
    accepts=st.sets(st.sampled_from(["text", "image", "audio", "json"]), min_size=1),
    examples=st.lists(st.text(min_size=1, max_size=20), max_size=3),
    fallback=st.lists(NAMES.filter(lambda n: n != "legal"), max_size=3),
    params=st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=9), max_size=3
    ),
    total=st.floats(0.001, 86400),
)
def test_a_spec_written_out_reads_back_the_same(
    accepts: set[str], examples: list[str], fallback: list[str], params: dict[str, Any], total: float
) -> None:
    limits, edges = {"total_s": total}, {"fallback": fallback}
    made = spec(accepts=accepts, examples=examples, edges=edges, params=params, limits=limits)
    assert NodeSpec.model_validate(made.to_yaml_dict()) == made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cascade": {"min_margin": 1}}, "cascade needs edges.escalates"),
        ({"cascade": {"must_match": "("}, "edges": {"escalates": ["b"]}}, "must be a regular expression"),
        ({"cascade": {"min_logprob": 1}, "edges": {"escalates": ["b"]}}, "less than or equal to 0"),
        ({"cascade": {"margin": 1}, "edges": {"escalates": ["b"]}}, "Extra inputs"),
    ],
)
def test_a_cascade_that_cannot_work_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NodeSpec.model_validate({"name": "a", "kind": "k", "description": "d", **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"outputs": {"id": {}}}, "outputs are fields of a JSON answer"),
        ({"outputs": {"order..id": {}}, "produces": ["json"]}, "should match pattern"),
        ({"outputs": {"id": {"type": "uuid"}}, "produces": ["json"]}, "Input should be 'string'"),
    ],
)
def test_outputs_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NodeSpec.model_validate({"name": "a", "kind": "k", "description": "d", **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False), ({"idempotent": False}, True), ({"params": {"method": "delete"}}, True),
        ({"params": {"method": "GET"}}, False), ({"params": {"method": "POST"}}, True),
        ({"params": {"method": "POST"}, "changes": False}, False), ({"changes": True}, True),
    ],
)  # fmt: skip
def test_what_changes_something(fields: dict[str, object], expected: bool) -> None:
    made = NodeSpec.model_validate({"name": "a", "kind": "k", "description": "d", **fields})
    assert made.changes_something is expected
