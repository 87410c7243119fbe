"""Randomly initialised models of a few kilobytes, saved the way real ones are: real library code, no hub."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = "the a law of contract code python speaks hello world risk is not yes no and or when who what".split()
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tokenizer(folder: Path, *, chat_template: str | None = None, limit: int = 64) -> int:
    """Save a word tokenizer; return its number of tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<unk>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        model_max_length=limit,
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return len(vocabulary)


def save_decoder(folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, positions: int = 2048) -> Path:
    """Save a GPT-2 of two layers that never ends by itself."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = save_tokenizer(folder, chat_template=chat_template)
    config = GPT2Config(
        vocab_size=size, n_positions=positions, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=None
    )
    model = GPT2LMHeadModel(config)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    return folder


def save_encoder_decoder(folder: Path) -> Path:
    """Save a T5 of one layer."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    size = save_tokenizer(folder)
    config = T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def save_classifier(folder: Path, *, tokens: bool) -> Path:
    """Save a BERT of one layer that labels texts, or tokens."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

    torch.manual_seed(0)
    size = save_tokenizer(folder)
    config = BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label={0: "O", 1: "risk"}, label2id={"O": 0, "risk": 1},
    )  # fmt: skip
    kind = BertForTokenClassification if tokens else BertForSequenceClassification
    kind(config).save_pretrained(folder)
    return folder


def save_recogniser(folder: Path) -> Path:
    """Save a Wav2Vec2 of one layer with a character vocabulary."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def save_embedder(folder: Path) -> Path:
    """Save a sentence-transformers model over a BERT of one layer: 16 dimensions, at most 64 tokens."""
    from sentence_transformers import SentenceTransformer

    inner = save_classifier(folder / "inner", tokens=False)
    SentenceTransformer(str(inner), device="cpu").save(str(folder / "model"))
    return folder / "model"
