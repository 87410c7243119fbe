"""Nodes come, change and go while the service answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from background_load import BackgroundLoad
from conftest import EXAMPLES, remote_node
from service_process import until

GARDEN = ["When do I prune roses?", "My tomato leaves turn yellow.", "How do I get rid of slugs in the garden?"]


def _modelyard(service: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command line against the service; return its exit code and its JSON."""
    program = str(Path(sys.executable).with_name("modelyard"))
    done = subprocess.run(
        [program, *arguments, "--json"],
        env=os.environ | {"MODELYARD_URL": service.url},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {"stderr": done.stderr}


def _write(folder: Path, node: dict[str, Any]) -> str:
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(node))
    return str(path)


def _garden(**fields: Any) -> dict[str, Any]:
    node = yaml.safe_load((EXAMPLES / "nodes" / "general.yaml").read_text())
    del node["default"]
    return node | {"name": "garden", "description": "Gardening: plants, soil, pests.", "examples": GARDEN} | fields


def _remove(service: Any, name: str) -> None:
    service.http.delete(f"/v1/nodes/{name}")
    until(lambda: name not in service.process.states(), f"{name} is gone")


def test_a_hosted_node_is_added_updated_and_removed_under_load(service, tmp_path):
    with BackgroundLoad(service.url, ("chess", "legal", "general")) as load:
        code, added = _modelyard(service, "nodes", "add", _write(tmp_path, _garden()))
        assert code == 0, added
        assert added["nodes"][0]["state"] == "ready"
        asked = service.http.post("/v1/route", json={"input": "When should I prune my roses?"}).json()
        assert asked["node"] == "garden"
        with BackgroundLoad(service.url, ("garden",), threads=1) as garden:
            code, updated = _modelyard(service, "nodes", "add", _write(tmp_path, _garden(context_window=1024)))
            assert code == 0, updated
            assert updated["nodes"][0]["serving_version"] == 2
            until(lambda: _apps_of(service, "garden") == ["node-garden-v2"], "the old version is retired")
            code, back = _modelyard(service, "nodes", "rollback", "garden")
            assert code == 0, back
            assert service.http.get("/v1/nodes/garden").json()["spec"]["context_window"] == 2048
        assert garden.failed == [] and garden.answered > 5
        code, history = _modelyard(service, "nodes", "history", "garden")
        assert [version["version"] for version in history["versions"]] == [3, 2, 1]
        code, _ = _modelyard(service, "nodes", "remove", "garden")
        assert code == 0
        until(lambda: "garden" not in service.process.states(), "the node is gone")
        until(lambda: _apps_of(service, "garden") == [], "its process is gone")
    assert load.failed == [] and load.answered > 20


def _apps_of(service: Any, node: str) -> list[str]:
    """Serve applications of a node that have a process."""
    return sorted({app for _, app, deployment in service.process.replica_titles() if deployment == node})


def test_a_node_in_the_gateway_is_updated_without_a_failed_request(service, tmp_path):
    def versioned(number: int) -> dict[str, Any]:
        return remote_node("bridge", service.upstream, template=f"v{number} {{input}}")

    try:
        assert _modelyard(service, "nodes", "add", _write(tmp_path, versioned(1)))[0] == 0
        with BackgroundLoad(service.url, ("bridge",), pause_s=0.01) as load:
            for number in (2, 3):
                code, updated = _modelyard(service, "nodes", "add", _write(tmp_path, versioned(number)))
                assert code == 0, updated
            until(lambda: load.versions and "v3" in load.versions[-1], "the newest version answers")
        assert load.failed == []
        assert "v1" in load.versions[0]
    finally:
        _remove(service, "bridge")


def test_a_version_on_trial_is_taken_back_when_worse_and_promoted_when_good(service, tmp_path):
    def says(words: str, **fields: Any) -> str:
        return _write(tmp_path, remote_node("judge", service.upstream, template=f"{words} {{input}}", **fields))

    def answer(number: int) -> str:
        body = {"model": "judge", "messages": [{"role": "user", "content": f"case {number}"}]}
        asked = service.http.post("/v1/chat/completions", json=body)
        assert asked.status_code == 200, asked.text
        return str(asked.json()["choices"][0]["message"]["content"]).split()[1]  # after "echo:"

    def history() -> list[dict[str, Any]]:
        return list(service.http.get("/v1/nodes/judge/history").json()["data"])

    trial = {"share": 0.5, "max_flips": 0.2, "min_answers": 3, "check": {"must_not_match": "sorry"}}
    heard: list[str] = []
    try:
        assert _modelyard(service, "nodes", "add", says("yes"))[0] == 0
        assert _modelyard(service, "nodes", "add", says("sorry", rollout=trial))[0] == 0
        until(lambda: heard.append(answer(len(heard))) or history()[0]["source"] == "rollback", "the worse one is gone")
        assert set(heard) == {"yes"} and "negative flips" in history()[0]["author"]
        assert _modelyard(service, "nodes", "add", says("indeed", rollout=trial))[0] == 0
        until(lambda: {answer(number) for number in range(12)} == {"yes", "indeed"}, "both versions answer")
        assert _modelyard(service, "nodes", "promote", "judge")[0] == 0
        until(lambda: {answer(number) for number in range(6)} == {"indeed"}, "the promoted version answers all")
    finally:
        _remove(service, "judge")


def test_a_node_that_cannot_load_is_failed_and_says_why(service, tmp_path):
    with BackgroundLoad(service.url, ("chess", "legal")) as load:
        model = tmp_path / "no-model.gguf"
        model.write_bytes(b"these are no weights")
        node = _garden(name="broken", model=str(model))
        try:
            code, result = _modelyard(service, "nodes", "add", _write(tmp_path, node))
            assert code == 1
            assert result["nodes"][0]["state"] == "failed"
            assert "no-model.gguf" in str(result["nodes"][0]["error"])
            shown = service.http.get("/v1/nodes/broken").json()
            assert shown["state"] == "failed" and "no-model.gguf" in shown["error"]
            ready = service.http.get("/readyz")
            assert ready.status_code == 200 and ready.json()["nodes"]["broken"] == "failed"
            asked = service.http.post(
                "/v1/chat/completions", json={"model": "broken", "messages": [{"role": "user", "content": "hello"}]}
            )
            assert asked.status_code in (404, 503) and "broken" in asked.json()["error"]["message"]
        finally:
            _remove(service, "broken")
    assert load.failed == []


def test_a_broken_update_leaves_the_serving_version(service, tmp_path):
    name = "steady"
    try:
        assert _modelyard(service, "nodes", "add", _write(tmp_path, remote_node(name, service.upstream)))[0] == 0
        broken = remote_node(name, service.upstream, api_key="${NO_SUCH_VARIABLE_ANYWHERE}")
        with BackgroundLoad(service.url, (name,)) as load:
            code, result = _modelyard(service, "nodes", "add", _write(tmp_path, broken))
            assert code == 1 and "NO_SUCH_VARIABLE_ANYWHERE" in str(result)
            before = load.answered
            until(lambda: load.answered > before + 5, "the old version goes on")
        assert load.failed == []
    finally:
        _remove(service, name)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b"name: x\nkind: nonsense\ndescription: d\n", "kind"),
        (b"name: x\nkind: openai\ndescription: d\nendpoint: http://h/v1\nmodel: m\ncolour: red\n", "colour"),
        (b"name: x\nkind: openai\ndescription: d\nmodel: m\n", "endpoint"),
        (b"name: x\nkind: openai\ndescription: d\nendpoint: http://h\nmodel: m\ndefault: true\n", "default"),
        (b"{not yaml: [", ""),
        (b"\xff\xfe\x00", ""),
        (b"", ""),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_key(service, body, key):
    answer = service.http.put("/v1/nodes/x", content=body, headers={"content-type": "application/yaml"})
    assert answer.status_code == 400, answer.text
    problems = answer.json()["error"]["problems"]
    assert problems and any(key in problem["key"] for problem in problems)
    assert "x" not in service.process.states()


def test_a_dry_run_changes_nothing(service, tmp_path):
    code, result = _modelyard(service, "nodes", "add", "--dry-run", _write(tmp_path, _garden()))
    assert code == 0 and result["nodes"][0]["valid"]
    assert service.http.get("/v1/nodes/garden").status_code == 404


def test_nodes_are_listed_and_shown(service):
    nodes = {node["name"]: node for node in service.http.get("/v1/nodes").json()["data"]}
    assert nodes["legal"]["kind"] == "llama_cpp" and nodes["legal"]["state"] == "ready"
    assert nodes["legal"]["edges"]["fallback"] == ["general"]
    history = service.http.get("/v1/nodes/legal/history").json()["data"]
    assert [version["version"] for version in history] == [1]
    assert service.http.get("/v1/nodes/nobody/history").status_code == 404
    assert service.http.delete("/v1/nodes/nobody").status_code == 404
    assert service.http.post("/v1/nodes/legal/rollback", params={"to": 9}).status_code in (400, 404)
