"""`train planner`: fits an encoder and a decoder over nodes to example plans and writes their artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, styled, write_json, write_table, write_warning
from deployments.cli.offline import Links, Tools, TrainedEncoder, encoder_path, reporting
from deployments.cli.options import Json

if TYPE_CHECKING:
    from router.training.plan_fit import PlanTraining

Train = Annotated[
    Path, typer.Option("--train", help='Plans: JSON lines of {"id", "request", "tasks", "links"}; or gzipped.')
]
Val = Annotated[
    Path | None,
    typer.Option("--val", help="Plans to stop and to choose on; without them a tenth of the others, ten at least."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; a service that uses it takes the new planner over.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is random.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1, max=200, help="Most passes; it stops when it gets no better.")]
Layers = Annotated[
    int,
    typer.Option("--layers", min=0, max=100, help="Upper layers of the encoder to train; 0 is quickest."),
]


def planner(
    tools: Tools,
    train: Train,
    out: Out,
    links: Links = None,
    val: Val = None,
    encoder: TrainedEncoder = None,
    seed: Seed = 0,
    epochs: Epochs = 14,
    layers: Layers = 2,
    as_json: Json = False,
) -> None:
    """Train a planner on example plans: a sentence encoder, and a decoder that writes node after node.

    Progress goes to standard error, and the card to the folder.
    """
    from router.training.plan_fit import PlanTraining

    how = PlanTraining(seed=seed, epochs=epochs, trained_layers=layers)
    with reporting(as_json):
        card = _train(tools, links, train, val, out, encoder, how)
    if as_json:
        write_json({"out": str(out), **card})
        return
    figures = [(name, f"{value:g}") for name, value in card["metrics"].items() if value is not None]
    write_table(console(), ("on held-out plans", ""), figures, title=str(out))


def _train(
    tools: Path, links: Path | None, train: Path, val: Path | None, out: Path, encoder: str | None, how: PlanTraining
) -> dict[str, Any]:
    from router.training.plan_data import read_plans, read_tools, unknown_tools
    from router.training.plan_run import run

    progress = console(stderr=True)
    known = read_tools(tools, links)
    rows, held = read_plans(train), read_plans(val) if val is not None else []
    unknown = unknown_tools([*rows, *held], known)
    if unknown:
        some = ", ".join(unknown[:5])
        write_warning(f"plans name {len(unknown)} tools that {tools} lacks and are left out: {some}")
    path = encoder_path(encoder)
    return run(known, rows, held, path, out, how, lambda text: progress.print(styled(text, "dim"), soft_wrap=True))
