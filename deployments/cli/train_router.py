"""`train router`: fits the two-stage router to labelled rows and writes its artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.console import console, styled, write_json, write_table, write_warning
from deployments.cli.offline import TrainedEncoder, encoder_path, reporting
from deployments.cli.options import Json

if TYPE_CHECKING:
    from router.artifact import RouterArtifact

Nodes = Annotated[
    Path, typer.Option("--nodes", help='Nodes: JSON lines of {"name", "description"}, or a file or folder of YAML.')
]
Train = Annotated[
    Path,
    typer.Option("--train", help='Rows: JSON lines of {"text", "node"}, node null where no node fits; or gzipped.'),
]
Val = Annotated[
    Path | None,
    typer.Option("--val", help="Rows to choose thresholds on; without them a slice of the others is taken."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; a service that uses it takes the new router over.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is random.")]
Coverage = Annotated[
    float | None,
    typer.Option("--coverage", min=0.01, max=0.9999, help="Share of in-scope requests that must not be refused."),
]
Recall = Annotated[
    float | None,
    typer.Option("--oos-recall", min=0.01, max=0.9999, help="Share of out-of-scope requests that must be refused."),
]
Escalated = Annotated[
    float | None,
    typer.Option(
        "--escalate",
        min=0.0,
        max=1.0,
        help="Share of in-scope requests that the sentence encoder may be asked about: accuracy against time.",
    ),
]


def router(
    nodes: Nodes,
    train: Train,
    out: Out,
    val: Val = None,
    encoder: TrainedEncoder = None,
    seed: Seed = 0,
    coverage: Coverage = None,
    oos_recall: Recall = None,
    escalate: Escalated = None,
    as_json: Json = False,
) -> None:
    """Train the two-stage router: static token vectors first, the sentence encoder for what they are unsure of.

    With thousands of rows the encoder is fine-tuned; with few it stays as it is, and what is said of a row for
    calibration comes from a fit without it. Progress goes to standard error, and the card to the folder.
    """
    if coverage is not None and oos_recall is not None:
        raise typer.BadParameter("give --coverage or --oos-recall, not both: each sets the same threshold")
    with reporting(as_json):
        artifact = _train(nodes, train, val, out, encoder, seed, (coverage, oos_recall, escalate))
    card = {name: value for name, value in artifact.card.items() if name != "labels"}
    if as_json:
        write_json({"out": str(out), "labels": len(artifact.scorer.labels), **card})
        return
    figures = [(name, f"{value:g}") for name, value in card["metrics"].items()]
    write_table(console(), ("on validation rows", ""), figures, title=f"{out}: {len(artifact.scorer.labels)} nodes")


def _train(
    nodes: Path,
    train: Path,
    val: Path | None,
    out: Path,
    encoder: str | None,
    seed: int,
    wanted: tuple[float | None, float | None, float | None],
) -> RouterArtifact:
    from router.training.calibrate import Wanted
    from router.training.data import make_data, read_nodes, read_requests
    from router.training.fit import Training, train_router

    progress = console(stderr=True)
    data = make_data(read_nodes(nodes), read_requests(train), read_requests(val) if val is not None else ())
    for warning in data.warnings:
        write_warning(warning)
    path = encoder_path(encoder)
    how = Training(seed=seed, wanted=Wanted(*wanted))
    return train_router(data, path, out, how, lambda text: progress.print(styled(text, "dim"), soft_wrap=True))
