"""`eval router`: how well a trained router does on labelled rows, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, write_json, write_table, write_warning
from deployments.cli.offline import reporting, write_lines, writing
from deployments.cli.options import Json

if TYPE_CHECKING:
    from router.artifact import RouterArtifact
    from router.evaluation.router_report import Judged
    from router.training.data import LabelledRow

ArtifactOption = Annotated[Path, typer.Option("--artifact", help="Folder that `modelyard train router` wrote.")]
Data = Annotated[
    Path, typer.Option("--data", help='Rows: JSON lines of {"text", "node"}, node null where no node fits; or gzipped.')
]
Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Write node and probability of each row, one JSON line a row.")
]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="Folder to write pictures to: risk, reliability, confusion (router.html)."),
]


def router(
    artifact: ArtifactOption,
    data: Data,
    predictions: Predictions = None,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Measure a trained router: accuracy, abstention, calibration and the time to decide about one request."""
    from router.artifact import load_artifact
    from router.evaluation.router_report import judge, measure, time_decisions
    from router.training.data import check_labels, read_requests

    with reporting(as_json), writing(as_json):
        rows = read_requests(data)
        loaded = load_artifact(artifact)
        check_labels(rows, set(loaded.scorer.labels))
        judged = judge(loaded.scorer, rows)
        found = measure(judged, time_decisions(loaded.scorer, rows)).to_json()
        if predictions is not None:
            _write_predictions(predictions, rows, judged)
        if report is not None:
            _write_report(report, loaded, judged, found)
    missing = sorted(set(loaded.scorer.labels) - {row.node for row in rows})
    if missing:
        some = ", ".join(missing[:5])
        write_warning(f"{len(missing)} of {len(loaded.scorer.labels)} nodes have no rows in {data}: {some}")
    if as_json:
        write_json(found)
    else:
        write_table(console(), ("measured", ""), [(name, "-" if v is None else f"{v:g}") for name, v in found.items()])


def _write_predictions(path: Path, rows: list[LabelledRow], judged: Judged) -> None:
    write_lines(path, (_prediction(row, judged, index) for index, row in enumerate(rows)))


def _prediction(row: LabelledRow, judged: Judged, index: int) -> dict[str, Any]:
    refused, best = bool(judged.refused[index]), judged.labels[judged.predicted[index]]
    return {
        "text": row.text,
        "node": None if refused else best,
        "probability": round(float(judged.probability[index]), 6),
        "out_of_scope": refused,
        "in_scope": round(float(judged.in_scope[index]), 6),
        "best": best,
        "escalated": bool(judged.escalated[index]),
    }


def _write_report(folder: Path, artifact: RouterArtifact, judged: Judged, found: dict[str, float]) -> None:
    from router.evaluation.figures import router_page

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "router.html").write_text(router_page(judged, found, artifact.card), encoding="utf-8")
