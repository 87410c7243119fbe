"""`up`: settings in, events shown, the service's code out. The service itself is tested elsewhere."""

import json
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from rich.console import Console

from deployments.cli.up_display import UpDisplay
from deployments.service import ServiceEvent
from deployments.settings import Settings
from graph.errors import InvalidSpec, ModelyardError, Problem

EVENTS = [
    ServiceEvent("starting", "starting Ray"),
    ServiceEvent("node", "loading", "legal", "loading"),
    ServiceEvent("node", "", "general", "loading"),
    ServiceEvent("node", "no such file: x.gguf", "legal", "failed"),
    ServiceEvent("node", "ready", "general", "ready"),
    ServiceEvent("warning", "no key is set"),
    ServiceEvent(
        "ready", "ready", data={"url": "http://127.0.0.1:8000", "openai_base_url": "http://127.0.0.1:8000/v1"}
    ),
    ServiceEvent("stopping", "draining"),
    ServiceEvent("stopped", "stopped"),
]


@pytest.fixture
def started(monkeypatch):
    """Stand in for the service; hold the settings that it was started with."""
    found = SimpleNamespace(settings=None, code=0, error=None)

    def serve_forever(settings, on_event):
        found.settings = settings
        for event in EVENTS:
            on_event(event)
        if found.error:
            raise found.error
        return found.code

    monkeypatch.setattr("deployments.service.serve_forever", serve_forever)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MODELYARD_{name.upper()}", raising=False)
    return found


def test_options_become_settings(cli, started, tmp_path):
    (tmp_path / "more").mkdir()
    options = ["--nodes", tmp_path, "--nodes", tmp_path / "more", "--port", 8123, "--store", "memory://"]
    result = cli("up", *options, "--allow-private", "--min-probability", "0.3", "--log-level", "debug")
    assert result.exit_code == 0, result.output
    settings = started.settings
    assert settings.nodes == (tmp_path, tmp_path / "more")
    assert (settings.port, settings.store, settings.allow_private) == (8123, "memory://", True)
    assert (settings.min_probability, settings.log_level, settings.host) == (0.3, "debug", "127.0.0.1")


def test_a_variable_counts_where_no_option_is_given(cli, started):
    environment = {"MODELYARD_PORT": "9001", "MODELYARD_HOST": "0.0.0.0", "MODELYARD_API_KEY": "k-secret"}
    result = cli("up", "--host", "127.0.0.2", env=environment)
    assert (started.settings.port, started.settings.host) == (9001, "127.0.0.2")
    assert started.settings.api_key == SecretStr("k-secret")
    assert "k-secret" not in result.output


def test_a_switch_of_a_variable_can_be_turned_off(cli, started):
    cli("up", "--no-allow-private", env={"MODELYARD_ALLOW_PRIVATE": "1"})
    assert started.settings.allow_private is False


def test_every_setting_but_the_secrets_is_an_option(cli):
    helped = cli("up", "--help", env={"COLUMNS": "200"}).stdout
    secrets = {"api_key", "store_password"}
    for name in set(Settings.model_fields) - secrets:
        assert f"--{name.replace('_', '-')}" in helped
    assert not any(f"--{name.replace('_', '-')}" in helped for name in secrets)


@pytest.mark.parametrize("wrong", [("--port", "99999"), ("--port", "x"), ("--log-level", "loud"), ("--nodes", "/none")])
def test_wrong_settings_are_wrong_usage(cli, started, wrong):
    result = cli("up", *wrong)
    assert result.exit_code == 2
    assert started.settings is None


def test_events_are_lines_in_a_pipe(cli, started):
    assert cli("up").stdout.splitlines() == [
        "starting Ray",
        "node legal loading",
        "node general loading",
        "node legal failed: no such file: x.gguf",
        "node general ready",
        "warning: no key is set",
        "ready",
        "url: http://127.0.0.1:8000",
        "openai base url: http://127.0.0.1:8000/v1",
        "draining",
        "stopped",
    ]


def test_events_as_json_lines(cli, started):
    lines = [json.loads(line) for line in cli("up", "--json").stdout.splitlines()]
    assert [line["kind"] for line in lines] == [event.kind for event in EVENTS]
    assert lines[3] == {
        "kind": "node",
        "message": "no such file: x.gguf",
        "node": "legal",
        "state": "failed",
        "data": {},
    }
    assert lines[6]["data"]["url"] == "http://127.0.0.1:8000"


def test_the_code_of_the_service_is_the_exit_code(cli, started):
    started.code = 1
    assert cli("up").exit_code == 1
    started.error = ModelyardError("port 8000 is taken")
    failed = cli("up")
    assert failed.exit_code == 1
    assert "error: port 8000 is taken" in failed.stderr


def test_problems_of_node_files_are_a_table(cli, started):
    started.error = InvalidSpec([Problem("a.yaml", "kind", "is not installed"), Problem("b.yaml", "", "is empty")])
    failed = cli("up")
    assert failed.exit_code == 1
    assert "a.yaml  kind  is not installed" in failed.stdout
    assert "2 problems" in failed.stderr
    last = cli("up", "--json").stdout.partition('"stopped"')[2]
    assert '"file": "b.yaml"' in last


def test_a_terminal_shows_nodes_while_they_load_and_a_panel_when_ready():
    terminal = Console(force_terminal=True, width=100, color_system=None, record=True, file=open("/dev/null", "w"))
    with terminal.file, UpDisplay(terminal) as display:
        for event in EVENTS[:5]:
            display.handle(event)
        with terminal.capture() as capture:
            terminal.print(display.renderable())
        assert "general  ready" in capture.get()
        assert "legal    failed" in capture.get()
        terminal.export_text()
        for event in EVENTS[5:]:
            display.handle(event)
        text = terminal.export_text()
    assert "╭" in text and "http://127.0.0.1:8000/v1" in text
    assert "legal" in text[text.index("╭") :] and "no such file" in text
    assert text.rstrip().endswith("stopped")


def test_a_service_without_a_node_that_serves_does_not_look_ready():
    told = "up, but no node serves: the node failed to load. `modelyard nodes list` says why; and a long way to go on"
    terminal = Console(force_terminal=True, width=60, color_system=None, record=True, file=open("/dev/null", "w"))
    with terminal.file, UpDisplay(terminal) as display:
        display.handle(ServiceEvent("ready", told, data={"url": "http://127.0.0.1:8000"}))
        text = terminal.export_text()
    assert told in text.replace("\n", "")
    assert "ready" not in text and "http://127.0.0.1:8000" in text
