from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_router import SIGNALS

from graph.spec import NodeSpec
from router.artifact import load_artifact
from router.calibration import Scope
from router.scorers.two_stage import Stage
from router.training.calibrate import Held
from router.training.newcomers import Play, fit_lift

WEIGHTS = np.array([2.0], dtype=np.float32)


def plays(lack: float) -> tuple[Play, Play]:
    """Four labels, the last two of them newcomers, whose evidence lacks so much; with examples it lacks nothing."""
    dice = np.random.default_rng(0)
    targets = dice.integers(4, size=800)
    evidence = dice.normal(size=(800, 4, 1)).astype(np.float32)
    evidence[np.arange(800), targets, 0] += 1.5

    def play(shift: float) -> Play:
        seen = Held(evidence - np.array([0, 0, shift, shift], dtype=np.float32)[None, :, None], np.zeros((800, 1)))
        return Play((seen, seen), targets)

    return play(lack), play(0.0)


def test_newcomers_get_what_they_lack_and_less_the_more_texts_they_have() -> None:
    whole = fit_lift([plays(0.0)], WEIGHTS, 1)
    assert abs(whole).max() < 0.4
    fixed, slope = fit_lift([plays(1.0)], WEIGHTS, 1)
    assert fixed + slope == pytest.approx(2.0, abs=0.4)
    assert fixed + slope > fixed + slope / 2 > fixed + slope / 4 == pytest.approx(0.0, abs=0.4)


def test_too_few_rows_of_newcomers_teach_nothing() -> None:
    few, more = (Play((one.seen[0].take(np.arange(9)),) * 2, one.targets[:9]) for one in plays(1.0))
    assert fit_lift([(few, more)], WEIGHTS, 0).tolist() == [0.0, 0.0]


def test_a_lift_moves_the_choice_and_not_the_scope() -> None:
    scope = Scope(np.zeros(4, np.float32), np.ones(4, np.float32), np.ones(4, np.float32), 0.0)
    stage = Stage(WEIGHTS, scope, np.array([-0.5, 2.0], np.float32))
    evidence, features = np.zeros((1, 3, 1), np.float32), np.zeros((1, 1), np.float32)
    chosen, inside = stage.score(evidence, features, np.array([0, 1, 8]))
    assert np.log(chosen[0] / chosen[0, 0]).tolist() == pytest.approx([0.0, 1.5, 0.0], abs=1e-5)
    assert inside == replace(stage, lift=np.zeros(2, np.float32)).score(evidence, features, np.zeros(3, int))[1]


def test_a_node_without_rows_is_lifted_and_heeds_the_examples_of_its_yaml(trained_folder: Path) -> None:
    artifact = load_artifact(trained_folder)
    assert artifact.scorer.model.added.tolist() == [0] * len(SIGNALS) + [1]
    assert artifact.card["lift"]["second"] == pytest.approx(artifact.scorer.model.second.lift.tolist(), abs=1e-3)
    specs = [NodeSpec(name=name, kind="k", description=f"about {name}") for name in SIGNALS]
    birds = NodeSpec(name="birds", kind="k", description="about birds", examples=("strange1 strange2", "strange3"))
    now = artifact.scorer.for_nodes([*specs, birds])
    assert now.model.added.tolist() == [0] * len(SIGNALS) + [3] and now.labels == artifact.scorer.labels
    assert now.labels[int(now.score(["strange1 strange2 strange3"]).probabilities.argmax())] == "birds"
