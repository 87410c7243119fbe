"""`run`: the answer on standard output, the tasks on standard error."""

import io
import json

from fake_native_service import OUTCOMES, PLAN
from rich.console import Console

from deployments.cli.plan_mermaid import plan_mermaid
from deployments.cli.run_display import RunDisplay


def test_the_answer_alone_is_on_standard_output(modelyard, service):
    result = modelyard("run", "explain this recording")
    assert result.exit_code == 0
    assert result.stdout == "There is risk.\n"
    assert result.stderr.splitlines() == [
        "planned 2 tasks",
        "t1 speech running",
        "t1 speech ok in 1.5 s",
        "t2 legal running",
        "t2 legal ok in 0.5 s",
        "run r1, trace abc",
    ]
    assert ("POST", "/v1/runs", {"input": "explain this recording"}) in service.seen


def test_json_is_the_final_run(modelyard, service):
    result = modelyard("run", "x", "--json")
    assert json.loads(result.stdout) == service.run
    assert result.stderr == ""


def failed_outcome():
    return OUTCOMES[1] | {"status": "failed", "output": None, "error": {"message": "model gone", "code": "node_failed"}}


def test_a_failed_run_exits_with_1(modelyard, service):
    service.run |= {"status": "failed", "output": "", "outcomes": [failed_outcome()]}
    result = modelyard("run", "x")
    assert result.exit_code == 1
    assert "status: failed" in result.stderr
    assert "t2 (legal) failed: model gone" in result.stderr
    assert result.stdout == ""
    assert modelyard("run", "x", "--json").exit_code == 1


def test_a_run_that_could_not_be_planned_says_why(modelyard, service):
    service.events[:] = [("run.finished", {"status": "failed"})]
    service.run |= {"status": "failed", "output": None, "outcomes": [], "error": {"message": "no node fits"}}
    result = modelyard("run", "x")
    assert result.exit_code == 1
    assert "error: no node fits" in result.stderr


def test_a_partial_run_prints_its_answer_and_what_is_missing(modelyard, service):
    service.run |= {"status": "partial", "outcomes": [OUTCOMES[0], failed_outcome()]}
    result = modelyard("run", "x")
    assert result.exit_code == 0
    assert result.stdout == "There is risk.\n"
    assert "status: partial" in result.stderr and "model gone" in result.stderr


def test_a_run_survives_streams_that_break(modelyard, service):
    service.cut_after = [2, 0, 3]
    result = modelyard("run", "x")
    assert result.exit_code == 0
    assert result.stdout == "There is risk.\n"
    assert result.stderr.count("t1 speech ok") == 1
    followed = [h for h, seen in zip(service.headers, service.seen, strict=True) if seen[1].endswith("/events")]
    assert [h.get("last-event-id") for h in followed] == [None, "2", "2", "5"]


def test_a_given_plan_is_run(modelyard, service, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(PLAN))
    assert modelyard("run", "--plan", path).exit_code == 0
    assert ("POST", "/v1/runs", {"plan": PLAN}) in service.seen
    assert modelyard("run", "the request", "--plan", "-", input=json.dumps(PLAN)).exit_code == 0
    assert ("POST", "/v1/runs", {"plan": PLAN, "input": "the request"}) in service.seen


def test_a_plan_that_cannot_be_read_is_wrong_usage(modelyard, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("broken.json", "none.json"):
        assert modelyard("run", "--plan", tmp_path / name).exit_code == 2


def test_what_a_model_wrote_cannot_steer_the_terminal(modelyard, service):
    service.run |= {"output": "a\x1b[2Jb\x9bc\r\n[bold]d[/bold]\te"}
    assert modelyard("run", "x").stdout == "a[2Jbc\n[bold]d[/bold]\te\n"
    service.run |= {"output": "a\u202eb\u2066c\u2028\x9b2Jd\x1b"}
    assert modelyard("run", "x").stdout == "abc2Jd\n"
    written = modelyard("run", "x", "--json").stdout
    assert json.loads(written)["output"] == service.run["output"]
    assert all(char.isprintable() or char == "\n" for char in written)


def shown(display):
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(display.renderable())
    return capture.get()


def test_the_live_view_shows_states_timings_and_the_end_of_the_answer():
    now = [0.0]
    display = RunDisplay(Console(), show=False, clock=lambda: now[0])
    assert "planning" in shown(display)
    display.handle("planned", {"plan": PLAN})
    assert shown(display).count("· waiting") == 2
    display.handle("task.started", {"task": "t1", "node": "speech"})
    now[0] = 2.5
    assert "● running 2.5 s" in shown(display)
    display.handle("task.finished", OUTCOMES[0])
    display.handle("task.skipped", failed_outcome() | {"status": "skipped", "started_at": None})
    assert "✓ ok 1.5 s" in shown(display)
    assert "- skipped  model gone" in shown(display)
    display.handle("output.delta", {"text": "".join(f"line {n}\n" for n in range(20))})
    assert "line 19" in shown(display) and "line 11" not in shown(display)
    display.handle("output.delta", {"text": "afresh", "reset": True})
    assert "afresh" in shown(display) and "line 19" not in shown(display)


def test_wishes_go_with_the_request(modelyard, service):
    assert (
        modelyard(
            "run", "x", "--compose", "chat", "--replan", "2", "--budget", "calls=5", "--budget", "cost=0.5"
        ).exit_code
        == 0
    )
    wishes = {"compose": {"node": "chat"}, "replan": 2, "budget": {"calls": 5, "cost": 0.5}}
    assert ("POST", "/v1/runs", {"input": "x", **wishes}) in service.seen
    refused = modelyard("run", "x", "--budget", "calls=many")
    assert refused.exit_code == 2
    assert "names are calls, tokens, cost and deadline_s" in " ".join(refused.stderr.replace("│", " ").split())


def test_conditions_lists_and_loops_are_shown():
    out = Console(width=200, record=True, file=io.StringIO())
    display = RunDisplay(out)
    tasks = [
        {"id": "t1", "node": "a", "when": "x.y > 1", "map": {"over": {"$ref": "x.list"}, "parallel": 3}},
        {"id": "t2", "node": "b", "repeat": {"until": "output.done", "max": 4}, "arguments": {"p": {"$expr": "t1[0]"}}},
    ]
    display.handle("planned", {"plan": {"tasks": tasks}})
    display.handle("task.started", {"task": "t1", "node": "a"})
    display.handle("task.item", {"task": "t1", "node": "a", "index": 0, "status": "ok"})
    display.handle("task.finished", {"task": "t1", "node": "a", "status": "ok", "cached": True})
    display.handle("planned", {"plan": {"tasks": tasks}, "because": {"t2": {}}})
    out.print(display.renderable())
    shown = out.export_text()
    for text in (
        "when: <- x.y > 1", "for each item, 3 at a time, of: <- x.list",
        "again, 4 times at most, until: <- output.done", "p: <- t1[0]",
        "t1[0] a ok", "1 items, cached", "planned 2 tasks anew, because t2 failed",
    ):  # fmt: skip
        assert text in shown, shown


def test_a_plan_is_drawn(modelyard, service):
    drawn = modelyard("plan", "x", "--mermaid")
    assert drawn.stdout.splitlines() == [
        "flowchart LR", '    t0["t1: speech"]', '    t1(["t2: legal"])', "    t0 --> t1",
    ]  # fmt: skip
    forms = {"id": "a", "node": "n", "when": "x < 'y'", "map": {}, "repeat": {"until": "z"}, "composes": ["b"]}
    label = plan_mermaid({"tasks": [forms]}).splitlines()[1]
    assert label.endswith("[\"a: n<br/>when x &lt; 'y'<br/>until z<br/>writes the answer\"]")
