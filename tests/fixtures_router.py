"""Fixtures for tests of the trained router: a tiny sentence encoder, rows that it can learn, and an artefact."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

SIGNALS = {
    "fruit": ("apple", "pear", "plum"),
    "ships": ("boat", "harbour", "sail"),
    "stars": ("moon", "sun", "orbit"),
    "music": ("drum", "flute", "chord"),
    "money": ("coin", "bank", "loan"),
}
NOISE = tuple(f"noise{number}" for number in range(40))
STRANGE = tuple(f"strange{number}" for number in range(12))


def noisy_rows(each: int, *, seed: int, outside: int = 0) -> list[dict[str, str | None]]:
    """Return rows of one telling word among five that say nothing, and of words that no node has."""
    dice = random.Random(seed)  # noqa: S311 (no secret)
    rows: list[dict[str, str | None]] = []
    for node, signals in SIGNALS.items():
        for _ in range(each):
            words = [*dice.sample(NOISE, 5), dice.choice(signals)]
            dice.shuffle(words)
            rows.append({"text": " ".join(words), "node": node})
    rows += [
        {"text": " ".join([*dice.sample(NOISE, 3), *dice.sample(STRANGE, 3)]), "node": None} for _ in range(outside)
    ]
    return rows


def write_lines(path: Path, items: list[dict[str, str | None]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def node_lines(*more: str) -> list[dict[str, str | None]]:
    """Return the nodes that the rows are of, and more."""
    return [{"name": name, "description": f"about {name}"} for name in (*SIGNALS, *more)]


@pytest.fixture(scope="session")
def tiny_sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: a BERT of two layers and 32 dimensions that was never trained."""
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = [word for signals in SIGNALS.values() for word in signals]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "about", *SIGNALS, *words, *NOISE, *STRANGE]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder / "inner")  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "inner")
    SentenceTransformer(str(folder / "inner"), device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def trained_folder(tiny_sentence_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of the five nodes, trained on few rows; of a sixth, `birds`, it knows the description only."""
    from router.training.data import make_data, read_nodes, read_requests
    from router.training.fit import Training, train_router

    folder = tmp_path_factory.mktemp("router")
    nodes = read_nodes(write_lines(folder / "nodes.jsonl", node_lines("birds")))
    rows = read_requests(write_lines(folder / "train.jsonl", noisy_rows(16, seed=1, outside=20)))
    train_router(make_data(nodes, rows), tiny_sentence_encoder, folder / "artefact", Training(), lambda line: None)
    return folder / "artefact"
