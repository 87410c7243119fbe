"""`nodes add`: checked here first, put one by one, waited for."""

import json

import pytest

from deployments.cli.waiting import state_of


@pytest.fixture
def node_file(tmp_path):
    def write(name, *documents):
        path = tmp_path / name
        path.write_text("\n---\n".join(documents))
        return path

    return write


def declaration(name, **fields):
    base = {"name": name, "kind": "openai", "description": "d", "model": "m", "endpoint": "https://up.example/v1"}
    return json.dumps(base | fields)


def puts(service):
    return [path.partition("?")[0].rpartition("/")[2] for method, path, _ in service.seen if method == "PUT"]


def test_add_puts_every_node_and_waits(modelyard, service, node_file):
    result = modelyard("nodes", "add", node_file("a.yaml", declaration("law"), declaration("code")))
    assert result.exit_code == 0, result.output
    assert puts(service) == ["law", "code"]
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [["law", "1", "ready"], ["code", "1", "ready"]]


def test_add_puts_the_target_of_an_edge_first(modelyard, service, node_file):
    first = declaration("law", edges={"fallback": ["base", "legal"]})
    result = modelyard("nodes", "add", node_file("a.yaml", first, declaration("base", edges={"fallback": ["law"]})))
    assert result.exit_code == 0, result.output
    assert puts(service) == ["base", "law"]


def test_add_sends_nothing_if_any_file_is_wrong(modelyard, service, node_file):
    good, bad = node_file("a.yaml", declaration("law")), node_file("b.yaml", "name: x\nkind: openai\ncolour: red\n")
    result = modelyard("nodes", "add", good, bad)
    assert result.exit_code == 1
    assert "colour" in result.stdout and "description" in result.stdout
    assert puts(service) == []


def test_add_refuses_an_edge_to_nowhere(modelyard, service, node_file):
    result = modelyard("nodes", "add", node_file("a.yaml", declaration("law", edges={"fallback": ["ghost"]})), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["key"] == "edges.fallback"
    assert puts(service) == []


def test_a_node_that_fails_to_load_exits_with_1_and_the_error(modelyard, service, node_file):
    service.loads["law"] = "failed"
    path = node_file("a.yaml", declaration("law"), declaration("code"))
    result = modelyard("nodes", "add", path)
    assert result.exit_code == 1
    assert "no such file" in result.stdout
    assert puts(service) == ["law", "code"]
    as_json = modelyard("nodes", "add", path, "--json")
    answer = json.loads(as_json.stdout)
    assert answer["ok"] is False
    assert [node["state"] for node in answer["nodes"]] == ["failed", "ready"]


def test_a_node_that_never_gets_ready_is_given_up(modelyard, service, node_file):
    service.loads["law"] = "loading"
    result = modelyard("nodes", "add", node_file("a.yaml", declaration("law")), "--wait-s", "0.1")
    assert result.exit_code == 1
    assert "still loading after 0.1 s" in result.stdout


def test_without_wait_the_answer_of_the_service_is_shown(modelyard, service, node_file):
    service.loads["law"] = "loading"
    result = modelyard("nodes", "add", node_file("a.yaml", declaration("law")), "--no-wait")
    assert result.exit_code == 0
    assert "loading" in result.stdout


def test_dry_run_registers_nothing(modelyard, service, node_file):
    result = modelyard("nodes", "add", node_file("a.yaml", declaration("law")), "--dry-run", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["nodes"][0]["valid"] is True
    assert "law" not in service.nodes
    assert any("dry_run=true" in path for _, path, _ in service.seen)
    assert "+name: law" in modelyard("nodes", "add", node_file("a.yaml", declaration("law")), "--dry-run").stdout


@pytest.mark.parametrize(
    ("current", "version", "state"),
    [
        ({}, 1, "loading"),
        ({"state": "ready", "version": 1, "serving_version": 1}, 2, "loading"),
        ({"state": "ready", "version": 2, "serving_version": 1}, 2, "loading"),
        ({"state": "ready", "version": 2, "serving_version": 1, "error": "no file"}, 2, "failed"),
        ({"state": "ready", "version": 2, "serving_version": 2}, 2, "ready"),
        ({"state": "failed", "version": 2, "serving_version": None, "error": "no file"}, 2, "failed"),
        ({"state": "failed", "version": 1}, 2, "loading"),
        ({"state": "failed"}, None, "failed"),
    ],
)
def test_an_older_version_that_serves_is_not_the_new_one(current, version, state):
    assert state_of(current, version) == state
