"""Writes a causal model's folder as GGUF, with the tokens that it was given, so that llama.cpp serves it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from router.vectors import AnyArray

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
"""Types of tokens in GGUF. Functional tokens are user-defined: llama.cpp writes those out, and hides control tokens."""
BLOCK = 32
"""Weights of one Q8_0 block."""


def export_gguf(folder: Path, target: Path) -> None:
    """Write the Llama-like model in `folder` to `target`, its matrices in Q8_0.

    Raises `ValueError` for an architecture or a tokenizer that cannot be written.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    _check(folder, config, tokenizer)
    writer = gguf.GGUFWriter(target, "llama")
    _write_shape(writer, config)
    _write_tokenizer(writer, config, tokenizer)
    template = folder / "chat_template.jinja"
    if template.is_file() or settings.get("chat_template"):
        writer.add_chat_template(template.read_text("utf-8") if template.is_file() else settings["chat_template"])
    for name, weights in _tensors(folder, config):
        _write_tensor(writer, name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check(folder: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    rope = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("rope_type", "default")
    if config.get("model_type") != "llama" or config.get("attention_bias") or rope != "default":
        raise ValueError(
            f"{folder}: GGUF is written for models of type 'llama' without attention bias and with plain rotary "
            f"positions; this one is of type {config.get('model_type')!r} with {rope!r} positions"
        )
    if tokenizer["model"].get("type") != "BPE":
        raise ValueError(
            f"{folder}: GGUF is written for BPE tokenizers; this one is {tokenizer['model'].get('type')!r}"
        )


def _write_shape(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_name(str(config.get("_name_or_path") or "functional tokens"))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(_head_width(config))
    rope = config.get("rope_parameters") or {}
    writer.add_rope_freq_base(float(rope.get("rope_theta", config.get("rope_theta", 10000.0))))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    size = config["vocab_size"]
    tokens = [f"[unused{index}]" for index in range(size)]
    kinds = [CONTROL] * size
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], kinds[index] = token, NORMAL
    for added in tokenizer["added_tokens"]:
        functional = added["content"].startswith("<node:")
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] and not functional else USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    for key, add in (
        ("eos", writer.add_eos_token_id),
        ("bos", writer.add_bos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if isinstance(config.get(f"{key}_token_id"), int):
            add(config[f"{key}_token_id"])


def _pre(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how text is split before BPE: told by what is done about digits."""
    if r"\p{N}{1,3}" in json.dumps(tokenizer.get("pre_tokenizer")).replace("\\\\", "\\"):
        return "llama-bpe"
    together = any(token.strip("Ġ").isdigit() and len(token.strip("Ġ")) > 1 for token in tokenizer["model"]["vocab"])
    return "gpt-2" if together else "smollm"


def _tensors(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, AnyArray]]:
    """Yield GGUF names and weights; queries and keys in the order of llama.cpp's rotary positions."""
    import gguf
    from safetensors.numpy import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for file in sorted(folder.glob("model*.safetensors")):
        for key, weights in load_file(file).items():
            name = names.get_name(key, try_suffixes=(".weight",))
            if name is None:
                raise ValueError(f"{file}: llama.cpp has no tensor for {key!r}")
            for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
                weights = _rotary(weights, config[heads]) if part in key else weights
            yield name, weights


def _write_tensor(writer: Any, name: str, weights: AnyArray) -> None:
    import gguf

    plain = weights.astype("float32")
    if plain.ndim == 1 or plain.shape[-1] % BLOCK:
        writer.add_tensor(name, plain)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(plain, kind), raw_dtype=kind)


def _rotary(weights: AnyArray, heads: int) -> AnyArray:
    """Pair the dimensions of each head as neighbours; transformers pairs the two halves."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _head_width(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
