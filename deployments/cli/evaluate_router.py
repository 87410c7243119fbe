"""`eval router`: how well a trained router does on labelled rows, and how fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.console import console, styled, write_error, write_json, write_table
from deployments.cli.options import FAILED, Json

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
    from graph.errors import ModelyardError
    from router.artifact import load_artifact
    from router.evaluation.router_report import judge, measure, time_decisions
    from router.training.data import check_labels, read_requests

    try:
        rows = read_requests(data)
        loaded = load_artifact(artifact)
        check_labels(rows, set(loaded.scorer.labels))
        judged = judge(loaded.scorer, rows)
        found = measure(judged, time_decisions(loaded.scorer, rows)).to_json()
        if predictions is not None:
            _write_predictions(predictions, rows, judged)
        if report is not None:
            _write_report(report, loaded, judged, found)
    except ModelyardError as error:
        write_error(error.message, as_json=as_json, code=error.code, param=error.param)
        raise typer.Exit(FAILED) from error
    except OSError as error:
        write_error(f"{error.filename} cannot be written: {error.strerror}", as_json=as_json, code="not_written")
        raise typer.Exit(FAILED) from error
    missing = sorted(set(loaded.scorer.labels) - {row.node for row in rows})
    if missing:
        some = ", ".join(missing[:5])
        text = f"warning: {len(missing)} of {len(loaded.scorer.labels)} nodes have no rows in {data}: {some}"
        console(stderr=True).print(styled(text, "yellow"), soft_wrap=True)
    if as_json:
        write_json(found)
    else:
        write_table(console(), ("measured", ""), [(name, "-" if v is None else f"{v:g}") for name, v in found.items()])


def _write_predictions(path: Path, rows: list[LabelledRow], judged: Judged) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            refused = bool(judged.refused[index])
            line = {
                "text": row.text,
                "node": None if refused else judged.labels[judged.predicted[index]],
                "probability": round(float(judged.probability[index]), 6),
                "out_of_scope": refused,
                "in_scope": round(float(judged.in_scope[index]), 6),
                "best": judged.labels[judged.predicted[index]],
                "escalated": bool(judged.escalated[index]),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_report(folder: Path, artifact: RouterArtifact, judged: Judged, found: dict[str, float]) -> None:
    from router.evaluation.figures import router_page

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "router.html").write_text(router_page(judged, found, artifact.card), encoding="utf-8")
