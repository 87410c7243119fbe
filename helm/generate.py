"""Brings what is derived in the chart up to date: the README's table of values, the schemas of experts and settings.

python helm/generate.py            writes both
python helm/generate.py --check    says whether they are up to date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deployments.settings import Settings
from graph.node import Node, installed_kinds
from graph.spec import SECRET, NodeSpec

CHART = Path(__file__).parent / "modelyard"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
LONGEST = 60
"""Characters of a default that are shown."""


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, comment) for each value that has a comment above it, in the file's order."""
    comments = dict(_comments(text))
    for key, value in _leaves(yaml.safe_load(text)):
        if key in comments:
            yield key, _short(value), comments[key]


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the comment that stands right above it."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare.startswith("#"):
            comment.append(bare[1:].strip())
        elif ":" in bare and not bare.startswith("-"):
            path = [*((at, name) for at, name in path if at < indent), (indent, bare.partition(":")[0])]
            if comment:
                yield ".".join(name for _, name in path), " ".join(comment)
            comment = []
        else:
            comment = []


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else "see values.yaml"


def readme(text: str, values: str) -> str:
    """Return the README with the table of values between its markers."""
    lines = [f"| `{key}` | {comment.replace('|', '/')} | `{default}` |" for key, default, comment in rows(values)]
    table = "\n".join(["| value | meaning | default |", "|---|---|---|", *lines])
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def schema(text: str) -> str:
    """Return the chart's schema with those of an expert and of `settings`, as the service itself reads them."""
    whole = json.loads(text)
    settings = _rules(Settings.model_json_schema()["properties"])
    whole["properties"]["settings"]["properties"] = {
        name: rules | {"type": rules["type"][0]} if isinstance(rules.get("type"), list) else rules
        for name, rules in settings.items()
    }
    whole["$defs"]["NodeSpec"] = _rules(_expert())
    return json.dumps(whole, indent=2) + "\n"


def _expert() -> dict[str, Any]:
    """Return the schema of a NodeSpec, with what each kind that comes with the service asks for."""
    expert = NodeSpec.model_json_schema(ref_template="#/$defs/NodeSpec/$defs/{model}")
    expert["properties"]["api_key"] = {"type": "string", "pattern": f"^{SECRET.pattern}$"}
    expert["properties"]["endpoint"] = {"type": ["string", "null"], "pattern": r"^https?://[^\s/@]+(/\S*)?$"}
    expert["properties"]["template"] |= {"pattern": r"\{input\}"}
    kinds = {
        name: kind for name, kind in sorted(installed_kinds().items()) if kind.__module__.startswith("deployments.")
    }
    expert["allOf"] = [
        {"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]}, "then": _of_kind(name, kind)}
        for name, kind in kinds.items()
    ]
    return expert


def _of_kind(name: str, kind: type[Node]) -> dict[str, Any]:
    """Return what holds for experts of a kind: its params, and the keys that it misses in one that says nothing."""
    params = kind.Params.model_json_schema()
    if params.get("required"):
        return {"properties": {"params": params}, "required": ["params"]}
    missing = [key for key, _ in kind.problems(NodeSpec(name=name, kind=name, description=name))]
    given = {key: {"type": "string"} for key in missing if key in ("endpoint", "model")}
    return {"properties": {"params": params, **given}, "required": missing}


def _rules(schema: Any) -> Any:
    """Return a schema without what only explains: words may change without the chart."""
    if isinstance(schema, list):
        return [_rules(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {"title", "description", "default"} | (
        {"type"} if "enum" in schema else set()
    )  # whose message tells less
    kept = {key: value for key, value in schema.items() if key not in dropped}
    for named in ("properties", "$defs"):  # whose keys are names
        if named in kept:
            kept[named] = {name: _rules(inner) for name, inner in kept[named].items()}
    return _with_null({key: value if key in ("properties", "$defs") else _rules(value) for key, value in kept.items()})


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return "one of a type's rules and null" as one type with its rules, whose message tells more."""
    rules, *null = schema.get("anyOf", [{}])
    if null != [{"type": "null"}] or "type" not in rules:
        return schema
    others = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**others, **rules, "type": [rules["type"], "null"]}


def main() -> int:
    """Write the files, or with `--check` compare them; return the exit code."""
    values = (CHART / "values.yaml").read_text()
    code = 0
    for name, make in (("README.md", lambda text: readme(text, values)), ("values.schema.json", schema)):
        file = CHART / name
        wanted = make(file.read_text())
        if wanted == file.read_text():
            continue
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"{file} is out of date: run python helm/generate.py\n")
            code = 1
        else:
            file.write_text(wanted)
    return code


if __name__ == "__main__":
    sys.exit(main())
