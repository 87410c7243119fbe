"""A Llama of two layers with a byte-level tokenizer, and rows that it can learn in seconds."""

from __future__ import annotations

import itertools
from pathlib import Path

from router.training.functional_data import Lesson

WORDS = {
    "fruit": ("apple", "pear", "plum"),
    "ships": ("boat", "harbour", "sail"),
    "stars": ("moon", "sun", "orbit"),
}
DESCRIPTIONS = {name: " and ".join(words) for name, words in WORDS.items()}


def lessons() -> list[Lesson]:
    """Rows of three nodes, and of none."""
    rows = [
        Lesson(f"{first} {word} {second}", name)
        for name, words in WORDS.items()
        for first, second in itertools.permutations(words, 2)
        for word in ("and", "near", "number")
    ]
    strangers = itertools.product(("red", "why", "tax", "low"), ("good", "day", "table"))
    return rows + [Lesson(f"{first} {second}", None) for first, second in strangers]


def save_llama(folder: Path) -> Path:
    """Save a random Llama with tied embeddings and a BPE tokenizer of a few hundred tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([row.text for row in lessons()] + ["Query: \nTopic: Hi thanks many"] * 2, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
