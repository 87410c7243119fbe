"""Files of planning: tools, links between them, and requests with their plans; read and checked."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.errors import InvalidRequest
from graph.plan import Ref, Task
from router.planners.toolset import Draft, Tool, Toolset
from router.training.tool_forms import tool_of


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One request, and the plan that answers it where the file has one."""

    id: str
    request: str
    gold: Draft | None = None
    tools: Toolset | None = None
    """Where the row brings its own tools, only they come into question."""
    steps: tuple[str, ...] = ()
    """What each task does, in words, where the row says so."""


def read_tools(path: Path, links: Path | None = None) -> Toolset:
    """Read tools (JSON lines, a JSON list, or TaskBench's `{"nodes", "links"}`) and links, gzipped or not.

    Raises `InvalidRequest` that names file, line and key.
    """
    found: list[Tool] = []
    own: list[tuple[str, str]] | None = None
    for where, item in _items(path):
        if isinstance(item, Mapping) and isinstance(item.get("nodes"), list):
            found += [tool_of(node, f"{where}: nodes.{index}") for index, node in enumerate(item["nodes"])]
            own = [_link(link, f"{where}: links.{index}") for index, link in enumerate(item.get("links") or ())]
        else:
            found.append(tool_of(item, where))
    if not found:
        raise InvalidRequest(f"{path} holds no tools", param="tools")
    names = [tool.name for tool in found]
    if links is not None:
        own = [_link(item, where) for where, item in _items(links)]
        known = set(names)
        for where, pair in zip((where for where, _ in _items(links)), own, strict=True):
            _known(pair, known, where, path)
        if not own:
            raise InvalidRequest(f"{links} holds no links", param="links")
    return Toolset.of(found, own)


def read_plans(path: Path) -> list[PlanRow]:
    """Read requests: JSON lines of `{"id", "request", "tasks", "links"}`, gzipped or not; raises `InvalidRequest`.

    Without `tasks` a row has no plan to compare with.
    """
    found = [_row(item, where) for where, item in _items(path)]
    if not found:
        raise InvalidRequest(f"{path} holds no requests", param="data")
    return found


def unknown_tools(rows: Sequence[PlanRow], tools: Toolset) -> tuple[str, ...]:
    """Return the tools that the rows' plans name and the toolset lacks; raise `InvalidRequest` if it lacks them all."""
    named = dict.fromkeys(task.node for row in rows if row.gold for task in row.gold.tasks if row.tools is None)
    unknown = tuple(name for name in named if name not in tools.tools)
    if named and len(unknown) == len(named):
        raise InvalidRequest(
            f"the rows' plans name none of the {len(tools)} tools: they name {', '.join(unknown[:5])}, "
            f"the tools are {', '.join(tools.names[:5])}",
            param="data",
        )
    return unknown


def to_row(row: PlanRow, draft: Draft) -> dict[str, Any]:
    """Return a plan as a row of a file like the one that the request came from.

    References are written `$t1.field$`; ids begin with the letters that the ids of the row's own plan begin with.
    """
    first = row.gold.tasks[0].id if row.gold and row.gold.tasks else ""
    prefix = first.rstrip("0123456789") or "t"
    ids = {task.id: f"{prefix}{index}" for index, task in enumerate(draft.tasks, 1)}
    tasks = [
        {"id": ids[task.id], "node": task.node, "arguments": _written(task.arguments, ids)} for task in draft.tasks
    ]
    return {"id": row.id, "tasks": tasks, "links": [[ids[a], ids[b]] for a, b in draft.links]}


def _written(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, Ref):
        return "$" + ".".join((ids.get(value.task, value.task), *value.path)) + "$"
    if isinstance(value, Mapping):
        return {key: _written(item, ids) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(item, ids) for item in value]
    return value


def _row(item: Any, where: str) -> PlanRow:
    if not isinstance(item, Mapping):
        raise InvalidRequest(
            f"{where} is a {type(item).__name__}; a row is {{id, request, tasks, links}}", param="data"
        )
    request = item.get("request", item.get("user_request"))
    if not isinstance(request, str) or not request.strip():
        raise InvalidRequest(f"{where}: request must be a text; got {request!r}", param="data")
    own, tools = item.get("tools"), None
    if own is not None:
        if not isinstance(own, list) or not own:
            raise InvalidRequest(f"{where}: tools must be a list of tools, or absent", param="data")
        tools = Toolset.of(tool_of(tool, f"{where}: tools.{index}") for index, tool in enumerate(own))
    gold = None
    if item.get("tasks") is not None:
        gold = _gold(item["tasks"], item.get("links") or [], where)
    return PlanRow(str(item.get("id", where)), request, gold, tools, _steps(item))


def _steps(item: Mapping[str, Any]) -> tuple[str, ...]:
    steps = item.get("steps")
    return tuple(map(str, steps)) if isinstance(steps, list) else ()


def _gold(tasks: Any, links: Any, where: str) -> Draft:
    if not isinstance(tasks, list) or not isinstance(links, list):
        raise InvalidRequest(f"{where}: tasks and links must be lists", param="data")
    found = []
    for index, task in enumerate(tasks):
        node = task.get("node") if isinstance(task, Mapping) else None
        if not isinstance(node, str):
            raise InvalidRequest(f"{where}: tasks.{index}.node must be a tool's name; got {node!r}", param="data")
        arguments = task.get("arguments") or {}
        if not isinstance(arguments, Mapping):
            raise InvalidRequest(f"{where}: tasks.{index}.arguments must be an object", param="data")
        found.append(Task(str(task.get("id", f"t{index + 1}")), node, arguments))
    return Draft(tuple(found), tuple(_link(link, f"{where}: links.{index}") for index, link in enumerate(links)))


def _link(item: Any, where: str) -> tuple[str, str]:
    if isinstance(item, Mapping):
        item = [item.get("source"), item.get("target")]
    if not isinstance(item, list) or len(item) != 2 or not all(isinstance(end, str) for end in item):
        raise InvalidRequest(f"{where} must be [from, to]; got {item!r}", param="links")
    return item[0], item[1]


def _known(pair: tuple[str, str], names: set[str], where: str, path: Path) -> None:
    for end in pair:
        if end not in names:
            raise InvalidRequest(f"{where} names {end!r}, which {path} lacks", param="links")


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file and line, value) of JSON lines, or of the one document that a .json file is."""
    text = _text(path)
    try:
        whole = json.loads(text) if text.strip() else []
    except ValueError:
        whole = None
    if isinstance(whole, list) and not (whole and path.name.endswith((".jsonl", ".jsonl.gz"))):
        yield from ((f"{path}: item {index + 1}", item) for index, item in enumerate(whole))
        return
    if whole is not None:
        yield f"{path}:1", whole
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"{path}:{number} is no JSON: {error}") from None


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise InvalidRequest(f"{path} is a broken gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None
