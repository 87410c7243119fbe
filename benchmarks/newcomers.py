"""Nodes that a trained router is given later, by a description alone and with few examples: what they and others get.

    python -m benchmarks.newcomers --data FOLDER [--set clinc150] [--shots 10]

FOLDER holds one folder a data set, as for `benchmarks.router`. Every tenth node by name is left out of training and
then added; the rows measured are those of that benchmark. "Without lift" is the same router with what training learned
of newcomers taken away.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.router import RESULTS, _few, _file, _rows
from deployments.models import resolve_model
from deployments.settings import Settings
from router.encoders import CachedEncoder
from router.evaluation.router_report import Judged, judge
from router.scorers.trained import TrainedScorer
from router.training.data import LabelledNode, LabelledRow, make_data, read_nodes
from router.training.fit import Training, train_router
from router.vectors import AnyArray

EXAMPLES = (0, 1, 3, 10)
COLUMNS = ("old_accuracy", "old_to_new", "new_accuracy", "new_accepted", "oos_recall")


def main() -> None:
    """Train once, add the nodes left out in several ways, and print a table."""
    options = _options()
    folder = options.data / options.set
    nodes = read_nodes(_file(folder, "nodes"))
    train, _, measured = _rows(folder)
    late = frozenset(sorted(node.name for node in nodes)[5::10])
    few = _few(train, options.shots)
    data = make_data([n for n in nodes if n.name not in late], [row for row in few if row.node not in late])
    encoder = resolve_model(Settings.from_env().encoder_reference())
    with tempfile.TemporaryDirectory() as out:
        trained = train_router(data, encoder, Path(out), Training(), print).scorer
        assert isinstance(trained, TrainedScorer)
        trained = replace(trained, model=replace(trained.model, encoder=CachedEncoder(trained.model.encoder)))
        old = [row for row in measured if row.node not in late]
        found = {"before": figures(judge(trained, old), old, late)}
        for count in EXAMPLES:
            for arm, scorer in (("", trained), (", without lift", _unlifted(trained))):
                now = _added(scorer, nodes, few, late, count)
                found[f"{count} examples{arm}"] = figures(judge(now, measured), measured, late)
    for arm, own in found.items():
        print(f"{arm:26}", *(f"{name} {own[name]}" for name in COLUMNS), flush=True)
    if options.save:
        (RESULTS / f"newcomers-{options.set}.json").write_text(
            json.dumps({"shots": options.shots, "nodes": len(nodes), "late": len(late), "arms": found}, indent=1) + "\n"
        )


def figures(judged: Judged, rows: list[LabelledRow], late: frozenset[str]) -> dict[str, float | None]:
    """Return shares: of old nodes' rows right, and lost to new ones; of new ones' right, and accepted."""
    new_labels = np.isin(judged.labels, list(late))
    new = np.array([row.node in late for row in rows])
    outside = np.array([row.node is None for row in rows])
    old, to_new, accepted = ~new & ~outside, new_labels[judged.predicted], ~judged.refused
    return {
        "old_accuracy": _share(judged.right[old]),
        "old_to_new": _share(to_new[old]),
        "new_accuracy": _share(judged.right[new]),
        "new_accepted": _share(accepted[new]),
        "oos_recall": _share(~accepted[outside]),
    }


def _share(values: AnyArray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _added(
    scorer: TrainedScorer, nodes: list[LabelledNode], few: list[LabelledRow], late: frozenset[str], count: int
) -> TrainedScorer:
    texts = {name: [row.text for row in few if row.node == name][:count] for name in late}
    groups = [[node.text, *texts[node.name]] for node in nodes if node.name in late]
    names = (node.name for node in nodes if node.name in late)
    return TrainedScorer((*scorer.labels, *names), scorer.model.extend(groups))


def _unlifted(scorer: TrainedScorer) -> TrainedScorer:
    model = scorer.model
    none = np.zeros(2, dtype=np.float32)
    return replace(
        scorer,
        model=replace(model, first=replace(model.first, lift=none), second=replace(model.second, lift=none)),
    )


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="clinc150")
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--no-save", dest="save", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
