"""Commands that talk to a service: what they send, print and exit with."""

import json
import socket
from pathlib import Path

import pytest


def test_nodes_list_is_a_plain_table_in_a_pipe(modelyard):
    result = modelyard("nodes", "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "VERSION", "STATE", "DESCRIPTION", "EDGES"]
    assert lines[1].split() == ["legal", "openai", "2", "ready", *"Contracts and case law. fallback: general".split()]
    assert lines[2].rstrip() == lines[2]
    assert "\x1b" not in result.stdout


def test_nodes_list_as_json(modelyard, service):
    result = modelyard("nodes", "list", "--json")
    assert json.loads(result.stdout) == {"nodes": list(service.nodes.values())}


def test_colours_come_only_where_they_are_wanted(cli, service):
    arguments = ("nodes", "list", "--url", service.url)
    assert "\x1b[32mready" in cli(*arguments, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"}).stdout
    plain = cli(*arguments, env={"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}).stdout
    assert "\x1b[32m" not in plain
    assert "ready" in plain


def test_show_remove_and_history(modelyard, service):
    assert "description: Contracts and case law." in modelyard("nodes", "show", "legal").stdout
    history = modelyard("nodes", "history", "legal").stdout.splitlines()
    assert history[0].split() == ["VERSION", "CHANGE", "CREATED", "SOURCE", "AUTHOR", "SHA256"]
    assert history[1].split()[:2] == ["2", "removed"] and "19" in history[1]
    assert history[2].split() == ["1", "declared", "ann"]
    assert modelyard("nodes", "remove", "legal").exit_code == 0
    assert "legal" not in service.nodes


def test_nodes_list_shows_why_a_node_failed(modelyard, service):
    service.nodes["legal"] |= {"state": "failed", "error": "model file is gone"}
    assert "model file is gone" in modelyard("nodes", "list").stdout


def test_a_version_on_trial_is_shown_and_promoted(modelyard, service):
    counts = {"flips": 1, "answers": 40, "rated": 5, "rated_flip_share": 0.2}
    service.nodes["legal"] |= {"rollout": {"version": 2, "share": 0.1} | counts}
    assert "v2 10%: 1/40 flips, 20% of 5 ratings" in modelyard("nodes", "list").stdout
    result = modelyard("nodes", "promote", "legal")
    assert result.stdout == "legal version 2 takes all calls\n"
    assert ("POST", "/v1/nodes/legal/promote", {}) in service.seen


def test_rollback_names_the_version_and_waits_for_the_new_one(modelyard, service):
    result = modelyard("nodes", "rollback", "legal", "--to", "1", "--json")
    assert result.exit_code == 0
    assert ("POST", "/v1/nodes/legal/rollback?to=1", {}) in service.seen
    assert json.loads(result.stdout)["nodes"][0]["version"] == 3


def test_an_error_of_the_service_is_shown_and_exits_with_1(modelyard):
    result = modelyard("nodes", "show", "nobody")
    assert result.exit_code == 1
    assert "error: no node is called 'nobody'" in result.stderr
    assert result.stdout == ""


def test_an_error_as_json_goes_to_standard_error(modelyard):
    result = modelyard("nodes", "show", "nobody", "--json")
    error = json.loads(result.stderr)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "model_not_found"


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", {"detail": "x"}, ["x"]])
def test_an_error_that_is_not_openais_is_still_told(modelyard, service, body):
    service.refuse = (502, body)
    result = modelyard("graph")
    assert result.exit_code == 1
    assert "502" in result.stderr


def test_an_answer_that_is_not_json_is_told(modelyard, service):
    service.refuse = (200, "<html>hello</html>")
    result = modelyard("nodes", "list")
    assert result.exit_code == 1
    assert "not JSON" in result.stderr


def test_an_unreachable_service_exits_with_3(cli):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for command in (("nodes", "list"), ("route", "hi"), ("run", "hi"), ("trace", "x"), ("graph",)):
            result = cli(*command, "--url", url)
            assert result.exit_code == 3, command
            assert "cannot reach" in result.stderr
            assert "modelyard up" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://host:port", "localhost:8000"])
def test_an_address_that_is_none_is_told(cli, url):
    result = cli("nodes", "list", "--url", url)
    assert result.exit_code == 2
    assert "is no http:// or https:// address" in result.stderr


def test_the_key_is_sent_and_never_printed(cli, service):
    result = cli("nodes", "list", env={"MODELYARD_API_KEY": "k-very-secret", "MODELYARD_URL": service.url})
    assert service.headers[-1]["authorization"] == "Bearer k-very-secret"
    assert "k-very-secret" not in result.output
    service.refuse = (401, {"error": {"message": "wrong key", "type": "x", "param": None, "code": "invalid_api_key"}})
    refused = cli("nodes", "list", env={"MODELYARD_API_KEY": "k-very-secret", "MODELYARD_URL": service.url})
    assert refused.exit_code == 1
    assert "k-very-secret" not in refused.output + str(refused.exception)
    for key in ("k-sécret", "k-se\ncret"):
        unusable = cli("nodes", "list", env={"MODELYARD_API_KEY": key, "MODELYARD_URL": service.url})
        assert unusable.exit_code == 2
        assert "cret" not in unusable.output + str(unusable.exception)
    helped = cli("nodes", "list", "--help", env={"MODELYARD_API_KEY": "k-very-secret"})
    assert "k-very-secret" not in helped.output


def test_wrong_usage_exits_with_2(cli):
    assert cli("nodes", "list", "--nonsense").exit_code == 2
    assert cli("frobnicate").exit_code == 2
    assert cli("nodes", "rollback", "legal", "--to", "x").exit_code == 2
    assert cli("run").exit_code == 2


def test_route_shows_candidates_bars_and_reasons(modelyard, service):
    result = modelyard("route", "is this enforceable?")
    assert service.seen[-1] == ("POST", "/v1/route", {"input": "is this enforceable?"})
    assert "-> legal with probability 0.800" in result.stdout
    assert "█" * 16 + "░" * 4 in result.stdout
    assert "does not accept text" in result.stdout


def test_route_out_of_scope(modelyard, service):
    service.decision |= {"node": None, "out_of_scope": True, "candidates": []}
    assert "out of scope" in modelyard("route", "x").stdout


def test_route_reads_standard_input(modelyard, service):
    modelyard("route", "-", input="from a pipe\n")
    assert service.seen[-1][2] == {"input": "from a pipe"}


def test_attachments_become_parts_of_a_message(modelyard, service, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "b.PNG").write_bytes(b"\x89PNG")
    modelyard("route", "what is said?", "--audio", tmp_path / "a.wav", "--image", tmp_path / "b.PNG")
    parts = service.seen[-1][2]["messages"][0]["content"]
    assert parts[0] == {"type": "text", "text": "what is said?"}
    assert parts[1] == {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    assert parts[2] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}


def test_attachments_that_cannot_be_sent_are_wrong_usage(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short paths, which the message does not break over two lines
    Path("a.txt").write_text("x")
    for option, path in (("--audio", "a.txt"), ("--image", "a.txt"), ("--audio", "none.wav")):
        result = cli("route", "x", option, path)
        assert result.exit_code == 2
        assert path in result.stderr


def test_plan_is_a_tree_with_references_and_questions(modelyard):
    lines = modelyard("plan", "transcribe and explain").stdout.splitlines()
    assert lines[0] == "plan by learned, 2 tasks"
    text = "\n".join(lines)
    assert "t1 speech" in text
    assert "t2 legal  after t1  (answer)" in text
    assert "<- request.audio" in text
    assert "missing: which country's law?" in text
    depth = {id: next(line.index(id) for line in lines if f"{id} " in line) for id in ("t1", "t2")}
    assert depth["t2"] > depth["t1"]


def test_a_plan_with_a_cycle_or_a_missing_task_is_still_shown(modelyard):
    from deployments.cli.routing import plan_tree

    tasks = [{"id": "a", "node": "x"}, {"id": "b", "node": "y"}]
    tree = plan_tree({"tasks": tasks, "links": [["a", "b"], ["b", "a"], ["ghost", "a"]]})
    assert "a x" in tree.children[0].label.plain


def test_trace_is_a_tree_with_the_critical_path_marked(modelyard):
    lines = modelyard("trace", "abc").stdout.splitlines()
    assert lines[1].startswith("POST /v1/chat")
    assert lines[2].startswith("├─ route")
    assert lines[3].startswith("└─ chat legal")
    assert "*" in lines[3] and "*" not in lines[2]
    assert "+250.0 ms" in lines[3] and "750.0 ms" in lines[3]
    assert lines[3].index("█") > lines[2].index("█")
    assert lines[-2:] == ["trace abc, 3 spans, 1000.0 ms", "in Jaeger: http://jaeger.test:16686/trace/abc"]


def test_a_trace_that_began_elsewhere_is_drawn_from_its_first_span(modelyard):
    from deployments.cli.traces import read_spans, tree_order

    child = {"span_id": "b", "parent_id": "a", "name": "route", "offset_ms": 250.0, "duration_ms": 5, "status": "UNSET"}
    root = {"span_id": "a", "parent_id": "outside", "name": "POST", "offset_ms": 0.0, "duration_ms": 300}
    spans = read_spans({"trace_id": "abc", "spans": 2, "roots": [root | {"children": [child]}]})
    assert [(span.name, span.offset_ms, span.status, guide) for span, guide in tree_order(spans)] == [
        ("POST", 0.0, "", ""),
        ("route", 250.0, "", "└─ "),
    ]


def test_trace_json_is_what_the_service_says(modelyard):
    assert json.loads(modelyard("trace", "abc", "--json").stdout)["trace_id"] == "abc"


def test_graph_formats(modelyard):
    table = modelyard("graph").stdout
    assert "legal  fallback  general" in table and "1 more feeds edge by" in table
    assert modelyard("graph", "--format", "mermaid").stdout == "as text/vnd.mermaid\n"
    assert modelyard("graph", "--format", "dot").stdout == "as text/vnd.graphviz\n"
    assert json.loads(modelyard("graph", "--format", "json").stdout) == json.loads(modelyard("graph", "--json").stdout)
    assert modelyard("graph", "--format", "svg").exit_code == 2


def test_names_complete_from_the_service(service, monkeypatch):
    from deployments.cli.session import complete_node

    monkeypatch.setenv("MODELYARD_URL", service.url)
    assert complete_node("le") == ["legal"]
    service.refuse = (500, "")
    assert complete_node("le") == []
