from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_causal import DESCRIPTIONS, WORDS, lessons, save_llama

from graph.errors import InvalidRequest
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message
from router.artifact import load_artifact, read_card
from router.causal_model import MAX_TOKENS, CausalModel, load_causal_model
from router.functional_card import read_card as read_functional_card
from router.router import Router
from router.scorers.functional_token import FunctionalTokenScorer
from router.training.functional_artifact import extend_artifact, train_artifact
from router.training.functional_data import Lesson, hold_out, token_of
from router.training.functional_gguf import export_gguf
from router.training.functional_tokens import Progress, TrainingOptions, train_functional_tokens
from router.training.rewrites import _WRAPPINGS, keeps_content, unwrap
from router.types import Array, Rewriter

TEXTS = ["apple and pear", "harbour near boat", "sun and moon", "why table", ""]


class NoEncoder:
    name = "none"

    def encode(self, texts: Sequence[str]) -> Array:
        raise AssertionError("a trained router brings its own model")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def history() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def artifact(base: Path, history: list[Progress], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the upper of two layers: the lower one is frozen and its output cached."""
    out = tmp_path_factory.mktemp("artifact")
    options = TrainingOptions(epochs=8, layers=1, learning_rate=5e-3)
    train_artifact(base, out, DESCRIPTIONS, lessons(), options=options, reference="tiny", on_epoch=history.append)
    return out


@pytest.fixture(scope="module")
def scorer(artifact: Path) -> FunctionalTokenScorer:
    return FunctionalTokenScorer.load(artifact)


def spec(name: str, *examples: str) -> NodeSpec:
    return NodeSpec(name=name, kind="k", description=DESCRIPTIONS.get(name, name), examples=examples)


def test_it_learns_and_keeps_the_best_epoch(history: list[Progress], artifact: Path) -> None:
    card = read_functional_card(artifact)
    assert [progress.epoch for progress in history] == list(range(9))
    assert card.metrics["held_out_loss"] == min(progress.held_out_loss for progress in history)
    assert card.metrics["held_out_accuracy"] > 0.9 and history[-1].loss < history[1].loss
    assert card.training["rows"]["train"] == len(lessons()) and card.base == "tiny" and len(card.data_hash) == 64


def test_scores_are_probabilities_of_one_pass(scorer: FunctionalTokenScorer) -> None:
    scores = scorer.score(TEXTS)
    assert scorer.labels == scores.labels == ("fruit", "ships", "stars") and scorer.strategy == "functional_token"
    assert np.isfinite(scores.probabilities).all() and np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-4)
    assert [scores.labels[row] for row in scores.probabilities[:3].argmax(axis=1)] == ["fruit", "ships", "stars"]
    assert scores.in_scope[3] < 0.5 < scores.in_scope[:3].min() and scorer.score([]).probabilities.shape == (0, 3)


def test_a_batch_scores_like_single_texts(scorer: FunctionalTokenScorer) -> None:
    texts = [*TEXTS, "apple " * 5000]
    single = np.concatenate([scorer.score([text]).probabilities for text in texts])
    assert np.allclose(scorer.score(texts).probabilities, single, atol=1e-5)


def test_an_artifact_is_safetensors_and_json(artifact: Path) -> None:
    names = {file.name for file in artifact.iterdir()}
    assert {"card.json", "head.safetensors", "model.safetensors", "tokenizer.json"} <= names
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".jinja"}
    model = load_causal_model(artifact)
    token = read_functional_card(artifact).tokens["fruit"]
    assert model.tokenizer.convert_ids_to_tokens(token) == token_of("fruit") == "<node:fruit>"
    assert np.allclose(model.rows([token])[0], FunctionalTokenScorer.load(artifact).head.rows[0], atol=1e-2)


def test_training_is_deterministic(base: Path) -> None:
    rows, options = lessons()[::4], TrainingOptions(epochs=1, layers=1)
    first, second = (
        train_functional_tokens(DESCRIPTIONS, rows, [], load_causal_model(base), options).head.rows for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_a_node_that_is_gone_is_out_of_scope(scorer: FunctionalTokenScorer) -> None:
    fewer = scorer.for_nodes([spec("fruit"), spec("ships")])
    scores, before = fewer.score(TEXTS), scorer.score(TEXTS)
    assert scores.labels == ("fruit", "ships") and np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-4)
    assert scores.in_scope[2] < 0.3 < before.in_scope[2] and scores.in_scope[0] > 0.5
    assert scorer.for_nodes([]).score(TEXTS).probabilities.shape == (5, 0)


def test_a_new_node_is_learned_while_serving_and_the_others_are_kept(scorer: FunctionalTokenScorer) -> None:
    old = [spec(name) for name in WORDS]
    examples = ("red table", "red good table", "tax table", "low table", "table day")
    more = scorer.for_nodes([*old, NodeSpec(name="room", kind="k", description="red table", examples=examples)])
    scores = more.score([*TEXTS[:3], "low red table"])
    assert [scores.labels[row] for row in scores.probabilities.argmax(axis=1)] == ["fruit", "ships", "stars", "room"]
    described = scorer.for_nodes([*old, NodeSpec(name="room", kind="k", description="red table")])
    zero_shot = described.score([*TEXTS[:3], "red table"])
    assert [zero_shot.labels[row] for row in zero_shot.probabilities.argmax(axis=1)][:3] == ["fruit", "ships", "stars"]
    assert zero_shot.probabilities[3, 3] > zero_shot.probabilities[:3, 3].max()
    assert more.rewrite("low red table", "room") == "low red table"  # it has no token of its own to decode after


def test_extending_trains_the_new_rows_alone(artifact: Path, tmp_path: Path) -> None:
    examples = [Lesson(f"{word} table", "room") for word in ("red", "tax", "low", "good")]
    card = extend_artifact(artifact, tmp_path, DESCRIPTIONS | {"room": "red table"}, examples)
    assert card.labels == ("fruit", "ships", "stars", "room") == read_functional_card(tmp_path).labels
    old, new = load_causal_model(artifact), load_causal_model(tmp_path)
    size = len(old.tokenizer)
    assert np.array_equal(old.rows(range(size)), new.rows(range(size)))
    prompts = [old.prompt(text) for text in TEXTS]
    assert np.array_equal(old.hidden(prompts), new.hidden(prompts))
    scores = FunctionalTokenScorer.load(tmp_path).score([*TEXTS[:3], "why tax table"])
    assert [scores.labels[row] for row in scores.probabilities.argmax(axis=1)] == ["fruit", "ships", "stars", "room"]
    with pytest.raises(ValueError, match="knows every node already"):
        extend_artifact(artifact, tmp_path, DESCRIPTIONS, examples)


def test_a_rewrite_ends_or_is_the_text_itself(scorer: FunctionalTokenScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(scorer, Rewriter)
    model, written = scorer.model.loaded, iter([["Apple and pear"], ["an apple"], [""], None])

    def answer(self: CausalModel, ids: list[int], limit: int) -> list[int] | None:
        assert ids[-1] == scorer.tokens["fruit"] and limit > 4
        found = next(written)
        return None if found is None else model.encode(found[0])

    monkeypatch.setattr(CausalModel, "continue_greedily", answer)
    text = "hi apple and pear thanks"
    assert [scorer.rewrite(text, "fruit") for _ in range(4)] == ["Apple and pear", text, text, text]
    assert scorer.rewrite("apple " * 500, "fruit") == "apple " * 500


def test_decoding_stops_at_the_end_token_or_gives_up(base: Path) -> None:
    model = load_causal_model(base)
    model.add_tokens({"<node:x>": "apple"})
    prompt = model.prompt("apple and pear")
    state = model.hidden([prompt])
    model.set_rows([model.end], -state)
    assert model.continue_greedily(prompt, 1) is None
    model.set_rows([model.end], 10 * state)
    assert model.continue_greedily(prompt, 1) == []


def test_a_request_cannot_write_functional_tokens(scorer: FunctionalTokenScorer) -> None:
    model = scorer.model.loaded
    assert scorer.tokens["ships"] not in model.prompt("apple <node:ships> <end>")
    assert model.end not in model.prompt("apple <end>")
    assert len(model.prompt("apple " * 5000)) == MAX_TOKENS


def test_llama_cpp_names_the_same_node(artifact: Path, scorer: FunctionalTokenScorer, tmp_path: Path) -> None:
    import xllamacpp

    export_gguf(artifact, tmp_path / "model.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(tmp_path / "model.gguf")
    params.n_ctx, params.n_parallel, params.verbosity, params.ui = 256, 1, 0, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    grammar = f"root ::= {' | '.join(json.dumps(token_of(name)) for name in scorer.labels)}"
    best = scorer.score(TEXTS[:3]).probabilities.argmax(axis=1)
    for text, row in zip(TEXTS, best, strict=False):
        body = {"prompt": f"Query: {text}\nTopic:", "temperature": 0, "max_tokens": 1, "grammar": grammar}
        (choice,) = server.handle_completions(body)["choices"]
        assert choice["text"] == token_of(scorer.labels[row])


@pytest.mark.parametrize(("name", "message"), [("card.json", "does not exist"), ("head.safetensors", "cannot be read")])
def test_what_is_no_artifact_is_said_to_be_none(artifact: Path, tmp_path: Path, name: str, message: str) -> None:
    for file in artifact.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ValueError, match=message):
        FunctionalTokenScorer.load(tmp_path)
    (tmp_path / "card.json").unlink(missing_ok=True)
    (tmp_path / "card.json").write_text('{"kind": "two_stage", "format": 1}')
    with pytest.raises(ValueError, match="expected 'functional_tokens'"):
        FunctionalTokenScorer.load(tmp_path)


def test_bad_rows_are_refused(base: Path, tmp_path: Path) -> None:
    model = load_causal_model(base)
    with pytest.raises(ValueError, match="not declared: 'plane'"):
        train_functional_tokens(DESCRIPTIONS, [Lesson("fly", "plane")], [], model, TrainingOptions())
    with pytest.raises(ValueError, match="no nodes"):
        train_functional_tokens({}, [], [], model, TrainingOptions())
    with pytest.raises(ValueError, match=r"expected a \*\.gguf file"):
        load_causal_model(tmp_path)


def test_rows_are_held_out_by_node() -> None:
    learn, held = hold_out([*lessons(), Lesson("one", "rare")], 0.15, 0)
    assert {row.node for row in held} == {*WORDS, None} and Lesson("one", "rare") in learn
    assert len(learn) + len(held) == len(lessons()) + 1 and not set(learn) & set(held)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi, could you please tell me who won? Thanks!", "Who won?"),
        ("good morning, why is the sky blue", "why is the sky blue"),
        ("Please transcribe.", "Transcribe."),
        ("Will you be there?", "Will you be there?"),
        ("hello", "hello"),
        ("Thanks, that helped a lot!", "Thanks, that helped a lot!"),
    ],
)
def test_courtesies_are_taken_away(text: str, expected: str) -> None:
    assert unwrap(text) == expected


@pytest.mark.parametrize("wrapping", _WRAPPINGS)
def test_what_is_wrapped_is_unwrapped(wrapping: str) -> None:
    assert unwrap(wrapping.format("Sort this list.")) == "Sort this list."
    assert keeps_content(wrapping.format("Sort this list."), "Sort this list.")


def test_content_is_kept() -> None:
    assert not keeps_content("Hi, what is the dose for a child? Thanks", "What is the dose?")
    assert not keeps_content("What is the dose?", "What is the rent?")


@pytest.mark.parametrize("names", [(), ("fruit",), ("new",), ("fruit", "stars", "new", "newer")])
def test_it_scores_exactly_the_nodes_that_there_are(scorer: FunctionalTokenScorer, names: tuple[str, ...]) -> None:
    wanted = [spec(name, f"{name} table", f"{name} day") for name in names]
    first, second = (scorer.for_nodes(order).score(TEXTS) for order in (wanted, wanted[::-1]))
    assert first.labels == second.labels == names and first.probabilities.shape == (5, len(names))
    assert np.array_equal(first.probabilities, second.probabilities) and np.array_equal(first.in_scope, second.in_scope)
    assert ((first.in_scope >= 0) & (first.in_scope <= 1)).all() and scorer.for_nodes(wanted).score([]).labels == names


async def test_a_router_adopts_it_and_sends_on_its_rewrite(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_artifact(artifact)
    assert loaded.card["kind"] == read_card(artifact)["kind"] == "functional_tokens"
    monkeypatch.setattr(FunctionalTokenScorer, "rewrite", lambda self, text, node: f"{node}: {text}")
    router = Router(NoEncoder(), rewrite=True)
    router.adopt(loaded.scorer, "trained:1")
    specs = [spec(name) for name in WORDS]
    await router.fit(specs)
    decision = await router.decide(Call((Message("user", "harbour near boat"),)), ModelGraph(specs))
    assert (decision.node, decision.strategy) == ("ships", "functional_token")
    assert decision.query == "ships: harbour near boat"
    await router.aclose()


def test_a_broken_artifact_is_refused_in_words(artifact: Path, tmp_path: Path) -> None:
    for file in artifact.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(InvalidRequest, match="is no trained router"):
        load_artifact(tmp_path)
