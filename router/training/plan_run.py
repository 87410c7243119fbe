"""One training run of a planner, from files read to an artefact that was measured as it will be used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graph.errors import InvalidRequest
from router.evaluation.plan_report import plan_rows, report
from router.planners.toolset import Toolset
from router.training.plan_data import PlanRow
from router.training.plan_fit import PlanTraining, Report, known_shapes, save, split, train
from router.training.torch_encoder import TorchEncoder


def run(
    tools: Toolset,
    rows: Sequence[PlanRow],
    val: Sequence[PlanRow],
    path: Path,
    out: Path,
    how: PlanTraining,
    say: Report,
) -> dict[str, Any]:
    """Train on rows, write the artefact to a folder and return what its card says of the run."""
    _writable(out)
    started = time.monotonic()
    own, held = (list(rows), list(val)) if val else split(rows, how)
    encoder = TorchEncoder(path, trained=how.trained_layers)
    fitted = train(own, held, tools, encoder, how, say)
    seconds = round(time.monotonic() - started, 1)
    card: dict[str, Any] = {
        "plans": len(own), "held": len(held), "seed": how.seed, "epochs": fitted.epochs, "seconds": seconds,
        "encoder": str(path.parent.name if path.name == "model" else path.name), "metrics": {},
    }  # fmt: skip
    planner = save(fitted, encoder, tools, card, out)
    found = report(plan_rows(held, tools, lambda row: planner.draft(row.request)), known_shapes(own))
    names = ("node_f1", "edge_f1", "argument_f1", "exact", "valid", "p50_ms")
    card["metrics"] = {name: found[name] for name in names}
    save(fitted, encoder, tools, card, out, export=False)
    return card


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{out} cannot be written: {error.strerror}", param="out") from None
