"""Settings from the environment and from options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.settings import HUB_ENCODER, Settings, client_environment, misspelt_variables, process_environment
from graph.errors import InvalidRequest


def test_options_win_over_the_environment_and_it_over_defaults() -> None:
    environment = {"MODELYARD_PORT": "9000", "MODELYARD_REPLICAS": "2", "MODELYARD_ALLOW_PRIVATE": "true"}
    settings = Settings.from_env(environment, port=9001, host=None, nodes=())
    assert (settings.port, settings.replicas, settings.allow_private, settings.host) == (9001, 2, True, "127.0.0.1")


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Settings.from_env({"MODELYARD_PORT": "http", "MODELYARD_MIN_PROBABILITY": "2"})
    assert "MODELYARD_PORT: " in caught.value.message and "MODELYARD_MIN_PROBABILITY: " in caught.value.message
    assert caught.value.param == "port"


def test_a_wrong_setting_is_named_as_it_was_given_with_its_value() -> None:
    with pytest.raises(InvalidRequest, match=r"--port: .*; got 99999; MODELYARD_GATE: .*'warn'.*; got 'of'"):
        Settings.from_env({"MODELYARD_PORT": "80", "MODELYARD_GATE": "of"}, port=99999)
    with pytest.raises(InvalidRequest, match=r"^--mcp-servers: 'tools' must be written as NAME=COMMAND$"):
        Settings.from_env({}, mcp_servers=("tools",))
    with pytest.raises(InvalidRequest, match=r"^MODELYARD_TEACHERS: ' ann' must be the id of a caller"):
        Settings.from_env({"MODELYARD_TEACHERS": "key_a, ann"})
    with pytest.raises(InvalidRequest, match=r"^oidc_issuer needs oidc_audience"):
        Settings.from_env({"MODELYARD_OIDC_ISSUER": "https://login.example.com"})


def test_a_variable_that_is_nearly_a_setting_is_pointed_out() -> None:
    told = misspelt_variables(
        {"MODELYARD_PROT": "1", "MODELYARD_APIKEY": "x", "MODELYARD_URL": "", "MODELYARD_CRM": ""}
    )
    assert told == [
        "MODELYARD_APIKEY is no setting and counts for nothing (did you mean MODELYARD_API_KEY?)",
        "MODELYARD_PROT is no setting and counts for nothing (did you mean MODELYARD_PORT?)",
    ]


def test_an_empty_variable_counts_as_none() -> None:
    assert Settings.from_env({"MODELYARD_API_KEY": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}) == Settings()


def test_the_key_is_never_shown() -> None:
    settings = Settings.from_env({"MODELYARD_API_KEY": "hunter2"})
    assert settings.api_key is not None and settings.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


def test_opentelemetrys_own_variables_are_read_and_ours_win() -> None:
    theirs = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318",
              "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}  # fmt: skip
    settings = Settings.from_env(theirs)
    assert (settings.otlp_endpoint, settings.capture_content) == ("http://a:4318", True)
    assert Settings.from_env(theirs | {"MODELYARD_OTLP_ENDPOINT": "http://b"}).otlp_endpoint == "http://b"


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"MODELYARD_NODES": f"a{os.pathsep}b", "MODELYARD_STORE": "sqlite:///state.db"})
    assert settings.nodes == (tmp_path / "a", tmp_path / "b")
    assert settings.store == f"sqlite:///{tmp_path}/state.db"
    assert Settings(store="redis://h:1/0").store == "redis://h:1/0"
    assert Settings(store="sqlite:////x/y.db").store == "sqlite:////x/y.db"


def test_the_encoder_is_what_was_set_or_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(encoder="hf://a/b").encoder_reference() == "hf://a/b"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Settings().encoder_reference() == HUB_ENCODER


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        Settings(colour="red")  # type: ignore[call-arg]


def test_the_operators_variables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_TEST_A", "mine")
    monkeypatch.delenv("MODELYARD_TEST_B", raising=False)
    process_environment({"MODELYARD_TEST_A": "ours", "MODELYARD_TEST_B": "ours"})
    assert (os.environ["MODELYARD_TEST_A"], os.environ.pop("MODELYARD_TEST_B")) == ("mine", "ours")


def test_clients_find_their_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_URL", "http://x")
    monkeypatch.delenv("MODELYARD_API_KEY", raising=False)
    assert client_environment() == ("http://x", None)


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("redis://host:6379/0", "redis://:p%40ss%2F@host:6379/0"),
        ("rediss://app@host:6379/0", "rediss://app:p%40ss%2F@host:6379/0"),
        ("redis://app:old@host/0", "redis://app:p%40ss%2F@host/0"),
        ("memory://", "memory://"),
    ],
)
def test_the_password_of_a_secret_goes_into_the_stores_url(store: str, expected: str) -> None:
    settings = Settings.from_env({"MODELYARD_STORE": store, "MODELYARD_STORE_PASSWORD": "p@ss/\n"})
    assert settings.store == expected
    assert "p@ss" not in repr(settings)
