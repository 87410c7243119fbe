"""The registration gate: collisions are seen, honest experts pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from router.confusion import mixture
from router.cross_fit import assign_folds, cross_fit
from router.encoders import CachedEncoder
from router.evaluation.routing import Row
from router.gate import Contender, GateReport, compare, confused
from router.gate_rules import Thresholds
from router.policy import Policy
from router.scorers.strategies import make_scorer
from router.types import Encoder, Scores

EXAMPLES = Path(__file__).parents[2] / "examples"
POLICY = Policy()


class Table:
    """A scorer that looks each text up: which node, and how surely it is in scope."""

    strategy = "table"

    def __init__(self, labels: Sequence[str], answers: dict[str, tuple[str, float]]) -> None:
        self.labels = tuple(labels)
        self._answers = answers

    def score(self, texts: Sequence[str]) -> Scores:
        chosen = [self._answers[text] for text in texts]
        rows = [[0.94 if label == node else 0.02 for label in self.labels] for node, _ in chosen]
        return Scores(self.labels, np.array(rows, np.float32), np.array([sure for _, sure in chosen], np.float32))


def node(name: str, **fields: object) -> NodeSpec:
    return NodeSpec.model_validate({"name": name, "kind": "k", "description": name} | fields)


def compared(
    before: dict[str, tuple[str, float]],
    after: dict[str, tuple[str, float]],
    rows: Sequence[Row],
    recent: Sequence[str] = (),
    **limits: float,
) -> GateReport:
    """Compare two tables over nodes a, b and, afterwards, n."""
    old, new = [node("a"), node("b")], [node("a"), node("b"), node("n")]
    live = Contender(Table("ab", before), ModelGraph(old), POLICY)
    candidate = Contender(Table("abn", after), ModelGraph(new), POLICY)
    return compare(live, candidate, rows, recent, changed="n", thresholds=Thresholds(**limits))


def rows_of(name: str, count: int) -> list[Row]:
    return [Row(f"{name}{index}", name) for index in range(count)]


def test_every_figure_is_counted_as_it_is_defined() -> None:
    rows = [*rows_of("a", 10), *rows_of("b", 10), *rows_of("n", 5)]
    before = {row.text: (row.node if row.node != "n" else "a", 1.0) for row in rows}
    after = {row.text: (row.node, 1.0) for row in rows}
    for text in ("a0", "a1"):
        after[text] = ("n", 1.0)
    after["n0"] = ("a", 1.0)
    after["b0"] = ("b", 0.2)  # nearest to b still, but called out of scope
    report = compared(before, after, rows)
    assert (report.rows, report.own_rows, report.own_accuracy) == (20, 5, 0.8)
    assert (report.live.accuracy, report.candidate.accuracy) == (1.0, 0.85)
    assert (report.live.out_of_scope, report.candidate.out_of_scope) == (0.0, 0.05)
    assert report.flips == 3
    first = report.confusion[0]
    assert (first.node, first.rows, first.taken, first.given, first.flips) == ("a", 10, 0.2, 0.2, 2)
    assert first.overlap == pytest.approx(0.4) and 0 < first.error < 0.4
    assert {(flip.text, flip.now) for flip in report.examples} == {("a0", "n"), ("a1", "n"), ("b0", None)}
    assert report.to_json()["confusion"][0]["overlap"] == 0.4


def test_two_nodes_that_are_tossed_for_collide_and_two_that_are_not_do_not() -> None:
    rows = [*rows_of("a", 12), *rows_of("b", 12), *rows_of("n", 12)]
    before = {row.text: (row.node if row.node != "n" else "a", 1.0) for row in rows}
    after = {row.text: (row.node, 1.0) for row in rows}
    assert compared(before, after, rows).verdict == "apply"
    for index in range(0, 12, 2):
        after[f"a{index}"], after[f"n{index}"] = ("n", 1.0), ("a", 1.0)
    report = compared(before, after, rows)
    assert report.verdict == "refuse"
    assert "'a'" in report.reasons[0] and "gate_refuse_overlap = 0.5" in report.reasons[0]
    assert "50% of 12" in report.reasons[0]
    lenient = compared(
        before, after, rows, refuse_overlap=2, flag_overlap=2, refuse_flips=1, flag_flips=1, flag_calibration=1
    )
    assert lenient.verdict == "apply" and lenient.confusion == report.confusion


@pytest.mark.parametrize(("count", "verdict"), [(1, "flag"), (2, "flag"), (3, "refuse")])
def test_of_one_or_two_examples_all_may_be_confused_and_nobody_is_refused(count: int, verdict: str) -> None:
    rows = [*rows_of("a", count), *rows_of("n", count)]
    before = {row.text: ("a", 1.0) for row in rows}
    after = {row.text: ("n" if row.node == "a" else "a", 1.0) for row in rows}
    assert compared(before, after, rows).verdict == verdict


def test_examples_that_another_node_has_word_for_word_are_refused_however_they_score() -> None:
    rows = [*rows_of("a", 8), *rows_of("b", 8), *(Row(f"  A{index}", "n") for index in range(5)), Row("x", "n")]
    before = {row.text: ("a" if row.node == "n" else row.node, 1.0) for row in rows}
    after = {row.text: (row.node, 1.0) for row in rows}
    report = compared(before, after, rows)
    assert report.verdict == "refuse" and "5 of 6" in report.reasons[0] and "'a'" in report.reasons[0]
    assert compared(before, after, [*rows_of("a", 8), *rows[18:]]).verdict == "refuse"
    assert compared(before, after, [*rows_of("b", 8), *rows[16:]]).verdict == "apply"


def test_one_confused_example_of_few_is_nothing() -> None:
    rows = [*rows_of("a", 3), *rows_of("b", 3), *rows_of("n", 3)]
    before = {row.text: (row.node if row.node != "n" else "a", 1.0) for row in rows}
    after = {row.text: (row.node, 1.0) for row in rows} | {"a0": ("n", 1.0)}
    assert compared(before, after, rows).verdict == "apply"


def test_flips_and_calibration_and_scope_have_limits_of_their_own() -> None:
    rows = [*rows_of("a", 20), *rows_of("b", 20)]
    before = {row.text: (row.node, 1.0) for row in rows}
    wrong = before | {f"a{index}": ("b", 1.0) for index in range(5)}
    flagged = compared(before, wrong, rows)
    assert flagged.verdict == "flag"
    assert any("gate_flag_flips = 0.05" in reason and "5 of 40" in reason for reason in flagged.reasons)
    strict = compared(before, wrong, rows, flag_calibration=0.001)
    assert any("gate_flag_calibration = 0.001" in reason for reason in strict.reasons)
    refused = compared(before, wrong, rows, refuse_flips=0.05)
    assert refused.verdict == "refuse" and "gate_refuse_flips = 0.05" in refused.reasons[0]
    outside = before | {f"a{index}": ("a", 0.3) for index in range(5)}
    assert any("gate_flag_out_of_scope" in reason for reason in compared(before, outside, rows).reasons)


def test_recent_requests_that_move_between_others_are_flagged_and_those_that_go_to_the_new_node_are_not() -> None:
    recent = [f"t{index}" for index in range(60)]
    before = dict.fromkeys(recent, ("a", 1.0))
    taken = compared(before, dict.fromkeys(recent, ("n", 1.0)), [], recent)
    assert taken.verdict == "apply"
    assert taken.recent is not None and (taken.recent.taken, taken.recent.moved) == (1.0, 0.0)
    moved = compared(before, dict.fromkeys(recent, ("b", 1.0)), [], recent)
    assert moved.verdict == "flag" and "gate_flag_recent" in moved.reasons[0]
    lost = compared(before, dict.fromkeys(recent, ("a", 0.1)), [], recent)
    assert any("called out of scope rises" in reason for reason in lost.reasons)
    few = recent[:20]
    assert compared(before, dict.fromkeys(recent, ("b", 1.0)), [], few).verdict == "apply"


def test_what_the_default_node_hands_over_is_no_flip() -> None:
    rows = rows_of("rest", 30)
    specs = [node("a"), node("rest", default=True)]
    before = Contender(Table(("a", "rest"), {row.text: ("rest", 1.0) for row in rows}), ModelGraph(specs), POLICY)
    answers = {row.text: ("n" if index < 10 else "rest", 1.0) for index, row in enumerate(rows)}
    after = Contender(Table(("a", "n", "rest"), answers), ModelGraph([*specs, node("n")]), POLICY)
    report = compare(before, after, rows, [], changed="n")
    assert report.flips == 0 and report.confusion[0].taken == pytest.approx(1 / 3)


def test_a_held_out_example_is_scored_by_a_fit_that_never_saw_it(
    hash_encoder: Encoder, toy_specs: list[NodeSpec]
) -> None:
    fold_of = assign_folds(toy_specs, 3)
    assert set(fold_of.values()) == {0, 1, 2}
    seen: list[set[str]] = []

    def fit(specs: Sequence[NodeSpec]) -> object:
        seen.append({text for spec in specs for text in spec.examples})
        return make_scorer("embedding", specs, hash_encoder)

    fitted = cross_fit(toy_specs, fit, fold_of, range(3))  # type: ignore[arg-type]
    for fold in range(3):
        assert not seen[fold] & {text for text, its in fold_of.items() if its == fold}
    texts = ["apple pie", "never heard", "boat race"]
    scores = fitted.score(texts)
    for row, text in enumerate(texts):
        alone = (fitted.parts[fold_of[text]] if text in fold_of else fitted.whole).score([text])
        assert scores.probabilities[row] == pytest.approx(alone.probabilities[0])
        assert scores.in_scope[row] == pytest.approx(alone.in_scope[0])


def test_equal_texts_of_two_nodes_are_held_out_together() -> None:
    pair = [node("a", examples=("same", "one", "two")), node("b", examples=("zzz", "same", "three"))]
    fold_of = assign_folds(pair, 2)
    fitted = cross_fit(pair, lambda specs: Table("ab", {}), fold_of, [fold_of["same"]])
    assert fitted.labels == ("a", "b") and len(fold_of) == 5


# With a real encoder and the graphs that the project ships.


def load(folder: str) -> list[NodeSpec]:
    files = sorted((EXAMPLES / folder).glob("*.yaml"))
    documents = [data for file in files for data in yaml.safe_load_all(file.read_text()) if data]
    specs = [NodeSpec.model_validate(data) for data in documents]
    return [spec for spec in specs if spec.kind != "embedding"]


def gate(encoder: Encoder, live: Sequence[NodeSpec], new: NodeSpec) -> GateReport:
    wanted = [*live, new]
    fold_of = assign_folds(wanted, 5)
    before, after = (
        Contender(
            cross_fit(specs, lambda chosen: make_scorer("embedding", chosen, encoder), fold_of, range(5)),
            ModelGraph(specs),
            POLICY,
        )
        for specs in (live, wanted)
    )
    able = [spec for spec in wanted if "text" in spec.accepts and not spec.is_tool]
    return compare(before, after, [Row(t, s.name) for s in able for t in s.examples], [], changed=new.name)


@pytest.fixture(scope="module")
def few() -> list[NodeSpec]:
    """The example experts, with a third of their examples: enough, and a third of the time."""
    return [spec.model_copy(update={"examples": spec.examples[::3]}) for spec in load("nodes") if spec.name != "speech"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_experts_that_are_added_one_after_another_in_any_order_pass(
    minilm: CachedEncoder, few: list[NodeSpec], order: tuple[int, ...]
) -> None:
    ordered = [few[index] for index in order]
    verdicts = {new.name: gate(minilm, ordered[:count], new) for count, new in enumerate(ordered) if count}
    assert {name: report.verdict for name, report in verdicts.items()} == dict.fromkeys(verdicts, "apply")


@pytest.mark.parametrize("name", ["law", "chat"])
def test_an_expert_of_the_production_graph_passes(minilm: CachedEncoder, name: str) -> None:
    specs = load("production")
    report = gate(minilm, [spec for spec in specs if spec.name != name], next(s for s in specs if s.name == name))
    assert report.verdict == "apply", report.reasons


def test_an_expert_of_seventeen_close_ones_with_four_examples_passes(minilm: CachedEncoder) -> None:
    specs = sorted(load("octopus"), key=lambda spec: spec.name == "business")  # the closest to another: economics
    report = gate(minilm, specs[:-1], specs[-1])
    assert report.verdict == "apply", report.reasons


def test_a_second_legal_expert_is_refused(minilm: CachedEncoder, few: list[NodeSpec]) -> None:
    legal = next(spec for spec in few if spec.name == "legal")
    copy = legal.model_copy(update={"name": "law", "description": f"{legal.description} All of it."})
    report = gate(minilm, few, copy)
    assert report.verdict == "refuse"
    assert "'legal'" in report.reasons[0] and report.confusion[0].node == "legal" and report.flips > 0


def test_a_legal_expert_with_other_examples_of_the_same_kind_is_refused(
    minilm: CachedEncoder, few: list[NodeSpec]
) -> None:
    whole = next(spec for spec in load("nodes") if spec.name == "legal")
    other = whole.model_copy(update={"name": "attorney", "description": "A lawyer.", "examples": whole.examples[1::3]})
    report = gate(minilm, few, other)
    assert report.verdict in ("refuse", "flag")
    assert "'legal'" in report.reasons[0]


def test_a_graph_that_was_loaded_as_it_is_shows_its_collisions(minilm: CachedEncoder, few: list[NodeSpec]) -> None:
    legal = next(spec for spec in few if spec.name == "legal")
    specs = [*few, legal.model_copy(update={"name": "law"})]
    rows = [Row(text, spec.name) for spec in specs for text in spec.examples]
    fold_of = assign_folds(specs, 5)
    fitted = cross_fit(specs, lambda chosen: make_scorer("embedding", chosen, minilm), fold_of, range(5))
    found = confused(Contender(fitted, ModelGraph(specs), POLICY), rows, above=0.25)
    assert [(pair.node, other) for other, pair in found] == [("law", "legal")]


COLLIDING = {
    "attorney": (
        "legal",
        "Advice about the law: agreements, disputes between people and companies, what courts decide.",
        "Does this hold-harmless clause stand up?; The owner of my flat won't give back the security deposit; "
        "Could I be fired during maternity leave?; Prepare an NDA for two firms; By when must I appeal a ruling?",
    ),
    "doctor": (
        "medical",
        "Answers questions on illness, drugs and the body.",
        "What signs point to low iron?; May I combine aspirin with ibuprofen?; What are metformin's adverse effects?; "
        "My kid has 39 degrees fever, do we need a doctor?",
    ),
    "software": (
        "code",
        "Help with computer programs.",
        "Why is my for loop off by one?; Make a REST endpoint in Flask; Explain async and await",
    ),
    "assistant": (
        "general",
        "Small talk and everyday questions of every kind.",
        "What's Portugal's capital city?; Compose a little poem on autumn; Hi, how are you doing this morning?; "
        "A recipe for lasagne with vegetables; Which artist made The Starry Night?; A joke, please",
    ),
}
NEWCOMERS = {
    "tax": (
        "Taxes: returns, VAT, deductions and deadlines.",
        "Can I deduct my home office?; When is the VAT return due?; How is capital gain on shares taxed?",
    ),
    "veterinary": (
        "Animal health: pets and farm animals.",
        "My dog ate chocolate, what now?; How often must a cat be wormed?; The cow has mastitis; "
        "Why does my rabbit not eat hay?; Is this vaccine needed for puppies?",
    ),
    "mathematics": (
        "Mathematics: algebra, calculus, proofs and statistics.",
        "Integrate x squared times e to the x; Prove that there are infinitely many primes; Solve 3x + 5 = 20; "
        "What is the determinant of this matrix?",
    ),
    "hr": (
        "Company policy on holidays, pay slips and onboarding of staff.",
        "How many days of leave do I have left?; Where do I find my pay slip?; Who approves my home office request?; "
        "Book me into the onboarding course",
    ),
    "weather": (
        "Weather forecasts and warnings for a place.",
        "Will it rain in Oslo tomorrow?; How windy is it at the coast?; Is there a storm warning for Texas?",
    ),
}


@pytest.mark.parametrize("name", COLLIDING)
def test_a_collision_is_refused_by_a_few_paraphrases(minilm: CachedEncoder, few: list[NodeSpec], name: str) -> None:
    other, description, examples = COLLIDING[name]
    report = gate(minilm, few, node(name, description=description, examples=examples.split("; ")))
    assert report.verdict == "refuse" and f"'{other}'" in report.reasons[0]
    assert report.confusion[0].mixed_certain > 0.5


@pytest.mark.parametrize("name", NEWCOMERS)
def test_an_honest_newcomer_with_a_few_examples_passes(minilm: CachedEncoder, few: list[NodeSpec], name: str) -> None:
    description, examples = NEWCOMERS[name]
    report = gate(minilm, few, node(name, description=description, examples=examples.split("; ")))
    assert report.confusion[0].mixed_certain < 0.2
    # half of mathematics' four examples are still nearest to the node that takes everything: worth a warning
    assert report.verdict == ("flag" if name == "mathematics" else "apply"), report.reasons


def test_how_far_two_samples_are_mixed() -> None:
    apart, _ = mixture(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    even, error = mixture(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    reverse, _ = mixture(np.array([0.0]), np.array([1.0]))
    assert (apart, even, reverse) == (0.0, 1.0, 2.0) and 0 < error < 1
    assert mixture(np.array([]), np.array([1.0])) == (0.0, 0.0)
    many = np.linspace(0, 1, 400)
    assert mixture(many, many)[1] < 0.06
