"""`validate` and `kinds`: what needs no service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, styled, write_error, write_json, write_table
from deployments.cli.options import FAILED, Json

if TYPE_CHECKING:
    from graph.errors import Problem
    from graph.loader import Loaded
    from graph.node import Node
    from graph.spec import NodeSpec

WITH_SECRETS = {"api_key", "endpoint", "params"}
"""Keys of a spec in which `${NAME}` is a secret; elsewhere it is text."""
NodePaths = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="YAML files, or folders of them.", show_default=False)
]


def validate(paths: NodePaths, as_json: Json = False) -> None:
    """Check node files without a service; report every problem of every file.

    Prints a table of the nodes when all is well. Exits with 1 if there is any problem. A secret that is not set here is
    told and is no problem: it is the service that needs it.
    """
    from deployments.secrets import unset_secrets

    loaded, problems = check_paths(paths, as_json=as_json)
    unset = unset_secrets("\n".join(spec.model_dump_json(include=WITH_SECRETS) for spec in loaded.specs))
    if as_json:
        nodes = [describe_spec(spec) | {"source": loaded.sources[spec.name]} for spec in loaded.specs]
        found = [problem_json(p) for p in problems]
        write_json({"ok": not problems, "problems": found, "unset_secrets": unset, "nodes": nodes})
    elif problems:
        write_problems(problems)
        if any("no node is called" in problem.message for problem in problems):
            advice = "Name the files of the other nodes, too, or ask a service with them: modelyard nodes add --dry-run"
            console(stderr=True).print(styled(advice, "dim"), soft_wrap=True)
    else:
        rows = [
            (
                spec.name,
                spec.kind,
                _modalities(spec),
                edge_text(_edges(spec)),
                spec.description,
                loaded.sources[spec.name],
            )
            for spec in loaded.specs
        ]
        out = console()
        write_table(out, ("name", "kind", "takes", "edges", "description", "file"), rows)
        if out.is_terminal:
            out.print(styled(f"{len(rows)} node{'s' * (len(rows) != 1)}, no problems", "green"))
    if unset and not as_json:
        told = f"not set here, and needed where the service starts: {', '.join(unset)}"
        console(stderr=True).print(styled(told, "dim"), soft_wrap=True)
    if problems:
        raise typer.Exit(FAILED)


def kinds(as_json: Json = False) -> None:
    """List the installed kinds of node: where they run, what they take, their params."""
    found = [_describe_kind(name, kind) for name, kind in sorted(load_kinds(as_json=as_json).items())]
    if as_json:
        write_json({"kinds": found})
        return
    columns = ("kind", "runs in", "operations", "params", "about")
    rows = [
        (item["name"], item["placement"], ", ".join(item["operations"]), ", ".join(item["params"]), item["about"])
        for item in found
    ]
    write_table(console(), columns, rows)


def check_paths(
    paths: Sequence[Path], *, as_json: bool = False, known: Iterable[str] = ()
) -> tuple[Loaded, tuple[Problem, ...]]:
    """Load files and return what they declare and every problem, those between nodes included.

    `known` names nodes declared elsewhere, which edges may therefore point at.
    """
    from graph.errors import Problem
    from graph.loader import load_paths
    from graph.model_graph import ModelGraph
    from graph.spec import NodeSpec

    loaded = load_paths(paths, load_kinds(as_json=as_json))
    # An edge to a node that is declared, but wrongly, is not a second problem.
    others = {*known, *_declared_names(paths)} - set(loaded.sources)
    stand_ins = [NodeSpec.model_construct(name=name, kind="", description="") for name in sorted(others)]
    between = [
        Problem(loaded.sources[problem.where], problem.key, problem.message)
        for problem in ModelGraph((*loaded.specs, *stand_ins)).problems()
    ]
    return loaded, (*loaded.problems, *between)


def load_kinds(*, as_json: bool = False) -> dict[str, type[Node]]:
    """Return the installed kinds; a kind that cannot be imported ends the command."""
    from graph.node import installed_kinds

    try:
        return installed_kinds()
    except Exception as error:  # a third party's module may raise anything at import; the user must see which
        message = f"an installed kind cannot be imported: {type(error).__name__}: {error}"
        write_error(message, as_json=as_json, code="broken_kind")
        raise typer.Exit(FAILED) from error


def write_problems(problems: Sequence[Problem]) -> None:
    """Write problems as a table, and how many there are to standard error."""
    rows = [(styled(p.where, "cyan"), styled(p.key, "bold"), p.message) for p in problems]
    write_table(console(), ("file", "key", "problem"), rows)
    summary = f"{len(problems)} problem{'s' * (len(problems) != 1)} in {len({p.where for p in problems})} place(s)"
    console(stderr=True).print(styled(summary, "red"), soft_wrap=True)


def problem_json(problem: Problem) -> dict[str, str]:
    """Return a problem in the form that `--json` prints."""
    return {"file": problem.where, "key": problem.key, "message": problem.message}


def describe_spec(spec: NodeSpec) -> dict[str, Any]:
    """Return what `--json` prints of a node that is only a file yet."""
    from deployments.graph_views import describe

    return describe(spec) | {"edges": _edges(spec)}


def edge_text(edges: Any) -> str:
    """Return declared edges on one line: `fallback: general; feeds: legal`."""
    if not isinstance(edges, dict):
        return ""
    return "; ".join(f"{kind}: {', '.join(map(str, targets))}" for kind, targets in edges.items() if targets)


def _declared_names(paths: Iterable[Path]) -> Iterator[str]:
    """Find the names in all documents that parse, whatever else is wrong with them."""
    from graph.loader import parse_documents

    for path in paths:
        for file in path.iterdir() if path.is_dir() else (path,):
            if not file.is_file() or (path.is_dir() and file.suffix not in (".yaml", ".yml")):
                continue
            with suppress(OSError):  # the loader reports what cannot be read
                for _, document in parse_documents(file.read_bytes(), str(file))[0]:
                    if isinstance(document, dict) and isinstance(document.get("name"), str):
                        yield document["name"]


def _edges(spec: NodeSpec) -> dict[str, list[str]]:
    return {kind: list(targets) for kind, targets in spec.edges if targets}


def _modalities(spec: NodeSpec) -> str:
    return f"{', '.join(sorted(spec.accepts))} -> {', '.join(sorted(spec.produces))}"


def _describe_kind(name: str, kind: type[Node]) -> dict[str, Any]:
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    return {
        "name": name,
        "about": about,
        "placement": kind.placement,
        "operations": sorted(kind.operations),
        "honours": sorted(kind.honours),
        "params": sorted(kind.Params.model_fields),
        "params_schema": kind.Params.model_json_schema(),
    }
