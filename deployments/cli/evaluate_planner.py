"""`eval planner`: how well requests are planned over given tools, and how fast."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, write_json, write_table, write_warning
from deployments.cli.offline import Links, Tools, encoder_path, reporting, write_lines, writing
from deployments.cli.options import Json

if TYPE_CHECKING:
    from router.evaluation.plan_report import Planned, Shape
    from router.planners.toolset import Toolset
    from router.training.plan_data import PlanRow

Artifact = Annotated[
    Path | None,
    typer.Option("--artifact", help="Folder that `modelyard train planner` wrote; without one plans are zero-shot."),
]
Data = Annotated[
    Path, typer.Option("--data", help='Requests: JSON lines of {"id", "request", "tasks", "links"}; or gzipped.')
]
Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Write the plan of each request, one JSON line a row.")
]
EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="sentence-transformers model of the zero-shot planner; a MiniLM by default."),
]


def planner(
    tools: Tools,
    data: Data,
    artifact: Artifact = None,
    links: Links = None,
    predictions: Predictions = None,
    encoder: EncoderOption = None,
    as_json: Json = False,
) -> None:
    """Measure a planner: nodes, links, arguments, validity, and the time to plan one request."""
    with reporting(as_json), writing(as_json):
        known, rows = _read(tools, links, data)
        planned, shapes = _plan(known, rows, artifact, encoder)
        if predictions is not None:
            _write_predictions(predictions, planned)
    _show(planned, shapes, as_json)


def _read(tools: Path, links: Path | None, data: Path) -> tuple[Toolset, list[PlanRow]]:
    from router.training.plan_data import read_plans, read_tools, unknown_tools

    known = read_tools(tools, links)
    rows = read_plans(data)
    unknown = unknown_tools(rows, known)
    if unknown:
        some = ", ".join(unknown[:5])
        write_warning(f"plans in {data} name {len(unknown)} tools that {tools} lacks: {some}; no plan can have them")
    return known, rows


def _plan(
    tools: Toolset, rows: list[PlanRow], artifact: Path | None, encoder: str | None
) -> tuple[list[Planned], Collection[Shape] | None]:
    from router.encoders import load_encoder
    from router.evaluation.plan_report import plan_rows
    from router.planner_artifact import check_tools, load_planner
    from router.planners.zero_shot import ZeroShotPlanner

    if artifact is not None:
        loaded = load_planner(artifact, threads=os.cpu_count() or 1).planner
        check_tools(loaded.tools, tools, artifact)
        known = {tuple(loaded.tools.names[node] for node in sequence) for sequence in loaded.memory.sequences}
        return plan_rows(rows, tools, lambda row: loaded.draft(row.request)), known
    model = load_encoder(encoder_path(encoder), threads=os.cpu_count() or 1)
    own = ZeroShotPlanner(tools, model)
    found = plan_rows(
        rows, tools, lambda row: (ZeroShotPlanner(row.tools, model) if row.tools else own).draft(row.request)
    )
    return found, None


def _write_predictions(path: Path, planned: list[Planned]) -> None:
    """Write plans in the form of the data: references as `$t1.field$`, ids beginning as the file's own do."""
    from router.training.plan_data import to_row

    write_lines(path, (to_row(item.row, item.draft) for item in planned))


def _show(planned: list[Planned], shapes: Collection[Shape] | None, as_json: bool) -> None:
    from router.evaluation.plan_report import report

    found = report(planned, shapes)
    if as_json:
        write_json(found)
        return
    flat: dict[str, Any] = {}
    for name, value in found.items():
        flat |= {f"unseen {key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    rows = [(name, "-" if value is None else f"{value:g}") for name, value in flat.items()]
    write_table(console(), ("measured", ""), rows)
