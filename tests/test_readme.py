"""The README is true: its files exist, its YAML is valid, its commands and settings are there, its kind runs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import typer.main

from deployments.cli.app import build_app
from deployments.secrets import resolve_secrets
from deployments.settings import Settings
from graph.collect import collect
from graph.loader import load_paths, load_text
from graph.model_graph import ModelGraph
from graph.node import NodeEnvironment, installed_kinds
from graph.plan import Plan
from graph.spec import NodeSpec
from graph.types import Call, Message

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_files_that_are_linked_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_yaml_declares_valid_nodes():
    found = blocks("yaml")
    assert found
    for text in found:
        assert load_text(text, installed_kinds()).problems == ()


def test_plans_are_valid():
    found = [data for text in blocks("json") if "tasks" in (data := json.loads(text))]
    assert found
    for data in found:
        assert Plan.from_json(data).budget


def test_the_table_of_keys_knows_every_key_and_its_defaults():
    table = README[README.index("| key | meaning") : README.index("Kinds: `llama_cpp`")]
    named = {key for cell in re.findall(r"^\| (.+?) \|", table, re.M) for key in re.findall(r"`(\w+)`", cell)}
    assert named == set(NodeSpec.model_fields)
    limits = dict(re.findall(r"`(\w+)` (\d+)", table[table.index("| `limits`") : table.index("| `cost`")]))
    spec = NodeSpec(name="x", kind="openai", description="x")
    assert {name: float(value) for name, value in limits.items()} == spec.limits.model_dump(exclude_none=True)


def test_commands_exist():
    root = typer.main.get_command(build_app())
    used = re.findall(r"modelyard ((?:[a-z][a-z-]* ?)+)", "\n".join(blocks("sh")))
    assert used
    for words in used:
        command: Any = root
        for word in words.split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"modelyard {words}"
            command = command.commands[word]


def test_options_and_variables_exist():
    names = set(Settings.model_fields)
    assert {name.lower() for name in re.findall(r"MODELYARD_([A-Z_]+)", README)} <= names | {"url"}
    options = {option.replace("-", "_") for option in re.findall(r"modelyard up [^`\n]*?--([a-z-]+)", README)}
    assert options <= names | {"help"}


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M)) <= targets


def test_every_dependency_has_its_reason():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[\[><=]", item)[0] for item in listed]
    table = README[README.index("## What it is made of") :]
    table = table.replace("`-sdk`", "`opentelemetry-sdk`")
    table = table.replace("`-exporter-otlp-proto-http`", "`opentelemetry-exporter-otlp-proto-http`")
    assert [name for name in names if not re.search(rf"`{re.escape(name)}(\[\w+\])?`", table)] == []


def test_the_kind_of_the_readme_runs():
    code = next(block for block in blocks("python") if "class ShoutNode" in block)
    scope: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), scope)  # noqa: S102  # our own README
    spec = NodeSpec(name="shout", kind="shout", description="Shouts.", params={"mark": "!!"})
    node = scope["ShoutNode"](spec, NodeEnvironment(resolve_secrets))

    async def answer() -> str:
        await node.load()
        reply = await collect(node.run(Call((Message("user", "hello"),))), node="shout")
        await node.aclose()
        return reply.text

    assert asyncio.run(answer()) == "HELLO!!"


def test_every_set_of_examples_is_a_valid_graph():
    for name in ("nodes", "production", "octopus"):
        specs = load_paths([ROOT / "examples" / name], installed_kinds()).require()
        assert ModelGraph(specs).problems() == ()
