"""Processes are killed, clients leave, bodies are too large: the service answers, and comes back."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from typing import Any

import httpx
import openai
import pytest
from service_process import kill_replica, until

LONG = [  # two hundred tokens at temperature 0: long enough to be killed in the middle
    {"role": "user", "content": "Tell me everything about contracts, one clause after the other."}
]


def _ask(service: Any, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 2}
    return service.http.post("/v1/chat/completions", json=body)


def _answers_again(service: Any, model: str) -> None:
    def answers() -> bool:
        try:
            answer = _ask(service, model)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.headers["x-modelyard-node"] == model

    until(answers, f"{model} answers again", 150, every_s=0.5)


def test_a_node_that_dies_in_mid_stream_ends_the_stream_with_an_error(service):
    lines: list[str] = []
    body = {"model": "legal", "messages": LONG, "stream": True, "max_completion_tokens": 400, "temperature": 0}
    with service.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line:
                lines.append(line)
                if len(lines) == 3:
                    kill_replica(service.process, "legal")
    assert lines[-1].startswith('data: {"error":'), lines[-2:]
    assert "data: [DONE]" not in lines
    _answers_again(service, "legal")


def test_a_node_that_dies_before_a_whole_answer_is_replaced_by_another(service):
    old = service.process.replicas("medical")
    body = {"model": "medical", "messages": LONG, "max_completion_tokens": 300, "temperature": 0}
    with httpx.Client(base_url=service.url, timeout=200, trust_env=False) as http:
        killer = threading.Timer(1.0, kill_replica, (service.process, "medical"))
        killer.start()
        answer = http.post("/v1/chat/completions", json=body)
        killer.join()
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] in ("stop", "length") and choice["message"]["content"].strip()
    assert answer.headers["x-modelyard-node"] in ("medical", "general")
    _answers_again(service, "medical")
    assert not set(old) & set(service.process.replicas("medical"))


def test_a_client_that_leaves_a_stream_stops_the_upstream(service):
    words = f"say 600 {uuid.uuid4().hex}"
    stream = service.openai.chat.completions.create(
        model="chess", messages=[{"role": "user", "content": words}], stream=True
    )
    next(iter(stream))
    stream.close()
    until(lambda: words in service.upstream.closed, "the upstream sees the end")


def test_a_client_that_leaves_before_the_answer_stops_the_upstream(service):
    words = f"say 600 {uuid.uuid4().hex}"
    with httpx.Client(base_url=service.url, trust_env=False) as http, pytest.raises(httpx.ReadTimeout):
        body = {"model": "chess", "messages": [{"role": "user", "content": words}]}
        http.post("/v1/chat/completions", json=body, timeout=1.5)
    assert service.upstream.asked(words)
    until(lambda: words in service.upstream.closed, "the upstream sees the end", 20)  # its answer takes 60 s


def test_a_stream_that_the_upstream_cuts_is_an_error(service):
    messages = [{"role": "user", "content": f"break {uuid.uuid4().hex}"}]
    with pytest.raises(openai.APIError):
        list(service.openai.chat.completions.create(model="fragile", messages=messages, stream=True))


def test_a_body_of_100_megabytes_is_refused_before_it_was_sent(service):
    with socket.create_connection(("127.0.0.1", service.process.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 104857600\r\n\r\n" + b" " * 32_000
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_length_is_refused_where_it_gets_too_large(service):
    def body() -> Any:
        for _ in range(100):
            yield b" " * 2**20

    for _ in range(5):
        assert service.http.post("/v1/chat/completions", content=body()).status_code == 413


def test_a_run_outlives_the_gateway_that_accepted_it(service):
    words = uuid.uuid4().hex
    plan = {
        "tasks": [
            {"id": "t1", "node": "chess", "arguments": {"prompt": f"first {words}"}},
            {"id": "t2", "node": "chess", "arguments": {"prompt": f"say 60 {words}", "context": [{"$ref": "t1"}]}},
        ]
    }
    id = service.http.post("/v1/runs", json={"plan": plan}).json()["id"]
    until(lambda: service.upstream.asked(f"say 60 {words}"), "the second task runs")
    kill_replica(service.process, "gateway")
    _answers_again(service, "chess")

    def ended() -> Any:
        run = service.http.get(f"/v1/runs/{id}").json()
        return run if run["status"] != "running" else None

    run = until(ended, "another process ends the run", 120, every_s=0.5)
    assert run["status"] in ("ok", "partial", "failed")
    assert run["status"] == "ok", run
    assert {outcome["task"]: outcome["status"] for outcome in run["outcomes"]} == {"t1": "ok", "t2": "ok"}


def test_the_controller_comes_back_and_still_knows_the_nodes(service):
    before = set(service.process.states())
    kill_replica(service.process, "controller")
    for _ in range(5):
        assert _ask(service, "chess").status_code == 200
        time.sleep(0.1)
    until(lambda: service.process.replicas("controller"), "the controller is started again")
    until(lambda: set(service.process.states()) == before, "it knows the nodes")
    until(lambda: service.http.get("/readyz").status_code == 200, "the service is ready")
    assert _ask(service, "legal").headers["x-modelyard-node"] == "legal"
