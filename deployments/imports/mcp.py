"""Each tool of a Model Context Protocol server becomes a node of kind `mcp`, or a reason why it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from deployments.imports.hints import Interface, feeds, interface, output_fields
from deployments.imports.names import node_name
from deployments.imports.outputs import declared_outputs
from deployments.imports.report import Imported, Left, Made, with_feeds
from deployments.imports.request_parts import MAX_ARGUMENTS
from deployments.imports.schemas import Schemas, Unresolvable
from deployments.nodes.mcp import MISSING, McpNode
from deployments.nodes.mcp_pool import McpPool
from deployments.secrets import resolve_secrets
from graph.errors import InvalidRequest
from graph.loader import check_document
from graph.node import NodeEnvironment
from graph.spec import NodeSpec

if TYPE_CHECKING:
    from mcp_types import Tool

_KINDS: Final[Mapping[str, Any]] = {"mcp": McpNode}
_MAX_DESCRIPTION: Final = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """Where the tools are: at an address, or behind a command that the operator lets nodes start by a name."""

    endpoint: str | None = None
    api_key: str | None = None
    """`${NAME}` of the variable with the server's bearer token."""
    name: str = ""
    command: tuple[str, ...] = ()

    def declaration(self, tool: str) -> dict[str, Any]:
        """Return the part of a node's declaration that says where its tool is."""
        if self.endpoint is None:
            return {"params": {"server": self.name, "tool": tool}}
        key = {"api_key": self.api_key} if self.api_key else {}
        return {"endpoint": self.endpoint, **key, "params": {"tool": tool}}


async def list_tools(server: Server) -> list[Tool]:
    """Ask a server for its tools. Raises `ModelyardError` where it cannot be reached."""
    if find_spec("mcp") is None:
        raise InvalidRequest(f"kind mcp {MISSING}")
    secrets = partial(resolve_secrets, missing="is not set here: the server's tools are asked for with what it holds")
    environment = NodeEnvironment(secrets, allow_private=True, commands={server.name: server.command})
    probe = {"name": "import", "kind": "mcp", "description": "Lists the tools.", **server.declaration("any")}
    spec = NodeSpec.model_validate(probe)
    lease = McpPool(environment).lease(spec, None if server.endpoint else server.name, {})
    try:
        return await lease.session.tools(lease.exchange(server.endpoint or server.name))
    finally:
        await lease.release()


def import_mcp(tools: Sequence[Tool], server: Server, *, prefix: str = "", include: Sequence[str] = ()) -> Imported:
    """Make nodes of a server's tools. What cannot be expressed is in the report, a tool at a time."""
    made: dict[str, Made] = {}
    left: list[Left] = []
    interfaces: list[Interface] = []
    unselected = 0
    for tool in tools:
        name = node_name(tool.name, prefix, made)
        if include and not any(fnmatchcase(n, pattern) for n in (name, tool.name) for pattern in include):
            unselected += 1
            continue
        try:
            spec, notes, outputs = _spec(tool, name, server)
        except Unresolvable as error:
            left.append(Left(tool.name, str(error)))
            continue
        checked, problems = check_document(spec, _KINDS, name)
        if checked is None:
            reasons = "; ".join(f"{problem.key}: {problem.message}" for problem in problems[:5])
            left.append(Left(tool.name, f"kind mcp refuses it: {reasons}"))
            continue
        needed = {n: "" for n, argument in checked.arguments.items() if argument.required and argument.default is None}
        interfaces.append(interface(name, "", needed, outputs))
        made[name] = Made(tool.name, checked, tuple(notes))
    variable = (server.api_key or "").strip("${}")
    secrets = {variable: "bearer token of the MCP server"} if variable else {}
    return Imported(
        server.endpoint or server.name, with_feeds(made, feeds(interfaces)), tuple(left), unselected, secrets
    )


def _spec(tool: Tool, name: str, server: Server) -> tuple[dict[str, Any], list[str], list[tuple[str, str]]]:
    schemas = Schemas(tool.input_schema)
    schema = schemas.merged(tool.input_schema)
    needed = schemas.required(schema)
    fields = schemas.fields(schema)
    if len(fields) > MAX_ARGUMENTS:
        raise Unresolvable(f"has {len(fields)} arguments; a node takes {MAX_ARGUMENTS}")
    arguments, notes = {}, []
    for key, value in fields.items():
        argument, lost = schemas.argument(value, required=key in needed)
        arguments[key] = argument.model_dump(exclude_defaults=True)
        notes += [f"{key}: {note}" for note in lost]
    if not fields and schema.get("additionalProperties") not in (None, False):
        notes.append("it takes any arguments, and the node none: their names are not declared")
    words = " ".join((tool.description or "").split()) or tool.title or tool.name
    title = tool.title or (tool.annotations.title if tool.annotations else None) or ""
    spec = {
        "name": name,
        "kind": "mcp",
        "description": words if len(words) <= _MAX_DESCRIPTION else words[: _MAX_DESCRIPTION - 1] + "…",
        "produces": [_produces(tool)],
        "examples": [title] if len(title.split()) > 1 else [],
        "arguments": arguments,
        **server.declaration(tool.name),
    }
    answer = Schemas(tool.output_schema)
    if _produces(tool) == "json" and (outputs := declared_outputs(answer, _unwrapped(tool))):
        spec["outputs"] = outputs
    hints = tool.annotations
    if hints is None or not (hints.read_only_hint or hints.idempotent_hint):
        spec["idempotent"] = False
    elif not hints.read_only_hint:
        spec["changes"] = True
    return spec, notes, output_fields(answer, tool.output_schema) if tool.output_schema else []


def _produces(tool: Tool) -> str:
    answer = _unwrapped(tool)
    text = answer is not tool.output_schema and isinstance(answer, Mapping) and answer.get("type") == "string"
    return "json" if tool.output_schema and not text else "text"


def _unwrapped(tool: Tool) -> Any:
    """Return the schema of what a node gives: servers wrap what is no object, and the node takes it out again."""
    fields = (tool.output_schema or {}).get("properties") or {}
    return fields["result"] if list(fields) == ["result"] else tool.output_schema
