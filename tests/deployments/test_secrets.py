from __future__ import annotations

import pytest

from deployments.secrets import resolve_secrets
from graph.errors import InvalidSpec


def test_replaces_references_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "one")
    monkeypatch.setenv("SECOND", "two\n")
    assert resolve_secrets("Bearer ${FIRST}, $FIRST {FIRST} ${SECOND}") == "Bearer one, $FIRST {FIRST} two"
    assert resolve_secrets("nothing") == "nothing"


def test_a_value_is_not_read_as_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "${SECOND}")
    monkeypatch.setenv("SECOND", "two")
    assert resolve_secrets("${FIRST}") == "${SECOND}"


def test_names_every_variable_that_is_missing_and_no_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FIRST", "s3cret")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("GONE", raising=False)
    with pytest.raises(InvalidSpec) as caught:
        resolve_secrets("${FIRST} ${GONE} ${EMPTY}")
    assert [problem.key for problem in caught.value.problems] == ["EMPTY", "GONE"]
    assert "the environment that the service starts in" in caught.value.problems[0].message
    assert "s3cret" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("name", ["MODELYARD_API_KEY", "MODELYARD_STORE_PASSWORD"])
def test_no_node_gets_what_the_service_keeps_to_itself(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(InvalidSpec, match="own secret") as caught:
        resolve_secrets(f"Bearer ${{{name}}}")
    assert "s3cret" not in str(caught.value)
