"""`train planner`: fits an encoder and a decoder over nodes to example plans and writes their artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, styled, write_error, write_json, write_table
from deployments.cli.options import FAILED, Json

if TYPE_CHECKING:
    from router.training.plan_fit import PlanTraining

Tools = Annotated[
    Path, typer.Option("--tools", help='Tools: JSON lines of {"name", "description", "parameters", …}; or gzipped.')
]
Links = Annotated[
    Path | None, typer.Option("--links", help='Links: JSON lines of ["from", "to"]; without them any may follow any.')
]
Train = Annotated[
    Path, typer.Option("--train", help='Plans: JSON lines of {"id", "request", "tasks", "links"}; or gzipped.')
]
Val = Annotated[
    Path | None, typer.Option("--val", help="Plans to stop and to choose on; without them a tenth of the others is.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; a service that uses it takes the new planner over.")]
EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="sentence-transformers model: hf://…, pkg://… or a folder; a MiniLM by default."),
]
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
    encoder: EncoderOption = None,
    seed: Seed = 0,
    epochs: Epochs = 14,
    layers: Layers = 2,
    as_json: Json = False,
) -> None:
    """Train a planner on example plans: a sentence encoder, and a decoder that writes node after node.

    Progress goes to standard error, and the card to the folder.
    """
    from graph.errors import InvalidSpec, ModelyardError
    from router.training.plan_fit import PlanTraining

    how = PlanTraining(seed=seed, epochs=epochs, trained_layers=layers)
    try:
        card = _train(tools, links, train, val, out, encoder, how)
    except InvalidSpec as error:
        write_error(error.problems[0].message, as_json=as_json, code=error.code, param="encoder")
        raise typer.Exit(FAILED) from error
    except ModelyardError as error:
        write_error(error.message, as_json=as_json, code=error.code, param=error.param)
        raise typer.Exit(FAILED) from error
    if as_json:
        write_json({"out": str(out), **card})
        return
    figures = [(name, f"{value:g}") for name, value in card["metrics"].items() if value is not None]
    write_table(console(), ("on held-out plans", ""), figures, title=str(out))


def _train(
    tools: Path, links: Path | None, train: Path, val: Path | None, out: Path, encoder: str | None, how: PlanTraining
) -> dict[str, Any]:
    from deployments.models import resolve_model
    from deployments.settings import Settings
    from router.training.plan_data import read_plans, read_tools, unknown_tools
    from router.training.plan_run import run

    progress = console(stderr=True)
    known = read_tools(tools, links)
    rows, held = read_plans(train), read_plans(val) if val is not None else []
    unknown = unknown_tools([*rows, *held], known)
    if unknown:
        text = f"warning: plans name {len(unknown)} tools that {tools} lacks and are left out: {', '.join(unknown[:5])}"
        progress.print(styled(text, "yellow"), soft_wrap=True)
    path = resolve_model(encoder or Settings.from_env().encoder_reference())
    return run(known, rows, held, path, out, how, lambda text: progress.print(styled(text, "dim"), soft_wrap=True))
