"""`validate`, `kinds` and the start of the command line: no service, no heavy imports."""

import json
import subprocess
import sys

import pytest

HEAVY = ("ray", "torch", "fastapi", "starlette", "transformers", "sentence_transformers", "sklearn", "redis")
GOOD = "name: law\nkind: openai\ndescription: d\nmodel: m\nendpoint: https://up.example/v1\n"


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def test_good_files_make_a_table(cli, folder):
    result = cli("validate", folder(a=GOOD + "edges: {fallback: [base]}", b=GOOD.replace("law", "base")))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "TAKES", "EDGES", "DESCRIPTION", "FILE"]
    assert lines[1].split()[0] == "law" and "fallback: base" in lines[1] and "a.yaml" in lines[1]


def test_secrets_that_are_not_set_here_are_told_and_no_problem(cli, folder, monkeypatch):
    monkeypatch.setenv("LAW_KEY", "k-1")
    keyed = GOOD + "api_key: ${LAW_KEY}\nsystem_prompt: Say ${HOW}.\n"
    set_here = cli("validate", folder(a=keyed))
    assert (set_here.exit_code, set_here.stderr) == (0, "")
    monkeypatch.delenv("LAW_KEY")
    result = cli("validate", folder(a=keyed))
    assert result.exit_code == 0 and result.stderr == "not set here, and needed where the service starts: LAW_KEY\n"
    assert json.loads(cli("validate", folder(a=keyed), "--json").stdout)["unset_secrets"] == ["LAW_KEY"]


def test_every_problem_of_every_file_is_reported(cli, folder):
    path = folder(
        a="name: law\nkind: opnai\ndescription: d\ncolour: red\nlimits: {total_s: -1}\n",
        b="- not\n- a mapping\n",
        c="name: [unclosed\n",
        d=GOOD + "\n---\n" + GOOD,
        e=GOOD.replace("law", "other") + "edges: {fallback: [ghost]}\n",
    )
    result = cli("validate", path, path / "missing.yaml", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    found = {(problem["file"].rpartition("/")[2], problem["key"]) for problem in answer["problems"]}
    assert found == {
        ("a.yaml", "kind"),
        ("a.yaml", "colour"),
        ("a.yaml", "limits.total_s"),
        ("b.yaml", ""),
        ("c.yaml", ""),
        ("d.yaml#2", "name"),
        ("e.yaml", "edges.fallback"),
        ("missing.yaml", ""),
    }
    assert [node["name"] for node in answer["nodes"]] == ["law", "other"]
    table = cli("validate", path)
    assert table.exit_code == 1
    assert "did you mean 'openai'?" in table.stdout
    assert "problems in" in table.stderr and "Name the files of the other nodes, too" in table.stderr


def test_an_edge_to_a_node_that_is_declared_wrongly_is_no_second_problem(cli, folder):
    path = folder(a=GOOD + "edges: {fallback: [base]}", b="name: base\nkind: openai\n")
    problems = json.loads(cli("validate", path, "--json").stdout)["problems"]
    assert {problem["key"] for problem in problems} == {"description"} | {
        p["key"] for p in problems if "b.yaml" in p["file"]
    }
    assert not any("edges" in problem["key"] for problem in problems)


def test_a_secret_is_not_echoed(cli, folder):
    result = cli("validate", folder(a=GOOD + "api_key: sk-literal\n"))
    assert result.exit_code == 1
    assert "sk-literal" not in result.output


def test_no_path_is_wrong_usage(cli):
    assert cli("validate").exit_code == 2


def test_kinds_lists_what_is_installed(cli):
    result = cli("kinds", "--json")
    assert result.exit_code == 0, result.output
    found = {kind["name"]: kind for kind in json.loads(result.stdout)["kinds"]}
    assert {"http", "llama_cpp", "openai", "speech", "transformers"} <= set(found)
    assert found["openai"]["placement"] == "gateway"
    assert found["openai"]["params_schema"]["type"] == "object"
    assert "llama_cpp" in cli("kinds").stdout


def test_a_kind_that_cannot_be_imported_is_told(cli, monkeypatch, folder):
    def broken():
        raise ImportError("no module named 'exotic'")

    monkeypatch.setattr("graph.node.installed_kinds", broken)
    result = cli("validate", folder(a=GOOD))
    assert result.exit_code == 1
    assert "exotic" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "FILE"], ["kinds"]])
def test_light_commands_import_nothing_heavy(arguments, folder):
    arguments = [str(folder(a=GOOD) / "a.yaml") if argument == "FILE" else argument for argument in arguments]
    script = (
        "import sys\nfrom deployments.cli import main\n"
        f"sys.argv = ['modelyard', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"sys.stderr.write('HEAVY:' + ','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.rpartition("HEAVY:")[2] == ""


def test_version_and_help(cli):
    assert cli("--version").stdout.strip()[0].isdigit()
    helped = cli("--help").stdout
    for word in ("up", "validate", "nodes", "route", "plan", "run", "trace", "graph", "cannot be reached"):
        assert word in helped


def test_shell_completion_is_there(cli):
    assert (
        "_MODELYARD_COMPLETE"
        in subprocess.run(
            [sys.executable, "-m", "deployments.cli", "--show-completion", "bash"],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        ).stdout
    )
