"""What a service keeps when it is killed, and what two services share. Light nodes only: these start anew."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import ends_cleanly, remote_node, write_nodes
from service_process import ServiceProcess, until


def _light(folder: Path, store: str, nodes: Path | None = None) -> ServiceProcess:
    """A service that loads no model."""
    options: dict[str, Any] = {"nodes": nodes} if nodes else {}
    return ServiceProcess(folder, store=store, strategy="keyword", allow_private=True, **options)


def _put(service: ServiceProcess, node: dict[str, Any]) -> None:
    answer = httpx.put(f"{service.url}/v1/nodes/{node['name']}", content=yaml.safe_dump(node), headers=service.headers)
    assert answer.status_code == 201, answer.text
    until(lambda: service.states().get(str(node["name"])) == "ready", f"{node['name']} is ready")


def _ask(service: ServiceProcess, model: str, text: str = "hello") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{service.url}/v1/chat/completions", json=body, headers=service.headers, timeout=30)


@pytest.fixture
def started() -> Iterator[list[ServiceProcess]]:
    """Services that a test has started; whatever is left of them at its end is killed."""
    services: list[ServiceProcess] = []
    yield services
    for service in services:
        service.kill()


def test_a_killed_service_starts_again_with_its_nodes_and_its_runs(started, tmp_path, upstream):
    store = f"sqlite:///{tmp_path}/state.db"
    nodes = write_nodes(tmp_path / "nodes", remote_node("first", upstream))
    before = _light(tmp_path / "before", store, nodes)
    started.append(before)
    before.start()
    before.await_ready()
    _put(before, remote_node("second", upstream))
    plan = {
        "tasks": [
            {"id": "t1", "node": "first", "arguments": {"prompt": "quick"}},
            {"id": "t2", "node": "second", "arguments": {"prompt": "say 50 words", "context": [{"$ref": "t1"}]}},
        ]
    }
    id = httpx.post(f"{before.url}/v1/runs", json={"plan": plan}).json()["id"]
    until(lambda: upstream.asked("say 50 words"), "the second task runs")
    before.kill()
    assert list(before.processes()) == []

    after = ServiceProcess(
        tmp_path / "after", port=before.port, store=store, strategy="keyword", allow_private=True, nodes=nodes
    )
    started.append(after)
    after.start()
    after.await_ready("first", "second")
    assert _ask(after, "second").json()["choices"][0]["message"]["content"].strip() == "echo: hello"

    def ended() -> Any:
        run = httpx.get(f"{after.url}/v1/runs/{id}").json()
        return run if run["status"] != "running" else None

    run = until(ended, "the interrupted run ends", 90, every_s=0.5)
    assert run["status"] == "ok", run
    assert [outcome["task"] for outcome in run["outcomes"]] == ["t1", "t2"]
    assert len(upstream.asked("quick")) >= 1

    taken = _light(tmp_path / "taken", f"sqlite:///{tmp_path}/other.db")
    taken.port = after.port
    taken.start()
    assert taken.process is not None and taken.process.wait(60) == 1
    assert f"127.0.0.1:{after.port} is taken by " in taken.output and "--port" in taken.output

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(_ask, after, "first", "say 20 words")
        until(lambda: upstream.asked("say 20 words"), "it is being answered")
        assert after.stop(signal.SIGTERM) == 0, after.output
        assert len(answer.result().json()["choices"][0]["message"]["content"].split()) == 20, "it ended whole"
    assert list(after.processes()) == []


def test_two_services_on_one_redis_see_the_same_nodes(light, started, tmp_path, upstream, redis_url):
    two = _light(tmp_path / "two", redis_url.rsplit("/", 1)[0] + "/5")
    started.append(two)
    two.start()
    two.await_ready("shared")
    shared = _listening(light).keys() & _listening(two).keys()
    assert not shared, "what both listen on, either answers"
    _put(light, remote_node("late", upstream))
    until(lambda: two.states().get("late") == "ready", "the other service serves it too", 30)
    assert _ask(two, "late").status_code == 200
    graphs = [httpx.get(f"{service.url}/v1/graph", headers=service.headers).json() for service in (light, two)]
    assert graphs[0] == graphs[1]
    httpx.delete(f"{two.url}/v1/nodes/late").raise_for_status()
    until(lambda: "late" not in light.states(), "it is gone from the first", 30)
    run = httpx.post(f"{light.url}/v1/runs", json={"plan": {"tasks": [_task("shared")]}}, headers=light.headers).json()[
        "id"
    ]
    until(lambda: httpx.get(f"{two.url}/v1/runs/{run}").json()["status"] == "ok", "a run is seen from both", 30)
    ends_cleanly(two)
    assert _ask(light, "shared").status_code == 200, "the end of one is nothing to the other"


def _task(node: str) -> dict[str, Any]:
    return {"id": "t1", "node": node, "arguments": {"prompt": "hello"}}


def test_a_wrong_declaration_starts_nothing(tmp_path):
    nodes = write_nodes(tmp_path / "nodes", {"name": "x", "kind": "nonsense"}, {"name": "y", "colour": "red"})
    done = subprocess.run(
        [str(Path(sys.executable).with_name("modelyard")), "up", "--nodes", str(nodes)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 1
    assert "x.yaml" in done.stdout and "nonsense" in done.stdout
    assert "y.yaml" in done.stdout and "colour" in done.stdout


def test_a_store_that_is_not_there_is_said_before_anything_starts(tmp_path):
    service = _light(tmp_path, "redis://127.0.0.1:9/0")
    service.start()
    assert service.process is not None and service.process.wait(60) == 1
    assert "127.0.0.1:9" in service.output and "Traceback" not in service.output


def test_only_loopback_is_listened_on_for_people(service):
    """HAProxy's own pages, and the replicas' ports, are for this machine."""
    listening = _listening(service.process)
    http = {address: title for address, title in listening.items() if "haproxy" in title or "ServeReplica" in title}
    assert http
    assert {address.rsplit(":", 1)[0] for address in http} == {"127.0.0.1"}, http


def _listening(service: ServiceProcess) -> dict[str, str]:
    """Addresses (IPv4) on which a service's processes listen, and who does."""
    inodes = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            number, port = fields[1].split(":")
            octets = [str(int(number[i : i + 2], 16)) for i in (6, 4, 2, 0)]
            inodes[f"socket:[{fields[9]}]"] = f"{'.'.join(octets)}:{int(port, 16)}"
    found = {}
    for pid, title in service.processes():
        for link in list((Path("/proc") / str(pid) / "fd").iterdir()):
            try:
                address = inodes.get(str(link.readlink()))
            except OSError:  # closed in the meantime
                continue
            if address is not None:
                found[address] = title
    return found
